"""`explain_plan` tells how data of a given shape are computed, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.plan import MiB, plan
from .._inputs.scalars import check_integer
from .._objective.fisher import EASY_ROWS
from .._objective.parameters import Parameters
from .._objective.rows_space import features_per_row, is_wide
from .solvers import choose


class Explanation(str):
    """A text that an interactive session prints as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the text."""
        return str(self)


def _solver(N: int, D: int, K: int) -> str:
    """Return what a fit from zeros does with the default solver."""
    place = ""
    if is_wide(N, D, K):
        least = features_per_row(N, K)
        place = f", in the space of the {N} samples, for there are {least} features or more for each of them"
        D = N
    size = Parameters.of_model(K, D, True).size
    if choose(size) == "newton" and not place:
        return f"Newton with the whole Hessian, for there are few parameters{place}"
    if N < EASY_ROWS * size:
        return (
            f"L-BFGS with the Fisher preconditioner{place}; from stronger penalties where C is weak, for there are "
            f"fewer than {EASY_ROWS} samples for each parameter"
        )
    return f"L-BFGS with the Fisher preconditioner{place}, then Newton by conjugate gradients"


def explain_plan(N: int, D: int, K: int, dtype: npt.DTypeLike = np.float32, nnz: int | None = None) -> Explanation:
    """Tell how `loss_grad`, and a fit by the default solver, compute data of a given shape, and why.

    Parameters
    ----------
    N, D, K : int
        The numbers of samples, features and classes, each at least 1.
    dtype : dtype, default float32
        The dtype of the computation, float32 or float64.
    nnz : int, optional
        The number of stored entries, if X is sparse.

    Returns
    -------
    str
        A text with a line for each choice, which an interactive session prints as it is.

    Raises
    ------
    ValueError
        If a size is below 1, nnz is negative, or `dtype` is another one.
    TypeError
        If a size is not an integer.

    Examples
    --------
    >>> text = explain_plan(60000, 784, 10)
    >>> text.splitlines()[0]
    'loss_grad for X (60000, 784), 10 classes, float32'
    """
    sizes = {"N": N, "D": D, "K": K} | ({} if nnz is None else {"nnz": nnz})
    for name, size in sizes.items():
        sizes[name] = check_integer(size, name, least=int(name != "nnz"))
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {kind}")
    stored = "" if nnz is None else f" with {nnz} stored entries"
    lines = [f"loss_grad for X ({N}, {D}){stored}, {K} classes, {kind}"]
    if dispatch.kernels is None:
        return Explanation("\n".join([*lines, "runs on softmax_ext.reference, in NumPy and float64"]))
    way: Any = plan(N, D, K, kind.itemsize, dispatch.isa, nnz=nnz)
    lanes = dispatch.kernels.lanes_of(kind.itemsize)
    size = way.shared * kind.itemsize + way.sums * 8
    lines += [
        f"ISA level: {dispatch.isa}, vectors of {lanes}",
        "threads: " + ("as asked for" if way.parallel else "one, for there is too little to do"),
        "scores: "
        + (
            f"lanes along the features, since {K} classes would leave lanes of {-(-K // lanes) * lanes} empty"
            if way.dots
            else "lanes along the classes, rows of W transposed"
            if nnz is not None
            else "lanes along the classes, by half vectors, W packed in panels"
            if lanes * kind.itemsize == 64 and 2 * K <= lanes
            else "lanes along the classes, W packed in panels"
        ),
        "gradient: "
        + ("lanes along the classes" if way.transposed else "lanes along the features")
        + (", summed in double" if way.doubles else f", summed in {kind} since it is large"),
        f"tiles: {way.rows} samples for the scores, {way.tile} for the gradient"
        + (", copied into padded rows" if way.copied else ", X read in place"),
        f"cut: {way.slices} slices of the samples, each with a gradient of its own"
        + (f", in {way.strips} strips for many threads" if way.strips > 1 else "")
        if way.cut == "slices"
        else "cut: parts of the features"
        + (f", for {way.classes} classes at a time" if way.classes < K else ", for all classes at once")
        if way.cut == "sparse"
        else f"cut: parts of {way.classes} classes, for a gradient for each slice of the samples would cost too much",
        f"blocks: {min(way.block, N)} samples at a time",
        f"default solver: {_solver(N, D, K)}",
        f"work space: {size / MiB:.1f} MiB, and {way.work * kind.itemsize / MiB:.2f} MiB for each thread",
    ]
    return Explanation("\n".join(lines))
