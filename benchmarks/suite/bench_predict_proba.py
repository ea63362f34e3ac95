"""The posterior of one row, where the call itself takes most of the time, and of whole data."""

from softmax_ext import predict_proba

from .common import SHAPES, make


class OneRow:
    params = (["iris-f64", "digits-f32", "mnist-f32", "k1000-f32"],)
    param_names = ("shape",)

    def setup(self, shape):
        self.X, _, self.W = make(SHAPES[shape]._replace(N=1))

    def time_1000_calls(self, shape):
        for _ in range(1000):
            predict_proba(self.X, self.W)


class AllRows:
    params = (["mnist-f32", "covtype-f64", "k1000-f32", "manyclass-f32"], [1, 2])
    param_names = ("shape", "n_threads")
    repeat = (2, 5, 4.0)

    def setup(self, shape, n_threads):
        self.X, _, self.W = make(SHAPES[shape])

    def time_call(self, shape, n_threads):
        predict_proba(self.X, self.W, n_threads=n_threads)
