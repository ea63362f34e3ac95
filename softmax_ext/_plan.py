"""Which way through the kernels a shape takes, and why: `plan` is the one place that decides it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from . import _dispatch

MiB = 2**20

# Threads do not pay below: waking one takes 5 to 10 µs, and where the processors are busy with other things a team
# waits for its last member for milliseconds. 8 Mflop are some 60 µs of one AVX-512 core.
PARALLEL_FLOPS = 2**23

# A block's work, after which Ctrl-C is looked for: 0.05 to 0.3 s of two cores.
BLOCK_FLOPS = 2**34
# A block's rows of X, and of these the part that is converted at a time where X cannot be read in place.
BLOCK_BYTES = 256 * MiB
CONVERTED_BYTES = 24 * MiB

# Most slices, and what their sums may take together.
SLICES = 32
SUMS_BYTES = 33 * MiB


class Plan(NamedTuple):
    """The choices for one shape. The kernels read the first eight, in this order."""

    dots: bool  # scores with lanes along the features, added across at the end
    copied: bool  # each tile of X is copied into padded rows
    transposed: bool  # the gradient's lanes run along the classes
    doubles: bool  # dW is summed in double from tile to tile
    rows: int  # samples whose scores are computed at a time
    tile: int  # samples whose gradient is
    slices: int  # parts of a block's rows with sums of their own, or 0: parts of the classes own theirs
    classes: int  # in such a part
    block: int  # samples
    parallel: bool  # whether threads pay
    shared: int  # elements of work space for all threads,
    work: int  # and for each
    sums: int  # doubles of the sums of all slices


class Visit(NamedTuple):
    """What one call of the kernel does: some rows of a block. The kernels read the fields in this order."""

    block: int  # rows of the block
    offset: int  # the first of these rows, counted from the block's
    begin: int  # the slices that they are
    end: int
    first: bool  # the sums are cleared
    last: bool  # and here they are finished


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


@lru_cache(maxsize=1024)
def plan(N: int, D: int, K: int, itemsize: int, isa: str) -> Plan:
    """Choose the way of one pass."""
    kernels = _dispatch.load(isa)
    assert kernels is not None
    L = kernels.lanes_of(itemsize)
    cache = min(max(_dispatch.caches().l2 or MiB // 2, MiB // 4), 2 * MiB)
    flops = K * (4 * D + 20)  # of one sample

    parallel = N * flops >= PARALLEL_FLOPS
    slices = SLICES if parallel else 1
    while slices > 1 and (N < 64 * slices or N * flops < PARALLEL_FLOPS // 32 * slices):
        slices //= 2
    doubles = K * D * 8 <= 16 * MiB
    owned = K > 64 and K * D * 8 * min(slices, 16) > SUMS_BYTES
    most = max(1, min(BLOCK_BYTES // (D * itemsize), BLOCK_FLOPS // flops))
    if owned:
        classes = 6 * L * max(1, cache // 2 // (D * 6 * L * itemsize))
        tile = max(64, min(1024, 40 * MiB // (K * itemsize) // 64 * 64))
        tile = _ceil(_ceil(N, _ceil(N, tile)), 64) * 64
        choice = (False, True, False, doubles, 64, tile, 0, classes)
        block = tile * max(1, most // tile)
    else:
        dots = D >= 256 and K <= 32 and 5 * K <= 4 * _ceil(K, L) * L
        transposed = K > 64 and D * _ceil(K, L) < K * _ceil(D, L)
        copied = (D % L != 0 and (D < 3 * L or K > 64)) or (K > 64 and D * itemsize % 1024 == 0)
        rows = max(L, min(256, cache // 4 // (itemsize * (D + K)) // L * L))
        tile = rows * _ceil(256, rows) if K > 64 and not transposed else rows
        while slices > 16 and K * D * 8 * slices > SUMS_BYTES:
            slices //= 2
        choice = (dots, copied, transposed, True, rows, tile, slices, 0)
        block = slices * tile * max(1, most // (slices * tile))
    shared, work, sums = kernels.sizes(choice, D, K, itemsize)
    return Plan(*choice, block, parallel, shared, work, sums * max(choice[6], 1))


def visits(way: Plan, N: int, row_bytes: int) -> Iterator[tuple[Visit, slice]]:
    """Cut N rows, of row_bytes each if they must be converted and 0 if not, into the kernel's calls.

    A call gets whole slices or whole tiles of a block: so how X is stored does not change a bit of the result.
    """
    for start in range(0, N, way.block):
        block = min(way.block, N - start)
        pieces = way.slices or _ceil(block, way.tile)
        together = max(1, pieces * CONVERTED_BYTES // (block * row_bytes)) if row_bytes else pieces
        for begin in range(0, pieces, together):
            end = min(begin + together, pieces)
            if way.slices:
                a, b = begin * block // pieces, end * block // pieces
            else:
                a, b = begin * way.tile, min(end * way.tile, block)
            # The first call for tiles clears the sums; for slices, each call in the first block clears its own.
            first = start == 0 and (a == 0 or way.slices > 0)
            yield Visit(block, a, begin, end, first, start + b == N), slice(start + a, start + b)
