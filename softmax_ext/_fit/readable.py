"""Checks of what users give to `LogisticRegression`: scikit-learn's own, and those that it leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.validation import assert_all_finite, validate_data

from .._inputs.csr import check_stored, is_byte, rows_of
from .._inputs.dtypes import NARROW, is_native, is_real, read_as
from .._inputs.tensors import read
from .._inputs.validation import check_offset, check_offset_of_class_1

# Dtypes of X that a fit takes as they are; other ones become the first of these. bfloat16, for which NumPy has no name,
# is also taken.
KINDS = [np.float64, np.float32, np.float16, np.int8, np.uint8]
PLAIN = [np.dtype(np.float64).str, np.dtype(np.float32).str]
CHECKED_BYTES = 2**20
# Bytes of narrow X up to which rows are made of columns once, as scikit-learn does. In larger X they are made some at a
# time, by each pass: of 400000 x 256 float16 that takes 85 ms, and a copy would take 195 MiB.
COPIED_BYTES = 16 * 2**20


def validated(estimator: Any, X: Any, *y: Any, **keywords: Any) -> Any:
    """Return X, and y if it is given, checked and converted as by scikit-learn's `validate_data`."""
    if y and is_plain(X, y[0]) and keywords.get("ensure_all_finite") is False and keywords.get("reset", True):
        # scikit-learn's check would change nothing, and takes as long as the passes of a small fit (docs/notes.md,
        # "scikit-learn's checks of small fits").
        estimator.n_features_in_ = X.shape[1]
        vars(estimator).pop("feature_names_in_", None)
        return X, y[0]
    X, y = readable(X, "X"), tuple(readable(given, "y") for given in y)
    if not is_narrow(X):
        return validate_data(estimator, X, *y, accept_sparse="csr", **keywords)
    # Narrow X gets its dtype and its check for finite values here: scikit-learn takes bfloat16 for text, and to check
    # float16 it makes an array of booleans as large as X.
    finite = keywords.pop("ensure_all_finite", True)
    order = "C" if X.nbytes <= COPIED_BYTES else None
    keywords |= {"dtype": [read_as(X.dtype)], "ensure_all_finite": False, "order": order}
    found = validate_data(estimator, X, *y, accept_sparse="csr", **keywords)
    if finite:
        check_finite(found[0] if y else found, estimator)
    if finite and y:
        assert_all_finite(found[1], input_name="y", estimator_name=type(estimator).__name__)
    return found


def has_plain_rows(X: Any) -> bool:
    """Return whether X needs no conversion: rows of floats that a kernel reads."""
    plain = type(X) is np.ndarray and X.ndim == 2 and X.dtype.str in PLAIN
    return plain and X.size > 0 and is_native(X, X.dtype)


def is_plain(X: Any, y: Any) -> bool:
    """Return whether X and y need no conversion: plain rows, and one label for each."""
    labels = type(y) is np.ndarray and y.ndim == 1 and y.dtype.kind in "iub"
    return labels and has_plain_rows(X) and len(y) == len(X)


def is_narrow(X: Any) -> bool:
    """Return whether X is an array of a type that the kernels widen to float32."""
    return isinstance(X, np.ndarray) and X.dtype.char in NARROW and is_real(X.dtype)


def check_finite(X: Any, estimator: Any) -> None:
    """Raise scikit-learn's error for NaN and infinity. Narrow X is checked without a copy, by its exponent's bits."""
    if not is_narrow(X):
        assert_all_finite(X, estimator_name=type(estimator).__name__, input_name="X")
        return
    if X.dtype.kind in "iu":
        return
    least = 0xF800 if X.dtype.kind == "f" else 0xFF00  # the bits of infinity, shifted up by one to drop the sign
    rows = max(1, CHECKED_BYTES // (2 * X.shape[1]))
    for start in range(0, len(X), rows):
        block = X[start : start + rows]
        if (block.view(np.uint16) << 1).max() >= least:
            assert_all_finite(block.astype(np.float32), input_name="X", estimator_name=type(estimator).__name__)


def readable(x: Any, name: str) -> Any:
    """Return a tensor as an array, and anything else as it is.

    Two errors that scikit-learn does not see are raised here: indices that lead outside a sparse array, and masked
    values.
    """
    if type(x) is np.ndarray:  # the usual case, which needs none of what follows
        return x
    x = read(x, name)
    if scipy.sparse.issparse(x):
        if x.ndim == 2:
            check_stored(x, name)
            return rows_of(x) if is_byte(x) else x
    elif isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise TypeError(f"{name} has masked entries, and the mask would be ignored: fill it, with {name}.filled(...)")
    return x


def finite_offset(offset: Any, N: int, K: int) -> Any:
    """Return a checked offset of scores as `Rows` hold it: (N, K), or (N, 1) for two classes; None if there is none."""
    if offset is None:
        return None
    given = readable(offset, "offset")
    found = check_offset_of_class_1(given, N) if K == 2 else check_offset(given, N, K)
    assert_all_finite(found, input_name="offset")
    return found


def are_probabilities(y: Any) -> bool:
    """Return whether targets are probabilities: K >= 2 columns of a floating dtype."""
    try:
        Y = y if type(y) is np.ndarray else np.asarray(read(y, "y"))
    except (TypeError, ValueError):  # y is a ragged list, say; scikit-learn raises the error for it later
        return False
    return Y.ndim == 2 and Y.shape[1] >= 2 and Y.dtype.kind == "f"
