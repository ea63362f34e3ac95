"""softmax, log_softmax and logsumexp, with the signatures and the semantics of `scipy.special`.

Arrays of float32 and float64 are computed here. Everything else is handed to SciPy itself: other dtypes, subclasses of
ndarray, other kinds of arrays, scalars, empty arrays, axes that are no axes, `logsumexp` with weights or signs, and all
of it where no kernels are compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._core import dispatch
from ._core import threads as _threads
from ._inputs.arrays import check_result
from ._inputs.tensors import is_tensor, on_arrays, stays_with_scipy

__all__ = ["log_softmax", "logsumexp", "softmax"]

Array = npt.NDArray[Any]
Axis = int | tuple[int, ...] | None

SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = range(3)  # as the kernels count them
COMPUTED = {np.dtype(np.float32), np.dtype(np.float64)}
INF, HUGE = np.array([np.inf]), np.array([np.finfo(np.float64).max])


def softmax(x: npt.ArrayLike, axis: Axis = None, *, out: Array | None = None, n_threads: int | None = None) -> Any:
    """Softmax of scores that exist already, as `scipy.special.softmax`.

    Along the axes, S_k = exp(x_k - top) / Σ_j exp(x_j - top), where top is the largest x_j.

    Parameters
    ----------
    x : array_like of any shape
        Scores. Native float32 and float64 arrays are computed here, in their dtype, whatever their strides; they are
        copied only where neither the axes nor what is left of the shape is contiguous. SciPy does the rest.
    axis : int, tuple of ints or None, default None
        Along what to sum; None is the whole array.
    out : ndarray of x's shape and the result's dtype, optional
        Where to put the result; may be `x` itself.
    n_threads : int, optional
        Threads to use, as in `loss_grad`. The result does not depend on it, to the bit.

    Returns
    -------
    ndarray of x's shape, or a scalar if x is one
        `out` itself if given.

    Raises
    ------
    ValueError, TypeError
        As SciPy; if `out` has another shape or dtype, or cannot be written; if `n_threads` is 0 or no integer.

    Warns
    -----
    RuntimeWarning
        Where SciPy does, under `numpy.errstate`: along an axis all is -inf, or +inf occurs, or a difference overflows.

    Notes
    -----
    The formula is that of Blanchard, Higham and Higham, doi:10.1093/imanum/draa038.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.log([[1.0, 3.0], [2.0, 2.0]]), axis=1)
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    return _of_scores_shape(SOFTMAX, x, axis, out, n_threads)


def log_softmax(x: npt.ArrayLike, axis: Axis = None, *, out: Array | None = None, n_threads: int | None = None) -> Any:
    """Logarithm of the softmax of scores that exist already, as `scipy.special.log_softmax`.

    Along the axes, log S_k = (x_k - top) - log1p(t), where top is the largest x_j and t the sum of exp(x_j - top) over
    all but one such j. SciPy adds that one as well, so that a winner by 40 has log S = 0 there; here it has -exp(-40).

    Parameters
    ----------
    x, axis, out, n_threads
        As in `softmax`.

    Returns
    -------
    ndarray of x's shape, or a scalar if x is one
        `out` itself if given.

    Raises
    ------
    ValueError, TypeError
        As `softmax`.

    Warns
    -----
    RuntimeWarning
        Where SciPy does; see `softmax`. But where it says "overflow encountered in reduce", nothing is said here: the
        finite scores beside a +inf have exponentials whose sum is infinite, and whether NumPy meets them before that
        of +inf depends on their order. [inf, 709.5, 709.5] is silent there, [709.5, 709.5, inf] is not.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([40.0, 0.0]))
    array([-4.24835426e-18, -4.00000000e+01])
    """
    return _of_scores_shape(LOG_SOFTMAX, x, axis, out, n_threads)


def logsumexp(
    a: npt.ArrayLike,
    axis: Axis = None,
    b: npt.ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    out: Array | None = None,
    n_threads: int | None = None,
) -> Any:
    """Logarithm of the sum of exponentials, as `scipy.special.logsumexp`.

    Parameters
    ----------
    a : array_like of any shape
        As x in `softmax`.
    axis : int, tuple of ints or None, default None
        Along what to sum; None is the whole array.
    b : array_like, optional
        Factors of the exponentials; such sums are SciPy's.
    keepdims : bool, default False
        Whether the axes stay, with size one.
    return_sign : bool, default False
        Whether to return the logarithm of the absolute value, and the sign; such sums are SciPy's.
    out : ndarray of the result's shape and dtype, optional
        Where to put the result; not with `return_sign`.
    n_threads : int, optional
        As in `softmax`.

    Returns
    -------
    ndarray, or a scalar where no axis is left; with `return_sign` a pair
        `out` itself if given.

    Raises
    ------
    ValueError, TypeError
        As `softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> logsumexp(np.log([[1.0, 3.0], [2.0, 6.0]]), axis=1)
    array([1.38629436, 2.07944154])
    """
    if type(a) is not np.ndarray and is_tensor(a) and not stays_with_scipy(a):
        return on_arrays(logsumexp, a, axis, b, keepdims, return_sign, out=out, n_threads=n_threads)
    threads = _threads.effective(n_threads)
    if out is not None and return_sign:
        raise ValueError("out is one array, but return_sign=True returns two: leave one of them out")
    x, run = _scores(a)
    axes = 0 if run is None or b is not None or return_sign else _bits(axis, x.ndim)
    if run is None or not axes:
        result = _scipys("logsumexp")(x, axis, b, keepdims, return_sign)
    else:
        result = np.empty([n for d, n in enumerate(x.shape) if not axes >> d & 1], x.dtype)
        flags = run(LOGSUMEXP, x, result, axes, threads)
        if flags < 0:  # the kernel needs a result whose axes lie in the order of the scores' axes
            like_x = np.empty_like(x[tuple([0 if axes >> d & 1 else slice(None) for d in range(x.ndim)])])
            flags = run(LOGSUMEXP, x, like_x, axes, threads)
            result = like_x if flags >= 0 else result
        if flags < 0:
            flags = run(LOGSUMEXP, _rearranged(x, axes), result, axes, threads)
        if flags:
            _warn(flags)
        if keepdims:
            result = result.reshape([1 if axes >> d & 1 else n for d, n in enumerate(x.shape)])
        elif not result.ndim:
            result = result[()]
    return result if out is None else _into(out, result)


def _of_scores_shape(what: int, x: Any, axis: Axis, out: Array | None, n_threads: int | None) -> Any:
    """Compute softmax or log_softmax."""
    if type(x) is not np.ndarray and is_tensor(x) and not stays_with_scipy(x):
        return on_arrays(_of_scores_shape, what, x, axis, out, n_threads)
    threads = _threads.effective(n_threads)
    x, run = _scores(x)
    axes = 0 if run is None else _bits(axis, x.ndim)
    if run is None or not axes:
        result = _scipys("softmax" if what == SOFTMAX else "log_softmax")(x, axis)
        return result if out is None else _into(out, result)
    if out is None:
        result = np.empty_like(x)
    else:
        result = check_result(out, x.shape, x.dtype)
        # Where they overlap, but are not the same, the copy is NumPy's matter.
        if np.may_share_memory(result, x) and result.__array_interface__ != x.__array_interface__:
            np.copyto(result, x)
            x = result
    flags = run(what, x, result, axes, threads)
    if flags < 0:
        work = _rearranged(x, axes)
        flags = run(what, work, work, axes, threads)
        if out is None:
            result = work
        else:
            np.copyto(result, work)
    if flags:
        _warn(flags)
    return result if out is None else out


def _scores(x: Any) -> tuple[Any, Callable[..., int] | None]:
    """Return the array, and the kernel for it, or None where it is left to SciPy."""
    if type(x) is not np.ndarray:
        if type(x) is not list and type(x) is not tuple:
            return x, None
        x = np.asarray(x)
    if x.dtype not in COMPUTED or not x.size or not x.ndim or not x.flags.aligned or dispatch.kernels is None:
        return x, None
    return x, dispatch.kernels.special


def _bits(axis: Any, ndim: int) -> int:
    """Return the axes as a bit each; 0 for what SciPy may make of it."""
    if axis is None:
        return (1 << ndim) - 1
    if type(axis) is int:  # 0.2 µs sooner than the loop
        return 1 << axis % ndim if -ndim <= axis < ndim else 0
    axes = axis if type(axis) is tuple else (axis,)
    bits = 0
    for d in axes:
        if type(d) is not int or not -ndim <= d < ndim or bits >> d % ndim & 1:
            return 0
        bits |= 1 << d % ndim
    return bits


def _rearranged(x: Array, axes: int) -> Array:
    """Copy x, so that its axes can be gone through as one: several axes of a sum come last."""
    order = sorted(range(x.ndim), key=lambda d: axes >> d & 1) if axes.bit_count() > 1 else range(x.ndim)
    copy: Array = np.empty([x.shape[d] for d in order], x.dtype).transpose(np.argsort(order))
    np.copyto(copy, x)
    return copy


def _into(out: Array, result: Any) -> Array:
    np.copyto(check_result(out, np.shape(result), result.dtype), result)
    return out


def _warn(flags: int) -> None:
    """Let NumPy warn, as `numpy.errstate` says, of what would have happened in SciPy's formula."""
    if flags & 1:
        np.subtract(INF, INF)
    if flags & 2:
        np.subtract(HUGE, -HUGE)
    if flags & 4:
        np.exp(HUGE)


def _scipys(name: str) -> Callable[..., Any]:
    from scipy import special  # here, since it takes as long to import as NumPy

    function: Callable[..., Any] = getattr(special, name)
    return function
