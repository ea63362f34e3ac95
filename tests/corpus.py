"""Compare two builds of softmax_ext to the bit, over a corpus of calls of all public functions.

    python tests/corpus.py PATH_OF_ONE_BUILD PATH_OF_ANOTHER [ISA level ...]

A build is a folder that holds `softmax_ext` with its compiled modules. Each runs in a process of its own, on every ISA
level that this processor has, or on those named. What differs is listed, and the exit status is 1. Nothing is stored:
a change that is to keep all bits is compared with the commit before it. A change of what is computed will differ, and
the list then shows where.
"""

import argparse
import hashlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)

# (N, D, K): every cut of src/, rows that fill vectors and that do not, blocks of which there are several.
SHAPES = [
    (1, 1, 2), (7, 3, 3), (150, 4, 3), (64, 784, 10), (333, 33, 10), (1797, 64, 10), (50, 5, 1), (40, 200, 3),
    (900, 10, 200), (5000, 54, 7), (9000, 30, 2), (2500, 128, 100), (300, 40, 130), (20000, 256, 70),
]  # fmt: skip
LARGE = [(5000, 256, 1000), (1200, 2048, 130), (20000, 260, 700)]  # classes with owners; the last in three blocks
SPARSE = [(1, 5, 3), (200, 1000, 2), (300, 50, 10), (3000, 5000, 40), (500, 200, 150), (4000, 60000, 20)]
GROUPED = [(600, 60000, 120)]  # too many coefficients to be transposed at once


def layouts(X):
    """The same numbers in other dtypes and other places."""
    wide = np.zeros((len(X), X.shape[1] + 3), X.dtype)
    wide[:, 1:-2] = X
    moved = np.empty(X.nbytes + 1, np.uint8)[1:].view(X.dtype).reshape(X.shape)
    moved[...] = X
    yield "fortran", np.asfortranarray(X)
    yield "strided", wide[:, 1:-2]
    yield "reversed", np.ascontiguousarray(X[::-1])[::-1]
    yield "swapped", X.astype(X.dtype.newbyteorder())
    yield "misaligned", moved
    yield "list", X.tolist()
    yield "half", X.astype(np.float16)
    yield "int", np.rint(X).astype(np.int32)
    yield "bool", X > 0
    yield "long double", X.astype(np.longdouble)


def problem(N, D, K, dtype):
    """X, labels, probabilities, W, b, sample weights and class weights."""
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D))
    X[::3] *= 5
    y = rng.integers(0, K, N)
    Y = rng.exponential(size=(N, K)) * rng.integers(0, 2, (N, K))
    W, b = rng.standard_normal((K, D)) / np.sqrt(D), rng.standard_normal(K)
    s, c = rng.exponential(size=N) * (np.arange(N) % 4 != 3) + (N < 4), rng.exponential(size=K) + 0.1
    return X.astype(dtype), y, Y.astype(dtype), W.astype(dtype), b.astype(dtype), s, c


def csr(N, D, dtype, seed=0):
    """CSR rows with empty ones, unsorted columns and duplicates."""
    import scipy.sparse

    rng = np.random.default_rng([N, D, seed])
    lengths = rng.integers(0, min(D, 30) + 1, N)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.minimum((rng.exponential(size=indptr[-1]) * D / 8).astype(np.int32), D - 1)
    return scipy.sparse.csr_array((rng.standard_normal(indptr[-1]).astype(dtype), indices, indptr), shape=(N, D))


def passes(sx):
    """loss_grad and predict_proba."""
    for (N, D, K), dtype in itertools.product(SHAPES + LARGE, (F4, F8)):
        X, y, Y, W, b, s, c = problem(N, D, K, dtype)
        name = f"{N}x{D}x{K} {dtype}"
        variants = {
            "labels": (y, {}),
            "probabilities": (Y, {}),
            "weights": (y, {"sample_weight": s, "class_weight": c, "label_smoothing": 0.1}),
            "smoothed probabilities": (Y, {"sample_weight": s, "label_smoothing": 0.3}),
        }
        if (N, D, K) in LARGE:
            del variants["smoothed probabilities"]
        for what, (target, keywords) in variants.items():
            yield f"loss_grad {name} {what}", sx.loss_grad(X, target, W, b, **keywords)
        yield f"loss_grad {name} without b", sx.loss_grad(X, y, W)
        yield f"predict_proba {name}", sx.predict_proba(X, W, b)
        yield f"predict_proba {name} without b, into out", sx.predict_proba(X, W, out=np.empty((N, K), dtype))
        if N <= 2500 and N * D < 2**17:
            for layout, other in layouts(X):
                for target in (y, Y):
                    yield f"loss_grad {name} {layout} {target.ndim}", sx.loss_grad(other, target, W, b)
                yield f"predict_proba {name} {layout}", sx.predict_proba(other, W, b)
            yield f"loss_grad {name} Fortran targets", sx.loss_grad(X, np.asfortranarray(Y), W, b)
            yield f"loss_grad {name} other targets", sx.loss_grad(X, Y.astype(np.longdouble), W, b)
        for threads in (1, 3):
            yield f"loss_grad {name} {threads} threads", sx.loss_grad(X, y, W, b, n_threads=threads)
    X, y, _, W, b, *_ = problem(100_000, 100, 5, F8)  # converted in more than one piece
    yield "loss_grad converted", sx.loss_grad(np.asfortranarray(X), y, W, b)
    yield "predict_proba converted", sx.predict_proba(np.asfortranarray(X), W, b)
    W[1] = np.inf
    yield "loss_grad not finite", sx.loss_grad(X, y, W, b)


def sparse_passes(sx):
    """The same of CSR rows, and the objective's own way through them."""
    for (N, D, K), dtype in itertools.product(SPARSE + GROUPED, (F4, F8)):
        X = csr(N, D, dtype)
        _, y, Y, W, b, s, c = problem(N, 1, K, dtype)
        W = np.random.default_rng(K).standard_normal((K, D)).astype(dtype) / 4
        name = f"csr {N}x{D}x{K} {dtype}"
        yield f"loss_grad {name}", sx.loss_grad(X, y, W, b)
        yield f"loss_grad {name} weights", sx.loss_grad(X, y, W, b, sample_weight=s, class_weight=c, n_threads=3)
        yield f"loss_grad {name} probabilities", sx.loss_grad(X, Y, W, label_smoothing=0.2)
        yield f"predict_proba {name}", sx.predict_proba(X, W, b)
        yield f"predict_proba {name} few", sx.predict_proba(X[:1], W, b)
        if N <= 500:
            wide = X.copy()
            wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
            others = {"int64": wide, "csc": X.tocsc(), "coo": X.tocoo(), "half": csr(N, D, np.float32) * 2}
            others["int"] = (csr(N, D, np.float64) * 3).astype(np.int32)
            for layout, other in others.items():
                yield f"loss_grad {name} {layout}", sx.loss_grad(other, y, W, b)
        for target, l2, intercept in ((y, 0.1, True), (Y, 0.0, False)):
            objective = sx.SoftmaxObjective(X, target, l2=l2, fit_intercept=intercept, sample_weight=s, K=K)
            yield from evaluations(objective, f"{name} {target.ndim}", hessian=False)


def evaluations(objective, name, *, hessian=True, preconditioned=True):
    """Everything that an objective computes."""
    rng = np.random.default_rng(objective.size)
    w, v = rng.standard_normal((2, objective.size)) / 4
    yield f"value {name}", objective.value(w)
    yield f"value_and_grad {name}", objective.value_and_grad(w)
    yield f"hessp {name}", objective.hessp(w, v)
    if hasattr(objective, "evaluate"):
        yield f"evaluate {name}", objective.evaluate(w)
    if hessian and objective.size <= 500:
        yield f"hessian {name}", objective.hessian(w)
    if not preconditioned or not hasattr(
        objective, "preconditioner"
    ):  # the commit that this corpus came with refuses Fortran order there
        return
    preconditioner = objective.preconditioner(np.zeros_like(w))
    yield f"preconditioner {name}", preconditioner(v)
    preconditioner.refresh(w)
    yield f"preconditioner {name} refreshed", preconditioner.together([v, w.astype(objective.dtype), v])


def objectives(sx):
    """The objectives of arrays."""
    from softmax_ext.objective import BinomialObjective

    for (N, D, K), dtype in itertools.product(SHAPES, (F4, F8)):
        X, y, Y, _, _, s, c = problem(N, D, K, dtype)
        y[: min(N, K)] = np.arange(K)[: min(N, K)]
        y[-1] = K - 1
        name = f"{N}x{D}x{K} {dtype}"
        yield from evaluations(sx.SoftmaxObjective(X, y, l2=0.01, K=K), name)
        weighted = sx.SoftmaxObjective(X, y, sample_weight=s, class_weight=c, fit_intercept=False, m=7.0, K=K)
        yield from evaluations(weighted, f"{name} weights")
        yield from evaluations(
            sx.SoftmaxObjective(np.asfortranarray(X), Y, l2=1e-3), f"{name} probabilities", preconditioned=False
        )
        if K == 2:
            yield from evaluations(BinomialObjective(X, y, l2=0.01, sample_weight=s), f"{name} binomial")
    for (N, D, K), dtype in itertools.product([(900, 40, 2)], (F4, F8)):
        _, y, _, _, _, s, _ = problem(N, 1, K, dtype)
        for intercept in (True, False):
            objective = BinomialObjective(csr(N, D, dtype), y, l2=0.1, sample_weight=s, fit_intercept=intercept)
            yield from evaluations(objective, f"binomial csr {dtype} {intercept}")


def heads(sx):
    """linear_cross_entropy."""
    shapes = [(1, 1, 2), (64, 20, 10), (500, 33, 130), (300, 256, 1000), (4000, 64, 40)]
    for (N, D, K), dtype in itertools.product(shapes, (F4, F8)):
        X, y, Y, W, b, _, c = problem(N, D, K, dtype)
        ignored = y.copy()
        ignored[1::5] = -100
        name = f"linear_cross_entropy {N}x{D}x{K} {dtype}"
        everything = {"z_loss": 0.01, "softcap": 5.0, "label_smoothing": 0.1, "weight": c, "grad_input": True}
        for what, target, keywords in (
            ("labels", y, {}),
            ("ignored", ignored, {"linear_bias": b, "grad_input": True}),
            ("everything", ignored, {"linear_bias": b, **everything}),
            ("probabilities", Y, {"linear_bias": b, "weight": c, "grad_input": True}),
            ("none", ignored, {"reduction": "none", "softcap": 3.0}),
            ("sum", ignored, {"reduction": "sum", "weight": c, "grad": False, "z_loss": 0.1}),
            ("dX alone", y, {"grad": False, "grad_input": True, "linear_bias": b}),
        ):
            yield f"{name} {what}", sx.linear_cross_entropy(X, W, target, **keywords)
            if N <= 500:
                yield f"{name} {what} fortran", sx.linear_cross_entropy(np.asfortranarray(X), W, target, **keywords)
    X, y, _, W, b, *_ = problem(60, 20, 10, F4)
    yield (
        "linear_cross_entropy axes",
        sx.linear_cross_entropy(X.reshape(3, 20, 20), W, y.reshape(3, 20), linear_bias=b, grad_input=True),
    )


def scores(sx):
    """The functions of scores that exist already."""
    rng = np.random.default_rng(0)
    shapes = [
        (1,),
        (10,),
        (300,),
        (50, 1),
        (100, 3),
        (33, 10),
        (200, 128),
        (100, 129),
        (20, 5000),
        (7, 10, 11),
        (700_000,),
    ]
    for shape, dtype in itertools.product(shapes, (F4, F8, np.dtype(np.float16))):
        x = (rng.standard_normal(shape) * 10).astype(dtype)
        odd = x.copy()
        odd.flat[:: max(1, x.size // 7)] = [np.nan, np.inf, -np.inf, 700, -700, 0, 1][:1] * len(
            odd.flat[:: max(1, x.size // 7)]
        )
        odd.flat[-1] = np.inf
        orders = {"c": x, "odd": odd, "fortran": np.asfortranarray(x), "reversed": x[::-1]}
        if x.ndim == 2:
            orders["columns"] = np.asfortranarray(np.concatenate([x, x], axis=1))[:, 1::2]
        for (order, z), axis in itertools.product(orders.items(), (None, 0, -1, (0, -1))):
            if axis == (0, -1) and x.ndim < 3:
                continue
            for function in (sx.softmax, sx.log_softmax, sx.logsumexp):
                yield f"{function.__name__} {shape} {dtype} {order} {axis}", function(z, axis=axis)
        yield f"softmax {shape} {dtype} out", sx.softmax(x, axis=-1, out=np.empty_like(x))
        yield f"logsumexp {shape} {dtype} keepdims", sx.logsumexp(x, axis=0, keepdims=True, n_threads=3)
    for (N, K), dtype in itertools.product([(1, 2), (50, 1), (100, 3), (333, 10), (300, 200), (5000, 40)], (F4, F8)):
        Z, y, Y, _, _, _, c = problem(N, K, K, dtype)
        ignored = y.copy()
        ignored[::5] = -100
        for (order, z), reduction in itertools.product(
            {"c": Z, "fortran": np.asfortranarray(Z), "half": Z.astype(np.float16)}.items(), ("mean", "sum", "none")
        ):
            name = f"{N}x{K} {dtype} {order} {reduction}"
            for what, target, keywords in (
                ("labels", y, {}),
                ("ignored", ignored, {"weight": c}),
                ("smoothed", ignored, {"weight": c, "label_smoothing": 0.2}),
                ("probabilities", Y, {"weight": c}),
            ):
                yield f"cross_entropy {name} {what}", sx.cross_entropy(z, target, reduction=reduction, **keywords)
                yield (
                    f"cross_entropy_grad {name} {what}",
                    sx.cross_entropy_grad(z, target, reduction=reduction, n_threads=2, **keywords),
                )
        images = Z[: N // 5 * 5].reshape(-1, 5, K).transpose(0, 2, 1) if N >= 5 else None
        if images is not None:
            labels = y[: N // 5 * 5].reshape(-1, 5)
            yield f"cross_entropy_grad {N}x{K} {dtype} axes", sx.cross_entropy_grad(images, labels)
            yield f"cross_entropy_grad {N}x{K} {dtype} image", sx.cross_entropy_grad(images.copy(), labels)


def fits(sx):
    """Optimisers and the estimator."""
    import scipy.sparse

    from softmax_ext import optim
    from softmax_ext.linear_model import LogisticRegression

    rules = [
        optim.sgd(0.1),
        optim.momentum(0.05),
        optim.nesterov(0.05),
        optim.adam(),
        optim.averaged(optim.sgd(0.1), 2),
    ]
    for (N, D, K), dtype in itertools.product([(300, 5, 2), (500, 12, 5), (400, 150, 3)], (F4, F8)):
        X, y, Y, _, _, s, _ = problem(N, D, K, dtype)
        y[:K] = np.arange(K)
        name = f"{N}x{D}x{K} {dtype}"
        for i, rule in enumerate(rules):
            result = optim.fit(X, y, rule, epochs=4, batch_size=32, l2=0.01, random_state=0, sample_weight=s)
            yield f"optim.fit {name} {i}", result
        objective = sx.SoftmaxObjective(X, y, l2=0.01)
        start = np.zeros(objective.size)
        for minimiser in (optim.lbfgs, optim.newton):
            yield f"{minimiser.__name__} {name}", minimiser(objective, start, tol=1e-6)
        rows = scipy.sparse.csr_array(X * (X > 0.5))
        for what, data, target, keywords in (
            ("default", X, y, {}),
            ("sparse", rows, y, {"C": 10}),
            ("weak", X, y, {"C": 1e4, "fit_intercept": False}),
            ("balanced", X, y, {"class_weight": "balanced", "tol": 1e-8}),
            ("newton", X, y, {"solver": "newton-cg"}),
            ("none", X, y, {"C": np.inf, "max_iter": 20}),
            ("probabilities", X, Y / np.maximum(Y.sum(axis=1, keepdims=True), 1e-3), {}),
            ("sgd", X, y, {"solver": "sgd", "epochs": 3, "random_state": 0}),
            ("adam", rows, y, {"solver": "adam", "epochs": 3, "random_state": 0, "average": True}),
            ("nesterov", X, y, {"solver": "nesterov", "epochs": 5, "random_state": 0, "early_stopping": True}),
        ):
            weights = None if what == "probabilities" else s
            if what == "probabilities" and K == 2:
                continue
            model = LogisticRegression(**keywords).fit(data, target, sample_weight=weights)
            yield f"LogisticRegression {name} {what}", fitted(model, data)
        model = LogisticRegression(solver="adam", random_state=0, warm_start=True)
        for start in range(0, N, 64):
            model.partial_fit(X[start : start + 64], y[start : start + 64], classes=np.arange(K))
        yield f"partial_fit {name}", [fitted(model, X), model.get_state()]
        model = LogisticRegression(warm_start=True).fit(X, y)
        yield f"warm_start {name}", fitted(model.set_params(C=100).fit(X, y), X)
        model = LogisticRegression().fit(X, y)
        yield f"sparsified {name}", fitted(model.sparsify(), rows)


def fitted(model, X):
    """What a fit left, and what it says of X."""
    left = (
        [model.intercept_, model.n_iter_, model.loss_curve_, model.convergence_report_]
        if hasattr(model, "n_iter_")
        else []
    )
    coefficients = model.coef_ if isinstance(model.coef_, np.ndarray) else model.coef_.toarray()
    return [coefficients, *left, model.predict_proba(X), model.predict_log_proba(X), model.predict(X)]


def streams(sx):
    """Data in pieces: iterables, files, tables."""
    from softmax_ext import chunks
    from softmax_ext.linear_model import LogisticRegression

    for K, dtype in itertools.product((2, 4), (F4, F8)):
        X, y, _, _, _, s, _ = problem(600, 7, K, dtype)
        rows = csr(600, 40, dtype)

        def dense(X=X, y=y, s=s):
            for start in range(0, 600, 130):
                part = slice(start, start + 130)
                yield X[part], y[part], s[part]

        def sparse(X=rows, y=y):
            for start in range(0, 600, 250):
                yield X[start : start + 250], y[start : start + 250]

        with tempfile.TemporaryDirectory() as folder:
            for what, array in {"X": X, "y": y, "s": s}.items():
                np.save(Path(folder, f"{what}.npy"), array)
            files = chunks.from_npy(Path(folder, "X.npy"), Path(folder, "y.npy"), rows=100)
            sources = {"dense": chunks.from_iterable(dense), "sparse": chunks.from_iterable(sparse), "npy": files}
            for what, source in sources.items():
                name = f"chunks {what} {K} {dtype}"
                objective = chunks.ChunksObjective(source, l2=0.01)
                yield from evaluations(objective, name, hessian=hasattr(objective, "hessian"))
                for solver in ("lbfgs", "newton-cg", "sgd", "adam"):
                    model = LogisticRegression(solver=solver, epochs=2, random_state=0).fit(source)
                    yield f"fit {name} {solver}", fitted(model, rows if what == "sparse" else X)


def rest(sx):
    """The specification and the plans' explanations."""
    X, y, _, W, b, s, _ = problem(30, 4, 3, F8)
    yield "reference", sx.reference.loss_grad(X, y, W, b, sample_weight=s)
    for N, D, K in SHAPES + LARGE:
        for dtype in (F4, F8):
            text = sx.explain_plan(N, D, K, dtype)
            yield f"explain_plan {N} {D} {K} {dtype}", re.sub("default solver.*", "", text)
    for N, D, K in SPARSE + GROUPED:
        yield (
            f"explain_plan {N} {D} {K} sparse",
            re.sub("default solver.*", "", sx.explain_plan(N, D, K, F4, nnz=9 * N)),
        )


PARTS = [passes, sparse_passes, objectives, heads, scores, fits, streams, rest]


def leaves(value):
    """Yield everything that a result is made of, as bytes."""
    if value is None or isinstance(value, str | bool):
        yield repr(value).encode()
    elif isinstance(value, dict):
        for key in sorted(value):
            yield key.encode()
            yield from leaves(value[key])
    elif isinstance(value, tuple | list):
        for each in value:
            yield from leaves(each)
    elif hasattr(value, "__dataclass_fields__"):
        yield from leaves({name: getattr(value, name) for name in value.__dataclass_fields__})
    else:
        array = np.asarray(value)
        assert array.dtype != object, f"{type(value)} has no bits"
        # By value, not by layout; and a NaN is a NaN.
        yield f"{array.dtype} {array.shape}".encode()
        yield np.where(np.isnan(array), np.nan, array).tobytes() if array.dtype.kind == "f" else array.tobytes()


def run(root, only):
    """Print a line for each call: a digest and its name."""
    sys.path.insert(0, root)
    import softmax_ext as sx

    assert Path(sx.__file__).is_relative_to(root), f"{sx.__file__} was imported, not {root}"
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    for part in PARTS:
        if only and part.__name__ not in only:
            continue
        for name, result in part(sx):
            digest = hashlib.sha256()
            for leaf in leaves(result):
                digest.update(leaf)
            print(digest.hexdigest(), part.__name__, name, flush=True)


def calls(root, isa, only):
    """Start a build's process, and return it."""
    command = [sys.executable, "-P", __file__, "--run", str(Path(root).resolve()), *only]
    # OpenBLAS adds in another order for another number of threads, and its products are in some results.
    env = os.environ | {"SOFTMAX_EXT_ISA": isa, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def compare(roots, isa, only):
    """Return how many calls were compared, and what differs, as lines."""
    processes = [calls(root, isa, only) for root in roots]
    count, differing = 0, []
    for lines in itertools.zip_longest(*(process.stdout for process in processes), fillvalue="nothing\n"):
        count += 1
        if lines[0] != lines[1]:
            names = dict.fromkeys(line.partition(" ")[2].strip() or "nothing" for line in lines)
            differing.append(f"{isa}: {' | '.join(names)}")
    ended = [process.wait() for process in processes]
    return count, differing + [f"{isa}: {roots} ended with {ended}"] * any(ended)


def main():
    """Compare, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2)
    parser.add_argument("isa", nargs="*", default=[])
    parser.add_argument("--only", nargs="+", default=[], choices=[part.__name__ for part in PARTS])
    options = parser.parse_args()
    levels = options.isa
    if not levels:
        code = "import softmax_ext as s; c = s.show_config(); print(*(i for i in c.isa_built if i in c.isa_supported))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=options.builds[0], capture_output=True, text=True, check=True
        )
        levels = done.stdout.split()
    wrong = 0
    for isa in levels:
        count, differing = compare(options.builds, isa, options.only)
        print(f"{isa}: {count} calls, {len(differing)} differ", *differing[:40], sep="\n    ", flush=True)
        wrong += len(differing)
    return wrong > 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
