"""The demo's data: scikit-learn's handwritten digits, and Fashion-MNIST from its IDX files."""

import gzip
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FASHION_MNIST_FOLDER = "/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts it
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

IDX_UNSIGNED_BYTE = 0x08


class DatasetError(Exception):
    """Raised where a data set is missing or damaged, with a message of one line for the user."""


class Dataset(NamedTuple):
    """A split set of images, each flattened to a row and scaled to [0, 1], with the names of its classes."""

    X_train: NDArray[np.float32]
    y_train: NDArray[np.integer]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.integer]
    image: tuple[int, int]
    classes: tuple[str, ...]


def digits(seed: int) -> Dataset:
    """Return scikit-learn's 1797 handwritten digits; `seed` draws the stratified quarter that is held out.

    Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI repository (1998).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)  # a pixel counts the dark cells of a 4 x 4 block
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    return Dataset(X_train, y_train, X_test, y_test, (8, 8), tuple("0123456789"))


def fashion_mnist(seed: int) -> Dataset:
    """Return Fashion-MNIST with its own split into 60000 and 10000 images; `seed` is not used.

    The files are looked for in the folder that the environment variable FASHION_MNIST names, or, if it is not set,
    where Debian's package puts them. Source: H. Xiao, K. Rasul and R. Vollgraf, arXiv:1708.07747 (2017).

    Raises
    ------
    DatasetError
        If a file is missing, damaged, or not one of this data set.
    """
    folder = Path(os.environ.get("FASHION_MNIST") or FASHION_MNIST_FOLDER)
    X_train, y_train = _images_and_labels(folder, "train")
    X_test, y_test = _images_and_labels(folder, "t10k")
    return Dataset(X_train, y_train, X_test, y_test, (28, 28), FASHION_MNIST_CLASSES)


DATASETS: dict[str, Callable[[int], Dataset]] = {"digits": digits, "fashion-mnist": fashion_mnist}


def _images_and_labels(folder: Path, part: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    images_path, labels_path = _find(folder, f"{part}-images-idx3-ubyte"), _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.shape[1:] != (28, 28):
        raise DatasetError(f"{images_path}: an array of shape {images.shape}, not images of 28 x 28 pixels")
    if labels.shape != images.shape[:1]:
        raise DatasetError(f"{labels_path}: an array of shape {labels.shape}, not {len(images)} labels, one per image")
    if labels.size == 0 or labels.max() > 9:
        raise DatasetError(f"{labels_path}: labels must be 0 to 9, the largest is {labels.max(initial=0)}")
    return np.divide(images.reshape(len(images), -1), 255, dtype=np.float32), labels


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.exists():
            return path
    raise DatasetError(
        f"Fashion-MNIST: no {name}.gz in {folder}; on Debian: apt-get install dataset-fashion-mnist; "
        "elsewhere: set FASHION_MNIST to the folder that holds the four files"
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped if its name ends in ``.gz``.

    The format (Y. LeCun, "The MNIST database"): two zero bytes, the type 0x08, the number of dimensions, each size as
    a big-endian 32-bit number, then the elements, last dimension fastest.

    Raises
    ------
    DatasetError
        If the file cannot be read, has another format, or has fewer or more bytes than its header says.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: {error}") from error
    ndim = data[3] if len(data) > 3 else 0
    header = 4 + 4 * ndim
    if data[:3] != bytes([0, 0, IDX_UNSIGNED_BYTE]) or ndim == 0:
        raise DatasetError(f"{path}: not an IDX file of unsigned bytes, begins with {data[:4].hex(' ') or 'nothing'}")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4))
    size = header + math.prod(shape)
    if len(data) != size:
        raise DatasetError(f"{path}: {len(data)} bytes, but a header and an array of shape {shape} take {size}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
