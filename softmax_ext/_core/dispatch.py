"""Which compiled kernels run: the best ISA level that was built and that this processor has.

Every line of a level's module, Cython's own included, is machine code of that level, so a module is imported only
after `_core.cpu`, built for any processor, has said that it can run. `SOFTMAX_EXT_ISA` chooses another level, or
`reference`: the public functions then run on `softmax_ext.reference`.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

LEVELS = ("avx512", "avx2", "baseline")
REFERENCE = "reference"
KIND = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}  # the kernels' names of the dtypes


def built() -> tuple[str, ...]:
    """ISA levels whose kernels were compiled, best first."""
    return tuple(name for name in LEVELS if find_spec(f"softmax_ext._core.kernels_{name}"))


def supported() -> tuple[str, ...]:
    """ISA levels that this processor has, best first; none where nothing is compiled that could tell."""
    return cpu.supported() if cpu else ()


def available() -> tuple[str, ...]:
    """ISA levels that can run here, best first: built and supported."""
    return tuple(name for name in built() if name in supported())


def load(name: str) -> ModuleType | None:
    """Import the kernels of one ISA level; None stands for the reference.

    Raises
    ------
    ValueError
        There is no level of that name.
    RuntimeError
        The level was not built, or this processor lacks it: its first instruction would end the process.
    ImportError
        Its file is there but cannot be loaded.
    """
    choices = f"available here: {', '.join((*available(), REFERENCE))}"
    if name == REFERENCE:
        return None
    if name not in LEVELS:
        raise ValueError(f"SOFTMAX_EXT_ISA: there is no ISA level {name!r}; {choices}")
    if name not in built():
        raise RuntimeError(f"SOFTMAX_EXT_ISA: softmax_ext was built without the ISA level {name!r}; {choices}")
    if name not in supported():
        raise RuntimeError(f"SOFTMAX_EXT_ISA: this processor lacks the ISA level {name!r}; {choices}")
    return import_module(f"softmax_ext._core.kernels_{name}")


@contextmanager
def using(name: str) -> Iterator[ModuleType | None]:
    """Run on another ISA level inside a `with` block: for tests and benchmarks, since it holds for every thread."""
    global isa, kernels
    before = isa, kernels
    isa, kernels = name, load(name)
    try:
        yield kernels
    finally:
        isa, kernels = before


def _choose() -> str:
    """Take what the environment asks for, or else the best there is."""
    if wanted := os.environ.get("SOFTMAX_EXT_ISA"):
        return wanted
    if not built():
        warnings.warn(
            "softmax_ext has no compiled kernels for this Python and runs on its slow NumPy reference: no kernels lie "
            f"in {Path(__file__).parents[1]}, which hides any other copy that is installed. To compile them there, "
            "with a C compiler: `pip install -e .` in its source folder (SOFTMAX_EXT_ISA=reference chooses the "
            "reference silently)",
            RuntimeWarning,
            stacklevel=4,  # this function, this module, softmax_ext/__init__.py, the user's import
        )
        return REFERENCE
    return available()[0]


# With kernels but without `_core.cpu` the installation is broken: say so, do not guess what the processor has.
cpu = import_module("softmax_ext._core.cpu") if built() or find_spec("softmax_ext._core.cpu") else None
isa = _choose()
kernels = load(isa)


class Caches(NamedTuple):
    """Bytes of data cache that one core can use; 0 is unknown."""

    l1: int
    l2: int
    l3: int


@cache
def caches(sysfs: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> Caches:
    """Cache sizes from Linux, and from the C library where that is silent.

    In this order, since glibc says nothing on ARM, and 384 MiB for the third level of a virtual EPYC that has 32.
    """
    sizes = [0, 0, 0]
    for folder in sysfs.glob("index*"):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind in ("Data", "Unified"):
                sizes[int(level) - 1] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError, IndexError):  # untold, told in another form, or a fourth level
            continue
    told = cpu.caches() if cpu else (0, 0, 0)
    return Caches(*(size or other for size, other in zip(sizes, told, strict=True)))
