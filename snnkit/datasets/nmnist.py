"""N-MNIST: handwritten digits that an event camera saw in three saccades, 34 × 34 pixels, two polarities.

Orchard, Jayawant, Cohen and Thakor, "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using
Saccades", Frontiers in Neuroscience 9, 2015.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files import PathLike, open_h5, stamp, with_suffix
from .event_data import ArrayStore, EventDataset, Parted
from .folders import search_path
from .given import flat_events
from .own_events import read_bin
from .stores import OneByOne, View

SHAPE = (2, 34, 34)
CLASSES = [str(k) for k in range(10)]
PACKED = "nmnist_small.h5"


def nmnist(
    root: PathLike | None = None,
    *,
    downsample: int = 1,
    polarity: bool = True,
    events_per_step: int | None = None,
    dt: float = 10.0,
) -> Parted:
    """The original folders ``Train/0/*.bin`` … and ``Test/…``, else the packed small set (1,000 + 100).

    Looked for under `root`, else ``SNNKIT_DATA`` and the cache, there and in ``nmnist`` and tonic's
    ``NMNIST``. See `stores.View` for downsample, polarity and events_per_step.

    Raises `DataError` where it is nowhere, and for a damaged file.
    """
    folders = search_path(root, "nmnist", "NMNIST")
    for folder in folders:
        if (folder / "Train").is_dir() and (folder / "Test").is_dir():
            whole, part = _from_folders(folder)
            break
        if (folder / PACKED).is_file():
            whole, part = _packed(folder / PACKED)
            break
    else:
        raise DataError(
            f"no Train and Test folders of .bin files, and no {PACKED}, in {', '.join(map(str, folders))}. "
            "Get N-MNIST from https://www.garrickorchard.com/datasets/n-mnist, unpack it there, or set root."
        )
    rows = {name: np.flatnonzero(part == k) for k, name in enumerate(("train", "test"))}
    view = View(downsample=downsample, polarity=polarity, events_per_step=events_per_step, dt=dt)
    return Parted(data=view.of(whole), rows=rows, names={})


def _from_folders(folder: Path) -> tuple[EventDataset, np.ndarray]:
    """All recordings, and 0 (train) or 1 (test) for each."""
    files = [with_suffix(folder, f"{name}/[0-9]/*", (".bin",)) for name in ("Train", "Test")]
    if not all(files):
        raise DataError(f"{folder}: Train/0/ … Train/9/ and Test/0/ … should hold .bin files.")
    paths = [*files[0], *files[1]]

    def one(row: int) -> np.ndarray:
        return flat_events(read_bin(paths[row]), SHAPE, "zero", str(paths[row]))

    data = _dataset(
        OneByOne(len(paths), one, str(folder)),
        np.array([int(p.parent.name) for p in paths]),
        f"{len(files[0])}|{stamp(paths)}",
    )
    return data, np.repeat([0, 1], [len(files[0]), len(files[1])])


def _packed(path: Path) -> tuple[EventDataset, np.ndarray]:
    names = ("times", "x", "y", "p", "offset", "label", "part")
    with open_h5(path) as file:
        if missing := [name for name in names if name not in file]:
            raise DataError(f"{path} has no {missing[0]!r}; expected {', '.join(names)}.")
        try:
            t, x, y, p, offsets, labels, part = (file[name][()].astype(np.int64) for name in names)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{path} can't be read, it is damaged ({error}).") from error
    wrong = (x >= SHAPE[2]) | (y >= SHAPE[1]) | (p >= SHAPE[0])
    if wrong.any():
        raise DataError(f"{path}: event {int(np.argmax(wrong))} is outside {list(SHAPE)}.")
    store = ArrayStore(t, (p * SHAPE[1] + y) * SHAPE[2] + x, offsets, str(path))
    return _dataset(store, labels, stamp([path])), part


def _dataset(store: ArrayStore | OneByOne, labels: np.ndarray, key: str) -> EventDataset:
    return EventDataset(
        store=store,
        rows=np.arange(len(labels)),
        labels=labels,
        speakers=np.full(len(labels), -1),
        classes=CLASSES,
        channels=math.prod(SHAPE),
        shape=SHAPE,
        allow_empty=True,
        name="nmnist",
        key=key,
    )
