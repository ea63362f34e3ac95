"""Data of Ray and Spark as chunks: the ways that docs/scale.md shows, with the engines themselves."""

import importlib.util
import shutil

import numpy as np
import pytest

from softmax_ext import chunks

pytest.importorskip("sklearn", "1.6")

from softmax_ext.linear_model import LogisticRegression

pytestmark = [
    pytest.mark.slow,
    pytest.mark.thread_unsafe(reason="an engine is one for the process"),
    pytest.mark.filterwarnings("ignore"),  # those of the engines
]


def problem(N=1000, D=4, K=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    return X, (X @ rng.standard_normal((D, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)


def assert_same_fit(data, X, y):
    """Chunks of the same sizes give the same bits from any source, each time."""
    first, again = (LogisticRegression(tol=1e-10).fit(data) for _ in range(2))
    np.testing.assert_array_equal(first.coef_, again.coef_)
    np.testing.assert_allclose(first.coef_, LogisticRegression(tol=1e-10).fit(X, y).coef_, atol=1e-8)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'ray[data]'")
def test_batches_of_ray_are_chunks():
    import ray

    X, y = problem()
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        ray.data.DataContext.get_current().execution_options.preserve_order = True
        dataset = ray.data.from_numpy(np.column_stack([X, y])).repartition(3).map_batches(lambda batch: batch)

        def batches():
            for batch in dataset.iter_batches(batch_size=256, batch_format="numpy"):
                yield batch["data"][:, :-1], batch["data"][:, -1].astype(np.int64)

        assert_same_fit(chunks.from_iterable(batches), X, y)
    finally:
        ray.shutdown()


@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="pyspark or Java is not installed: pip install pyspark, apt install default-jre-headless",
)
@pytest.mark.parametrize("way", ["Parquet", "rows"])
def test_frames_of_spark_are_chunks(way, tmp_path):
    from pyspark.sql import SparkSession

    X, y = problem()
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    try:
        rows = [(*map(float, x), int(label)) for x, label in zip(X, y, strict=True)]
        frame = session.createDataFrame(rows, ["a", "b", "c", "d", "label"]).repartition(3)
        if way == "Parquet":
            frame.write.parquet(str(tmp_path / "table"))
            assert_same_fit(chunks.from_parquet(str(tmp_path / "table" / "*.parquet"), "label"), X, y)
            return
        kept = frame.cache()  # so that each pass has the same rows in the same order

        def batches():
            rows = kept.toLocalIterator(prefetchPartitions=True)
            while some := [tuple(row) for _, row in zip(range(256), rows, strict=False)]:
                table = np.array(some)
                yield table[:, :-1], table[:, -1].astype(np.int64)

        assert_same_fit(chunks.from_iterable(batches), X, y)
    finally:
        session.stop()
