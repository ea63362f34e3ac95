"""`show_config` tells how softmax_ext was built and what it runs on, for users and for bug reports."""

import platform
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .._version import __version__
from . import dispatch
from . import threads as _threads
from .dispatch import Caches


class Config(NamedTuple):
    """How softmax_ext was built and what it runs on: `print` shows it, and `_asdict()` returns it as a dictionary."""

    version: str
    numpy: str
    python: str
    isa: str
    isa_built: tuple[str, ...]
    isa_supported: tuple[str, ...]
    openmp: bool
    threads: int
    caches: Caches
    compiler: str
    flags: Mapping[str, str]

    def __repr__(self) -> str:
        """Return one fact a line."""
        sizes = (f"L{level} {size // 1024} KiB" for level, size in enumerate(self.caches, start=1))
        facts = {
            "softmax_ext": self.version,
            "NumPy": self.numpy,
            "Python": self.python,
            "ISA level": self.isa,
            "  built": ", ".join(self.isa_built) or "none",
            "  supported": ", ".join(self.isa_supported) or "unknown",
            "OpenMP": "yes" if self.openmp else "no",
            "threads": self.threads,
            "caches": ", ".join(sizes),
            "compiler": self.compiler,
            "flags": self.flags.get(self.isa, "none"),
        }
        return "\n".join(f"{name:<13}{fact}" for name, fact in facts.items())


def show_config() -> Config:
    """Tell how softmax_ext was built and what it runs on.

    Returns
    -------
    Config
        A named tuple; what it prints is what a bug report should contain.

        version, numpy, python : str
            The versions of softmax_ext, NumPy and Python.
        isa : str
            The ISA level in use ("avx512", "avx2" or "baseline"), or "reference" where no kernels run.
        isa_built, isa_supported : tuple of str
            The levels that were compiled, and those that this processor has; the best comes first.
        openmp : bool
            Whether the kernels were compiled with OpenMP.
        threads : int
            How many threads a call without `n_threads` runs on.
        caches : tuple of int
            The sizes in bytes of the L1 data, L2 and L3 cache that one core can use; 0 if unknown.
        compiler : str
            The compiler and its version.
        flags : dict of str to str
            The compiler's flags for each ISA level.

    Examples
    --------
    >>> import softmax_ext
    >>> config = softmax_ext.show_config()
    >>> config.isa in ("avx512", "avx2", "baseline", "reference")
    True
    """
    cpu = dispatch.cpu
    return Config(
        version=__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        isa=dispatch.isa,
        isa_built=dispatch.built(),
        isa_supported=dispatch.supported(),
        openmp=cpu.has_openmp() if cpu else False,
        threads=_threads.effective(),
        caches=dispatch.caches(),
        compiler=cpu.COMPILER if cpu else "none",
        flags=cpu.FLAGS if cpu else {},
    )
