"""Fitted models in files: .npz has plain arrays and the version of their format, .skops needs the skops package.

A .skops holds an estimator for data frames: a `LogisticRegression`, or a Pipeline of a ColumnTransformer and one.
"""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline

from .._data.features import NUMBERS, WORDS, Features
from .._data.files import save_npz, whole
from .._data.tables import FileError
from .._objective.parameters import Parameters
from .._version import __version__
from ..linear_model import LogisticRegression

SUFFIXES = (".npz", ".skops")
# The versions of the format, each with its arrays and the kinds of their dtypes. Version 2 fills in and encodes.
PLAIN = {"coef": "f", "intercept": "f", "classes": "iubU", "features": "U"}
KINDS = {1: PLAIN, 2: PLAIN | {"fill": "f", "word_counts": "i", "words": "U"}}


class Model(NamedTuple):
    """A fitted estimator, and the features that make its X of a table."""

    estimator: LogisticRegression
    features: Features


def save(path: Path, model: Model) -> None:
    """Write a model. A .skops holds the estimator, whose ``feature_names_in_`` are the names of the table's columns.

    A .npz holds ``format`` (the version), ``coef`` and ``intercept`` as the estimator has them, ``classes`` (K,),
    ``features`` (the names of the table's columns) and ``softmax_ext`` (the version of the package). Version 2 also has
    ``fill``, the number that replaces a missing one in each column, or NaN; ``word_counts``, how many words each
    column has, or 0; and all columns' ``words``, one after the other, where the empty word stands for a missing one.
    """
    arrays = model.features.arrays()
    if path.suffix == ".skops":
        from skops import io

        named = copy.copy(model.estimator)
        if model.features.transformer is None:
            named.feature_names_in_ = np.array(model.features.columns, object)
        with whole(path) as temporary:
            io.dump(_joined(named, model.features), temporary)
        return
    arrays |= {
        "format": np.array(2 if len(arrays) > 1 else 1),
        "softmax_ext": np.array(__version__),
        "coef": model.estimator.coef_,
        "intercept": model.estimator.intercept_,
        "classes": model.estimator.classes_,
    }
    save_npz(path, arrays)


def load(path: Path) -> Model:
    """Return the model in a file, without running any code that the file names.

    Raises
    ------
    FileError
        If the file cannot be read, holds no model, or has a format that this version does not know.
    """
    if path.suffix not in SUFFIXES:
        raise FileError(f"{path}: the name of a model ends in {' or '.join(SUFFIXES)}")
    try:
        model = _load_skops(path) if path.suffix == ".skops" else _load_npz(path)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FileError(f"{path}: not a model of softmax_ext ({' '.join(str(error).split())})") from error
    return model


def _load_npz(path: Path) -> Model:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile) or "format" not in archive:
            raise ValueError("it holds no format")
        version = archive["format"]
        if version.shape != () or version.item() not in KINDS:
            known = " and ".join(map(str, KINDS))
            raise FileError(f"{path}: of format {version}; softmax_ext {__version__} reads {known}: upgrade it")
        kinds = KINDS[version.item()]
        arrays = {name: archive[name] for name in kinds}
    for name, array in arrays.items():
        if array.dtype.kind not in kinds[name]:
            raise ValueError(f"{name} has dtype {array.dtype}")
    W, b, classes, names, *prepared = arrays.values()
    features = Features.from_arrays(names, *prepared, dtype=W.dtype) if prepared else Features(names.tolist())
    layout = Parameters.of_model(len(classes), len(features.names()), True)
    rows, D = layout.count, layout.D
    if W.shape != (rows, D) or b.shape != (rows,) or classes.ndim != 1 or len(classes) < 2:
        raise ValueError(f"coef {W.shape}, intercept {b.shape}, classes {classes.shape}, features ({D},)")
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise ValueError("a coefficient is not finite")
    estimator = LogisticRegression()
    estimator.coef_, estimator.intercept_, estimator.classes_ = W, b, classes
    estimator.n_features_in_ = D
    return Model(estimator, features)


def _load_skops(path: Path) -> Model:
    from skops import io

    ours = f"{LogisticRegression.__module__}.LogisticRegression"
    try:
        loaded = io.load(path, trusted=[ours, "numpy.dtype"])  # the transformer holds a numpy.dtype
    except io.exceptions.UntrustedTypesFoundException as error:
        raise ValueError(str(error)) from error
    transformer, estimator = (loaded[0], loaded[-1]) if isinstance(loaded, Pipeline) else (None, loaded)
    named = loaded if transformer is None else transformer
    if not isinstance(estimator, LogisticRegression) or not hasattr(named, "feature_names_in_"):
        raise ValueError(f"it holds a {type(estimator).__name__}, or one that was fitted without names of columns")
    if transformer is not None and set(getattr(transformer, "named_transformers_", ())) - {NUMBERS, WORDS}:
        raise ValueError("it holds a pipeline of another program")
    columns = list(named.feature_names_in_)
    if transformer is None:
        del estimator.feature_names_in_
    return Model(estimator, Features(columns, transformer))


def _joined(estimator: LogisticRegression, features: Features) -> Any:
    """Return an estimator that takes the table's columns as they are: a Pipeline where a transformer is needed."""
    if features.transformer is None:
        return estimator
    return Pipeline([("features", features.transformer), ("model", estimator)])
