"""Images as arrays, for the compression of time steps: `load(name)` gives train, valid and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError, ParameterError
from ..files import PathLike
from .batches import Frames
from .division import share_of_each
from .recordings import first_of_each
from .table import dataset

Pair = tuple[np.ndarray, np.ndarray]
"""Images [N, C, H, W] (uint8 0..255 or float32 0..1) and labels int64 [N]."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """A data set of images as published: what a row of kind "images" reads."""

    train: Pair
    test: Pair
    classes: list[str]


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
        return (unit(x) - mean) / std, y


def load(
    name: str,
    root: PathLike | None = None,
    *,
    valid_fraction: float = 0.1,
    limit: int | None = None,
    seed: int = 0,
    **options: Any,
) -> ImageSplits:
    """Images by name, a row of kind "images" of `snnkit.datasets.DATASETS`.

    root            folder with the files as torchvision leaves them (``cifar-10-batches-py``,
                    ``cifar-100-python``, ``MNIST/raw``, ``FashionMNIST/raw``) or with
                    ``cifar10/cifar10_subset.h5``; None: ``SNNKIT_DATA``, then the cache.
                    "digits" is in scikit-learn and needs none
    valid_fraction  of every class of train, drawn with `seed`
    limit           at most so many images of every class, in train and in test
    options         of this data set alone

    Raises `ParameterError` for a name that is unknown or has no images, with the nearest, and for options out
    of their range; `DataError` for files that are missing, damaged or do not fit together.
    """
    row = dataset(name, "images")
    if not 0 < valid_fraction < 1:
        raise ParameterError(f"valid_fraction = {valid_fraction}; it must lie between 0 and 1.")
    if limit is not None and limit < 2:
        raise ParameterError(f"limit = {limit}; it must be at least 2, one to train on and one to validate.")
    images = checked(name, row.open({"root": root, "seed": seed, "limit": limit}, options))
    (x, y), test = (_limited(pair, limit) for pair in (images.train, images.test))
    taken = share_of_each(y, valid_fraction, seed)
    kept = x[~taken]
    mean, std = _moments(kept)
    return ImageSplits(
        train=(kept, y[~taken]),
        valid=(x[taken], y[taken]),
        test=test,
        classes=images.classes,
        mean=mean,
        std=std,
        name=name,
    )


def checked(name: str, images: Images) -> Images:
    """The images, or `DataError` naming a part without one label an image, or a label without a class."""
    for part, (x, y) in (("train", images.train), ("test", images.test)):
        if len(x) != len(y):
            raise DataError(f"{name}: {len(x)} {part} images and {len(y)} labels should be equally many.")
        if len(y) and not 0 <= y.min() <= y.max() < len(images.classes):
            raise DataError(
                f"{name}: {part} labels run from {y.min()} to {y.max()}, expected "
                f"0..{len(images.classes) - 1}."
            )
    return images


def unit(x: np.ndarray) -> np.ndarray:
    """Images [N, C, H, W] as float32 0..1: uint8 divided by 255, others as they are."""
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation a channel, float64 [C] each, of images [N, C, H, W].

    Exactly also for 50,000 images: uint8 by counts of the 256 values.
    """
    if x.dtype == np.uint8:
        share = np.stack([np.bincount(x[:, c].reshape(-1), minlength=256) for c in range(x.shape[1])])
        share = share / share.sum(axis=1, keepdims=True)
        level = np.arange(256) / 255
        mean = share @ level
        return mean, np.sqrt((share * (level - mean[:, None]) ** 2).sum(axis=1))
    wide = x.astype(np.float64)
    return wide.mean(axis=(0, 2, 3)), wide.std(axis=(0, 2, 3))


def _limited(pair: Pair, limit: int | None) -> Pair:
    x, y = pair
    rows = slice(None) if limit is None else first_of_each(limit, y)
    return x[rows], y[rows]


def as_frames(name: str, pair: Pair, classes: list[str], dt: float, steps: int = 1) -> Frames:
    """Images as input over time: every value, 0..1, is a channel that keeps it for `steps` steps of `dt` ms.

    A channel's number is that of its value in [C, H, W], row by row.
    """
    x, y = pair
    size = int(np.prod(x.shape[1:]))
    return Frames(
        frames=np.broadcast_to(unit(x).reshape(len(x), 1, size), (len(x), steps, size)),
        lengths=np.full(len(y), steps),
        labels=y,
        speakers=np.full(len(y), -1),
        classes=classes,
        dt=dt,
        channels=size,
        name=name,
        shape=x.shape[1:],
    )
