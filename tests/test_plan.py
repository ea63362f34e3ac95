"""The plan of a pass: valid and within its memory for every shape, whatever the caches; its visits; its explanation."""

import doctest
import importlib
import inspect
import itertools
from types import SimpleNamespace
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from softmax_ext import explain_plan, loss_grad, predict_proba
from softmax_ext._core import dispatch, run
from softmax_ext._core import plan as _plan
from softmax_ext._core.dispatch import Caches
from softmax_ext._core.plan import MiB, plan, visits

needs_kernels = pytest.mark.skipif(not dispatch.available(), reason="nothing is compiled, so nothing is planned")

# What every pass with 8 threads may take; and another gradient where that and W as packed need as much.
MOST_BYTES = 64 * MiB

N_OF_ALL = (1, 7, 128, 255, 256, 4096, 60_000, 10**7, 2**40)
D_OF_ALL = (1, 7, 16, 54, 192, 784, 4096, 16_384, 70_000)
K_OF_ALL = (1, 2, 10, 16, 64, 65, 300, 1000, 32_000, 2**17)
ITEMSIZES = pytest.mark.parametrize("itemsize", [4, 8])


def all_plans(itemsize, isa):
    for N, D, K in itertools.product(N_OF_ALL, D_OF_ALL, K_OF_ALL):
        yield (N, D, K), plan(N, D, K, itemsize, isa)


def work_bytes(way, itemsize, threads):
    return (way.shared + threads * way.work) * itemsize + way.sums * 8


def fields(thing):
    """Return the attributes of a plan or a visit, except the visit that a plan holds."""
    found = {name: getattr(thing, name) for name in dir(thing) if not name.startswith("_") and name != "single"}
    return {name: value for name, value in found.items() if not callable(value)}


def slices_of(way):
    return way.slices if way.cut == "slices" else 0


def assert_valid(way, N, D, K, itemsize):
    assert way.rows >= 1 and way.tile >= 1
    slices = slices_of(way)
    if slices:
        assert way.batch >= 1 and slices <= _plan.SLICES and slices & (slices - 1) == 0
    else:
        assert way.cut == "owned" and way.classes > 0
    at_once = way.tile * max(slices, 1)  # rows that are always handed over together
    assert way.block >= 1 and way.block % at_once == 0
    assert way.block == at_once or way.block * D * itemsize <= _plan.BLOCK_BYTES
    lanes = 64 // itemsize
    assert way.block == at_once or way.block * K * D * 4 <= _plan.BLOCK_FLOPS * lanes
    if slices:  # W is packed for all threads, each has the scores of its tile
        assert way.shared >= K * D and way.work >= way.tile * K
    else:  # a tile and its scores for all threads, each packs W of a part
        assert way.shared >= way.tile * (D + K) and way.work >= min(way.classes, K) * D
    assert way.sums >= max(slices, 1) * K * (D + 1 if way.doubles else 1)


@needs_kernels
@ITEMSIZES
def test_every_shape_has_a_valid_plan(isa, itemsize):
    for shape, way in all_plans(itemsize, isa):
        assert_valid(way, *shape, itemsize)


@needs_kernels
@ITEMSIZES
def test_work_space_of_eight_threads_is_bounded(isa, itemsize):
    over = {}
    for (N, D, K), way in all_plans(itemsize, isa):
        gradient = K * D * 8
        size = work_bytes(way, itemsize, way.team(8))
        if size > MOST_BYTES + (gradient if 2 * gradient > MOST_BYTES else 0):
            over[N, D, K] = f"{size / MiB:.0f} MiB, where a gradient in double takes {gradient / MiB:.0f}"
    assert not over


@needs_kernels
@ITEMSIZES
@pytest.mark.parametrize("slices", [1, 2, 4, 8, 16, 32])
def test_classes_are_owned_where_the_sums_of_slices_cost_too_much(isa, itemsize, slices):
    N, D = _plan.SLICE_ROWS * slices, 384
    K = _plan.SUMS_BYTES // (8 * D * min(slices, 16))  # the most whose sums fit
    last, first = plan(N, D, K, itemsize, isa), plan(N, D, K + 1, itemsize, isa)
    assert (last.cut, last.slices, last.doubles) == ("slices", slices, True)
    assert first.cut == "owned" and 0 < first.classes < K


@needs_kernels
@ITEMSIZES
def test_owned_gradients_are_summed_in_double_up_to_a_size(isa, itemsize):
    N, D, K = 10_000, 1024, _plan.DOUBLES_BYTES // 8 // 1024
    ways = [plan(N, D, classes, itemsize, isa) for classes in (K, K + 1)]
    assert [way.cut for way in ways] == ["owned", "owned"]
    assert [way.doubles for way in ways] == [True, False]


@needs_kernels
@ITEMSIZES
def test_few_classes_are_never_owned(isa, itemsize):
    for (_, _, K), way in all_plans(itemsize, isa):
        assert (way.cut == "slices" and way.doubles) or K > 64


# Shapes far from the crossovers, and the choices that the comments in _core/plan.py measure.
WAYS = {
    "MNIST": ((60_000, 784, 10), {"dots": True, "copied": False, "transposed": False, "slices": 32}),
    "digits": ((1797, 64, 10), {"dots": False, "transposed": False}),
    "features that fill the lanes": ((60_000, 1000, 16), {"dots": False}),
    "covtype": ((581_012, 54, 7), {"dots": False, "transposed": False, "slices": 32}),
    "many classes on ten features": ((100_000, 10, 1000), {"dots": False, "transposed": True, "slices": 32}),
    "embeddings": ((100_000, 384, 100), {"dots": False, "transposed": False, "slices": 32}),
    "a thousand classes": ((20_000, 256, 1000), {"dots": False, "copied": True, "cut": "owned", "doubles": True}),
    "vocabulary": ((4096, 1024, 32_000), {"dots": False, "copied": True, "cut": "owned", "doubles": False}),
}


@needs_kernels
@pytest.mark.parametrize("shape, choices", WAYS.values(), ids=WAYS)
def test_choices_are_those_that_were_measured(isa, shape, choices):
    if isa == "baseline":
        pytest.skip("the choices were measured with vectors of 8 and 16 floats, and baseline has 4")
    way = plan(*shape, 4, isa)
    assert {name: getattr(way, name) for name in choices} == choices


@needs_kernels
@ITEMSIZES
@pytest.mark.parametrize("l1, apart", [(32, 512), (48, 1024), (64, 1024), (0, 512)])
def test_rows_are_copied_if_the_first_cache_could_not_hold_the_lines_of_a_tile(
    isa, itemsize, l1, apart, monkeypatch, fresh_plans
):
    monkeypatch.setattr(dispatch, "caches", lambda: Caches(l1 * 1024, MiB, 0))

    def copied(row_bytes, K):
        return plan(10_000, row_bytes // itemsize, K, itemsize, isa).copied

    least = dispatch.load(isa).block_rows() + 1  # classes whose gradient reads a tile twice
    assert [copied(row_bytes, 72) for row_bytes in (5 * apart // 2, 5 * apart, 4096)] == [False, True, True]
    assert [copied(distance, K) for K in (least - 1, least) for distance in (2048, 4096)] == [False, False, False, True]


@needs_kernels
@ITEMSIZES
def test_copies_of_rows_change_no_bit(isa, itemsize, make_problem, monkeypatch, fresh_plans):
    arguments, _ = make_problem(333, 512 // itemsize, 77, f"f{itemsize}")
    found = []
    for l1 in (32, 48):
        plan.cache_clear()
        monkeypatch.setattr(dispatch, "caches", lambda l1=l1: Caches(l1 * 1024, MiB, 0))
        assert plan(333, 512 // itemsize, 77, itemsize, isa).copied == (l1 == 32)
        found.append(loss_grad(*arguments))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@needs_kernels
@ITEMSIZES
def test_a_tile_of_long_rows_still_has_many(isa, itemsize):
    """Each tile reads and writes the gradient: 2000 x 20000 x 30 floats take 97 ms in eights, and 44 in sixteens."""
    lanes = dispatch.load(isa).lanes_of(itemsize)
    tiles = [plan(10_000, row_bytes // itemsize, 10, itemsize, isa).tile for row_bytes in (32_000, 200_000, 2_000_000)]
    assert tiles == [32, 16, lanes]


@needs_kernels
@ITEMSIZES
def test_a_tile_of_many_scores_still_has_rows(isa, itemsize, monkeypatch, fresh_plans):
    """20000 x 50 x 1500 doubles take 247 ms in tiles of 8 rows, and 185 in tiles of 24."""
    monkeypatch.setattr(dispatch, "caches", lambda: Caches(2**15, 2**19, 0))
    lanes = dispatch.load(isa).lanes_of(itemsize)
    ways = [plan(10_000, 1, row_bytes // itemsize, itemsize, isa) for row_bytes in (4000, 12_000, 64_000, 200_000)]
    assert [way.cut for way in ways] == ["slices"] * 4
    least = max(lanes, 24 // lanes * lanes)
    assert [way.tile for way in ways] == [49 // lanes * lanes, least, least, lanes]


@needs_kernels
@ITEMSIZES
def test_rows_that_crowd_a_set_and_are_not_copied_have_small_tiles(isa, itemsize, monkeypatch, fresh_plans):
    """10000 x 8192 x 3 floats take 16.8 ms in tiles of 8, and 29.2 in tiles of 32."""
    monkeypatch.setattr(dispatch, "caches", lambda: Caches(2**15, 2**19, 0))
    ways = [plan(10_000, 2**15 // itemsize, K, itemsize, isa) for K in (3, 40)]
    lanes = dispatch.load(isa).lanes_of(itemsize)
    assert [(way.tile, way.copied) for way in ways] == [(lanes, False), (32, True)]


@needs_kernels
@pytest.mark.parametrize("axis", ["N", "D", "K"])
@pytest.mark.parametrize("others", list(itertools.product([1, 10, 1000], repeat=2)), ids=str)
def test_more_work_never_pays_less_in_threads(isa, axis, others):
    def parallel(size, itemsize=4):
        shape = list(others)
        shape.insert("NDK".index(axis), size)
        return plan(*shape, itemsize, isa).parallel

    assert not parallel(1) or others == (1000, 1000)
    least, most = 0, 2**26  # bisect: no threads at `least`, threads at `most`
    assert parallel(most)
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if parallel(middle) else (middle, most)
    sizes = [2**i for i in range(27)] + [least, most]
    assert all(parallel(size) == parallel(size, 8) == (size >= most) for size in sizes if size)
    assert others[0] * others[1] * least * 4 < _plan.PARALLEL_FLOPS


@needs_kernels
def test_one_thread_cuts_no_slices(isa):
    for _, way in itertools.chain(all_plans(4, isa), all_plans(8, isa)):
        assert way.parallel or slices_of(way) <= 1


@needs_kernels
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(20, 9, 7), (5003, 54, 7), (701, 33, 1000), (300, 1030, 200)], ids=str)
def test_the_number_of_threads_changes_no_plan(isa, dtype, shape, order, make_problem, monkeypatch, fresh_plans):
    assert list(inspect.signature(plan).parameters) == ["N", "D", "K", "itemsize", "isa", "second", "copied", "nnz"]
    monkeypatch.setattr(_plan, "CONVERTED_BYTES", 2**16)  # so that X is converted in many parts
    seen = []

    def record(way, rows, wanted):
        seen.append((fields(way), []))
        return read(way, rows, wanted)

    def record_parts(way, *arguments, **options):
        for visit, rows in parts_of(way, *arguments, **options):
            seen[-1][1].append((fields(visit), len(rows)))
            yield visit, rows

    read, parts_of = run.reading, run._parts
    monkeypatch.setattr(run, "reading", record)
    monkeypatch.setattr(run, "_parts", record_parts)
    (X, y, W, b), _ = make_problem(*shape, dtype)
    X = np.array(X, order=order)
    for limit, n_threads in ((None, 1), (None, 2), (None, 7), (None, None), (1, None)):
        plan.cache_clear()
        with threadpool_limits(limit, user_api="openmp"):
            loss_grad(X, y, W, b, n_threads=n_threads)
            predict_proba(X, W, b, n_threads=n_threads)
    assert len(seen) == 10 and all(one == seen[0] for one in seen)


@pytest.fixture(params=[Caches(0, 0, 0), Caches(1, 1, 1), Caches(2**60, 2**60, 2**60)], ids=["0", "1", "2**60"])
def odd_caches(request, monkeypatch, fresh_plans):
    """Plans are valid on a system that does not tell its cache sizes, or tells absurd ones."""
    monkeypatch.setattr(dispatch, "caches", lambda: request.param)


@needs_kernels
@ITEMSIZES
def test_plans_are_valid_whatever_the_caches(isa, itemsize, odd_caches):
    for shape, way in all_plans(itemsize, isa):
        assert_valid(way, *shape, itemsize)
        assert way.rows <= 64 or way.rows * (shape[1] + shape[2]) * itemsize <= 2 * MiB


@pytest.mark.pairs
@pytest.mark.parametrize("shape", [(252, 507, 123), (5003, 54, 7), (1000, 10, 300), (300, 1030, 200)], ids=str)
def test_results_are_right_whatever_the_caches(
    isa, dtype, shape, odd_caches, make_problem, assert_like_reference
):  # fmt: skip
    arguments, keywords = make_problem(*shape, dtype, weights="both")
    assert_like_reference(loss_grad(*arguments, **keywords), arguments, keywords)


class Visit(NamedTuple):
    row: int
    offset: int
    block: int
    begin: int
    end: int
    first: bool
    last: bool


def way_of(slices, tile, block):
    """A plan as far as `visits` reads it."""
    cut = {"cut": "slices", "slices": slices} if slices else {"cut": "owned"}
    return SimpleNamespace(**cut, tile=tile, block=block, visit=Visit)


@st.composite
def cuts(draw):
    """Draw a plan, N, and the bytes of a row that must be converted."""
    slices, tile = draw(st.sampled_from([0, 1, 2, 4, 32])), draw(st.integers(1, 300))
    block = tile * max(slices, 1) * draw(st.integers(1, 20))
    way = way_of(slices, tile, block)
    row_bytes = st.just(0) | st.integers(1, 2**12) | st.integers(1, 2 * _plan.CONVERTED_BYTES)
    return way, draw(st.integers(1, 4 * block)), draw(row_bytes)


@hypothesis.given(cuts())
@hypothesis.example((way_of(2, 8, 16), 257, 2**25))
@hypothesis.example((way_of(32, 1, 32), 9, 25165825))
def test_visits_cover_every_row_once(cut):
    way, N, row_bytes = cut
    made = list(visits(way, N, row_bytes))
    stop = end = 0
    for visit, rows in made:
        # All rows, once, in their order, and some in every visit; a block after the other.
        assert visit.row == rows.start == stop and rows.stop > rows.start and rows.step is None
        start = rows.start - visit.offset
        assert start % way.block == 0 and visit.block == min(way.block, N - start)
        pieces = slices_of(way) or -(-visit.block // way.tile)
        # Whole slices or tiles, each once.
        assert visit.begin == (end if visit.offset else 0) < visit.end <= pieces
        if slices_of(way):
            bounds = [i * visit.block // way.slices for i in (visit.begin, visit.end)]
        else:
            bounds = [visit.begin * way.tile, min(visit.end * way.tile, visit.block)]
        assert [visit.offset, rows.stop - start] == bounds
        stop, end = rows.stop, visit.end
        assert (stop == start + visit.block) == (end == pieces)
        # No more is converted at a time than is said, but for what cannot be cut.
        converted = (rows.stop - rows.start) * row_bytes
        assert converted <= _plan.CONVERTED_BYTES or visit.end - visit.begin == 1 or rows.stop - rows.start == 1
    assert stop == N
    assert [visit.last for visit, _ in made] == [False] * (len(made) - 1) + [True]
    firsts = [visit.first for visit, _ in made]
    if slices_of(way):  # a slice's sums are cleared by the visit that begins it
        assert firsts == [rows.start < way.block for _, rows in made]
    else:
        assert firsts == [True] + [False] * (len(made) - 1)
    if row_bytes == 0:
        assert len(made) == -(-N // way.block)


# N, D, K, stored entries, and the slices, or 0 where features have owners: one-hot properties, words, little work, many
# rows with few entries.
SPARSE = {
    "one-hot": (300_000, 12_000, 5, 3_600_000, 16),
    "words": (40_000, 60_000, 40, 628_159, 0),
    "small": (300, 50, 5, 1_800, 1),
    "thin": (300_000, 12_000, 5, 30_000, 0),
}


@needs_kernels
@ITEMSIZES
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_rows_fall_into_slices_where_their_sums_are_small(isa, itemsize, name):
    N, D, K, nnz, slices = SPARSE[name]
    for second in (False, True):
        way = plan(N, D, K, itemsize, isa, second=second, nnz=nnz)
        assert (slices_of(way), way.cut) == (slices, "slices" if slices else "sparse")
        assert not slices or work_bytes(way, itemsize, threads=2) <= MOST_BYTES
    lines = explained(explain_plan(N, D, K, f"f{itemsize}", nnz))
    assert lines["cut"].startswith(f"{slices} slices of the samples" if slices else "parts of the features")
    assert lines["scores"] == "lanes along the classes, rows of W transposed"


@needs_kernels
@ITEMSIZES
def test_what_one_visit_does_is_a_single_visit(isa, itemsize):
    for (N, _, _), way in all_plans(itemsize, isa):
        assert (way.single is None) == (N > way.block)
        if way.single:
            ((visit, rows),) = visits(way, N, 0)
            assert rows == slice(0, N)
            # Who owns classes visits all tiles, whatever `end` says.
            fields = [name for name in Visit._fields if name != "end" or way.cut == "slices"]
            assert all(getattr(way.single, name) == getattr(visit, name) for name in fields)


def explained(text):
    """Return the lines by their names."""
    first, *lines = text.splitlines()
    return {"": first, **dict(line.split(": ", 1) for line in lines)}


@needs_kernels
@pytest.mark.parametrize("shape", [shape for shape, _ in WAYS.values()] + [(1, 1, 1), (32, 10, 3)], ids=str)
def test_explanation_names_the_choices(isa, dtype, shape):
    text = explain_plan(*shape, dtype)
    N, D, K = shape
    way = plan(N, D, K, dtype.itemsize, isa)
    lines = explained(text)
    assert lines[""] == f"loss_grad for X ({N}, {D}), {K} classes, {dtype}"
    assert lines["ISA level"] == f"{isa}, vectors of {dispatch.kernels.lanes_of(dtype.itemsize)}"
    assert lines["threads"].startswith("as asked for" if way.parallel else "one,")
    assert lines["scores"].startswith("lanes along the features" if way.dots else "lanes along the classes")
    halves = isa == "avx512" and not way.dots and 2 * K <= dispatch.kernels.lanes_of(dtype.itemsize)
    assert ("half vectors" in lines["scores"]) == halves
    assert lines["gradient"].startswith("lanes along the classes" if way.transposed else "lanes along the features")
    assert ("summed in double" in lines["gradient"]) == way.doubles
    assert lines["tiles"].startswith(f"{way.rows} samples for the scores, {way.tile} for the gradient")
    assert ("copied" in lines["tiles"]) == way.copied
    if way.cut == "slices":
        assert lines["cut"].startswith(f"{way.slices} slices of the samples")
    else:
        assert lines["cut"].startswith(f"parts of {way.classes} classes")
    assert lines["blocks"] == f"{min(way.block, N)} samples at a time"
    mib, each = (float(part.split(" MiB")[0]) for part in lines["work space"].split(", and "))
    assert mib == pytest.approx(work_bytes(way, dtype.itemsize, threads=0) / MiB, abs=0.051)
    assert each == pytest.approx(way.work * dtype.itemsize / MiB, abs=0.0051)


@pytest.mark.parametrize("K, D", [(2, 63), (2, 64), (2, 127), (2, 128), (3, 41), (3, 42), (9, 13), (9, 14)])
def test_explanation_names_the_solver_that_runs(K, D):
    LogisticRegression = pytest.importorskip("softmax_ext.linear_model").LogisticRegression
    rng = np.random.default_rng(0)
    report = LogisticRegression().fit(rng.standard_normal((40, D)), np.arange(40) % K).convergence_report_
    newton = explained(explain_plan(40, D, K))["default solver"].startswith("Newton")
    assert newton == report.startswith("Newton")


def test_explanation_shows_itself_as_text():
    text = explain_plan(60_000, 784, 10)
    assert isinstance(text, str) and repr(text) == str(text) and "'" not in repr(text)
    assert text == explain_plan(np.int64(60_000), 784, 10, "float32")


def test_explanation_names_the_reference():
    with dispatch.using("reference"):
        lines = explain_plan(60_000, 784, 10, np.float64).splitlines()
    assert lines == [
        "loss_grad for X (60000, 784), 10 classes, float64",
        "runs on softmax_ext.reference, in NumPy and float64",
    ]


@pytest.mark.parametrize("name", ["N", "D", "K"])
@pytest.mark.parametrize("size", [0, -1, np.int8(-128)])
def test_explanation_refuses_a_size_below_one(name, size):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {size}"):
        explain_plan(**{"N": 2, "D": 3, "K": 4, name: size})


@pytest.mark.parametrize("name", ["N", "D", "K"])
@pytest.mark.parametrize("size", [1.5, 1.0, "1", None])
def test_explanation_refuses_what_is_no_integer(name, size):
    with pytest.raises(TypeError):
        explain_plan(**{"N": 2, "D": 3, "K": 4, name: size})


@pytest.mark.parametrize("dtype", ["float16", "int64", ">f4", np.longdouble, bool])
def test_explanation_refuses_another_dtype(dtype):
    with pytest.raises(ValueError, match=f"dtype must be float32 or float64, got {np.dtype(dtype)}"):
        explain_plan(2, 3, 4, dtype)


@pytest.mark.parametrize(
    "module",
    [
        "_optim.explanation",
        "functional",
        "special",
        "losses",
        "reference",
        "_core.config",
    ],
)
def test_examples_of_plans_run(module):
    result = doctest.testmod(importlib.import_module(f"softmax_ext.{module}"))
    assert result.failed == 0
    assert result.attempted > 0, "no example was found"
