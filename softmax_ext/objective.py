"""The penalised loss as a function of one flat vector, with all that an optimiser asks for."""

from ._objective.binomial import BinomialObjective
from ._objective.memory import Evaluation, SoftmaxObjective

__all__ = ["BinomialObjective", "Evaluation", "SoftmaxObjective"]
