# The kernels' types. The stubs of the other ISA levels repeat these names: src/entry/kernels.pyx is compiled for each.
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Literal, Never, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from .._inputs.rows import Rows
from .workspace import Space

_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)
_Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]  # of one dtype throughout a call
_Doubles = npt.NDArray[np.float64]
_Labels = npt.NDArray[np.intp]

class _Fused(Generic[_P, _R]):
    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def __getitem__(self, kind: Literal["float", "double"], /) -> Callable[_P, _R]: ...

def _fused(function: Callable[_P, _R]) -> _Fused[_P, _R]: ...

MOST_MODELS: int
VECTOR_CHUNK: int
STRETCH_VECTORS: int
__test__: dict[str, str]

@disjoint_base
class Call:
    def use(self, space: Space) -> None: ...

def run_calls(calls: Sequence[Call], turn: bool) -> None: ...

@disjoint_base
class Visit:
    row: Final[int]
    offset: Final[int]
    block: Final[int]
    begin: Final[int]
    end: Final[int]
    first: Final[bool]
    last: Final[bool]
    def __init__(self, row: int, offset: int, block: int, begin: int, end: int, first: bool, last: bool) -> None: ...

@disjoint_base
class Plan:
    cut: Final[str]
    N: Final[int]
    D: Final[int]
    K: Final[int]
    itemsize: Final[int]
    dots: Final[bool]
    copied: Final[bool]
    widens: Final[bool]
    transposed: Final[bool]
    doubles: Final[bool]
    second: Final[bool]
    rows: Final[int]
    tile: Final[int]
    block: Final[int]
    parallel: Final[bool]
    single: Final[Visit | None]
    shared: Final[int]
    work: Final[int]
    sums: Final[int]
    def __init__(
        self,
        *args: Never,
        N: int,
        D: int,
        K: int,
        itemsize: int,
        rows: int,
        tile: int,
        block: int,
        parallel: bool,
        second: bool,
    ) -> None: ...
    def team(self, n_threads: int) -> int: ...
    def visit(self, row: int, offset: int, block: int, begin: int, end: int, first: bool, last: bool) -> Visit: ...

@disjoint_base
class DensePlan(Plan): ...

@disjoint_base
class SlicedPlan(DensePlan):
    slices: Final[int]
    strips: Final[int]
    batch: Final[int]
    def __init__(
        self,
        *args: Never,
        slices: int,
        strips: int,
        batch: int,
        dots: bool,
        copied: bool,
        transposed: bool,
        **shape: Any,
    ) -> None: ...

@disjoint_base
class OwnedPlan(DensePlan):
    classes: Final[int]
    parts: Final[int]
    def __init__(self, *args: Never, classes: int, parts: int, doubles: bool, **shape: Any) -> None: ...

@disjoint_base
class SparsePlan(Plan):
    classes: Final[int]
    grouped: Final[bool]
    def __init__(self, *args: Never, classes: int, doubles: bool, **shape: Any) -> None: ...

@disjoint_base
class SparseSlicesPlan(SlicedPlan):
    def __init__(self, *args: Never, slices: int, strips: int, **shape: Any) -> None: ...

@disjoint_base
class BinomialPlan(SlicedPlan):
    sparse: Final[bool]
    models: Final[int]
    def __init__(
        self, *args: Never, slices: int, strips: int, batch: int, sparse: bool, models: int = 1, **shape: Any
    ) -> None: ...

@disjoint_base
class HessianPlan(SlicedPlan):
    sparse: Final[bool]
    binary: Final[bool]
    def __init__(
        self, *args: Never, slices: int, strips: int, sparse: bool, binary: bool, intercept: bool, **shape: Any
    ) -> None: ...

class EntriesPlan(HessianPlan):
    def __init__(self, *args: Never, binary: bool, intercept: bool, **shape: Any) -> None: ...

@disjoint_base
class CentredPlan(SlicedPlan):
    def __init__(self, *args: Never, slices: int, strips: int, **shape: Any) -> None: ...

@disjoint_base
class Pass:
    summing: Final[bool]
    def visit(self, rows: Rows, plan: Plan, visit: Visit, space: Space, n_threads: int) -> float: ...

class LossGrad(Pass):
    def __init__(
        self,
        W: _Floats,
        b: _Floats | None,
        dW: _Floats | None,
        db: _Floats | None,
        m: float,
        smoothing: float = 0,
        *,
        z_loss: float = 0,
        cap: float = 0,
        weight: _Floats | None = None,
        dX: _Floats | None = None,
        losses: _Doubles | None = None,
        l2: float | None = None,
    ) -> None: ...

@disjoint_base
class Together(Pass):
    losses: Final[list[float]]
    def __init__(self, passes: Sequence[LossGrad], weights: Sequence[_Doubles | None]) -> None: ...

class HessianProduct(Pass):
    def __init__(
        self,
        W: _Floats,
        b: _Floats | None,
        V: _Floats,
        c: _Floats | None,
        dW: _Floats,
        db: _Floats | None,
        m: float,
        l2: float | None = None,
    ) -> None: ...

class Probabilities(Pass):
    def __init__(self, W: _Floats, b: _Floats | None, S: _Floats) -> None: ...

class Scores(Pass):
    def __init__(self, W: _Floats, b: _Floats | None, Z: _Floats) -> None: ...

class Hessian(Pass):
    def __init__(
        self, W: _Doubles, b: _Doubles | None, H: _Doubles, m: float, centre: _Floats | None = None
    ) -> None: ...

@disjoint_base
class LogitLoss:
    def __init__(
        self,
        y: _Labels | None,
        s: _Doubles | None,
        c: _Floats | None,
        smoothing: float,
        scale: float,
        losses: _Doubles,
    ) -> None: ...

@disjoint_base
class Inverse: ...

@disjoint_base
class Factors(Inverse):
    count: Final[int]
    def __init__(self, U: _Floats, T: _Floats, work: _Floats, ones: bool) -> None: ...
    def factor(
        self,
        X: _Floats,
        rows: _Labels,
        a: _Floats,
        penalty: _Floats,
        ridge: float,
        n_threads: int,
        standard: _Floats | None = None,
        *,
        unit: _Doubles | None = None,
        whole: bool = False,
    ) -> None: ...
    def apply(self, vectors: Sequence[_Floats], G: _Floats, out: _Doubles, n_threads: int) -> None: ...

@disjoint_base
class Diagonal(Inverse):
    def __init__(self, inverse: _Doubles, mean: _Doubles | None, classes: int, ones: bool) -> None: ...
    def apply(self, vector: _Floats, out: _Doubles, n_threads: int) -> None: ...

@disjoint_base
class Pairs:
    count: Final[int]
    def __init__(
        self,
        S: _Floats,
        Y: _Floats,
        Sg: _Doubles,
        SY: _Doubles,
        order: _Labels,
        work: _Doubles,
        n_threads: int,
        parallel: int,
    ) -> None: ...
    def forget(self) -> None: ...
    def add(self, w: _Doubles, grad: _Doubles, w0: _Doubles, grad0: _Doubles) -> None: ...
    def ease(self, change: _Doubles, grad: _Doubles) -> None: ...
    def back(self, grad: _Doubles, q: _Doubles) -> None: ...
    def forth(self, z: _Doubles, Hy: _Doubles) -> None: ...

@disjoint_base
class Function:
    def __init__(
        self, asked: Pass, model: _Floats, gradient: _Floats, *, weights: int, biases: int, before: int, between: int
    ) -> None: ...
    def over(self, rows: Rows, plan: Plan, n_threads: int) -> None: ...
    def set(self, w: _Doubles, l2: float) -> None: ...
    def get(self, w: _Doubles, grad: _Doubles, l2: float, loss: float) -> float: ...
    def at(self, w: _Doubles, grad: _Doubles, l2: float, space: Space) -> float: ...
    def gap(
        self,
        w: _Doubles,
        grad: _Doubles,
        frequencies: _Doubles,
        room: _Doubles,
        space: Space,
        *,
        value: float,
        mass: float,
        l2: float,
    ) -> float: ...

@disjoint_base
class Stretch(Call):
    taken: Final[int]
    waits: Final[bool]
    evaluations: Final[int]
    bettered: Final[bool]
    value: Final[float]
    slope: Final[float]
    def __init__(
        self,
        pairs: Pairs,
        vectors: _Doubles,
        *,
        armijo: float,
        wolfe: float,
        approximate: float,
        trials: int,
        part: float,
        enough: float,
        gain: float,
        window: int,
    ) -> None: ...
    def prepare(
        self,
        f: Function,
        inverse: Inverse,
        n_threads: int,
        w: _Doubles,
        asked: _Doubles,
        grad: _Doubles,
        direction: _Doubles,
        best: _Doubles,
        extra: _Doubles | None,
        values: _Doubles,
        largests: _Doubles,
        *,
        n_iter: int,
        most: int,
        value: float,
        least_value: float,
        l2: float,
        tol: float,
        enough: float,
        eps: float,
        rows: int,
        wide: int,
    ) -> None: ...

@disjoint_base
class Coordinates:
    @property
    def sweeps(self) -> int: ...
    def __init__(
        self,
        *args: Never,
        which: _Labels,
        groups: int,
        members: int,
        apart: int,
        M: _Floats | None,
        diagonal: _Doubles,
        gamma: float,
        Q: _Doubles,
        QN: _Doubles,
        gradient: _Doubles,
        limits: _Doubles,
        u: _Doubles,
        z: _Doubles,
        work: _Doubles,
        active: _Labels,
        column: _Labels | None = None,
        sample: npt.NDArray[np.int32] | None = None,
        root: _Doubles | None = None,
        before: _Doubles | None = None,
        posterior: _Doubles | None = None,
        scores: _Doubles | None = None,
        mean: _Doubles | None = None,
    ) -> None: ...
    def descend(self, enough: float, work: float) -> bool: ...

def cross_entropy(
    loss: LogitLoss,
    x: _Floats,
    Y: _Floats | None,
    axis: int,
    work: _Floats,
    out: _Floats | None,
    n_threads: int,
) -> bool: ...
def scaled_space(K: int, itemsize: int) -> int: ...
def scaled(
    x: _Floats,
    y: _Labels,
    s: _Doubles | None,
    beta: float,
    a: _Floats | None,
    b: _Floats | None,
    sums: _Doubles,
    work: _Floats,
    n_threads: int,
) -> None: ...
def special(what: int, x: _Floats, out: _Floats, axes: int, n_threads: int) -> int: ...
def fisher_sizes(P: int, itemsize: int) -> tuple[int, int]: ...
def class_weights(S: _Floats, s: _Doubles, c: _Doubles, sums: _Doubles) -> bool: ...
def draw_samples(
    c: _Doubles, u: _Doubles, rows: _Labels, weights: _Doubles, work: _Doubles, n_threads: int
) -> None: ...
def invert_diagonals(
    diagonal: _Doubles,
    added: _Doubles,
    weight: _Doubles,
    mean: _Doubles | None,
    squares: _Doubles,
    own: _Doubles,
    *,
    even: bool,
    spread: float,
    damping: float,
) -> None: ...
def hessian_scale(
    H: _Doubles, scale: _Doubles, A: _Doubles, classes: int, D: int, ones: bool, share: float
) -> None: ...
def support_sizes(N: int, D: int, ld: int) -> tuple[int, int]: ...
def support_hessian(
    X: npt.NDArray[Any],
    S: _Doubles,
    s: _Doubles,
    moments: _Doubles | None,
    first: _Labels,
    feature: _Labels,
    sums: _Doubles,
    work: _Doubles,
    *,
    itemsize: int,
    n_threads: int,
) -> None: ...
def gram_space(N: int) -> tuple[int, int]: ...
def gram_add(X: _Floats, G: _Doubles, work: _Doubles, sums: _Doubles, n_threads: int) -> None: ...
def block_units(
    weight: _Doubles, squares: _Doubles, added: _Doubles, damping: float, penalty: _Floats, unit: _Doubles | None
) -> None: ...
def gram_factor(G: _Doubles, T: _Doubles, work: _Doubles, new: float) -> None: ...

@disjoint_base
class Factoring(Call):
    rank: Final[int]
    def __init__(
        self,
        X: _Floats | None,
        G: _Doubles,
        work: _Doubles,
        sums: _Doubles | None,
        new: float,
        Z: _Doubles,
        R: _Doubles,
        kept: _Labels,
        n_threads: int,
    ) -> None: ...

def triangle_solve(U: _Doubles, V: _Doubles, transposed: bool) -> None: ...
def rows_combine(
    X: _Floats, shares: _Doubles, out: _Doubles, work: _Doubles, n_threads: int, squared: bool = False
) -> None: ...

@disjoint_base
class Lifting(Call):
    def __init__(
        self, X: _Floats, R: _Doubles, kept: _Labels, V: _Doubles, W: _Doubles, count: int, n_threads: int
    ) -> None: ...

def lift_space(N: int, D: int, vectors: int, n_threads: int) -> int: ...
def gradient_bounds(grad: _Doubles, rows: int, D: int, wide: int) -> tuple[float, float]: ...
def combine_space(N: int, D: int) -> int: ...
@_fused
def vectors_dot(rows: _Floats, v: _Doubles, u: _Floats | None, sums: _Doubles, n_threads: int) -> None: ...
@_fused
def vectors_combine(
    share: float, v: _Doubles, shares: _Doubles, rows: _Floats, out: _Doubles, n_threads: int
) -> None: ...
@_fused
def vectors_subtract(a: _Doubles, b: _Doubles, out: _Floats, n_threads: int) -> None: ...
def vectors_product(a: _Doubles, b: _Doubles) -> float: ...
def vectors_square(rows: Sequence[_Doubles], shares: _Doubles) -> float: ...
def take_turn() -> None: ...
def less_mean(w: _Doubles, out: _Floats) -> None: ...
def leave_turn() -> None: ...
def give_turn() -> None: ...
def vectors_largest(v: _Doubles) -> float: ...
def class_sums(
    X: Any,
    y: _Labels,
    s: _Doubles | None,
    sums: _Doubles,
    itemsize: int,
    n_threads: int,
    moments: _Doubles | None = None,
) -> None: ...
def constant_gradient(means: _Doubles, q: _Doubles, total: _Doubles, dW: _Doubles) -> None: ...
def feature_moments(X: Any, out: _Doubles, itemsize: int, n_threads: int) -> None: ...
def lanes_of(itemsize: int) -> int: ...
def block_rows() -> int: ...
def logits_space(K: int, itemsize: int) -> int: ...
def transposed_row(classes: int, itemsize: int) -> int: ...
def exp_f32(x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None: ...
def exp_f64(x: _Doubles, out: _Doubles) -> None: ...
def tanh_f32(x: npt.NDArray[np.float32], out: npt.NDArray[np.float32], slopes: npt.NDArray[np.float32]) -> None: ...
def tanh_f64(x: _Doubles, out: _Doubles, slopes: _Doubles) -> None: ...
