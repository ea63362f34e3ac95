"""How softmax_ext was built and what it runs on, for people and for bug reports."""

import platform
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .._version import __version__
from . import dispatch
from . import threads as _threads
from .dispatch import Caches


class Config(NamedTuple):
    """How softmax_ext was built and what it runs on. `print` it for people, `_asdict()` it for machines."""

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
        """One fact a line."""
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
        A named tuple; its text is what a bug report should contain.

        version, numpy, python : str
            Versions.
        isa : str
            The ISA level in use, or "reference".
        isa_built, isa_supported : tuple of str
            Levels that were compiled, and levels that this processor has; best first.
        openmp : bool
            Whether the kernels were compiled with OpenMP.
        threads : int
            How many threads a call without `n_threads` runs on.
        caches : tuple of int
            L1 data, L2 and L3 cache that one core can use, in bytes; 0 is unknown.
        compiler : str
            The compiler and its version.
        flags : dict of str to str
            What it was given for each ISA level.

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
