"""How the work of a pass is cut for data of one shape, and with which sizes: no other module decides it.

The boundaries were measured on one machine (see "How a pass is cut" in docs/notes.md). Both ways take nearly the same
time at a boundary, so on another processor it may lie elsewhere, and little is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import gcd
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from . import dispatch

if TYPE_CHECKING:
    from .kernels_baseline import BinomialPlan, CentredPlan, HessianPlan, Plan, SlicedPlan, Visit

MiB = 2**20

# Floating-point operations below which one thread does the whole pass. On an idle machine a team of threads would pay
# for half as many, but where other processes keep the processors busy, the calling thread waits milliseconds for the
# last thread of its team; see "Small problems stay on one thread" in docs/notes.md.
PARALLEL_FLOPS = 2**22

# A block has this many operations for each lane of a vector. Ctrl-C is looked for between two blocks, so a block has to
# end within a second on one core, at the baseline level too (tests/test_interrupt.py). Smaller blocks would be slower,
# since their slices are short.
BLOCK_FLOPS = 2**29
# The most bytes of X in a block, and the most that are converted at a time where X cannot be read in place.
BLOCK_BYTES = 256 * MiB
CONVERTED_BYTES = 24 * MiB

# Lines of memory so many bytes apart lie in the same set of a first cache, which has 64 sets on x86-64.
WAY = 4096

# To clear a slice's sums and to add them at the end is the work of some 50 rows, so a slice has at least 128 rows.
SLICES = 32
SLICE_ROWS = 128
# A slice of a large problem has up to STRIPS strips, each of at least STRIP_ROWS rows, so that 128 threads find work. A
# strip costs less than a slice, since a thread that takes a whole slice sums its strips in one slot that stays in its
# cache; see "More than 32 threads" in docs/notes.md.
STRIPS, STRIP_ROWS = 4, 512
# If the sums of sixteen slices took more bytes than this, classes with owners are faster than slices; see "Slices, or
# classes with owners" in docs/notes.md.
SUMS_BYTES = 12 * MiB
# An owned gradient is summed in double if it then takes no more bytes than this, else in the dtype of the computation.
DOUBLES_BYTES = 16 * MiB
# The most bytes of a tile where classes have owners: its scores, its samples twice, and the sums in double. Each tile
# reads W and reads and writes dW, so tiles are few and large.
TILE_BYTES = 56 * MiB
# The fewest samples in a slice of a pass over two classes. They may be few, since a slice's sums are one row of
# coefficients.
ROW_SLICE = 32
# And in a strip of them, and in a slice and a strip of a Hessian.
ROW_STRIP, HESSIAN_ROWS = 256, 256
# The most bytes of the Hessians of all slices. If fewer than eight slices fit, all threads share one Hessian instead.
# Strips, which only many threads need, take a quarter of it at most.
HESSIANS_BYTES = 16 * MiB
# The cost of a pair of stored entries in a sparse Hessian: so much for the pair, and so much more for each pair of
# classes. The unit is the time to add one number to the Hessian where rows are arrays; see "A sparse Hessian from
# pairs of entries" in docs/notes.md.
ENTRY_ITSELF, ENTRY_CLASSES = 16, 8
# The most bytes of the sums of all slices where the classes are few. This keeps the promise of at most 64 MiB of work
# space (docs/promises.md); it does not make the pass faster.
SLICED_BYTES = 40 * MiB


# CSR rows fall into slices if there are at least so many, whose sums all have at most ENTRIES_OF_SUMS numbers for each
# stored entry; see "Sparse rows in slices" in docs/notes.md.
LEAST_SLICES, ENTRIES_OF_SUMS = 4, 2
# The most CSR rows whose scores are computed at a time.
ROWS_AT_ONCE = 128
# If W and dW, both transposed, fit into SPARSE_BYTES, a pass computes all classes at once, and the scores of a tile
# take SCORES_BYTES at most.
SPARSE_BYTES, SCORES_BYTES = 48 * MiB, 8 * MiB
# If they do not fit, the classes are cut into groups, and W or dW of one group takes GROUP_BYTES at most. Each tile
# then transposes W again, so that tiles have to be large: their scores may take GROUPED_BYTES.
GROUP_BYTES, GROUPED_BYTES = 32 * MiB, 24 * MiB


def _ceil(a: int, b: int) -> int:
    """Return a / b, rounded up."""
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
    """Return the plan of a pass over X (N, D) and K classes that computes in numbers of `itemsize` bytes.

    `second` asks for room for a second number beside each score, as the Hessian's product needs it. `copied` asks for
    a copy of each tile of X, which a gradient with respect to X may overwrite. `nnz` is the number of stored entries
    if X is CSR, and None if X is an array.
    """
    kernels = dispatch.load(isa)
    assert kernels is not None
    L = kernels.lanes_of(itemsize)
    shape: dict[str, Any] = {"N": N, "D": D, "K": K, "itemsize": itemsize, "second": second}
    if nnz is not None:
        return _sparse_plan(kernels, shape, nnz)
    flops = K * (4 * D + 20)  # operations of a sample: two products; maximum, exponential, sum, residual
    parallel = N * flops >= PARALLEL_FLOPS
    slices = SLICES if parallel else 1
    while slices > 1 and (N < SLICE_ROWS * slices or N * flops < PARALLEL_FLOPS // 16 * slices):
        slices //= 2
    while K <= 64 and slices > 1 and slices * K * D * 8 > SLICED_BYTES:
        slices //= 2
    strips = _strips(slices, N, flops, STRIP_ROWS, SLICED_BYTES // (K * (D + 1) * 8))
    # The size of a core's second cache, within limits. Every processor since 2013 has at least 256 KiB, so that is
    # assumed where the system does not tell.
    cache = min(max(dispatch.caches().l2, MiB // 4), MiB)
    # A row takes the time of some 300 operations besides these, whatever K is.
    most = max(1, min(BLOCK_BYTES // (D * itemsize), BLOCK_FLOPS * L // (flops + 300)))

    if K > 64 and K * D * 8 * min(slices, 16) > SUMS_BYTES:
        rows = max(L, min(64, CONVERTED_BYTES // (itemsize * (D + K)) // L * L))
        # Threads share some sixteen parts of the classes, each of whole vectors. The packed W of a part fills at most
        # half of the cache; see "Parts and tiles of owned classes" in docs/notes.md.
        classes = L * max(1, min(cache // 2 // (D * L * itemsize), _ceil(K, 16 * L)))
        # A tile's samples and scores take some 3 MiB. But each tile reads W, and reads and writes dW, so a tile has at
        # least 448 samples; the same note has the times.
        tile = min(1024, max(448, 3 * MiB // (itemsize * (D + K))))
        doubles = K * D * 8 <= DOUBLES_BYTES
        room = TILE_BYTES - 8 * K * (1 + (_ceil(D, L) * L if doubles else 0))
        tile = max(
            rows,
            min(tile, room // (itemsize * (K * (1 + second) + 2 * D)), CONVERTED_BYTES // (2 * D * itemsize)),
        )
        tile = _ceil(_ceil(N, _ceil(N, tile)), L) * L  # so that the last tile is about as large as the others
        # One tile may take seconds (448 samples x 4096 features x 32000 classes), so Ctrl-C is then also looked for
        # each time that this number of parts is done.
        parts = max(1, 2 * BLOCK_FLOPS * L // (tile * classes * flops // K))
        parts = parts if parts * classes < K else 0
        shape |= {"parallel": parallel, "rows": rows, "tile": tile, "block": tile * max(1, most // tile)}
        owned: Plan = kernels.OwnedPlan(classes=classes, parts=parts, doubles=doubles, **shape)
        return owned
    # With lanes along the classes a fifth of the lanes or more would be empty, so lanes run along the features instead.
    # The sum across the lanes at the end pays only where the features are many; see "Lanes along the features" in
    # docs/notes.md.
    dots = D >= 192 and K <= 32 and 5 * K <= 4 * _ceil(K, L) * L
    # Lanes of the gradient run along the classes where that leaves fewer of them empty; see "Lanes along the classes"
    # in docs/notes.md.
    transposed = K > 64 and D * _ceil(K, L) < K * _ceil(D, L)
    # A tile and its scores fill at most a quarter of the second cache, because the next tile is fetched meanwhile, or
    # three eighths where scores are longer than rows, of which little is fetched. And a tile has at most 64 rows, so
    # that its scores, which the gradient reads down the columns, stay in the first cache. Of long rows or scores that
    # would be few, and each tile reads and writes the gradient: so it has 32, 24 or 16 at least; see "Tiles of slices"
    # in docs/notes.md.
    length = D * itemsize
    if K > D:
        room, least = 3 * cache // 8, max(L, 24 // L * L) if 24 * K * itemsize <= 2 * MiB else L
    else:
        room, least = cache // 4, 32 if 32 * length <= MiB else 16 if 16 * length <= 4 * MiB else L
    # The gradient of some features reads one or two lines of each row, for one block of classes after the other. Of
    # rows whose distance has a large power of two in it, the first cache would not hold them until the last block. So
    # these rows are copied; see "Rows that lie a power of two apart" in docs/notes.md.
    apart, l1 = gcd(length, WAY), dispatch.caches().l1 or 2**15
    crowded, pays = apart == WAY, K > kernels.block_rows() and least * length <= MiB
    copied |= crowded and pays
    copied |= K > 64 and 64 * apart >= min(l1, 2**16)
    if crowded and not pays:
        least = L
    rows = tile = max(least, min(64, room // (itemsize * (D + K)) // L * L))
    # Rows that do not end with a whole vector are copied into padded ones where rows are short, or where that is little
    # work beside the products.
    copied |= D % L != 0 and (D < 3 * L or K > 64)
    # The gradients of some 256 samples are summed before they are added in double, since the doubles would otherwise
    # go through the second cache for each tile, if a thread needs at most 2 MiB for that; see "A gradient in X's dtype
    # for some 256 rows" in docs/notes.md.
    batch = max(1, 256 // tile) if K * length <= 2 * MiB else 1
    block = slices * tile * max(1, most // (slices * tile))
    shape |= {"parallel": parallel, "rows": rows, "tile": tile, "block": block}
    sliced: Plan = kernels.SlicedPlan(
        slices=slices, strips=strips, batch=batch, dots=dots, copied=copied, transposed=transposed, **shape
    )
    return sliced


def _strips(slices: int, N: int, flops: int, rows: int, slots: int) -> int:
    """Return how many strips a slice has: each of at least `rows` of N rows, and all in no more than `slots` slots."""
    strips = STRIPS if slices == SLICES else 1
    least = max(rows, _ceil(PARALLEL_FLOPS // 4, flops))
    while strips > 1 and (N < least * slices * strips or slices * strips > slots):
        strips //= 2
    return strips


def _sparse_plan(kernels: ModuleType, shape: dict[str, Any], nnz: int) -> Plan:
    """Return the plan for CSR rows: all classes at once, or groups of them if the transposed matrices are too large."""
    N, D, K, itemsize, second = shape.values()
    L = kernels.lanes_of(itemsize)
    line = 64 // itemsize
    flops = nnz // N * 4 * K + 20 * K
    row = kernels.transposed_row(K, itemsize)
    if K * D * 8 <= DOUBLES_BYTES and D * row * (itemsize * (1 + second) + 8) <= SUMS_BYTES:
        sliced = _sparse_slices(kernels, shape, nnz, flops, row)
        if sliced is not None:
            return sliced
    doubles = K * D * 8 <= DOUBLES_BYTES
    rows = max(L, min(ROWS_AT_ONCE, SCORES_BYTES // (itemsize * (K + L)) // 4 // L * L))
    classes, room = K, SCORES_BYTES
    if D * row * (itemsize * (2 + second) + (8 - itemsize) * doubles) > SPARSE_BYTES:
        doubles, room = False, GROUPED_BYTES
        classes = max(1, GROUP_BYTES // (D * itemsize))
        classes = min(K, classes // line * line or 1 << (classes.bit_length() - 1))
    tile = _ceil(min(N, max(rows, room // (itemsize * (_ceil(K, L) * L + 3) * (1 + second)))), rows) * rows
    # A block counts the entries alone, not the sweeps over W and dW. An entry takes the time of some eight operations
    # for each lane.
    block = tile * max(1, BLOCK_FLOPS * L // 8 // (flops + 300) // tile)
    parallel = N * flops + 2 * K * D >= PARALLEL_FLOPS
    shape |= {"parallel": parallel, "rows": rows, "tile": tile, "block": block}
    sparse: Plan = kernels.SparsePlan(classes=classes, doubles=doubles, **shape)
    return sparse


def _sparse_slices(kernels: ModuleType, shape: dict[str, Any], nnz: int, flops: int, row: int) -> Plan | None:
    """Return the plan of CSR rows in slices, or None if features should have owners.

    The other arguments are the operations of a sample, and the numbers of a feature's row of Wt and dWt.
    """
    N, D, itemsize = shape["N"], shape["D"], shape["itemsize"]
    parallel, slices = N * flops >= PARALLEL_FLOPS, 1
    if parallel:
        slices = SLICES
        while slices > 1 and (
            N < SLICE_ROWS * slices
            or slices * D * row > ENTRIES_OF_SUMS * nnz
            or slices * D * row * 8 > SUMS_BYTES
            or N * flops < PARALLEL_FLOPS // 16 * slices
        ):
            slices //= 2
        if slices < LEAST_SLICES:
            return None
    strips = _strips(slices, N, flops, STRIP_ROWS, min(SUMS_BYTES // 8, ENTRIES_OF_SUMS * nnz) // (D * row))
    L = kernels.lanes_of(itemsize)
    step = ROWS_AT_ONCE * slices
    block = step * max(1, BLOCK_FLOPS * L // 8 // (flops + 300) // step)
    shape = shape | {"parallel": parallel, "rows": ROWS_AT_ONCE, "tile": ROWS_AT_ONCE, "block": block}
    way: Plan = kernels.SparseSlicesPlan(slices=slices, strips=strips, **shape)
    return way


@lru_cache(maxsize=1024)
def binomial_plan(
    N: int, D: int, itemsize: int, isa: str, *, second: bool = False, nnz: int | None = None, models: int = 1
) -> BinomialPlan | None:
    """Return the plan of a pass over two classes with one row of coefficients; the arguments are those of `plan`.

    Return None if the features are so many that each needs an owner, as `plan` with K = 2 gives it. The pass of several
    models is cut as that of one, so that each gets the same bits.
    """
    kernels = dispatch.load(isa)
    assert kernels is not None
    L = kernels.lanes_of(itemsize)
    row = D * itemsize if nnz is None else max(1, nnz // N) * (itemsize + 4)  # bytes of a sample
    # The operations of a sample: two products; a maximum, an exponential and a logarithm.
    flops = 100 + (4 * D if nnz is None else 16 * nnz // N)
    parallel = N * flops >= PARALLEL_FLOPS
    slices = SLICES if parallel else 1
    while slices > 1 and (N < ROW_SLICE * slices or N * flops < PARALLEL_FLOPS // 16 * slices):
        slices //= 2
    while slices > 1 and (slices * D * 8 > SLICED_BYTES or (nnz is not None and slices * D * 2 > nnz)):
        slices //= 2
    if nnz is not None and slices < 4 and D * 32 > SLICED_BYTES:
        return None
    slots = min(SLICED_BYTES // (D * 8), SLICES * STRIPS if nnz is None else nnz // (2 * D))
    strips = _strips(slices, N, flops, ROW_STRIP, slots)
    # A tile has 256 samples if the first cache holds them, else up to 64 that fit into the second; see "Tiles of two
    # classes" in docs/notes.md.
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
        strips=strips,
        batch=256,
        sparse=nnz is not None,
        models=models,
    )
    return way


@lru_cache(maxsize=1024)
def hessian_plan(
    N: int, D: int, K: int, itemsize: int, isa: str, *, intercept: bool, binary: bool, nnz: int | None = None
) -> HessianPlan:
    """Return the plan for the whole Hessian: slices of the samples, or all threads on one tile if it is large.

    For CSR rows with nnz stored entries it is summed from pairs of entries where those are few.
    """
    kernels = dispatch.load(isa)
    assert kernels is not None
    P, pairs = D + intercept, 1 if binary else K * (K + 1) // 2
    if nnz is not None:
        entries = (nnz // N) ** 2 * (ENTRY_ITSELF + ENTRY_CLASSES * pairs)  # the cost of a sample's pairs of entries
        if entries <= D**2 * pairs:
            return _entries_plan(kernels, (N, D, K), itemsize, entries, intercept=intercept, binary=binary)
    flops = pairs * P * (P + 16) + 100 * K  # operations of a sample
    parallel = N * flops >= PARALLEL_FLOPS
    slots = HESSIANS_BYTES // (pairs * P * (P + 8) * 8)
    slices = SLICES if parallel else 1
    while slices > 1 and (N < (HESSIAN_ROWS if slices > 16 else SLICE_ROWS) * slices or slices > slots):
        slices //= 2
    if parallel and slices < 8:
        slices = 0
    strips = _strips(slices, N, flops, HESSIAN_ROWS, slots // 4)
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
        strips=strips,
        sparse=nnz is not None,
        binary=binary,
        intercept=intercept,
    )
    return way


def _entries_plan(
    kernels: ModuleType, shape: tuple[int, int, int], itemsize: int, entries: int, *, intercept: bool, binary: bool
) -> HessianPlan:
    """Return the plan for the whole Hessian of CSR rows from pairs of entries, which cost `entries` for a sample."""
    N, D, K = shape
    flops = entries + 100 * K
    # Each tile starts the team twice, so tiles are large: a tile's scores and curvatures take half a MiB, which a
    # second cache holds. But where rows are long, a tile has fewer, so that Ctrl-C waits a tenth of a second at most.
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
    """Return the plan for the whole Hessian of two classes in float32, of samples that are centred and scaled."""
    kernels = dispatch.load(isa)
    assert kernels is not None
    tile, flops = 256, D * (D + 16)
    strips = _strips(SLICES, N, flops, 2 * tile, HESSIANS_BYTES // 4 // (D * (D + 8) * 8))
    step = tile * SLICES * strips
    way: CentredPlan = kernels.CentredPlan(
        N=N,
        D=D,
        rows=tile,
        tile=tile,
        block=step * max(1, min(BLOCK_BYTES // (D * 4), 16 * BLOCK_FLOPS // flops) // step),
        parallel=True,
        slices=SLICES,
        strips=strips,
    )
    return way


def visits(way: Plan, N: int, row_bytes: int) -> Iterator[tuple[Visit, slice]]:
    """Yield the visits of a pass over N rows, each with the slice of its rows.

    `row_bytes` is what a converted row takes, and 0 if rows are read in place. A visit gets whole slices or whole tiles
    of a block, so the bits of the result do not depend on how X is stored.
    """
    slices = cast("SlicedPlan", way).slices if way.cut == "slices" else 0
    room = CONVERTED_BYTES if slices else CONVERTED_BYTES // 4  # the work space of the other cuts is larger
    for start in range(0, N, way.block):
        block = min(way.block, N - start)
        pieces = slices or _ceil(block, way.tile)
        most = max(1, room // row_bytes) if row_bytes else block
        a = end = 0
        while end < pieces:
            begin, stop = end, a + most
            if stop >= block:
                end = pieces
            else:  # those that end at `stop` or before are visited, and at least one; a slice may be without a row
                end = max(((stop + 1) * pieces - 1) // block if slices else stop // way.tile, begin + 1)
            b = end * block // pieces if slices else min(end * way.tile, block)
            # Tiles share their sums, which the first visit clears. Slices have sums of their own, which each visit of
            # the first block clears for its slices.
            first = start == 0 and (a == 0 or slices > 0)
            yield way.visit(start + a, a, block, begin, end, first, start + b == N), slice(start + a, start + b)
            a = b
