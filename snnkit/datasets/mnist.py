"""MNIST and Fashion-MNIST, as torchvision leaves them on disk."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import PathLike, check_digest
from .folders import find
from .images import Images

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

MD5 = {
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


def mnist(root: PathLike | None = None) -> Images:
    """Handwritten digits: 60,000 and 10,000 images uint8 [N, 1, 28, 28].

    Raises `DataError` where a file is missing, damaged or holds something else, `ChecksumError` where it is
    not the published one.
    """
    return _read(find(root, "MNIST/raw"), [str(digit) for digit in range(10)])


def fashion_mnist(root: PathLike | None = None) -> Images:
    """Pictures of clothes in the sizes of `mnist`. Raises as it does."""
    return _read(find(root, "FashionMNIST/raw"), list(FASHION_CLASSES))


def _read(folder: Path, classes: list[str]) -> Images:
    parts = []
    for stem in ("train", "t10k"):
        x = _idx(folder, f"{stem}-images-idx3-ubyte", 3)
        parts.append((x[:, None], _idx(folder, f"{stem}-labels-idx1-ubyte", 1).astype(np.int64)))
    return Images(train=parts[0], test=parts[1], classes=classes)


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
