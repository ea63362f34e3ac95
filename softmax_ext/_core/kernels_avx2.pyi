from .kernels_baseline import *  # noqa: F403
from .kernels_baseline import __test__ as __test__
