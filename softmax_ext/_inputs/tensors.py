"""Tensors in the place of arrays: what of other libraries lies in the CPU's memory is read there, by DLPack or NumPy.

Functions of which the first argument is a tensor give back tensors of its library. PyTorch and JAX are not imported:
whoever has a tensor has imported its library.
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

HOST = (1, 3, 11)  # DLPack's numbers of the CPU, and of its memory that CUDA and ROCm have pinned


def is_tensor(x: Any) -> bool:
    """Tell what speaks DLPack, and is no array of NumPy's."""
    return hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray | np.generic)


def array_of(x: Any, name: str) -> npt.NDArray[Any]:
    """Return a tensor as an array, of the same memory where NumPy has its dtype.

    Raises
    ------
    ValueError
        If it is on another device, needs a gradient, has no values yet, as under `jax.jit`, or is of bfloat16, and
        ml_dtypes is not installed.
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
    """Return PyTorch for a tensor of its bfloat16, which it does not tell NumPy; else None."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return None
    return torch if x.dtype == torch.bfloat16 and x.layout == torch.strided else None


def _bfloat16(name: str) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError as error:
        raise ValueError(
            f"{name} is of bfloat16, which NumPy has from ml_dtypes ({error}): install it, or pass {name}.float()"
        ) from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def read(x: Any, name: str) -> Any:
    """Return a tensor as an array, and everything else as it is."""
    return array_of(x, name) if is_tensor(x) else x


def on_arrays(function: Callable[P, R], /, *arguments: P.args, **keywords: P.kwargs) -> R:
    """Call a function with arrays of its tensors, and return tensors of the library that the first tensor is from.

    Numbers stay numbers. Where the result is an array that was given as a tensor, as `out`, it is that tensor.
    """
    given = inspect.signature(function).bind(*arguments, **keywords)
    tensors = {name: x for name, x in given.arguments.items() if is_tensor(x)}
    arrays = {name: array_of(x, name) for name, x in tensors.items()}
    given.arguments.update(arrays)
    result: Any = function(*given.args, **given.kwargs)
    namespace: Any = _namespace(next(iter(tensors.values())))

    def kind(value: Any) -> Any:
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
    """Tell a tensor that SciPy computes where it is, gradient included, and that cannot be computed here.

    SciPy does so if SCIPY_ARRAY_API was set before it was imported.
    """
    if not os.environ.get("SCIPY_ARRAY_API"):
        return False
    traced = not hasattr(x, "__dlpack_device__")
    return traced or _device(x) is not None or getattr(x, "requires_grad", False)


def _device(x: Any) -> str | None:
    """Return the name of a tensor's device, or None for the CPU."""
    try:
        kind, _ = x.__dlpack_device__()
    except AttributeError:  # a tracer of JAX: its own error, from np.asarray, says it best
        return None
    except (ValueError, TypeError, RuntimeError, BufferError):  # PyTorch has devices that DLPack does not know
        kind = None
    return None if kind in HOST else str(getattr(x, "device", kind))


def _namespace(x: Any) -> Any:
    """Return the module whose `asarray` makes tensors like x of arrays, or None."""
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    for kind in type(x).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if hasattr(library, "from_dlpack") and hasattr(library, "asarray"):
            return library
    return None
