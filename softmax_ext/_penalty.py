"""`Penalty`: what a fit adds to the loss to keep the weights small."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._parameters import Parameters
from ._validation import check_nonnegative_number
from ._vectors import dots

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Penalty:
    r"""The penalty on W, :math:`\frac{l_2}{2} \sum_{kd} W_{kd}^2`; intercepts are free.

    What always holds: it is never negative, is 0 at W = 0, and knows of W alone, a row for each class that has
    parameters (`Parameters.weights`). It is scaled as a mean: scikit-learn's C is ``l2 = 1 / (C m)`` with m = Σ s_i.

    Parameters
    ----------
    l2 : float >= 0, default 0
        Its strength; 0 is no penalty.

    Raises
    ------
    ValueError, TypeError
        If `l2` is negative or not finite; if it is no number.

    Examples
    --------
    >>> import numpy as np
    >>> Penalty(l2=0.5).value(np.array([[1.0, -2.0]]))
    1.25
    """

    __slots__ = ("l2",)

    def __init__(self, l2: float = 0.0) -> None:
        self.l2 = check_nonnegative_number(l2, "l2")

    def __repr__(self) -> str:
        return f"Penalty(l2={self.l2!r})"

    def value(self, W: Array, n_threads: int = 1) -> float:
        """Return the penalty of W (K, D); no number of threads changes a bit."""
        if not self.l2:
            return 0.0
        flat = np.require(W, np.float64, ["C", "A"]).reshape(1, -1)
        return 0.5 * self.l2 * float(dots(flat, flat[0], n_threads=n_threads)[0])

    def add_gradient(self, W: Array, dW: Array) -> None:
        """Add the gradient at W to dW, both (K, D)."""
        if self.l2:
            dW += self.l2 * W

    def add_product(self, V: Array, dV: Array) -> None:
        """Add the Hessian times V to dV, both (K, D); the Hessian is the same everywhere."""
        self.add_gradient(V, dV)

    def diagonal(self, D: int) -> Vector:
        """Return the second derivative for the weight of each feature, (D,), which is the same in every class."""
        return np.full(D, self.l2)

    def add_hessian(self, parameters: Parameters, H: Vector) -> None:
        """Add the Hessian to H (size, size), that of the loss for a vector of all parameters."""
        diagonal = parameters.weights(H.reshape(-1)[:: parameters.size + 1])
        diagonal += self.diagonal(parameters.D)
