"""The tree in which pieces are added: the same bits whoever adds which of them, and few gradients that travel."""

import numpy as np
import pytest

from softmax_ext._objective import tree

MANY = 2**62


def leaves(pieces, rng):
    """Return sums of two questions, of which pieces may have nothing to add to the second."""
    values = rng.standard_normal((pieces, 2, 3)) * 10.0 ** rng.integers(-8, 9, (pieces, 2, 1))
    return [[v[0].copy(), v[1].copy() if rng.random() < 0.6 else None] for v in values]


def bits(sums):
    return [None if one is None else one.tobytes() for one in sums]


def by_definition(found, level, index):
    """Return a node's sums from those of its parts."""
    if level == 0:
        return found[index]
    left, right = 2 * index, 2 * index + 1
    if right << (level - 1) >= len(found):
        return by_definition(found, level - 1, left)
    return tree.added((level, index), *(by_definition(found, level - 1, one) for one in (left, right)))


@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 6, 7, 12, 31, 64, 65])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_any_workers_add_the_pieces_to_the_same_bits(pieces, workers):
    rng = np.random.default_rng([pieces, workers])
    made = leaves(pieces, rng)
    want = bits(by_definition(made, tree.height(pieces), 0))
    in_order = {}
    for number, sums in enumerate(made):
        tree.place(in_order, (0, number), sums, tree.added, MANY, tree.height(MANY))
    assert bits(tree.total(in_order)) == want
    for _ in range(5):
        owners = rng.integers(0, workers, pieces).tolist()
        held = [{} for _ in range(workers)]
        for number in rng.permutation(pieces).tolist():
            tree.place(held[owners[number]], (0, number), made[number], tree.added, pieces, tree.height(pieces))
        travelled = 0
        for node, source, target in tree.journeys(owners):
            sums = held[source].pop(node)
            tree.place(held[target], node, sums, tree.added, pieces, tree.height(pieces))
            travelled += 1
        assert bits(held[owners[0]].pop((tree.height(pieces), 0))) == want
        assert not any(held) and travelled < pieces


def test_what_was_received_is_not_overwritten():
    left, right = np.arange(3.0), np.ones(3)
    left.flags.writeable = False
    assert tree.added_in_place((1, 0), [left, right], [right, None])[0].tolist() == [1, 2, 3]
    assert left.tolist() == [0, 1, 2] and right.tolist() == [1, 1, 1]


def test_sums_in_place_are_the_same():
    made, own, other = leaves(13, np.random.default_rng(0)), {}, {}
    for number, sums in enumerate(made):
        copies = [None if one is None else one.copy() for one in sums]
        tree.place(own, (0, number), copies, tree.added_in_place, 13, 4)
        tree.place(other, (0, number), sums, tree.added, 13, 4)
    assert bits(own[4, 0]) == bits(other[4, 0]) == bits(by_definition(made, 4, 0))


def test_the_left_part_comes_first():
    """Lists are joined where sums are added, and pieces come in any order."""
    held = {}
    for number in np.random.default_rng(0).permutation(13).tolist():
        tree.place(held, (0, number), [number], lambda node, left, right: left + right, 13, 4)
    assert held == {(4, 0): list(range(13))}
