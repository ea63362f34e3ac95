"""Run scikit-learn's own tests of LogisticRegression and LogisticRegressionCV with ours in the place of theirs.

    python tests/sklearn_suite.py [arguments of pytest]

The names are changed before the tests are collected; private functions stay theirs. Tests that are left out are listed
here with the reason.
"""

import functools
import importlib
import inspect
import os
import re
import sys
from pathlib import Path

import pytest
import sklearn.linear_model
import sklearn.linear_model._logistic

from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
MODULE = "sklearn.linear_model.tests.test_logistic"

NOT_OURS = "tests a private function"

# By a regular expression that a test's whole name has to match; names are those of scikit-learn 1.9, and
# of 1.6 to 1.8, where some of them are not.
LEFT_OUT = {
    r"test_logistic_regression_path_.*|test_consistency_path.*|test_logistic_cv_multinomial_score.*": NOT_OURS,
    r"test_LogisticRegression_elastic_net_objective\[.*-100.0\]": "its L2 fit ends early, lower in C times the mean",
    r"test_elastic_net_vs_l1_l2\[1\]": "wants scores of held-out rows that converged fits need not win",
    r"test_dtype_match\[csr_.*-liblinear\]": "wants float64 coefficients for float32 of which LIBLINEAR makes float64",
    r"test_large_sparse_matrix\[.*-(liblinear|sag|saga)\]": "wants a refusal of 64-bit indices; ours takes them",
    r"test_liblinear_with_large_values": "wants a refusal of X > 1e30, where LIBLINEAR does not end; ours does",
    r"test_liblinear_dual_random_state.*": "wants other coefficients for another random_state; ours has no randomness",
    r"test_newton_cholesky_fallback_to_lbfgs.*": "compares the iterations of two of scikit-learn's solvers",
    r"test_logistic_regression_callback_support_warning": "ours calls the callbacks with every solver",
}

if VERSION < (1, 8):
    LEFT_OUT |= {
        r"test_check_solver_option.*|test_multinomial_binary_probabilities.*": "multi_class, which went with 1.8",
        r"test_elasticnet_l1_ratio_err_helpful\[LR0\]": "l1_ratio=None, which it refuses, was the default; ours is 0",
        r"test_lr_liblinear_warning|test_liblinear_multiclass_warning.*": "three classes by liblinear, as before 1.8",
    }


class Selection:
    """A plugin for pytest that leaves out what is listed."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config, items):
        left_out = {pattern: [item for item in items if re.fullmatch(pattern, item.name)] for pattern in LEFT_OUT}
        for pattern, matches in left_out.items():
            if not matches and VERSION >= (1, 9):
                raise pytest.UsageError(f"no test of {MODULE} matches {pattern}: take it out of LEFT_OUT")
        dropped = {item for matches in left_out.values() for item in matches}
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=list(dropped))


def with_multi_class(ours):
    """Return an estimator that also takes `multi_class`, as the tests before 1.8 do, and skips those of "ovr"."""
    plain, fit = ours.__init__, ours.fit

    def __init__(self, *arguments, multi_class="deprecated", **parameters):
        plain(self, *arguments, **parameters)
        self.multi_class = multi_class

    @functools.wraps(fit)
    def fit_or_skip(self, *arguments, **keywords):
        if self.multi_class == "ovr":
            pytest.skip("one model for each class against the rest, which scikit-learn has given up")
        return fit(self, *arguments, **keywords)

    parameters = inspect.signature(plain).parameters
    more = inspect.Parameter("multi_class", inspect.Parameter.KEYWORD_ONLY, default="deprecated")
    __init__.__signature__ = inspect.Signature([*parameters.values(), more])  # where scikit-learn reads them
    return type(ours.__name__, (ours,), {"__init__": __init__, "fit": fit_or_skip, "__module__": ours.__module__})


def main(arguments):
    replaced = (LogisticRegression, LogisticRegressionCV)
    for ours in replaced if VERSION >= (1, 8) else map(with_multi_class, replaced):
        setattr(sklearn.linear_model, ours.__name__, ours)
        if VERSION < (1, 8):  # whose tests import it from there
            setattr(sklearn.linear_model._logistic, ours.__name__, ours)
    module = importlib.import_module(MODULE)
    for ours in replaced:
        tested = getattr(module, ours.__name__)
        assert issubclass(tested.func if isinstance(tested, functools.partial) else tested, ours)
    folder = str(Path(sklearn.__file__).parent)
    alone = ["-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider"]  # not this project's configuration
    return pytest.main([*alone, "--pyargs", MODULE, *arguments], [Selection()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
