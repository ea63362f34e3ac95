"""How a table's columns become X. On request, missing numbers are filled in and words are encoded.

scikit-learn's ColumnTransformer does the work: it replaces a missing number by the median of its column, and a column
of words by one column of 0 and 1 for each word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .tables import FileError, Table, few, kind, numbers, words

Array = npt.NDArray[Any]

NUMBERS, WORDS = "numbers", "words"  # the kinds of columns, which also name the parts of the transformer
MISSING = ""  # the word that stands for a missing one
# A column with more different words than this, and than half of its rows, is taken for names of the rows.
MANY_WORDS = 20


class Features(NamedTuple):
    """The columns that a model takes from a table, and the transformer that makes numbers of them."""

    columns: list[str]
    transformer: Any = None  # a fitted ColumnTransformer; None where all columns are numbers and are taken as they are

    @property
    def words(self) -> dict[str, list[str]]:
        """The words of each column of words that the transformer knows."""
        if self.transformer is None or WORDS not in self.transformer.named_transformers_:
            return {}
        _, encoder, columns = next(part for part in self.transformer.transformers_ if part[0] == WORDS)
        return {name: list(known) for name, known in zip(columns, encoder[-1].categories_, strict=True)}

    @property
    def numbers(self) -> list[str]:
        """The columns of numbers."""
        return [name for name in self.columns if name not in self.words]

    @property
    def fills(self) -> Array | None:
        """The number that replaces a missing one in each column of numbers; None if nothing is filled in."""
        return None if self.transformer is None else _fills(self.transformer)

    def names(self) -> list[str]:
        """Return the names of the columns of X."""
        encoded = [f"{name}={word or '(missing)'}" for name, known in self.words.items() for word in known]
        return self.numbers + encoded

    def of(self, table: Table) -> Any:
        """Return the table's X (N, D) as an array or CSR; raise FileError if a column is missing or of another kind."""
        if table.csr is None and (gone := [repr(name) for name in self.columns if name not in table.columns()]):
            raise FileError(f"{table.path}: no column {few(gone)}; it has {few(table.columns())}")
        if self.transformer is None:
            if table.csr is None:
                _check(table, self.columns, [], impute=False, one_hot=False, fitted=True)
            return table.numbers(self.columns)
        known = self.words
        impute = self.fills is not None
        _check(table, self.numbers, list(known), impute=impute, one_hot=True, fitted=True)
        return self.transformer.transform(_frame(table, self.numbers, list(known)))

    def unknown(self, table: Table) -> dict[str, tuple[int, list[str]]]:
        """Return for each column how many rows have a word that the model has never seen, and these words."""
        found = {}
        for name, known in self.words.items():
            column = words(table.column(name)).fillna(MISSING)
            new = column[~column.isin(known)]
            if len(new):
                found[name] = len(new), [word or "(missing)" for word in sorted(new.unique())]
        return found

    def arrays(self) -> dict[str, Array]:
        """Return the features as plain arrays, from which `from_arrays` makes them; `fill` is NaN for no filling."""
        if self.transformer is None:
            return {"features": np.array(self.columns, str)}
        known, fills = self.words, self.fills
        filled = dict(zip(self.numbers, fills if fills is not None else [np.nan] * len(self.numbers), strict=True))
        return {
            "features": np.array(self.columns, str),
            "fill": np.array([filled.get(name, np.nan) for name in self.columns], np.float64),
            "word_counts": np.array([len(known.get(name, ())) for name in self.columns], np.int64),
            "words": np.array([word for name in self.columns for word in known.get(name, ())], str),
        }

    @classmethod
    def from_arrays(cls, features: Array, fill: Array, word_counts: Array, words: Array, *, dtype: Any) -> Features:
        """Return the features that `arrays` has stored; raise ValueError if the arrays do not fit together."""
        columns = features.tolist()
        if not (fill.shape == word_counts.shape == features.shape and word_counts.min(initial=0) >= 0):
            raise ValueError(f"features {features.shape}, fill {fill.shape}, word_counts {word_counts.shape}")
        if words.shape != (word_counts.sum(),):
            raise ValueError(f"words {words.shape}, but word_counts sum to {word_counts.sum()}")
        ends = np.cumsum(word_counts).tolist()
        known = {
            name: words[end - n : end].astype(object)
            for name, n, end in zip(columns, word_counts.tolist(), ends, strict=True)
            if n
        }
        medians = {name: value for name, value in zip(columns, fill.tolist(), strict=True) if name not in known}
        impute = bool(medians) and not np.isnan(list(medians.values())).any()
        return cls(columns, _fitted(_one_row(medians, known, dtype), list(medians), known, impute, dtype))


def learn(table: Table, columns: Sequence[str], *, impute: bool, one_hot: bool) -> Features:
    """Return the features of a table, with medians and words learnt from it; FileError names all unusable columns."""
    if table.csr is not None or not (impute or one_hot):
        if table.csr is None:
            numeric, wordy = _kinds(table, columns)
            _check(table, numeric, wordy, impute=False, one_hot=False)
        return Features(list(columns))
    numeric, wordy = _kinds(table, columns)
    _check(table, numeric, wordy, impute=impute, one_hot=one_hot)
    frame = _frame(table, numeric, wordy)
    dtype = frame[numeric].to_numpy().dtype if numeric else np.dtype(np.float64)
    known = {name: np.array(sorted(frame[name].fillna(MISSING).unique()), object) for name in wordy}
    return Features([*numeric, *wordy], _fitted(frame, numeric, known, impute, dtype))


def _kinds(table: Table, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    kinds = {name: kind(table.column(name)) for name in columns}
    return [name for name in columns if kinds[name] != WORDS], [name for name in columns if kinds[name] == WORDS]


def _check(
    table: Table,
    numeric: Sequence[str],
    wordy: Sequence[str],
    *,
    impute: bool,
    one_hot: bool,
    fitted: bool = False,
) -> None:
    """Raise one FileError that names every column that cannot be used, and what the user can do about it."""
    missing: list[str] = []
    empty: list[str] = []
    infinite: list[str] = []
    no_numbers: list[str] = []
    names: list[str] = []
    others: list[str] = []
    for name in numeric:
        column = table.column(name)
        if (found := kind(column)) != NUMBERS:
            known = column.dropna()
            (no_numbers if found == WORDS else others).append(
                f"{name!r} ({known.iloc[0]!r})" if found == WORDS else f"{name!r} ({found})"
            )
            continue
        values = numbers(column)
        if np.isinf(values).any():
            infinite.append(f"{name!r} (row {np.flatnonzero(np.isinf(values))[0] + 1})")
        gaps = np.flatnonzero(np.isnan(values))
        if gaps.size == len(values) and not fitted:
            empty.append(repr(name))
        elif gaps.size and not impute:
            where = f"row {gaps[0] + 1}" if gaps.size == 1 else f"{gaps.size} rows, the first is {gaps[0] + 1}"
            missing.append(f"{name!r} ({where})")
    for name in wordy:
        column = table.column(name)
        if not one_hot:
            no_numbers.append(f"{name!r} ({column.dropna().iloc[0]!r})")
        elif not fitted and (different := column.nunique()) > max(MANY_WORDS, len(column) / 2):
            names.append(f"{name!r} ({different} in {len(column)} rows)")
    ways = "fit with" if fitted else "use"
    troubles: list[tuple[list[str], str]] = [
        (missing, f"no value in {few(missing)}: fill in medians, {ways} --impute"),
        (no_numbers, f"no numbers in {few(no_numbers)}: encode words, {ways} --one-hot"),
        (names, f"nearly as many words as rows in {few(names)}: such a column tells rows apart, not classes"),
        (empty, f"no value at all in {few(empty)}"),
        (infinite, f"not finite in {few(infinite)}"),
        (others, f"neither numbers nor words in {few(others)}: make numbers of them"),
    ]
    said = [words for columns, words in troubles if columns]
    if said:
        leave = "" if fitted else "; or leave columns out with --ignore"
        raise FileError(f"{table.path}: {'; '.join(said)}{leave}")


def _frame(table: Table, numeric: Sequence[str], wordy: Sequence[str]) -> Any:
    """Return the columns in the form that the transformer takes: floats of one dtype, and strings or NaN."""
    import pandas as pd

    X = table.numbers(numeric, missing=True)
    frame = pd.DataFrame(X, columns=list(numeric), index=table.frame.index)
    return pd.concat([frame, *(words(table.column(name)).rename(name) for name in wordy)], axis=1)


def _one_row(medians: dict[str, float], known: dict[str, Array], dtype: Any) -> Any:
    """Return a table of one row whose medians are these, so that a stored transformer can be fitted anew."""
    import pandas as pd

    row = {name: np.array([0 if np.isnan(value) else value], dtype) for name, value in medians.items()}
    return pd.DataFrame(row | {name: np.array([each[0]], object) for name, each in known.items()})


def _fitted(frame: Any, numeric: list[str], known: dict[str, Array], impute: bool, dtype: Any) -> Any:
    """Return a transformer fitted to a table, or to the one row of `_one_row`, which gives the same transformer."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    parts: list[Any] = []
    if numeric:
        parts.append((NUMBERS, SimpleImputer(strategy="median") if impute else "passthrough", numeric))
    if known:
        encoder = OneHotEncoder(categories=list(known.values()), handle_unknown="ignore", dtype=np.dtype(dtype).type)
        filler = SimpleImputer(strategy="constant", fill_value=MISSING)
        parts.append((WORDS, make_pipeline(filler, encoder), list(known)))
    return ColumnTransformer(parts, verbose_feature_names_out=False).fit(frame)


def _fills(transformer: Any) -> Array | None:
    """Return the medians that replace missing numbers; None if nothing is filled in."""
    fills: Array | None = getattr(transformer.named_transformers_.get(NUMBERS), "statistics_", None)
    return fills
