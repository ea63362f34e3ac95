"""What `LogisticRegression` is given, as scikit-learn makes it, and the checks that scikit-learn leaves out."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from sklearn.utils.validation import validate_data

from ._sparse import check_stored


def validated(estimator: Any, X: Any, *y: Any, **keywords: Any) -> Any:
    """Return X, and y if it is given, as scikit-learn makes them."""
    for name, given in zip("Xy", (X, *y), strict=False):
        check_readable(given, name)
    return validate_data(estimator, X, *y, accept_sparse="csr", **keywords)


def check_readable(x: Any, name: str) -> None:
    """Refuse what scikit-learn takes unseen: indices that lead outside a sparse array, and values behind a mask."""
    if scipy.sparse.issparse(x):
        if x.ndim == 2:
            check_stored(x, name)
    elif isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise TypeError(f"{name} has masked entries, and the mask would be ignored: fill it, with {name}.filled(...)")
