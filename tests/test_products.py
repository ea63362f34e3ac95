"""Which cases of a test that is marked `pairs` run: conftest.py chooses them."""

import itertools

import pytest

CASES = [case for case in itertools.product(range(3), range(2), range(12), range(3)) if case[:2] != (0, 1)]


@pytest.mark.parametrize("strength, most", [(1, 12), (2, 40), (3, 130), (4, len(CASES)), (5, len(CASES))])
def test_chosen_cases_meet_all_that_any_case_meets(strength, most, covering):
    chosen = [CASES[i] for i in covering(CASES, strength)]
    assert len(set(chosen)) == len(chosen) <= most
    for places in itertools.combinations(range(4), min(strength, 4)):
        met, there = ({tuple(case[i] for i in places) for case in cases} for cases in (chosen, CASES))
        assert met == there


def test_one_case_alone_is_chosen(covering):
    assert covering([(2, 0)]) == [0]
