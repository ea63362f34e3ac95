"""The penalised loss as a function of one flat vector, with the gradient and the other methods of an optimiser."""

from ._objective.binomial import BinomialObjective
from ._objective.memory import Evaluation, SoftmaxObjective

__all__ = ["BinomialObjective", "Evaluation", "SoftmaxObjective"]
