"""Warnings that point to the user's line, however many of our functions lie between."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Kept = list[tuple[type[Warning], str]]

_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def keeping() -> Iterator[Kept]:
    """Keep the warnings of this thread in the list that is yielded, instead of giving them."""
    kept: Kept = []
    token = _kept.set(kept)
    try:
        yield kept
    finally:
        _kept.reset(token)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called this package, directly or through scikit-learn's wrapper of `fit`.

    A fixed `stacklevel` would not do, since `fit`, `partial_fit`, chunks and a cluster call this function through
    different numbers of others. From Python 3.12 on, `warnings.warn` has skip_file_prefixes for this.
    """
    kept = _kept.get()
    if kept is not None:
        kept.append((category, message))
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_between(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_between(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0] or module == "sklearn.base"
