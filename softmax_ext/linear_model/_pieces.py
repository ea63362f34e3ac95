"""Cross-validation of data in pieces: folds by the places of rows, and scores that follow from sums over the pieces."""

from __future__ import annotations

import inspect
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, log_loss
from sklearn.metrics._scorer import _Scorer

from .._fit import held_out
from .._fit.training_data import problem_of_pieces
from .._objective.folds import Folds, totals
from .._objective.penalty import Penalty
from .._objective.pieces import Pieces, PiecesObjective, Problem
from ._folds import Fold, with_classes

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

FOLDS = 5  # the number of folds if none is given


class Summed(NamedTuple):
    """A score that follows from sums over held-out rows."""

    kind: str  # what is summed: see `held_out.sums`
    scorer: Any = None

    @classmethod
    def of(cls, scorer: Any, given: Any) -> Self:
        """Return the score of a scorer, None for accuracy; raise ValueError if it needs all held-out rows at once."""
        function = getattr(scorer, "_score_func", None)
        if scorer is None:
            return cls(held_out.RIGHT)
        if type(scorer) is _Scorer and scorer._response_method == "predict_proba" and function is log_loss:
            if not scorer._kwargs:
                return cls(held_out.LOG_LOSS, scorer)
        elif type(scorer) is _Scorer and scorer._response_method == "predict":
            if function is accuracy_score and not scorer._kwargs:
                return cls(held_out.RIGHT, scorer)
            if "sample_weight" in inspect.signature(scorer._score_func).parameters:
                return cls(held_out.CONFUSION, scorer)
        raise ValueError(
            f"scoring={given!r} needs all held-out rows at once, and data in pieces are scored by sums: take "
            "'accuracy', 'neg_log_loss' or a score of predicted labels, such as 'balanced_accuracy' or 'f1_macro'; or "
            "fit LogisticRegression(C=...) to some of the rows, and score its predict_proba of the others"
        )

    def score(self, sums: Vector, weight: float, classes: Array) -> float:
        """Return the score of held-out rows with these sums and this sum of weights."""
        if self.kind != held_out.CONFUSION:
            mean = float(sums[0]) / weight
            return -mean if self.kind == held_out.LOG_LOSS else mean
        # The rows of one class that are predicted as another count as one row with the sum of their weights.
        cells = np.flatnonzero(sums)
        true, predicted = np.divmod(cells, len(classes))
        scorer = with_classes(self.scorer, classes)
        found = scorer._score_func(classes[true], classes[predicted], sample_weight=sums[cells], **scorer._kwargs)
        return float(scorer._sign * found)


def folds_of(cv: Any, N: int) -> Folds:
    """Return the folds of N rows: by turns if `cv` is a number, or those of a list of pairs of row numbers."""
    if cv is None or isinstance(cv, Integral):
        count = FOLDS if cv is None else int(cv)
        if not 2 <= count <= N:
            raise ValueError(f"cv={cv!r}: data of {N} rows have from 2 to {N} folds")
        return Folds(count)
    if hasattr(cv, "split"):
        raise ValueError(
            f"cv={cv!r} may ask for all rows at once: pass a number of folds, so that row i is held out by fold i "
            f"modulo that number, or pairs of row numbers, such as list(splitter.split(numpy.empty(({N}, 1)), y))"
        )
    pairs = [Fold.of(number, N, *pair) for number, pair in enumerate(cv)]
    if not pairs:
        raise ValueError("cv is an empty list of folds")
    return Folds.listed(pairs, N)


class Sweep(NamedTuple):
    """What a cross-validation of data in pieces has before its fits begin."""

    pieces: Pieces
    objective: PiecesObjective
    summed: Summed
    problem: Problem

    @classmethod
    def of(cls, model: Any, pieces: Pieces, summed: Summed) -> Self:
        """Take a first look at the data, weigh the folds, and raise ValueError if one cannot be fitted or scored.

        The model gets the attributes that follow from the data.
        """
        found, sample = pieces.look()
        if found.labels is None:
            raise ValueError(
                f"{found.where}: y holds probabilities, and folds are scored by labels: take the class of the largest, "
                "or fit LogisticRegression, which takes them"
            )
        problem = problem_of_pieces(
            found,
            lambda m: Penalty(),
            class_weight=model.class_weight,
            solver=model.solver,
            fit_intercept=bool(model.fit_intercept or model.standardize),
            n_threads=model.n_threads,
        )
        model.classes_, model.n_features_in_ = found.classes, found.D
        if hasattr(model, "feature_names_in_"):
            del model.feature_names_in_
        if pieces.names is not None:
            model.feature_names_in_ = np.array(pieces.names, object)
        folds = folds_of(model.cv, found.rows)
        weights = np.sum(list(pieces.each(totals, problem, folds=folds)), axis=0)
        for side, verb in ((0, "trains on"), (1, "is scored by")):
            if len(without := np.flatnonzero(weights[:, side] == 0)):
                raise ValueError(
                    f"cv: all rows that fold {without[0]} {verb} have a weight of 0: leave such rows out, or choose "
                    "the folds by the others"
                )
        objective = pieces.objective(problem, sample, folds)
        objective.weights_of_folds = weights[:, 0].tolist()
        return cls(pieces, objective, summed, problem)

    @property
    def folds(self) -> Folds:
        """The folds of the rows."""
        assert self.objective.folds is not None
        return self.objective.folds

    def scores(self, paths: Array) -> Vector:
        """Return the scores (folds, n_l1, n_cs) of models (folds, n_l1, n_cs, K or 1, D + 1), by one pass."""
        D, shape = self.problem.parameters.D, paths.shape[:3]
        models = paths.reshape(shape[0], -1, *paths.shape[3:])
        W = np.ascontiguousarray(models[..., :D])
        b = np.ascontiguousarray(models[..., D]) if models.shape[-1] > D else np.zeros(models.shape[:3], paths.dtype)
        parts = list(self.pieces.each(held_out.sums, self.problem, W, b, self.summed.kind, folds=self.folds))
        sums, weights = (np.sum([part[i] for part in parts], axis=0) for i in (0, 1))
        score, classes = self.summed.score, self.problem.classes
        found = [[score(model, float(weights[f]), classes) for model in fold] for f, fold in enumerate(sums)]
        return np.array(found).reshape(shape)
