"""Labelled event recordings: what a dataset of spikes is here, and the HDF5 layout they are kept in.

The layout is that of the Heidelberg datasets (Cramer et al. 2020): ``spikes/times`` (seconds) and
``spikes/units`` are variable-length, one row a recording; ``labels``; ``extra/speaker``;
``extra/keys`` (the classes' names, in label order); ``extra/meta_info``. Files written here also
carry attributes that say how they were made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from ..errors import DataError, ParameterError, ShapeError
from ..events import EVENT_DTYPE
from ..files import PathLike, atomic_h5, open_h5

CHANNELS = 700
"""Channels of the cochlea of SHD and SSC."""

Transform = Callable[[Any], Any]


class Store(Protocol):
    """Where the events of recordings lie."""

    def __len__(self) -> int:
        """Number of recordings."""

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Events of these recordings, end to end: times int64 (µs), neurons int64, events of each."""

    def where(self, row: int) -> str:
        """How an error names the recording."""


class EventDataset:
    """Recordings of spikes with labels: ``dataset[i] -> (events, label)``.

    `events` is a structured array t (µs, int64), x (channel, int32), p (always 1), as tonic has
    them, so its transforms apply (`sensor_size` is what they ask for).

    labels    int64 [len]   0 ≤ label < len(classes)
    speakers  int64 [len]   who spoke; −1 where unknown
    classes   names in label order
    channels  number of channels
    key       identifies the content for caches; None: not cached
    """

    dtype = EVENT_DTYPE
    ordering = EVENT_DTYPE.names

    def __init__(
        self,
        store: Store,
        labels: np.ndarray,
        speakers: np.ndarray,
        classes: Sequence[str],
        channels: int = CHANNELS,
        *,
        name: str,
        key: str | None = None,
        rows: np.ndarray | None = None,
        transform: Transform | None = None,
        target_transform: Transform | None = None,
    ) -> None:
        self.store = store
        self.name = name
        self.key = key
        self.classes = list(classes)
        self.channels = channels
        self.sensor_size = (channels, 1, 1)
        self.rows = np.arange(len(store)) if rows is None else np.asarray(rows, np.int64)
        self.labels = np.asarray(labels, np.int64)[self.rows]
        self.speakers = np.asarray(speakers, np.int64)[self.rows]
        self.transform = transform
        self.target_transform = target_transform
        wrong = (self.labels < 0) | (self.labels >= len(self.classes))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise DataError(
                f"{store.where(int(self.rows[i]))}: label {self.labels[i]} is outside "
                f"0..{len(self.classes) - 1} ({len(self.classes)} classes)."
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} recordings, no number {index}")
        times, neurons, _ = self.read(np.array([index]))
        events: Any = np.empty(len(times), EVENT_DTYPE)
        events["t"], events["x"], events["p"] = times, neurons, 1
        label: Any = int(self.labels[index])
        if self.transform is not None:
            events = self.transform(events)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return events, label

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"{self.name}: {len(self)} recordings, {len(self.classes)} classes, {self.channels} channels"

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Checked events of several recordings end to end: times (µs), neurons, events of each.

        Raises `DataError` on a recording without events and on a neuron outside 0..channels−1.
        """
        rows = self.rows[indices]
        times, neurons, counts = self.store.read(rows)
        if (counts == 0).any():
            row = int(rows[np.argmax(counts == 0)])
            raise DataError(f"{self.store.where(row)}: it has no events; a recording needs at least one.")
        wrong = (neurons < 0) | (neurons >= self.channels)
        if wrong.any():
            e = int(np.argmax(wrong))
            row = int(rows[np.searchsorted(np.cumsum(counts), e, side="right")])
            raise DataError(
                f"{self.store.where(row)}: unit {neurons[e]} is outside 0..{self.channels - 1} "
                f"({self.channels} channels)."
            )
        return times, neurons, counts

    def subset(self, indices: np.ndarray) -> EventDataset:
        """The recordings `indices` (in that order) of the same store."""
        part = object.__new__(EventDataset)
        part.__dict__.update(self.__dict__)
        indices = np.asarray(indices, np.int64)
        part.rows, part.labels, part.speakers = (
            self.rows[indices],
            self.labels[indices],
            self.speakers[indices],
        )
        return part


class FileStore:
    """Events in an HDF5 file of the Heidelberg layout, read when asked for.

    Times of any float width are cast to float64 before they are scaled to µs (truncated, as tonic
    does): in float16 a second times 10⁶ is infinite.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self._opened: tuple[int, h5py.File] | None = None
        with open_h5(self.path) as file:
            for name in ("spikes/times", "spikes/units", "labels"):
                if name not in file or not isinstance(file[name], h5py.Dataset):
                    raise DataError(
                        f"{self.path} has no dataset {name!r}; expected the layout of SHD: spikes/times, "
                        "spikes/units, labels, extra/speaker, extra/keys."
                    )
            sizes = {name: len(file[name]) for name in ("spikes/times", "spikes/units", "labels")}
            if "extra/speaker" in file:
                sizes["extra/speaker"] = len(file["extra/speaker"])
            if len(set(sizes.values())) != 1:
                raise DataError(f"{self.path}: datasets of different length: {sizes}; they should be equal.")
            self.size = sizes["labels"]
            self.labels = _whole(self.path, file, "labels")
            self.speakers = (
                _whole(self.path, file, "extra/speaker")
                if "extra/speaker" in file
                else np.full(self.size, -1, np.int64)
            )
            self.classes = (
                [k.decode() if isinstance(k, bytes) else str(k) for k in file["extra/keys"][()]]
                if "extra/keys" in file
                else [str(k) for k in range(int(self.labels.max(initial=0)) + 1)]
            )
            self.attributes = dict(file.attrs)
        stat = self.path.stat()
        self.key = str(
            self.attributes.get("key") or f"{self.path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
        )

    def __len__(self) -> int:
        return self.size

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def where(self, row: int) -> str:
        return f"{self.path}, recording {row}"

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        times, units = self._columns(rows)
        counts = np.array([len(t) for t in times], np.int64)
        for row, t, u in zip(rows, times, units, strict=True):
            if len(t) != len(u):
                raise DataError(f"{self.where(row)}: {len(t)} times and {len(u)} units should be equal.")
        seconds = np.concatenate(times).astype(np.float64) if len(rows) else np.zeros(0)
        with np.errstate(invalid="ignore"):
            wrong = ~(seconds >= 0) | np.isinf(seconds)
        if wrong.any():
            e = int(np.argmax(wrong))
            row = int(rows[np.searchsorted(np.cumsum(counts), e, side="right")])
            raise DataError(f"{self.where(row)}: time {seconds[e]} s; times must be finite and not negative.")
        neurons = np.concatenate(units).astype(np.int64) if len(rows) else np.zeros(0, np.int64)
        return (seconds * 1e6).astype(np.int64), neurons, counts

    def _columns(self, rows: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        file = self._file()
        times, units = file["spikes/times"], file["spikes/units"]
        try:
            if len(rows) and (np.diff(rows) == 1).all():
                span = slice(int(rows[0]), int(rows[-1]) + 1)
                return list(times[span]), list(units[span])
            return [times[int(r)] for r in rows], [units[int(r)] for r in rows]
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{self.path}: recordings {rows.min()} to {rows.max()} can't be read, the file is damaged "
                f"({error}). Fetch it again."
            ) from error

    def _file(self) -> h5py.File:
        # An HDF5 handle must not cross a fork: worker processes open their own.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_h5(self.path).__enter__())
        return self._opened[1]


class ArrayStore:
    """Events in memory: times int64 (µs) and neurons of all recordings end to end, offsets [len + 1]."""

    def __init__(self, times: np.ndarray, neurons: np.ndarray, offsets: np.ndarray, name: str) -> None:
        self.times, self.neurons, self.offsets, self.name = times, neurons, offsets, name
        if not len(times) == len(neurons) == offsets[-1]:
            raise ShapeError(
                f"{name}: {len(times)} times, {len(neurons)} neurons and a last offset of {offsets[-1]} "
                "should be equal."
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def where(self, row: int) -> str:
        return f"{self.name}, recording {row}"

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        counts = self.offsets[rows + 1] - self.offsets[rows]
        index = ranges(self.offsets[rows], counts)
        times = self.times[index]
        if (times < 0).any():
            row = int(rows[np.searchsorted(np.cumsum(counts), int(np.argmax(times < 0)), side="right")])
            raise DataError(f"{self.where(row)}: time {times.min()} µs; times must not be negative.")
        return times, self.neurons[index].astype(np.int64), counts


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``[s0, s0+1, …, s0+c0−1, s1, …]``: the indices of runs that start at `starts`."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


def read_events(
    path: PathLike, *, transform: Transform | None = None, target_transform: Transform | None = None
) -> EventDataset:
    """The recordings of a file in the Heidelberg layout."""
    store = FileStore(path)
    return EventDataset(
        store,
        store.labels,
        store.speakers,
        store.classes,
        int(store.attributes.get("channels", CHANNELS)),
        name=str(store.attributes.get("name", store.path.stem)),
        key=store.key,
        transform=transform,
        target_transform=target_transform,
    )


def write_events(
    path: PathLike,
    spikes: Iterable[tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray,
    speakers: np.ndarray,
    classes: Sequence[str],
    *,
    channels: int = CHANNELS,
    attributes: dict[str, Any] | None = None,
    meta_info: dict[str, Any] | None = None,
) -> None:
    """Write recordings as one HDF5 file in the Heidelberg layout, whole or not at all.

    spikes      per recording, times (s) and channels; may be a generator, is never held as a whole.
                Times are kept as float32, rounded up, so that a spike on the border of a step does not
                fall into the step before
    attributes  how the file was made; a dictionary in it is kept as JSON
    """
    count = len(labels)
    if len(speakers) != count:
        raise ShapeError(f"{path}: {count} labels and {len(speakers)} speakers should be equally many.")
    if count and not 0 <= np.min(labels) <= np.max(labels) < len(classes):
        raise DataError(
            f"{path}: labels run from {np.min(labels)} to {np.max(labels)}, expected 0..{len(classes) - 1}."
        )
    narrow = np.dtype(np.uint16 if channels <= 1 << 16 else np.uint32)
    with atomic_h5(path) as file:
        times = file.create_dataset("spikes/times", (count,), h5py.vlen_dtype(np.float32))
        units = file.create_dataset("spikes/units", (count,), h5py.vlen_dtype(narrow))
        done = 0
        for t, u in spikes:
            if done < count:
                times[done], units[done] = _checked_spikes(
                    f"{path}, recording {done}", t, u, channels, narrow
                )
            done += 1
        if done != count:
            raise ShapeError(
                f"{path}: spikes of {done} recordings and {count} labels should be equally many."
            )
        file["labels"] = np.asarray(labels, np.uint16)
        file["extra/speaker"] = np.asarray(speakers, np.int32)
        file["extra/keys"] = np.array([c.encode() for c in classes])
        about = file.create_group("extra/meta_info")
        for name, values in (meta_info or {}).items():
            about[name] = values
        file.attrs["channels"] = channels
        for name, value in (attributes or {}).items():
            file.attrs[name] = json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _checked_spikes(
    where: str, times: np.ndarray, units: np.ndarray, channels: int, narrow: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    exact, units = np.asarray(times, np.float64), np.asarray(units)
    if exact.shape != units.shape or not np.isfinite(exact).all() or (exact < 0).any():
        raise DataError(f"{where}: times must be finite, not negative, one a unit.")
    if len(units) and not 0 <= units.min() <= units.max() < channels:
        raise DataError(f"{where}: units {units.min()}..{units.max()} exceed 0..{channels - 1}.")
    short = exact.astype(np.float32)
    up = np.nextafter(short, np.float32(np.inf))
    return np.where(short < exact, up, short), units.astype(narrow)


def from_events(
    events: Sequence[np.ndarray],
    labels: Sequence[int] | np.ndarray,
    channels: int,
    *,
    classes: Sequence[str] | None = None,
    speakers: np.ndarray | None = None,
    name: str = "events",
    key: str | None = None,
) -> EventDataset:
    """A dataset in memory from structured arrays with fields t (µs) and x (channel)."""
    counts = np.array([len(e) for e in events], np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    times = np.concatenate([np.asarray(e["t"], np.int64) for e in events] or [np.zeros(0, np.int64)])
    neurons = np.concatenate([np.asarray(e["x"], np.int64) for e in events] or [np.zeros(0, np.int64)])
    marks = np.asarray(labels, np.int64)
    return EventDataset(
        ArrayStore(times, neurons, offsets, name),
        marks,
        np.full(len(events), -1) if speakers is None else speakers,
        [str(k) for k in range(int(marks.max(initial=0)) + 1)] if classes is None else classes,
        channels,
        name=name,
        key=key,
    )


def from_tonic(dataset: Any, *, name: str | None = None, limit: int | None = None) -> EventDataset:
    """Any tonic dataset as an `EventDataset`, read into memory once.

    A sensor of W×H pixels and P polarities becomes W·H·P channels: channel (p·H + y)·W + x. Labels
    are whole numbers, or names that are numbered in sorted order. The dataset's own transform, if it
    has one, must still give events.
    """
    name = name or type(dataset).__name__
    width, height, polarities = (int(n) for n in dataset.sensor_size)
    events, labels = [], []
    for i in range(len(dataset) if limit is None else min(limit, len(dataset))):
        sample, label = dataset[i]
        fields = getattr(getattr(sample, "dtype", None), "names", None) or ()
        if "t" not in fields or "x" not in fields:
            raise DataError(
                f"{name}, recording {i}: expected a structured array with fields t and x, got "
                f"{type(sample).__name__} {fields}; leave out transforms that make frames."
            )
        flat: np.ndarray = np.empty(len(sample), EVENT_DTYPE)
        x = sample["x"].astype(np.int64)
        if "y" in fields:
            x += width * sample["y"].astype(np.int64)
        if polarities > 1:
            x += width * height * sample["p"].astype(np.int64)
        flat["t"], flat["x"], flat["p"] = sample["t"], x, 1
        events.append(flat)
        labels.append(label)
    if not events:
        raise ParameterError(f"{name} has no recordings.")
    if all(isinstance(label, int | np.integer) for label in labels):
        numbers = np.array(labels, np.int64)
        given = getattr(dataset, "classes", None)
        count = int(numbers.max()) + 1
        classes = [str(k) for k in range(count)]
        if given is not None and len(given) >= count:
            classes = [c.decode() if isinstance(c, bytes) else str(c) for c in given]
    else:
        classes = sorted({str(label) for label in labels})
        numbers = np.array([classes.index(str(label)) for label in labels])
    speakers = getattr(dataset, "speaker", None)
    if speakers is not None and len(speakers) >= len(events):
        speakers = np.asarray(speakers, np.int64)[: len(events)]
    else:
        speakers = None
    return from_events(
        events, numbers, width * height * polarities, classes=classes, speakers=speakers, name=name
    )


def _whole(path: Path, file: h5py.File, name: str) -> np.ndarray:
    try:
        return np.asarray(file[name][()]).astype(np.int64)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: {name!r} can't be read ({error}); fetch the file again.") from error
