# The kernels' types. The stubs of the other ISA levels repeat these names, since src/_kernels.pyx is compiled for each.
from collections.abc import Callable
from typing import Generic, Literal, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from ._plan import Plan, Visit
from ._sparse import CSR

_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)
_Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]  # of one dtype throughout a call
_Doubles = npt.NDArray[np.float64]
_Labels = npt.NDArray[np.intp]

class _Fused(Generic[_P, _R]):
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def __getitem__(self, kind: Literal["float", "double"], /) -> Callable[_P, _R]: ...

def _fused(function: Callable[_P, _R]) -> _Fused[_P, _R]: ...

VECTOR_CHUNK: int
__test__: dict[str, str]

@_fused
def loss_grad(
    X: _Floats | CSR,
    y: _Labels | None,
    Y: _Floats | None,
    s: _Doubles | None,
    smoothing: float,
    W: _Floats,
    b: _Floats | None,
    plan: Plan,
    visit: Visit,
    work: _Floats,
    sums: _Doubles,
    dW: _Floats | None,
    db: _Floats | None,
    m: float,
    n_threads: int,
    losses: _Doubles | None = None,
) -> float: ...
@_fused
def hessp(
    X: _Floats | CSR,
    s: _Doubles | None,
    W: _Floats,
    b: _Floats | None,
    V: _Floats,
    c: _Floats | None,
    plan: Plan,
    visit: Visit,
    work: _Floats,
    sums: _Doubles,
    dW: _Floats,
    db: _Floats | None,
    m: float,
    n_threads: int,
) -> None: ...
@_fused
def predict_proba(
    X: _Floats | CSR,
    W: _Floats,
    b: _Floats | None,
    plan: Plan,
    visit: Visit,
    work: _Floats,
    S: _Floats,
    n_threads: int,
) -> None: ...
@_fused
def sparse_grad(
    X: CSR,
    y: _Labels | None,
    Y: _Floats | None,
    s: _Doubles | None,
    w: _Doubles,
    v: _Doubles | None,
    K: int,
    l2: float,
    plan: Plan,
    visit: Visit,
    work: _Floats,
    sums: _Doubles,
    grad: _Doubles,
    m: float,
    n_threads: int,
) -> float: ...
@_fused
def linear_losses(
    X: _Floats,
    y: _Labels | None,
    Y: _Floats | None,
    s: _Doubles | None,
    c: _Floats | None,
    terms: tuple[float, float, float, float],
    W: _Floats,
    b: _Floats | None,
    plan: Plan,
    visit: Visit,
    space: tuple[_Floats, _Doubles],
    dW: _Floats | None,
    db: _Floats | None,
    dX: _Floats | None,
    losses: _Doubles,
    n_threads: int,
) -> None: ...
@_fused
def given_losses(
    x: _Floats,
    axis: int,
    y: _Labels | None,
    Y: _Floats | None,
    s: _Doubles | None,
    c: _Floats | None,
    smoothing: float,
    scale: float,
    work: _Floats,
    losses: _Doubles,
    out: _Floats | None,
    n_threads: int,
) -> bool: ...
def given_f32(
    what: int, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32], axes: int, n_threads: int
) -> int: ...
def given_f64(what: int, x: _Doubles, out: _Doubles, axes: int, n_threads: int) -> int: ...
def hessian(X: _Doubles, S: _Doubles, s: _Doubles, H: _Doubles, work: _Doubles, n_threads: int) -> None: ...
def hessian_sizes(P: int, K: int) -> tuple[int, int]: ...
@_fused
def fisher_factor(
    X: _Floats,
    rows: _Labels,
    a: _Floats,
    ones: bool,
    penalty: _Floats,
    ridge: float,
    U: _Floats,
    T: _Floats,
    work: _Floats,
    n_threads: int,
) -> None: ...
@_fused
def fisher_solve(U: _Floats, T: _Floats, G: _Floats, n_threads: int) -> None: ...
def fisher_sizes(P: int, itemsize: int) -> tuple[int, int]: ...
@_fused
def vectors_dot(rows: _Floats, v: _Doubles, u: _Floats | None, sums: _Doubles, n_threads: int) -> None: ...
@_fused
def vectors_combine(
    share: float, v: _Doubles, shares: _Doubles, rows: _Floats, out: _Doubles, n_threads: int
) -> None: ...
@_fused
def vectors_subtract(a: _Doubles, b: _Doubles, out: _Floats, n_threads: int) -> None: ...
def lanes_of(itemsize: int) -> int: ...
def sizes(plan: Plan, D: int, K: int, itemsize: int) -> tuple[int, int, int]: ...
def exp_f32(x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None: ...
def exp_f64(x: _Doubles, out: _Doubles) -> None: ...
def tanh_f32(x: npt.NDArray[np.float32], out: npt.NDArray[np.float32], slopes: npt.NDArray[np.float32]) -> None: ...
def tanh_f64(x: _Doubles, out: _Doubles, slopes: _Doubles) -> None: ...
