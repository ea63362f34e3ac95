"""Tensors of other libraries in the place of arrays: those in the CPU's memory are read there, by DLPack or NumPy.

If the first argument of a function is a tensor, the function returns tensors of the same library. PyTorch and JAX are
not imported here: a caller who has a tensor has imported its library.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["array_of", "is_tensor", "on_arrays", "read", "stays_with_scipy"]

P = ParamSpec("P")
R = TypeVar("R")

HOST = (1, 3, 11)  # DLPack's device numbers of the CPU, and of CPU memory that CUDA or ROCm has pinned


def is_tensor(x: Any) -> bool:
    """Return whether x offers DLPack and is not an array or scalar of NumPy's."""
    return hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray | np.generic)


def array_of(x: Any, name: str) -> npt.NDArray[Any]:
    """Return a tensor as an array, which shares its memory if NumPy has its dtype.

    Raises
    ------
    ValueError
        If the tensor is on another device, requires a gradient, or has no values yet, as under `jax.jit`; or if it is
        of bfloat16 and ml_dtypes is not installed.
    """
    device = _device(x)
    if device is not None:
        raise ValueError(f"{name} is on the device {device}, and softmax_ext computes on the CPU: bring it there first")
    if getattr(x, "requires_grad", False):
        raise ValueError(
            f"{name} requires a gradient, and none goes through this function: pass {name}.detach(), or use "
            "softmax_ext.torch, whose functions have gradients"
        )
    torch = _torch_of_bfloat16(x)
    if torch is not None:
        return np.asarray(x.view(torch.int16)).view(_bfloat16(name))
    try:
        return np.asarray(x) if hasattr(x, "__array__") else np.from_dlpack(x)
    except (ValueError, TypeError, RuntimeError, BufferError) as error:
        raise ValueError(f"{name} ({type(x).__name__}) cannot be read as an array: {error}") from error


def _torch_of_bfloat16(x: Any) -> Any:
    """Return the module torch if x is its tensor of bfloat16, which PyTorch cannot export to NumPy; else None."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return None
    return torch if x.dtype == torch.bfloat16 and x.layout == torch.strided else None


def _bfloat16(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of bfloat16, which ml_dtypes has; `name` is the argument that errors name."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise ValueError(
            f"{name} is of bfloat16, which NumPy has from ml_dtypes ({error}): install it, or pass {name}.float()"
        ) from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def read(x: Any, name: str) -> Any:
    """Return x as an array if it is a tensor, else x itself."""
    return array_of(x, name) if is_tensor(x) else x


def on_arrays(function: Callable[P, R], /, *arguments: P.args, **keywords: P.kwargs) -> R:
    """Call a function with arrays in the place of tensors, and return its arrays as tensors.

    The tensors returned are of the library that the first tensor argument is from. Python numbers are returned as they
    are. If the function returns one of the arrays that stand for a tensor, such as `out`, that tensor is returned.
    """
    given = inspect.signature(function).bind(*arguments, **keywords)
    tensors = {name: x for name, x in given.arguments.items() if is_tensor(x)}
    arrays = {name: array_of(x, name) for name, x in tensors.items()}
    given.arguments.update(arrays)
    result: Any = function(*given.args, **given.kwargs)
    namespace: Any = _namespace(next(iter(tensors.values())))

    def kind(value: Any) -> Any:
        """Return a value of the result: as a tensor if it is an array."""
        for name, array in arrays.items():
            if value is array:
                return tensors[name]
        if namespace is None or not isinstance(value, np.ndarray | np.generic):
            return value
        if value.dtype.name == "bfloat16" and getattr(namespace, "__name__", "") == "torch":
            return namespace.asarray(np.asarray(value).view(np.int16)).view(namespace.bfloat16)
        return namespace.asarray(np.asarray(value))

    if not isinstance(result, tuple):
        converted = kind(result)
    elif hasattr(result, "_make"):
        converted = result._make(map(kind, result))
    else:
        converted = tuple(map(kind, result))
    return converted  # type: ignore[no-any-return]


def stays_with_scipy(x: Any) -> bool:
    """Return whether a tensor is left to SciPy, since only SciPy can compute it where it is, or its gradient.

    That holds for tensors on other devices, tensors that require a gradient and traced ones, if SCIPY_ARRAY_API was set
    before SciPy was imported.
    """
    if not os.environ.get("SCIPY_ARRAY_API"):
        return False
    traced = not hasattr(x, "__dlpack_device__")
    return traced or _device(x) is not None or getattr(x, "requires_grad", False)


def _device(x: Any) -> str | None:
    """Return the name of a tensor's device, or None if its memory is the CPU's."""
    try:
        kind, _ = x.__dlpack_device__()
    except AttributeError:  # x is a tracer of JAX; let np.asarray raise JAX's own error, which explains more
        return None
    except (ValueError, TypeError, RuntimeError, BufferError):  # as for PyTorch's devices that DLPack does not know
        kind = None
    return None if kind in HOST else str(getattr(x, "device", kind))


def _namespace(x: Any) -> Any:
    """Return the module whose `asarray` turns arrays into tensors like x, or None if there is none."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    for kind in type(x).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if hasattr(library, "from_dlpack") and hasattr(library, "asarray"):
            return library
    return None
