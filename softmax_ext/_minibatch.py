"""What `LogisticRegression` does by mini-batches: solver="adam" and its like, `partial_fit`, states to go on from."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import optim
from ._parameters import Parameters
from ._penalty import Penalty
from ._pieces import Problem
from ._rows import Rows
from ._stream import RULES, VERSION, Epochs, Stream, batches, load, rate_of, rule_of, save, scales

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# partial_fit's rate falls with the square root of the steps, from this number of them on.
STEADY = 100
# Seconds between two writes of a checkpoint within an epoch.
BETWEEN_CHECKPOINTS = 10.0
# What must be the same for a run to go on as it would have.
SETTINGS = (
    "solver", "C", "fit_intercept", "epochs", "batch_size", "average", "early_stopping", "validation_fraction",
    "n_iter_no_change",
)  # fmt: skip


class MiniBatchMixin:
    """The mini-batch half of `LogisticRegression`, which has the parameters and the checks of data."""

    _stream: Stream | None
    _goes_on: bool

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Take a few steps on more data: the softmax loss, in constant memory, whatever `solver` says.

        Each `batch_size` rows, as they come, are a step of Adam, whose rate falls with the square root of the steps.
        The penalty weighs 1 / (C Σ s) with all weights seen so far. After `fit` it goes on from its coefficients.

        Parameters
        ----------
        X : array_like or data frame, shape (n, D)
            Samples.
        y : array_like, shape (n,) or (n, K)
            Labels, or probabilities of the classes 0..K-1.
        classes : array_like, shape (K,), optional
            All labels that there will be: needed in the first call.
        sample_weight : array_like, shape (n,), optional
            Weights, not negative. With ``class_weight`` a dict they are multiplied by it; "balanced" is refused.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        Raises
        ------
        ValueError
            For a label that is not among the classes, other classes than before, and as `fit`.
        FloatingPointError
            If the objective overflows: `learning_rate` is too large.

        References
        ----------
        D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, section 4: the rate α / √t.

        Examples
        --------
        >>> import numpy as np
        >>> from softmax_ext.linear_model import LogisticRegression
        >>> rng, model = np.random.default_rng(0), LogisticRegression()
        >>> for _ in range(50):
        ...     X = rng.standard_normal((100, 3))
        ...     model = model.partial_fit(X, X.argmax(axis=1), classes=[0, 1, 2])
        >>> model.predict(np.eye(3))
        array([0, 1, 2])
        """
        estimator: Any = self
        C = estimator._inverse_penalty()
        piece = estimator._check_more_data(X, y, classes, sample_weight)
        problem = self._problem(piece, 1.0, Penalty())
        stream = getattr(self, "_stream", None)
        if stream is None or not stream.weight:
            stream = self._new_stream("adam", piece.X, estimator._start(go_on=hasattr(self, "coef_")))
        rule = self._rule("adam", lambda step: stream.rate / math.sqrt(1 + step / STEADY), 0)
        if stream.rule is None:
            stream.rule = rule.init([stream.v])
        values = []
        for batch in batches(piece, piece.weighing(), estimator.batch_size):
            n = len(batch)
            stream.rows += n
            stream.weight += batch.total
            penalty = Penalty(l2=1 / (C * stream.weight))
            values.append(stream.step(rule.update, problem, batch, n * stream.weight / stream.rows, penalty))
        self._stream = stream
        if values:
            stream.history.append(float(np.mean(values)))
            del stream.history[:-1]  # constant memory
        self._keep_stream(stream, np.result_type(getattr(self, "coef_", piece.X), piece.X))
        return self

    def get_state(self) -> dict[str, Array]:
        """Return where a mini-batch fit, or `partial_fit`, stands, as arrays; see `set_state`.

        Raises
        ------
        ValueError
            If there has been no such fit.
        """
        stream, estimator = getattr(self, "_stream", None), self  # type: Stream | None, Any
        if stream is None:
            raise ValueError(
                f"there is no state: fit by mini-batches first, solver one of {', '.join(RULES)}, or call partial_fit"
            )
        classes = estimator.classes_
        if classes.dtype.kind == "O":
            classes = classes.astype(str)
        return stream.arrays() | {
            "version": np.array(VERSION),
            "settings": np.array(self._settings()),
            "classes": classes,
            "features": np.array(estimator.n_features_in_),
            "dtype": np.array(estimator.coef_.dtype.str),
        }

    def set_state(self, state: dict[str, Array] | str | os.PathLike[str]) -> Self:
        """Take over a state, or the file of one: the next `fit` or `partial_fit` goes on there, to the same bits.

        Parameters
        ----------
        state : dict or path
            From `get_state`, or a file of `save_state` or of `checkpoint`. The parameters of the estimator must be
            those that it had, and the data as well.

        Returns
        -------
        LogisticRegression
            The estimator itself, which predicts as it did then.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, or the state is that of other parameters or of a newer version.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softmax_ext.linear_model import LogisticRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> new = lambda **parameters: LogisticRegression(solver="adam", epochs=4, random_state=0, **parameters)
        >>> stopped = new(callback=lambda epoch, *_: epoch == 2).fit(X, y)
        >>> resumed = new().set_state(stopped.get_state()).fit(X, y)
        >>> bool((resumed.coef_ == new().fit(X, y).coef_).all())
        True
        """
        estimator: Any = self
        name = "the state" if isinstance(state, dict) else os.fspath(state)
        arrays = state if isinstance(state, dict) else load(state)
        try:
            if (version := int(arrays["version"])) > VERSION:
                raise ValueError(f"{name} is of version {version}: this softmax_ext reads up to {VERSION}")
            stream = self._restored(arrays)
            if (saved := str(arrays["settings"])) != self._settings():
                raise ValueError(f"{name} is of a fit with {saved}, this estimator has {self._settings()}")
        except (KeyError, StopIteration, TypeError, IndexError) as error:
            raise ValueError(f"{name} is not a state of LogisticRegression: {error!r}") from error
        estimator.classes_ = arrays["classes"]
        estimator.n_features_in_ = int(arrays["features"])
        self._stream, self._goes_on = stream, True
        self._keep_stream(stream, np.dtype(str(arrays["dtype"])))
        return self

    def save_state(self, path: str | os.PathLike[str]) -> None:
        """Write `get_state` to a .npz file, which is there whole or not at all; `set_state` takes its path."""
        save(path, self.get_state())

    def _settings(self) -> str:
        values = {name: getattr(self, name) for name in SETTINGS}
        rate = self.learning_rate  # type: ignore[attr-defined]
        values["learning_rate"] = "a schedule" if callable(rate) else rate
        return json.dumps(values, default=float)

    def _restored(self, arrays: dict[str, Array]) -> Stream:
        v = np.array(arrays["v"])
        rule = "adam" if float(arrays["weight"]) else self.solver  # type: ignore[attr-defined]
        return Stream.of(arrays, self._rule(rule, optim.constant(0.0), 0).init([v]))

    def _rule(self, name: str, schedule: Callable[[int], float], after: int) -> optim.Optimizer[Any]:
        given = self.learning_rate  # type: ignore[attr-defined]
        return rule_of(name, given if callable(given) else schedule, self.average, after)  # type: ignore[attr-defined]

    def _new_stream(self, name: str, X: Any, w: Vector) -> Stream:
        """Return the beginning of a run from w, its scale and rate by some rows of X."""
        estimator: Any = self
        by = scales(X)
        parameters = Parameters.of_model(len(estimator.classes_), len(by), bool(estimator.fit_intercept))
        scale = np.ones(parameters.size)
        parameters.weights(scale)[...] = by
        rate = estimator.learning_rate
        if rate is None or callable(rate):
            rate = rate_of(name, X, by, estimator.fit_intercept)
        return Stream(w * scale, scale, None, self._seed(), float(rate))

    def _seed(self) -> int:
        given = self.random_state  # type: ignore[attr-defined]
        if given is None:
            return int(np.random.SeedSequence().generate_state(1)[0])
        return int(given.randint(2**31 - 1)) if hasattr(given, "randint") else int(given)

    def _problem(self, piece: Rows, m: float, penalty: Penalty) -> Problem:
        """Return the problem of data in memory, whose labels are encoded and whose weights are complete."""
        estimator: Any = self
        K = len(estimator.classes_)
        return Problem(
            classes=np.arange(K),
            rows=len(piece),
            counted=len(piece.weighing()),
            dtype=piece.X.dtype,
            soft=piece.Y is not None,
            class_weights=None,
            m=m,
            parameters=Parameters.of_model(K, piece.D, bool(estimator.fit_intercept)),
            penalty=penalty,
            n_threads=estimator.n_threads,
        )

    def _fit_batches(self, pieces: Callable[[], Iterable[Rows]], problem: Problem, X: Any) -> Self:
        """Fit by mini-batches of encoded pieces; X: some rows, for the learning rate."""
        estimator: Any = self
        solver, fraction = estimator.solver, estimator.validation_fraction if estimator.early_stopping else 0.0
        steps = max(1, math.ceil(problem.counted * (1 - fraction) / estimator.batch_size))
        checkpoint = None if estimator.checkpoint is None else Path(estimator.checkpoint)
        if checkpoint is not None and checkpoint.exists():
            self._take_up(checkpoint)
        if getattr(self, "_goes_on", False) and self._stream is not None:
            stream = copy.deepcopy(self._stream)
            if stream.weight:
                raise ValueError("the state is of partial_fit: go on by partial_fit")
            if len(stream.v) != len(estimator._start()):
                raise ValueError(
                    f"the state has {len(stream.v)} coefficients, this data needs {len(estimator._start())}"
                )
        else:
            stream = self._new_stream(solver, X, estimator._start())
        self._goes_on = False
        rule = self._rule(solver, optim.cosine_decay(stream.rate, estimator.epochs * steps), steps)
        if stream.rule is None:
            stream.rule = rule.init([stream.v])

        def result(now: Stream) -> Vector:
            v: Vector = now.rule.mean[0] if estimator.average else now.v
            return v

        epochs = Epochs(pieces, problem, rule.update, estimator.batch_size, fraction, result)
        written = time.monotonic()
        with ExitStack() as stack:
            tell = estimator._observers(stack, estimator.epochs)
            while stream.epoch < estimator.epochs and not self._is_stale(stream):
                for over in epochs.run(stream):
                    if over:
                        self._judge(stream, result(stream))
                    # A copy, since Ctrl-C may come in the middle of a step.
                    self._stream = copy.deepcopy(stream)
                    self._keep_stream(self._stream, problem.dtype)
                    if checkpoint is not None and (over or time.monotonic() > written + BETWEEN_CHECKPOINTS):
                        self.save_state(checkpoint)
                        written = time.monotonic()
                validation = stream.validation[-1] if stream.validation else math.nan
                w = result(stream) / stream.scale
                if tell is not None and tell(stream.epoch, stream.history[-1], validation, w):
                    break
        if self._stream is None:
            self._stream = stream
            self._keep_stream(stream, problem.dtype)
        return self

    def _take_up(self, checkpoint: Path) -> None:
        estimator: Any = self
        classes, features = estimator.classes_, estimator.n_features_in_
        self.set_state(checkpoint)
        if not np.array_equal(estimator.classes_, classes.astype(estimator.classes_.dtype)) or (
            features != estimator.n_features_in_
        ):
            raise ValueError(f"{checkpoint} is of a fit to other classes or features: remove it, or name another file")
        estimator.classes_ = classes

    def _judge(self, stream: Stream, v: Array) -> None:
        """Remember the best coefficients, where an epoch ends with a validation."""
        if not stream.validation:
            return
        *before, now = stream.validation
        if not before or now < min(before):
            stream.best = v.copy()
        better = not before or now < min(before) - self.tol  # type: ignore[attr-defined]
        stream.stale = 0 if better else stream.stale + 1

    def _is_stale(self, stream: Stream) -> bool:
        return bool(self.early_stopping and stream.stale >= self.n_iter_no_change)  # type: ignore[attr-defined]

    def _keep_stream(self, stream: Stream, dtype: np.dtype[Any]) -> None:
        estimator: Any = self
        v = stream.best if len(stream.best) else stream.rule.mean[0] if estimator.average else stream.v
        dtype = np.dtype(np.float32 if dtype in (np.float16, np.float32) else np.float64)
        for name, value in estimator._coefficients(v / stream.scale, dtype).items():
            setattr(self, name, value)
        estimator.n_iter_ = np.array([stream.epoch], np.int32)
        estimator.loss_curve_ = np.array(stream.history)
        estimator.validation_curve_ = np.array(stream.validation)
        estimator.converged_ = self._is_stale(stream)
        why = f"{stream.stale} epochs gained no more than tol = {estimator.tol:g} on the rows held out"
        estimator.convergence_report_ = "\n".join(
            [
                f"mini-batches: {stream.epoch} epochs",
                f"stopped: {why}"
                if estimator.converged_
                else f"stopped after {stream.epoch} of {estimator.epochs} epochs",
                f"objective in the last epoch {stream.history[-1]:.10g}" if stream.history else "no epoch yet",
            ]
        )
