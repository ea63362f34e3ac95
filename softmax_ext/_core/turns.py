"""Small fits of several Python threads take turns with what needs Python, and give them away while a kernel iterates.

Without turns each lets Python's global lock go for a moment some forty times a fit, as NumPy does for every operation
on more than 500 numbers. Each time another thread that waits for it wakes up, which takes longer than the operation;
see "Small fits of several threads" in docs/notes.md. In a CPython that runs without this lock nobody takes turns.
"""

from __future__ import annotations

import os
import sys
import threading
from types import ModuleType

from . import dispatch

_is_gil_enabled = getattr(sys, "_is_gil_enabled", None)  # from Python 3.13 on


class _Here(threading.local):
    """What a thread knows of its turn: the kernels that gave it, or None."""

    by: ModuleType | None = None


_here = _Here()


def locked() -> bool:
    """Return whether Python has its global lock: it may be turned on when any module is imported."""
    return _is_gil_enabled is None or bool(_is_gil_enabled())


class Turn:
    """Wait for the turn, and have it inside of the `with` block; a thread that has it already keeps it.

    Nothing inside may wait for another thread's fit.
    """

    def __enter__(self) -> None:
        self.kernels = None if _here.by is not None or not locked() else dispatch.kernels
        if self.kernels is None:
            return
        _here.by = self.kernels
        try:
            self.kernels.take_turn()  # inside of `try`, since Ctrl-C may come as soon as it returns
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.kernels is not None:
            _here.by = None
            self.kernels.leave_turn()


def mine() -> bool:
    """Return whether this thread has the turn, so that it may leave it to others for a while."""
    return _here.by is not None


def _after_fork() -> None:
    """Give back the turn of a thread that the child process does not have."""
    if dispatch.kernels is not None and not mine():
        dispatch.kernels.give_turn()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
