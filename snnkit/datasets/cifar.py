"""CIFAR-10 and CIFAR-100, as their archives unpack."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import PathLike, check_digest
from .folders import find
from .images import Images, Pair

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
"""Of CIFAR-10, in label order."""

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
}
"""md5 of the published files."""

_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""What an array in a pickle is made of."""


def cifar10(root: PathLike | None = None) -> Images:
    """CIFAR-10: 50,000 and 10,000 images uint8 [N, 3, 32, 32].

    Raises `DataError` where a file is missing, damaged or holds something else, `ChecksumError` where it is
    not the published one.
    """
    folder = find(root, "cifar-10-batches-py")
    pairs = [_read(folder, f"data_batch_{k}", "labels") for k in range(1, 6)]
    return Images(
        train=(np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])),
        test=_read(folder, "test_batch", "labels"),
        classes=list(CLASSES),
    )


def cifar100(root: PathLike | None = None) -> Images:
    """CIFAR-100 with its 100 fine labels. Raises as `cifar10` does."""
    folder = find(root, "cifar-100-python")
    classes = [str(c) for c in _unpickle(folder, "meta")["fine_label_names"]]
    train, test = (_read(folder, part, "fine_labels") for part in ("train", "test"))
    return Images(train=train, test=test, classes=classes)


def _read(folder: Path, name: str, key: str) -> Pair:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N] of one file; `key` is what it calls its labels."""
    content = _unpickle(folder, name)
    if "data" not in content or key not in content:
        raise DataError(f"{folder / name} has {sorted(content)}, expected data and {key}.")
    x = np.asarray(content["data"])
    if x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072:
        raise DataError(f"{folder / name}: data is {x.dtype} {list(x.shape)}, expected uint8 [N, 3072].")
    return x.reshape(-1, 3, 32, 32), np.asarray(content[key], np.int64)


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
