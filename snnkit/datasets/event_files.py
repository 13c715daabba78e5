"""Labelled event recordings as files, in the HDF5 layout of the Heidelberg datasets.

The layout (Cramer et al. 2020): ``spikes/times`` (seconds) and ``spikes/units`` are variable-length, one row
a recording; ``labels``; ``extra/speaker``; ``extra/keys`` (the classes' names, in label order);
``extra/meta_info``. Files written here also carry attributes that say how they were made.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import DataError, ShapeError
from ..events import EventBatch
from ..files import PathLike, atomic_h5, open_h5
from .batches import Binned, Data
from .event_data import CHANNELS, EventDataset, Transform
from .labels import whole_numbers
from .splits import PARTS, Splits


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
        neurons = (
            whole_numbers(np.concatenate(units), f"{self.path}, units")
            if len(rows)
            else np.zeros(0, np.int64)
        )
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


def _whole(path: Path, file: h5py.File, name: str) -> np.ndarray:
    try:
        content = file[name][()]
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: {name!r} can't be read ({error}); fetch the file again.") from error
    return whole_numbers(content, f"{path}: {name}")


def read_events(
    path: PathLike, *, transform: Transform | None = None, target_transform: Transform | None = None
) -> EventDataset:
    """The recordings of a file in the Heidelberg layout.

    Raises `DataError` naming what is missing, damaged or of another length; the events themselves are
    checked when they are read.
    """
    store = FileStore(path)
    return EventDataset(
        store=store,
        rows=np.arange(len(store)),
        labels=store.labels,
        speakers=store.speakers,
        classes=store.classes,
        channels=int(store.attributes.get("channels", CHANNELS)),
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
    columns: dict[str, np.ndarray] | None = None,
) -> None:
    """Write recordings as one HDF5 file in the Heidelberg layout, whole or not at all.

    spikes      per recording, times (s) and channels; may be a generator, is never held as a whole.
                Times are kept as float32, rounded up, so that a spike on the border of a step does not
                fall into the step before
    labels      [B], 0 ≤ label < len(classes); speakers [B]
    classes     names in label order
    columns     further facts of each recording, [B]; kept as ``extra/NAME``
    attributes  how the file was made; a dictionary in it is kept as JSON

    Raises `ShapeError` where spikes, labels and speakers are not equally many, `DataError` naming the first
    recording with a time or channel that cannot be; what was at `path` is kept then.
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
        for name, column in (columns or {}).items():
            file[f"extra/{name}"] = column
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


def write_splits(path: PathLike, splits: Splits) -> None:
    """Write all parts of a data set as one file of this layout, which ``load("events", file=path)`` reads.

    A spike lies in the middle of its step. Columns of their own are ``extra/part`` (0 train, 1 valid, 2
    test), ``extra/duration`` (ms) and ``extra/names`` (of the speakers); attributes are channels, shape, dt.
    Read with the same dt, without summing channels, the parts are the same again.

    Raises `DataError` for parts that are no counts of spikes (frames), or that have no classes.
    """
    parts: dict[str, Data] = {part: getattr(splits, part) for part in splits.parts}
    for part, data in parts.items():
        if data.labels.ndim > 1 or data.labels.dtype.kind not in "iu":
            raise DataError(f"{splits.name}: the targets of {part} are no classes; they can't be written.")
        if not isinstance(data, Binned) or not all(_whole_counts(e.values) for e in _by_the_hundred(data)):
            raise DataError(
                f"{splits.name}: {part} holds values that are no counts of spikes (mel frames, images); only "
                "spikes can be written."
            )

    def spikes() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for data in parts.values():
            for events in itertools.chain.from_iterable(_by_the_hundred(data)):
                count = 1 if events.values is None else events.values.astype(np.int64)
                times = (np.repeat(events.times, count) + 0.5) * (data.dt / 1000)
                yield times, np.repeat(events.neurons, count)

    whole = {key: np.concatenate([getattr(d, key) for d in parts.values()]) for key in ("labels", "speakers")}
    names = splits.speaker_names
    known = sorted(n for n in np.unique(whole["speakers"]) if n >= 0)
    place = {int(n): k for k, n in enumerate(known)}
    columns = {
        "part": np.repeat([PARTS.index(p) for p in parts], [len(d) for d in parts.values()]).astype(np.uint8),
        "duration": np.concatenate([d.lengths * d.dt for d in parts.values()]),
        "names": np.array([names.get(int(n), str(n)).encode() for n in known] or [b""]),
    }
    write_events(
        path,
        spikes(),
        whole["labels"],
        np.array([place.get(int(s), -1) for s in whole["speakers"]], np.int64),
        splits.classes,
        channels=splits.channels,
        attributes={"shape": splits.shape, "dt": splits.dt, "source": splits.name},
        columns=columns,
    )


def _by_the_hundred(data: Data) -> Iterator[EventBatch]:
    """The spikes of all recordings, which may lie on disk, of some in memory at a time."""
    for start in range(0, len(data), 100):
        yield data.subset(range(start, min(start + 100, len(data)))).events


def _whole_counts(values: np.ndarray | None) -> bool:
    return values is None or bool(((values >= 1) & (values == np.rint(values))).all())
