"""Softmax classification (multinomial logistic regression) at the speed of memory."""

import typing as _typing
from importlib import import_module as _import_module

from ._core import dispatch as _dispatch  # noqa: F401 - first, so that its warning points at the line that imports us

# isort: split
from . import reference
from ._core.config import show_config
from ._version import __version__ as __version__
from .functional import (
    CrossEntropyGrad,
    LinearCrossEntropy,
    LossGrad,
    cross_entropy,
    cross_entropy_grad,
    linear_cross_entropy,
    log_softmax,
    logsumexp,
    loss_grad,
    predict_proba,
    softmax,
)

if _typing.TYPE_CHECKING:
    from . import optim
    from ._objective.memory import SoftmaxObjective
    from ._optim.explanation import explain_plan

__all__ = [
    "CrossEntropyGrad",
    "LinearCrossEntropy",
    "LossGrad",
    "SoftmaxObjective",
    "cross_entropy",
    "cross_entropy_grad",
    "explain_plan",
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "loss_grad",
    "optim",
    "predict_proba",
    "reference",
    "show_config",
    "softmax",
]

_LATER = {"SoftmaxObjective": "_objective.memory", "explain_plan": "_optim.explanation"}

if not _typing.TYPE_CHECKING:  # to whom a module with this function has every name

    def __getattr__(name):
        """Import what only fits need once it is asked for: see "The import" in docs/notes.md."""
        if name == "optim":
            return _import_module(f"{__name__}.optim")
        if name in _LATER:
            globals()[name] = getattr(_import_module(f"{__name__}.{_LATER[name]}"), name)
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
