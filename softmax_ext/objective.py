"""The penalised loss as a function of one flat vector, with all that an optimiser asks for."""

from ._objective.memory import BinomialObjective, Evaluation, SoftmaxObjective

__all__ = ["BinomialObjective", "Evaluation", "SoftmaxObjective"]
