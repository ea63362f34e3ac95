"""Run scikit-learn's own tests of LogisticRegression and LogisticRegressionCV with ours in the place of theirs.

    python tests/sklearn_suite.py [arguments of pytest]

The names are changed before the tests are collected; private functions stay theirs. Tests that are left out are listed
here with the reason.
"""

import importlib
import os
import re
import sys
from pathlib import Path

import pytest
import sklearn.linear_model

from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV

MODULE = "sklearn.linear_model.tests.test_logistic"

NOT_OURS = "tests a private function"
L1 = "L1 or elastic net, which is refused"

# By a regular expression that a test's whole name has to match; names are those of scikit-learn 1.9.
LEFT_OUT = {
    r"test_logistic_regression_path_.*|test_consistency_path.*|test_logistic_cv_multinomial_score.*": NOT_OURS,
    r"test_LogisticRegressionCV_(GridSearchCV_)?elastic_?net.*|test_scores_attribute_layout_elasticnet": L1,
    r"test_LogisticRegressionCV_no_refit\[.-l1_ratios1\]|test_logistic_regression_cv_refit\[.*1\]": L1,
    r"test_logreg_l1.*|test_elastic_net_.*|test_LogisticRegression_elastic_net_objective.*": L1,
    r"test_l1_ratio_non_elasticnet|test_lr_penalty_l1ratio_incompatible\[l1-.*\]": L1,
    r"test_liblinear_not_stuck.*|test_sample_and_class_weight_equivalence_liblinear.*": L1,
    r"test_logisticregression_liblinear_sample_weight\[.*params0\]": L1,
    r"test_saga_vs_liblinear\[.*-1\]": L1,
    r"test_dtype_match\[csr_.*-liblinear\]": "wants float64 coefficients for float32 of which LIBLINEAR makes float64",
    r"test_large_sparse_matrix\[.*-(liblinear|sag|saga)\]": "wants a refusal of 64-bit indices; ours takes them",
    r"test_liblinear_with_large_values": "wants a refusal of X > 1e30, where LIBLINEAR does not end; ours does",
    r"test_liblinear_dual_random_state.*": "wants other coefficients for another random_state; ours has no randomness",
    r"test_newton_cholesky_fallback_to_lbfgs": "compares the iterations of two of scikit-learn's solvers",
    r"test_logistic_regression_callback_support_warning": "ours calls the callbacks with every solver",
}


class Selection:
    """A plugin for pytest that leaves out what is listed."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config, items):
        left_out = {pattern: [item for item in items if re.fullmatch(pattern, item.name)] for pattern in LEFT_OUT}
        for pattern, matches in left_out.items():
            if not matches:
                raise pytest.UsageError(f"no test of {MODULE} matches {pattern}: take it out of LEFT_OUT")
        dropped = {item for matches in left_out.values() for item in matches}
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=list(dropped))


def main(arguments):
    sklearn.linear_model.LogisticRegression = LogisticRegression
    sklearn.linear_model.LogisticRegressionCV = LogisticRegressionCV
    module = importlib.import_module(MODULE)
    assert module.LogisticRegression is LogisticRegression
    assert module.LogisticRegressionCV is LogisticRegressionCV
    folder = str(Path(sklearn.__file__).parent)
    alone = ["-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider"]  # not this project's configuration
    return pytest.main([*alone, "--pyargs", MODULE, *arguments], [Selection()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
