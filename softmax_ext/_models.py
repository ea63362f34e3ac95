"""A fitted model in a file: .npz, plain arrays and a version; or .skops, with the skops package."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import __version__
from ._tables import FileError, save_npz, whole
from .linear_model import LogisticRegression

SUFFIXES = (".npz", ".skops")
VERSION = 1  # of the format
KINDS = {"coef": "f", "intercept": "f", "classes": "iubU", "features": "U"}  # arrays, and the kinds of their dtypes


class Model(NamedTuple):
    """A fitted estimator, and the names of the columns that it takes."""

    estimator: LogisticRegression
    features: list[str]


def save(path: Path, model: Model) -> None:
    """Write the model. In a .skops lies the estimator, which knows the names as ``feature_names_in_``.

    In a .npz lie ``format`` (the version), ``coef`` and ``intercept`` as the estimator has them, ``classes`` (K,),
    ``features`` (D,) the names of the columns, and ``softmax_ext`` the version of the package.
    """
    with whole(path) as temporary:
        if path.suffix == ".skops":
            from skops import io

            named = copy.copy(model.estimator)
            named.feature_names_in_ = np.array(model.features, object)
            io.dump(named, temporary)
            return
        arrays = {
            "format": np.array(VERSION),
            "softmax_ext": np.array(__version__),
            "coef": model.estimator.coef_,
            "intercept": model.estimator.intercept_,
            "classes": model.estimator.classes_,
            "features": np.array(model.features, str),
        }
        save_npz(temporary, arrays)


def load(path: Path) -> Model:
    """Read a model, without running anything that the file says.

    Raises
    ------
    FileError
        If the file cannot be read, is no model, or of a format that this version does not know.
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
        if version.shape != () or version != VERSION:
            raise FileError(f"{path}: of format {version}; softmax_ext {__version__} reads {VERSION}: upgrade it")
        arrays = {name: archive[name] for name in KINDS}
    for name, array in arrays.items():
        if array.dtype.kind not in KINDS[name]:
            raise ValueError(f"{name} has dtype {array.dtype}")
    W, b, classes, features = arrays.values()
    rows = 1 if len(classes) == 2 else len(classes)
    if W.shape != (rows, len(features)) or b.shape != (rows,) or classes.ndim != 1 or len(classes) < 2:
        raise ValueError(f"coef {W.shape}, intercept {b.shape}, classes {classes.shape}, features {features.shape}")
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise ValueError("a coefficient is not finite")
    estimator = LogisticRegression()
    estimator.coef_, estimator.intercept_, estimator.classes_ = W, b, classes
    estimator.n_features_in_ = len(features)
    return Model(estimator, features.tolist())


def _load_skops(path: Path) -> Model:
    from skops import io

    estimator = io.load(path, trusted=["softmax_ext.linear_model.LogisticRegression"])
    if not isinstance(estimator, LogisticRegression) or not hasattr(estimator, "feature_names_in_"):
        raise ValueError(f"it holds a {type(estimator).__name__}, or one that was fitted without names of columns")
    return Model(estimator, list(estimator.__dict__.pop("feature_names_in_")))
