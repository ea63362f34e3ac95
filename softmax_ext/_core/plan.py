"""Which way through the kernels a shape takes, and why: `plan` is the one place that decides it.

The numbers were measured on two cores of an AMD EPYC (Zen 5) with AVX-512, unless another level is named. A crossover
decides between ways of nearly the same time, so elsewhere it may lie a little off and cost little.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from . import dispatch

if TYPE_CHECKING:
    from .kernels_baseline import BinomialPlan, CentredPlan, HessianPlan, Plan, SlicedPlan, Visit

MiB = 2**20

# Work (floating-point operations) below which one thread does it all. A team starts in 5 to 20 µs: 1797 x 64 x 10
# floats, 2**22.2 operations, take 82 µs on one thread and 52 on two (AMD Zen 4; doubles 159 and 91). Not lower, though
# half of it still pays on an idle machine: where the processors are busy with something else, the calling thread waits
# for the last of the team for milliseconds.
PARALLEL_FLOPS = 2**22

# Work of a block for each lane of a vector; between two blocks Ctrl-C is looked for. Some 30 ms here, and under a
# second of one core at the baseline level (tests/test_interrupt.py). Smaller blocks are slower: their slices are short.
BLOCK_FLOPS = 2**29
# Bytes of X in a block, and what is converted of it at a time where X cannot be read in place.
BLOCK_BYTES = 256 * MiB
CONVERTED_BYTES = 24 * MiB

# A slice's sums are cleared and added once, which is the work of some 50 rows: fewer than 128 rows are no slice.
SLICES = 32
SLICE_ROWS = 128
# What the sums of sixteen slices may take. 20000 x 256 x 1000 floats would take 31 MiB: 52.5 ms, owned 44.6 ms.
# 100000 x 384 x 100 take 4.7 MiB: 40.0 ms, owned 44.8 ms.
SUMS_BYTES = 12 * MiB
# The most of a gradient that is summed in double when owned.
DOUBLES_BYTES = 16 * MiB
# Scores of a tile when owned. Each tile reads W and reads and writes dW, so few large ones: 320 rows of 32000 floats.
TILE_BYTES = 40 * MiB
# Of two classes: samples of a slice, whose sums are one row of coefficients.
ROW_SLICE = 32
# What the Hessians of all slices may take; beyond, all threads share one.
HESSIANS_BYTES = 16 * MiB
# What a pair of entries takes, in the time of a number that is added to the Hessian where rows are arrays: itself, and
# each pair of classes. 100000 rows of 12 entries on one thread of AMD Zen 4: two classes and 48 features 12.3 ms, as
# arrays 9.3, and 96 features 12.7 and 26; five classes and 48 features 46 and 115.
ENTRY_ITSELF, ENTRY_CLASSES = 16, 8
# The most that the sums of all slices take where the classes are few: for the promise of 64 MiB, not for speed.
SLICED_BYTES = 40 * MiB


# The most CSR rows whose scores are computed at a time.
ROWS_AT_ONCE = 128
# Where W and dW, both transposed, fit into the first, the scores of a tile take the second at most.
SPARSE_BYTES, SCORES_BYTES = 48 * MiB, 8 * MiB
# Where they do not, the classes are cut into groups, of whose W or dW the first holds one. Each tile then transposes W
# anew, so tiles are large: their scores take the second.
GROUP_BYTES, GROUPED_BYTES = 32 * MiB, 24 * MiB


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


@lru_cache(maxsize=1024)
def plan(
    N: int,
    D: int,
    K: int,
    itemsize: int,
    isa: str,
    *,
    second: bool = False,
    copied: bool = False,
    nnz: int | None = None,
) -> Plan:
    """Choose the way of one pass over (N, D) numbers of itemsize bytes, nnz of them stored if they are CSR.

    second: with the field of that name; copied: with tiles of X copied, whose place a gradient for X then takes.
    """
    kernels = dispatch.load(isa)
    assert kernels is not None
    L = kernels.lanes_of(itemsize)
    shape: dict[str, Any] = {"N": N, "D": D, "K": K, "itemsize": itemsize, "second": second}
    if nnz is not None:
        return _sparse_plan(kernels, shape, nnz)
    flops = K * (4 * D + 20)  # of a sample: two products; maximum, exponential, sum, residual
    parallel = N * flops >= PARALLEL_FLOPS
    slices = SLICES if parallel else 1
    while slices > 1 and (N < SLICE_ROWS * slices or N * flops < PARALLEL_FLOPS // 16 * slices):
        slices //= 2
    while K <= 64 and slices > 1 and slices * K * D * 8 > SLICED_BYTES:
        slices //= 2
    # What a core's second cache holds of a tile; without a word from the system, what every processor since 2013 has.
    cache = min(max(dispatch.caches().l2, MiB // 4), MiB)
    # A row costs the work of some 300 operations at any K.
    most = max(1, min(BLOCK_BYTES // (D * itemsize), BLOCK_FLOPS * L // (flops + 300)))

    if K > 64 and K * D * 8 * min(slices, 16) > SUMS_BYTES:
        rows = max(L, min(64, CONVERTED_BYTES // (itemsize * (D + K)) // L * L))
        # Some sixteen parts, of whole vectors; W of a part, packed on the way, stays in half of the cache.
        # 10000 x 4096 x 100 floats in two parts: 77 ms, in seven 58.
        classes = L * max(1, min(cache // 2 // (D * L * itemsize), _ceil(K, 16 * L)))
        # Scores and samples in some 6 MiB: 5000 x 1024 x 2000 doubles take 437 ms, and floats 200, in tiles of 1000,
        # 332 and 175 in tiles of half that; but each tile reads W, and reads and writes dW, so not below 320 samples.
        tile = min(1024, max(320, 6 * MiB // (itemsize * (D + K))))
        tile = max(
            rows,
            min(tile, TILE_BYTES // (K * itemsize * (1 + second)), CONVERTED_BYTES // (D * itemsize)) // rows * rows,
        )
        tile = _ceil(_ceil(N, _ceil(N, tile)), L) * L  # of equal size
        doubles = K * D * 8 <= DOUBLES_BYTES
        # A tile alone may take seconds: 320 x 4096 features x 32000 classes.
        parts = max(1, 2 * BLOCK_FLOPS * L // (tile * classes * flops // K))
        parts = parts if parts * classes < K else 0
        shape |= {"parallel": parallel, "rows": rows, "tile": tile, "block": tile * max(1, most // tile)}
        owned: Plan = kernels.OwnedPlan(classes=classes, parts=parts, doubles=doubles, **shape)
        return owned
    # 784 features, 10 classes: 65 ns a row by dots, 103 by scores, where 6 of 16 lanes are empty; AVX2 123, 185.
    # 128 features: 18.2 and 17.3, for the sums across lanes. 1000 features, 16 classes, which fill them: 208, 130.
    dots = D >= 192 and K <= 32 and 5 * K <= 4 * _ceil(K, L) * L
    # 10 features, 1000 classes: 88 ns a row transposed, 173 not.
    transposed = K > 64 and D * _ceil(K, L) < K * _ceil(D, L)
    # Rows that are no whole vectors are copied where that is little beside the products, or cannot be avoided;
    # rows at a power of two apart, since they share few sets of a cache.
    copied |= (D % L != 0 and (D < 3 * L or K > 64)) or (K > 64 and D * itemsize % 1024 == 0)
    # A tile and its scores fill a quarter of the second cache, up to 1 MiB of it, for the next tile comes in
    # meanwhile; its scores, which the gradient reads down the columns, stay in the first. On an Intel Xeon (Emerald
    # Rapids) 60000 x 784 x 10 floats take 8.95 ms in tiles of 64, 11.2 of 160; 100000 x 384 x 100 59, 68 of 256.
    rows = tile = max(L, min(64, cache // 4 // (itemsize * (D + K)) // L * L))
    # The sums of 256 samples are added in double at once: with the doubles of 784 x 10 weights going through the
    # second cache for each 80 samples, the pass took 6.44 ms instead of 5.98 (AVX2: 10.9 and 10.0).
    batch = max(1, 256 // tile) if K * D <= 2**18 else 1
    block = slices * tile * max(1, most // (slices * tile))
    shape |= {"parallel": parallel, "rows": rows, "tile": tile, "block": block}
    sliced: Plan = kernels.SlicedPlan(
        slices=slices, batch=batch, dots=dots, copied=copied, transposed=transposed, **shape
    )
    return sliced


def _sparse_plan(kernels: ModuleType, shape: dict[str, Any], nnz: int) -> Plan:
    """Choose the way over CSR rows: the classes at once, or groups of them if the transposed matrices are too large."""
    N, D, K, itemsize, second = shape.values()
    L = kernels.lanes_of(itemsize)
    line = 64 // itemsize
    flops = nnz // N * 4 * K + 20 * K
    row = kernels.transposed_row(K, itemsize)
    doubles = K * D * 8 <= DOUBLES_BYTES
    rows = max(L, min(ROWS_AT_ONCE, SCORES_BYTES // (itemsize * (K + L)) // 4 // L * L))
    classes, room = K, SCORES_BYTES
    if D * row * (itemsize * (2 + second) + (8 - itemsize) * doubles) > SPARSE_BYTES:
        doubles, room = False, GROUPED_BYTES
        classes = max(1, GROUP_BYTES // (D * itemsize))
        classes = min(K, classes // line * line or 1 << (classes.bit_length() - 1))
    tile = _ceil(min(N, max(rows, room // (itemsize * (_ceil(K, L) * L + 3) * (1 + second)))), rows) * rows
    # An entry takes the time of some eight operations for each lane, and the sweeps over W and dW are in no block.
    block = tile * max(1, BLOCK_FLOPS * L // 8 // (flops + 300) // tile)
    parallel = N * flops + 2 * K * D >= PARALLEL_FLOPS
    shape |= {"parallel": parallel, "rows": rows, "tile": tile, "block": block}
    sparse: Plan = kernels.SparsePlan(classes=classes, doubles=doubles, **shape)
    return sparse


@lru_cache(maxsize=1024)
def binomial_plan(
    N: int, D: int, itemsize: int, isa: str, *, second: bool = False, nnz: int | None = None
) -> BinomialPlan | None:
    """Choose the way of one pass over two classes with one row of coefficients; or None: take that of K = 2.

    Arguments as of `plan`.
    """
    kernels = dispatch.load(isa)
    assert kernels is not None
    L = kernels.lanes_of(itemsize)
    row = D * itemsize if nnz is None else max(1, nnz // N) * (itemsize + 4)  # bytes of a sample
    # Of a sample: two products; a maximum, an exponential and a logarithm.
    flops = 100 + (4 * D if nnz is None else 16 * nnz // N)
    parallel = N * flops >= PARALLEL_FLOPS
    slices = SLICES if parallel else 1
    while slices > 1 and (N < ROW_SLICE * slices or N * flops < PARALLEL_FLOPS // 16 * slices):
        slices //= 2
    while slices > 1 and (slices * D * 8 > SLICED_BYTES or (nnz is not None and slices * D * 2 > nnz)):
        slices //= 2
    if nnz is not None and slices < 4 and D * 32 > SLICED_BYTES:
        return None  # so many features that they have owners
    # 256 samples in the first cache, or 64 in the second: 1000000 x 30 floats take 3.0 ms in tiles of 256, and 3.6 of
    # 64; 60000 x 784 take 4.8 and 4.2.
    cache = min(max(dispatch.caches().l2, MiB // 4), MiB)
    tile = max(16, min(256, max(32768 // row, min(64, cache // 4 // row))) // 16 * 16)
    most = max(1, min(BLOCK_BYTES // row, BLOCK_FLOPS * L // (flops + 300) // (1 if nnz is None else 8)))
    way: BinomialPlan = kernels.BinomialPlan(
        N=N,
        D=D,
        itemsize=itemsize,
        rows=tile,
        tile=tile,
        block=slices * tile * max(1, most // (slices * tile)),
        parallel=parallel,
        second=second,
        slices=slices,
        batch=256,
        sparse=nnz is not None,
    )
    return way


@lru_cache(maxsize=1024)
def hessian_plan(
    N: int, D: int, K: int, itemsize: int, isa: str, *, intercept: bool, binary: bool, nnz: int | None = None
) -> HessianPlan:
    """Choose the way to the whole Hessian: slices of the samples, or all threads on one tile where it is large.

    Of CSR rows, with nnz entries in all, from pairs of entries where those are few.
    """
    kernels = dispatch.load(isa)
    assert kernels is not None
    P, pairs = D + intercept, 1 if binary else K * (K + 1) // 2
    if nnz is not None:
        entries = (nnz // N) ** 2 * (ENTRY_ITSELF + ENTRY_CLASSES * pairs)  # of a sample
        if entries <= D**2 * pairs:
            return _entries_plan(kernels, (N, D, K), itemsize, entries, intercept=intercept, binary=binary)
    flops = pairs * P * (P + 16) + 100 * K  # of a sample
    parallel = N * flops >= PARALLEL_FLOPS
    slices = 16 if parallel else 1
    while slices > 1 and (N < SLICE_ROWS * slices or slices * pairs * P * (P + 8) * 8 > HESSIANS_BYTES):
        slices //= 2
    if parallel and slices < 8:
        slices = 0
    tile = 64 if slices else max(128, min(2048, 4 * MiB // (8 * (P + K))) // 128 * 128)
    step = tile * max(1, slices)
    way: HessianPlan = kernels.HessianPlan(
        N=N,
        D=D,
        K=K,
        itemsize=itemsize,
        rows=tile,
        tile=tile,
        block=step * max(1, min(BLOCK_BYTES // (D * itemsize), 8 * BLOCK_FLOPS // flops) // step),
        parallel=parallel,
        slices=slices,
        sparse=nnz is not None,
        binary=binary,
        intercept=intercept,
    )
    return way


def _entries_plan(
    kernels: ModuleType, shape: tuple[int, int, int], itemsize: int, entries: int, *, intercept: bool, binary: bool
) -> HessianPlan:
    """Choose the way to the whole Hessian from the entries of CSR rows, whose pairs take so much of a sample."""
    N, D, K = shape
    flops = entries + 100 * K
    # A tile calls the team twice; its scores and curvatures take half of a second cache, but it is over within a tenth
    # of a second also where rows are long.
    most = min(MiB // 2 // (8 * (K + K * (K + 1) // 2)), 4 * BLOCK_FLOPS // flops)
    tile = max(1, min(N, 4096, most))
    way: HessianPlan = kernels.EntriesPlan(
        N=N,
        D=D,
        K=K,
        itemsize=itemsize,
        rows=tile,
        tile=tile,
        block=tile * max(1, 4 * BLOCK_FLOPS // flops // tile),
        parallel=N * flops >= PARALLEL_FLOPS,
        binary=binary,
        intercept=intercept,
    )
    return way


@lru_cache(maxsize=1024)
def centred_plan(N: int, D: int, isa: str) -> CentredPlan:
    """Choose the way to the whole Hessian of two classes from floats that are moved and scaled."""
    kernels = dispatch.load(isa)
    assert kernels is not None
    tile, slices = 256, 16
    step, flops = tile * slices, D * (D + 16)
    way: CentredPlan = kernels.CentredPlan(
        N=N,
        D=D,
        rows=tile,
        tile=tile,
        block=step * max(1, min(BLOCK_BYTES // (D * 4), 16 * BLOCK_FLOPS // flops) // step),
        parallel=True,
        slices=slices,
    )
    return way


def visits(way: Plan, N: int, row_bytes: int) -> Iterator[tuple[Visit, slice]]:
    """Cut N rows, of row_bytes each if they must be converted and 0 if not, into a pass's visits.

    A visit gets whole slices or whole tiles of a block: so how X is stored does not change a bit of the result.
    """
    slices = cast("SlicedPlan", way).slices if way.cut == "slices" else 0
    for start in range(0, N, way.block):
        block = min(way.block, N - start)
        pieces = slices or _ceil(block, way.tile)
        most = max(1, CONVERTED_BYTES // row_bytes) if row_bytes else block
        a = end = 0
        while end < pieces:
            begin, stop = end, a + most
            if stop >= block:
                end = pieces
            else:  # as many as end there or before, and one at least; of slices, some may be without a row
                end = max(((stop + 1) * pieces - 1) // block if slices else stop // way.tile, begin + 1)
            b = end * block // pieces if slices else min(end * way.tile, block)
            # The first visit of tiles clears the sums; of slices, each visit in the first block clears its own.
            first = start == 0 and (a == 0 or slices > 0)
            yield way.visit(start + a, a, block, begin, end, first, start + b == N), slice(start + a, start + b)
            a = b
