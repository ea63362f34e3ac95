"""softmax, log_softmax and logsumexp, with the signatures and the semantics of `scipy.special`.

Arrays of float32 and float64 are computed here. SciPy's own functions get everything else: other dtypes, subclasses of
ndarray, other kinds of arrays, scalars, empty arrays, invalid axes, `logsumexp` with weights or signs, and every call
where no kernels are compiled.
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

SOFTMAX, LOG_SOFTMAX, LOGSUMEXP = range(3)  # the kernels' numbers of the functions
COMPUTED = {np.dtype(np.float32), np.dtype(np.float64)}
INF, HUGE = np.array([np.inf]), np.array([np.finfo(np.float64).max])


def softmax(x: npt.ArrayLike, axis: Axis = None, *, out: Array | None = None, n_threads: int | None = None) -> Any:
    """Return the softmax of scores that the caller has, as `scipy.special.softmax` does.

    Along the axes, S_k = exp(x_k - top) / Σ_j exp(x_j - top), where top is the largest x_j.

    Parameters
    ----------
    x : array_like of any shape
        Scores. Native float32 and float64 arrays are computed here, in their dtype, whatever their strides; they are
        copied only if neither the axes nor the other dimensions are contiguous. SciPy computes everything else.
    axis : int, tuple of ints or None, default None
        The axes to sum along; None is all of them.
    out : ndarray of x's shape and the result's dtype, optional
        Where to put the result; may be `x` itself.
    n_threads : int, optional
        Threads to use, as in `loss_grad`. Every number of threads gives the same bits.

    Returns
    -------
    ndarray of x's shape, or a scalar if x is one
        The softmax, in the dtype of x if that is float32 or float64, else in the dtype that SciPy returns; `out` itself
        if given.

    Raises
    ------
    ValueError, TypeError
        Where SciPy raises them; if `out` has another shape or dtype, or is not writeable; if `n_threads` is 0 or not an
        integer.

    Warns
    -----
    RuntimeWarning
        Where SciPy warns, as `numpy.errstate` says: if along the axes all scores are -inf, one is +inf, or a difference
        of two overflows.

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
    """Return the logarithm of the softmax of scores that the caller has, as `scipy.special.log_softmax` does.

    Along the axes, log S_k = (x_k - top) - log1p(t), where top is the largest score and t the sum of exp(x_j - top)
    over all scores but one of the largest. SciPy's sum includes that one. So for two scores, of which the first is
    larger by 40, SciPy's first logarithm is 0, and here it is -exp(-40).

    Parameters
    ----------
    x, axis, out, n_threads
        As in `softmax`.

    Returns
    -------
    ndarray of x's shape, or a scalar if x is one
        The logarithm; dtype and `out` as in `softmax`.

    Raises
    ------
    ValueError, TypeError
        As in `softmax`.

    Warns
    -----
    RuntimeWarning
        Where SciPy warns; see `softmax`. But SciPy's "overflow encountered in reduce" is not given here. It occurs if
        the exponentials of finite scores beside a +inf have an infinite sum, and depends on their order: SciPy warns
        for [709.5, 709.5, inf], and not for [inf, 709.5, 709.5].

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
    """Return the logarithm of the sum of exponentials, as `scipy.special.logsumexp` does.

    Along the axes it is top + log1p(t), with top and t as in `log_softmax`.

    Parameters
    ----------
    a : array_like of any shape
        Scores; see x in `softmax`.
    axis : int, tuple of ints or None, default None
        The axes to sum along; None is all of them.
    b : array_like, optional
        Factors of the exponentials. SciPy computes such sums.
    keepdims : bool, default False
        Whether the axes stay in the result, with size one.
    return_sign : bool, default False
        Whether to return the logarithm of the sum's absolute value, and its sign. SciPy computes such sums.
    out : ndarray of the result's shape and dtype, optional
        Where to put the result; not together with `return_sign`.
    n_threads : int, optional
        As in `softmax`.

    Returns
    -------
    ndarray, or a scalar if no axis is left; with `return_sign` a pair
        The logarithm, dtype as in `softmax`, `out` itself if given; with `return_sign` also the sign.

    Raises
    ------
    ValueError, TypeError
        As in `softmax`; ValueError also if `out` is given together with `return_sign`.

    Warns
    -----
    RuntimeWarning
        Where SciPy warns, as `numpy.errstate` says: if a difference of two scores overflows.

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
        if flags < 0:  # the kernel may need a result whose axes lie in memory in the order of the scores' axes
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
    """Return softmax or log_softmax, whose result has the shape of the scores."""
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
        # The kernel can write over x itself, but not over another view of its memory, which NumPy copies correctly.
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
    """Return the scores, as an array if they are a list, and the kernel; None if SciPy has to compute them."""
    if type(x) is not np.ndarray:
        if type(x) is not list and type(x) is not tuple:
            return x, None
        x = np.asarray(x)
    if x.dtype not in COMPUTED or not x.size or not x.ndim or not x.flags.aligned or dispatch.kernels is None:
        return x, None
    return x, dispatch.kernels.special


def _bits(axis: Any, ndim: int) -> int:
    """Return a number with a bit set for each axis; 0 if SciPy has to decide what is meant, or to raise an error."""
    if axis is None:
        return (1 << ndim) - 1
    if type(axis) is int:  # faster than the loop below; see "Around a small call" in docs/notes.md
        return 1 << axis % ndim if -ndim <= axis < ndim else 0
    axes = axis if type(axis) is tuple else (axis,)
    bits = 0
    for d in axes:
        if type(d) is not int or not -ndim <= d < ndim or bits >> d % ndim & 1:
            return 0
        bits |= 1 << d % ndim
    return bits


def _rearranged(x: Array, axes: int) -> Array:
    """Return a copy of x in which the axes of a sum lie last in memory, so that the kernel can read them as one."""
    order = sorted(range(x.ndim), key=lambda d: axes >> d & 1) if axes.bit_count() > 1 else range(x.ndim)
    copy: Array = np.empty([x.shape[d] for d in order], x.dtype).transpose(np.argsort(order))
    np.copyto(copy, x)
    return copy


def _into(out: Array, result: Any) -> Array:
    """Copy a result to `out`, once `out` is checked, and return it."""
    np.copyto(check_result(out, np.shape(result), result.dtype), result)
    return out


def _warn(flags: int) -> None:
    """Let NumPy warn, as `numpy.errstate` says, of what would have happened in SciPy's formula.

    The kernel sets flag 1 for an invalid difference, 2 for a difference that overflows, 4 for an exponential that does.
    """
    if flags & 1:
        np.subtract(INF, INF)
    if flags & 2:
        np.subtract(HUGE, -HUGE)
    if flags & 4:
        np.exp(HUGE)


def _scipys(name: str) -> Callable[..., Any]:
    """Return SciPy's function of this name."""
    from scipy import special  # not at the top, since it takes as long to import as NumPy

    function: Callable[..., Any] = getattr(special, name)
    return function
