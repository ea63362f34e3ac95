"""The tree in which the sums of pieces are added, so that each addition rounds at the same place wherever it is done.

Piece number n is the leaf (0, n), and node (level, i) is the sum of (level - 1, 2 i) and (level - 1, 2 i + 1). A node
whose right part lies beyond the last piece is its left part. So any worker can add the whole subtrees that it holds,
others can add what it sends, and the bits depend on the pieces' numbers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Node = tuple[int, int]  # level and index
Sums = list[Vector | None]  # what a node adds up to, for each question; None where no piece of it has anything to add
Item = TypeVar("Item")


def height(pieces: int) -> int:
    """Return the level of the root over so many pieces."""
    return max(pieces - 1, 0).bit_length()


def place(
    held: dict[Node, Item], node: Node, item: Item, add: Callable[[Node, Item, Item], Item], pieces: int, top: int
) -> None:
    """Add a node to those that are held, and join it with its neighbours up to the level `top` at most.

    `add` is called with a node, and what its left and its right part are.
    """
    level, index = node
    while level < top:
        other = index ^ 1
        if other << level < pieces:  # else there is nothing to join
            if (level, other) not in held:
                break
            theirs = held.pop((level, other))
            parent = level + 1, index >> 1
            item = add(parent, theirs, item) if index & 1 else add(parent, item, theirs)
        level, index = level + 1, index >> 1
    held[level, index] = item


def journeys(owners: Sequence[Item]) -> Iterator[tuple[Node, Item, Item]]:
    """Yield the nodes that travel, from whom and to whom, if each piece has an owner; the lowest first.

    A node is added by the owner of its first piece. So its right part travels, once, unless it has the same owner.
    """
    pieces = len(owners)
    for level in range(height(pieces)):
        for index in range(1, (pieces - 1 >> level) + 1, 2):
            left, right = owners[index - 1 << level], owners[index << level]
            if left != right:
                yield (level, index), right, left


def added(_: Node, left: Sums, right: Sums) -> Sums:
    """Return the sums of two parts."""
    return [_sum(a, b, None) for a, b in zip(left, right, strict=True)]


def added_in_place(_: Node, left: Sums, right: Sums) -> Sums:
    """Return the sums of two parts, of which the left one is overwritten where it can be: not if it was received."""
    return [_sum(a, b, a if a is not None and a.flags.writeable else None) for a, b in zip(left, right, strict=True)]


def _sum(a: Vector | None, b: Vector | None, out: Vector | None) -> Vector | None:
    return b if a is None else a if b is None else np.add(a, b, out=out)


def total(held: dict[Node, Sums]) -> Sums | None:
    """Return the sum of nodes that together hold all pieces, from the right to the left; None without nodes."""
    whole: Sums | None = None
    for _, sums in sorted(held.items(), key=lambda item: -(item[0][1] << item[0][0])):
        whole = sums if whole is None else added((0, 0), sums, whole)
    return whole


def flat(answer: Any) -> Vector | None:
    """Return an answer as a vector; a value comes after its gradient."""
    if answer is None:
        return None
    if isinstance(answer, tuple):
        value, grad = answer
        return np.append(grad, value)
    return np.array(answer, np.float64).ravel()
