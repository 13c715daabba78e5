"""Images as arrays, for the compression of time steps: `load(name)` gives train, valid and test."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import pickle
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import ChecksumError, DataError, ParameterError, require
from ..files import PathLike, check_digest, open_h5
from .recordings import search_path

NAMES = ("cifar10_subset", "cifar10", "cifar100", "mnist", "fashion_mnist", "digits")
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

MD5 = {
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
    "MNIST/raw/train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "MNIST/raw/train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "MNIST/raw/t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "MNIST/raw/t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    "FashionMNIST/raw/train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "FashionMNIST/raw/train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "FashionMNIST/raw/t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""md5 of the published files; unpacked IDX files have none and are held by their sizes."""

_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ImageSplits:
    """Images [N, C, H, W] (uint8 0..255, or float32 0..1 for "digits") with labels int64 [N].

    valid    a share of the published training images, stratified by class
    mean     float64 [C], of train alone, in 0..1
    std      float64 [C]
    """

    train: Pair
    valid: Pair
    test: Pair
    classes: list[str]
    mean: np.ndarray
    std: np.ndarray
    name: str = ""

    def normalised(self, part: str) -> Pair:
        """Images of "train", "valid" or "test" as float32, mean 0 and deviation 1 a channel over train."""
        x, y = getattr(self, part)
        mean, std = (a.astype(np.float32).reshape(1, -1, 1, 1) for a in (self.mean, self.std))
        return (_unit(x) - mean) / std, y


def load(
    name: str,
    root: PathLike | None = None,
    *,
    valid_fraction: float = 0.1,
    limit: int | None = None,
    seed: int = 0,
) -> ImageSplits:
    """Images by name: "cifar10_subset", "cifar10", "cifar100", "mnist", "fashion_mnist", "digits".

    root            folder with the files as torchvision leaves them (``cifar-10-batches-py``,
                    ``cifar-100-python``, ``MNIST/raw``, ``FashionMNIST/raw``) or with
                    ``cifar10/cifar10_subset.h5``; None: ``SNNKIT_DATA``, then the cache.
                    "digits" is in scikit-learn and needs none
    valid_fraction  of every class of train, drawn with `seed`
    limit           at most so many images of every class, in train and in test
    """
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, 1)
        raise ParameterError(
            f"unknown images {name!r}; known are {', '.join(NAMES)}"
            + (f", did you mean {near[0]!r}?" if near else ".")
        )
    if not 0 < valid_fraction < 1:
        raise ParameterError(f"valid_fraction = {valid_fraction}; it must lie between 0 and 1.")
    if limit is not None and limit < 2:
        raise ParameterError(f"limit = {limit}; it must be at least 2, one to train on and one to validate.")
    if name == "digits":
        train, test, classes = _digits()
    elif name == "cifar10_subset":
        train, test, classes = _cifar10_subset(_find(root, "cifar10_subset.h5", "cifar10"))
    elif name in ("cifar10", "cifar100"):
        train, test, classes = _cifar(name, root)
    else:
        train, test, classes = _mnist(name, root)
    for part, (x, y) in (("train", train), ("test", test)):
        if len(x) != len(y):
            raise DataError(f"{name}: {len(x)} {part} images and {len(y)} labels should be equally many.")
        if len(y) and not 0 <= y.min() <= y.max() < len(classes):
            raise DataError(
                f"{name}: {part} labels run from {y.min()} to {y.max()}, expected 0..{len(classes) - 1}."
            )
    if limit is not None:
        train, test = _limited(train, limit), _limited(test, limit)
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(train[1]), bool)
    for label in np.unique(train[1]):
        rows = rng.permutation(np.flatnonzero(train[1] == label))
        taken[rows[: max(1, round(valid_fraction * len(rows)))]] = True
    x, y = train
    kept: Pair = (x[~taken], y[~taken])
    mean, std = _moments(kept[0])
    return ImageSplits(kept, (x[taken], y[taken]), test, classes, mean, std, name)


def _unit(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation a channel, exactly also for 50,000 images: by counts of the 256 values."""
    if x.dtype == np.uint8:
        share = np.stack([np.bincount(x[:, c].reshape(-1), minlength=256) for c in range(x.shape[1])])
        share = share / share.sum(axis=1, keepdims=True)
        level = np.arange(256) / 255
        mean = share @ level
        return mean, np.sqrt((share * (level - mean[:, None]) ** 2).sum(axis=1))
    wide = x.astype(np.float64)
    return wide.mean(axis=(0, 2, 3)), wide.std(axis=(0, 2, 3))


def _limited(pair: Pair, limit: int) -> Pair:
    x, y = pair
    rows = np.sort(np.concatenate([np.flatnonzero(y == label)[:limit] for label in np.unique(y)]))
    return x[rows], y[rows]


def _find(root: PathLike | None, name: str, *below: str) -> Path:
    folders = search_path(root, *below)
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise DataError(f"{name} is in none of {', '.join(map(str, folders))}; set root or SNNKIT_DATA.")


def _digits() -> tuple[Pair, Pair, list[str]]:
    """scikit-learn's 1,797 handwritten digits of 8×8; every fifth is the test part."""
    bunch = require("sklearn.datasets", "dev").load_digits()
    x = (bunch.images / 16).astype(np.float32)[:, None]
    y = bunch.target.astype(np.int64)
    test = np.arange(len(y)) % 5 == 4
    return (x[~test], y[~test]), (x[test], y[test]), [str(d) for d in range(10)]


def _cifar10_subset(path: Path) -> tuple[Pair, Pair, list[str]]:
    """20,000 training and 10,000 test images of CIFAR-10 from JPEG copies: not the original pixels."""
    parts: dict[str, Pair] = {}
    with open_h5(path) as file:
        for part in ("train", "test"):
            try:
                coded: h5py.Dataset = file[f"{part}/images_residual"]
                x, y = coded[:], file[f"{part}/labels"][:].astype(np.int64)
                expected = coded.attrs.get("sha256_decoded")
                classes = str(file.attrs["classes"]).split(",")
            except (KeyError, OSError, RuntimeError) as error:
                raise DataError(f"{path}: the {part} part can't be read ({error}).") from error
            x = np.cumsum(np.cumsum(x, axis=2, dtype=np.uint8), axis=3, dtype=np.uint8)
            x[:, 0] += x[:, 1]  # red and blue are kept less green
            x[:, 2] += x[:, 1]
            if expected is not None:
                found = hashlib.sha256(x.tobytes()).hexdigest()
                if found != expected:
                    raise ChecksumError(
                        f"{path}: sha256 of the decoded {part} images is {found}, expected {expected}; the "
                        "file is damaged."
                    )
            parts[part] = (x, y)
    return parts["train"], parts["test"], classes


class _OnlyArrays(pickle.Unpickler):
    """Reads CIFAR's pickles: dictionaries, lists, numbers, text and arrays, and nothing that runs code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAYS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of images")


def _unpickle(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise DataError(f"{path} is missing; unpack the whole archive of CIFAR into {folder.parent}.")
    expected = MD5.get(f"{folder.name}/{name}")
    if expected is not None:
        check_digest(path, expected, "md5")
    try:
        content = _OnlyArrays(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise DataError(f"{path} is no file of CIFAR images ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, expected a dictionary.")
    return content


def _cifar(name: str, root: PathLike | None) -> tuple[Pair, Pair, list[str]]:
    folder = _find(root, "cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")
    if name == "cifar10":
        names, key = [f"data_batch_{k}" for k in range(1, 6)], "labels"
        classes = list(CIFAR10_CLASSES)
    else:
        names, key = ["train"], "fine_labels"
        meta = _unpickle(folder, "meta")
        classes = [str(c) for c in meta["fine_label_names"]]
    test_name = "test_batch" if name == "cifar10" else "test"

    def read(file: str) -> Pair:
        content = _unpickle(folder, file)
        if "data" not in content or key not in content:
            raise DataError(f"{folder / file} has {sorted(content)}, expected data and {key}.")
        x = np.asarray(content["data"])
        if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072:
            raise DataError(f"{folder / file}: data is {x.dtype} {list(x.shape)}, expected uint8 [N, 3072].")
        return x.reshape(-1, 3, 32, 32), np.asarray(content[key], np.int64)

    pairs = [read(file) for file in names]
    train = (np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))
    return train, read(test_name), classes


def _mnist(name: str, root: PathLike | None) -> tuple[Pair, Pair, list[str]]:
    folder = _find(root, "MNIST/raw" if name == "mnist" else "FashionMNIST/raw")
    parts = []
    for stem in ("train", "t10k"):
        x = _idx(folder, f"{stem}-images-idx3-ubyte", 3)
        parts.append((x[:, None], _idx(folder, f"{stem}-labels-idx1-ubyte", 1).astype(np.int64)))
    classes = [str(d) for d in range(10)] if name == "mnist" else list(FASHION_CLASSES)
    return parts[0], parts[1], classes


def _idx(folder: Path, name: str, axes: int) -> np.ndarray:
    """An array of bytes in the IDX format: magic 0, 0, 8, number of axes; sizes, big endian; values."""
    plain, packed = folder / name, folder / f"{name}.gz"
    path = plain if plain.is_file() else packed
    if not path.is_file():
        raise DataError(f"{plain} is missing, and so is {packed.name}.")
    expected_md5 = MD5.get(f"{folder.parent.name}/raw/{path.name}")
    if expected_md5 is not None:
        check_digest(path, expected_md5, "md5")
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path is packed else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be unpacked ({error}); fetch it again.") from error
    head = 4 + 4 * axes
    if len(raw) < head or raw[:4] != bytes([0, 0, 8, axes]):
        raise DataError(f"{path} is no IDX file of bytes with {axes} axes: it begins with {raw[:4].hex()}.")
    shape = struct.unpack(f">{axes}I", raw[4:head])
    expected = head + int(np.prod(shape, dtype=np.int64))
    if len(raw) != expected:
        raise DataError(f"{path} has {len(raw)} bytes, expected {expected} for the shape {shape}.")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)
