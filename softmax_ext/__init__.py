"""Softmax classification (multinomial logistic regression) at the speed of memory."""

from ._core import dispatch as _dispatch  # noqa: F401 - first, so that its warning points at the line that imports us

# isort: split
from . import optim, reference
from ._core.config import show_config
from ._objective.memory import SoftmaxObjective
from ._optim.explanation import explain_plan
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
