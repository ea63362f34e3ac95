"""One pass: loss and gradient."""

from contextlib import ExitStack

from softmax_ext import loss_grad
from softmax_ext._core import dispatch

from .common import LEVELS, LONG, PINS, SHAPES, SHORT, interleaved, make, typical
from .contenders import CONTENDERS, numpy


class _Kernel:
    """Data and kernels, ready to run."""

    def setup(self, shape, isa="avx512", n_threads=1):
        self.level = ExitStack()  # first, since asv calls teardown even if this raises
        if isa not in dispatch.available():
            raise NotImplementedError(f"no {isa} here")
        self.X, self.y, self.W = make(SHAPES[shape])
        self.level.enter_context(dispatch.using(isa))

    def teardown(self, *params):
        self.level.close()


class Long(_Kernel):
    params = (LONG, LEVELS, [1, 2])
    param_names = ("shape", "isa", "n_threads")
    repeat = (2, 5, 4.0)  # asv repeats at least twice, at most five times, for at most 4 s

    def time_pass(self, shape, isa, n_threads):
        loss_grad(self.X, self.y, self.W, n_threads=n_threads)


class Short(_Kernel):
    """Loops of many passes, since asv times single calls where there is a setup, and these are too short."""

    params = (SHORT, LEVELS, [1, 2])
    param_names = ("shape", "isa", "n_threads")

    def time_1000_passes(self, shape, isa, n_threads):
        for _ in range(1000):
            loss_grad(self.X, self.y, self.W, n_threads=n_threads)


class Contenders:
    params = (list(CONTENDERS), LONG)
    param_names = ("contender", "shape")
    rounds = 1
    repeat = (2, 5, 4.0)

    def setup(self, contender, shape):
        self.run = CONTENDERS[contender](*make(SHAPES[shape]))

    def time_pass(self, contender, shape):
        self.run()


class ShortContenders:
    params = (list(CONTENDERS), SHORT)
    param_names = ("contender", "shape")
    rounds = 1

    def setup(self, contender, shape):
        self.run = CONTENDERS[contender](*make(SHAPES[shape]))

    def time_100_passes(self, contender, shape):
        for _ in range(100):
            self.run()


class Memory:
    """The peak memory of the whole process, including the data: subtract `peakmem_data`."""

    params = (LONG,)
    param_names = ("shape",)

    def setup(self, shape):
        self.X, self.y, self.W = make(SHAPES[shape])

    def peakmem_data(self, shape):
        pass

    def peakmem_pass(self, shape):
        loss_grad(self.X, self.y, self.W)


class Ratio(_Kernel):
    """NumPy's time divided by ours, both on all processors, measured in turns."""

    params = (list(SHAPES), LEVELS)
    param_names = ("shape", "isa")
    unit = "times as fast"

    def setup(self, shape, isa):
        super().setup(shape, isa)
        if PINS:
            raise NotImplementedError(f"{' and '.join(PINS)} would slow NumPy down: unset first")

    def track_ratio_over_numpy(self, shape, isa):
        X, y, W = self.X, self.y, self.W
        seconds = interleaved({"ours": lambda: loss_grad(X, y, W), "numpy": numpy(X, y, W)}, rounds=5)
        return round(typical(seconds["numpy"]) / typical(seconds["ours"]), 2)
