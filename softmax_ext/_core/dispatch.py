"""Which compiled kernels run: those of the best ISA level that was built and that this processor has.

Every line of a level's module, Cython's own included, is machine code of that level. So a module is imported only
after `_core.cpu`, which is built for any processor, has told that the level can run here. `SOFTMAX_EXT_ISA` chooses
another level, or `reference`: the public functions then run on `softmax_ext.reference`.
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
KIND = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}  # what the kernels call the dtypes


def built() -> tuple[str, ...]:
    """Return the ISA levels whose kernels were compiled, best first."""
    return tuple(name for name in LEVELS if find_spec(f"softmax_ext._core.kernels_{name}"))


def supported() -> tuple[str, ...]:
    """Return the ISA levels that this processor has, best first; none if `_core.cpu`, which tells, is not compiled."""
    return cpu.supported() if cpu else ()


def available() -> tuple[str, ...]:
    """Return the ISA levels that are built and supported, best first."""
    return tuple(name for name in built() if name in supported())


def load(name: str) -> ModuleType | None:
    """Return the module with the kernels of one ISA level, or None for the reference.

    Raises
    ------
    ValueError
        There is no level of that name.
    RuntimeError
        The level was not built, or this processor lacks it: an instruction of that level would end the process.
    ImportError
        The module's file exists but cannot be loaded.
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
    """Run on another ISA level inside a `with` block, for tests and benchmarks: the level changes for every thread."""
    global isa, kernels
    before = isa, kernels
    isa, kernels = name, load(name)
    try:
        yield kernels
    finally:
        isa, kernels = before


def _choose() -> str:
    """Return the ISA level that SOFTMAX_EXT_ISA asks for, or else the best one that can run here."""
    if wanted := os.environ.get("SOFTMAX_EXT_ISA"):
        return wanted
    if not built():
        warnings.warn(
            "softmax_ext has no compiled kernels for this Python and runs on its slow NumPy reference: no kernels lie "
            f"in {Path(__file__).parents[1]}, which hides any other copy that is installed. To compile them there, "
            "with a C compiler: `pip install -e .` in its source folder (SOFTMAX_EXT_ISA=reference chooses the "
            "reference silently)",
            RuntimeWarning,
            stacklevel=4,  # past this function, this module and softmax_ext/__init__.py, to the user's import
        )
        return REFERENCE
    return available()[0]


# Kernels without `_core.cpu` are a broken installation. The import then fails, for nothing should guess what the
# processor has.
cpu = import_module("softmax_ext._core.cpu") if built() or find_spec("softmax_ext._core.cpu") else None
isa = _choose()
kernels = load(isa)


class Caches(NamedTuple):
    """Bytes of each level of data cache that one core can use; 0 if unknown."""

    l1: int
    l2: int
    l3: int


@cache
def caches(sysfs: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> Caches:
    """Return the cache sizes that Linux tells, and the C library's where Linux tells none.

    Linux is asked first, since glibc tells nothing on ARM, and told 384 MiB for the third cache of a virtual EPYC that
    has 32.
    """
    sizes = [0, 0, 0]
    for folder in sysfs.glob("index*"):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
            if kind in ("Data", "Unified"):
                sizes[int(level) - 1] = int(size.removesuffix("K")) * 1024
        except (OSError, ValueError, IndexError):  # no such file, a size in another form, or a fourth level
            continue
    told = cpu.caches() if cpu else (0, 0, 0)
    return Caches(*(size or other for size, other in zip(sizes, told, strict=True)))
