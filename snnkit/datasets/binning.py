"""Events → steps: counts of spikes per step and channel, kept on disk, given out as batches."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np

from ..errors import DataError, ParameterError
from ..events import EventBatch
from ..files import atomic_h5, cache_folder, open_h5
from .event_data import EventDataset, ranges

_log = logging.getLogger("snnkit.datasets")
_VERSION = 1  # part of the cache's key: raise it when binning gives other numbers
_CELLS = 1 << 24  # cells of the dense scratch array that a chunk of recordings may use


@dataclass
class Binned:
    """Recordings in steps of `dt` ms.

    events    spikes of all recordings; values are counts, or None where binary
    labels    int64 [B]
    speakers  int64 [B]; −1 where unknown
    classes   names in label order
    dt        ms
    channels  number of input neurons
    dropped   spikes that `steps` cut off
    """

    events: EventBatch
    labels: np.ndarray
    speakers: np.ndarray
    classes: list[str]
    dt: float
    channels: int
    name: str = ""
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each recording: up to and with its last spike. int64 [B]"""
        return self.events.lengths

    def batch(
        self,
        indices: Sequence[int] | np.ndarray,
        steps: int | None = None,
        augment: Callable[[EventBatch], EventBatch] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Dense x float32 [T, B, N], lengths int64 [B] and labels int64 [B] of these recordings.

        T is `steps`, or the longest of the recordings; shorter ones end in zeros. `augment` changes the
        recordings' spikes first (`snnkit.datasets.augment`).
        """
        if augment is not None:
            changed = self.subset(indices)
            changed.events = augment(changed.events)
            return changed.batch(np.arange(len(changed)), steps)
        rows = _rows(indices, len(self), self.name)
        lengths = self.events.lengths[rows]
        longest = int(lengths.max(initial=0))
        if steps is not None and steps < longest:
            raise ParameterError(f"batch: steps = {steps}, but a recording of it has {longest} steps.")
        x: np.ndarray = np.zeros((steps or longest, len(rows), self.channels), np.float32)
        values = self.events.values
        _scatter(
            self.events.times,
            self.events.neurons,
            _NO_VALUES if values is None else values,
            values is not None,
            self.events.offsets[rows],
            self.events.offsets[rows + 1],
            x,
        )
        return x, lengths, self.labels[rows]

    def subset(self, indices: Sequence[int] | np.ndarray) -> Binned:
        """These recordings alone, in this order."""
        rows = _rows(indices, len(self), self.name)
        counts = self.events.offsets[rows + 1] - self.events.offsets[rows]
        index = ranges(self.events.offsets[rows], counts)
        events = EventBatch(
            self.events.times[index],
            self.events.neurons[index],
            np.concatenate([[0], np.cumsum(counts)]),
            self.events.lengths[rows],
            self.channels,
            None if self.events.values is None else self.events.values[index],
        )
        return Binned(
            events,
            self.labels[rows],
            self.speakers[rows],
            self.classes,
            self.dt,
            self.channels,
            self.name,
            self.dropped,
        )

    @property
    def occupancy(self) -> float:
        """Share of (step, channel) cells within the recordings' lengths that hold a spike."""
        cells = int(self.events.lengths.sum()) * self.channels
        return len(self.events.times) / cells if cells else 0.0


@dataclass
class Frames:
    """Recordings as analogue frames (mel spectra): `Binned` with real-valued input in every cell.

    frames       float16 or float32 [R, T, N], may lie on disk
    mean, scale  a batch holds (frames − mean) / scale
    lengths      int64 [B]
    rows         int64 [B]: recording b is ``frames[rows[b]]``
    """

    frames: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    classes: list[str]
    dt: float
    channels: int
    name: str = ""
    mean: float = 0.0
    scale: float = 1.0
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def events(self) -> EventBatch:
        """The frames as spikes that carry values; made anew at each call, so keep it small by `subset`."""
        return EventBatch.from_dense(self.batch(np.arange(len(self)))[0], self.lengths)

    def batch(
        self,
        indices: Sequence[int] | np.ndarray,
        steps: int | None = None,
        augment: Callable[[EventBatch], EventBatch] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Dense x float32 [T, B, N], lengths and labels, as `Binned.batch`."""
        rows = _rows(indices, len(self), self.name)
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        if steps is not None and steps < longest:
            raise ParameterError(f"batch: steps = {steps}, but a recording of it has {longest} steps.")
        at = rows if self.rows is None else self.rows[rows]
        order = np.argsort(at, kind="stable")  # in the order of the file, in case it lies on disk
        x: np.ndarray = np.zeros((steps or longest, len(rows), self.channels), np.float32)
        x[:longest, order] = self.frames[at[order], :longest].transpose(1, 0, 2)
        x = (x - np.float32(self.mean)) / np.float32(self.scale)
        x[np.arange(len(x))[:, None] >= lengths[None, :]] = 0
        if augment is not None:
            changed = augment(EventBatch.from_dense(x, lengths))
            x, lengths = changed.to_dense(steps), changed.lengths
        return x, lengths, self.labels[rows]

    def subset(self, indices: Sequence[int] | np.ndarray) -> Frames:
        """These recordings alone, in this order; the frames themselves are not copied."""
        rows = _rows(indices, len(self), self.name)
        return replace(
            self,
            lengths=self.lengths[rows],
            labels=self.labels[rows],
            speakers=self.speakers[rows],
            rows=rows if self.rows is None else self.rows[rows],
        )


def bin_events(
    dataset: EventDataset,
    dt: float = 10.0,
    channels: int | None = None,
    *,
    binary: bool = False,
    steps: int | None = None,
    cache: bool = True,
) -> Binned:
    """Count the spikes of every step and channel.

    A spike at t µs belongs to step ⌊t / (1000·dt)⌋. `channels` neurons are left: neighbours
    ``dataset.channels / channels`` at a time are summed. A recording's length is the step of its last
    spike plus one, at most `steps`; spikes after that are counted in `dropped`.

    dt        ms
    binary    1 where there was at least one spike, instead of the count
    cache     keep the result under `files.cache_folder()` (only for a dataset that has a `key`)
    """
    channels = dataset.channels if channels is None else channels
    if not (isinstance(dt, int | float) and math.isfinite(dt) and dt >= 0.001):
        raise ParameterError(f"dt = {dt} ms; it must be a number of at least 0.001 ms (1 µs).")
    if channels < 1 or dataset.channels % channels:
        fitting = [n for n in range(1, dataset.channels + 1) if dataset.channels % n == 0]
        raise ParameterError(
            f"{dataset.channels} channels can't be summed to {channels}: take one of {fitting[-8:]}."
        )
    if steps is not None and steps < 1:
        raise ParameterError(f"steps = {steps}; it must be at least 1, or None for all.")
    if dataset.transform is not None or dataset.key is None or not cache:
        return _bin(dataset, dt, channels, binary, steps)
    settings = {
        "version": _VERSION,
        "source": dataset.key,
        "dt": float(dt),
        "channels": channels,
        "binary": binary,
        "steps": steps,
        "rows": None
        if len(dataset) == len(dataset.store) and (np.diff(dataset.rows) == 1).all()
        else hashlib.sha256(dataset.rows.astype("<i8").tobytes()).hexdigest(),
    }
    text = json.dumps(settings, sort_keys=True)
    path = cache_folder() / "binned" / f"{dataset.name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.h5"
    if path.is_file():
        try:
            return _load(path, dataset, dt)
        except DataError as error:
            _log.warning("%s is made anew: %s", path, error)
    binned = _bin(dataset, dt, channels, binary, steps)
    try:
        _save(path, binned, text)
    except DataError as error:
        _log.warning("the binned events are not kept: %s", error)
    return binned


def _bin(dataset: EventDataset, dt: float, channels: int, binary: bool, steps: int | None) -> Binned:
    pool = dataset.channels // channels
    width = dt * 1000  # µs
    times, neurons, values, counts, lengths = [], [], [], [], []
    dropped = 0
    lo, chunk = 0, 64
    while lo < len(dataset):
        part = np.arange(lo, min(lo + chunk, len(dataset)))
        t, x, per = _transformed(dataset, part) if dataset.transform is not None else dataset.read(part)
        step = (t // int(width)) if width == int(width) else np.floor(t / width).astype(np.int64)
        sample = np.repeat(np.arange(len(part)), per)
        if steps is not None:
            late = step >= steps
            dropped += int(late.sum())
            step, x, sample = step[~late], x[~late], sample[~late]
        last = np.zeros(len(part), np.int64)
        np.maximum.at(last, sample, step)
        longest = int(last.max(initial=0)) + 1
        cell = (sample * longest + step) * channels + x // pool
        size = len(part) * longest * channels
        if size <= 4 * _CELLS:
            count = np.bincount(cell, minlength=size)
            full = np.flatnonzero(count)
            count = count[full]
        else:
            full, count = np.unique(cell, return_counts=True)
        times.append(full // channels % longest)
        neurons.append((full % channels).astype(np.int32))
        if not binary:
            values.append(count.astype(np.float32))
        counts.append(np.bincount(full // (longest * channels), minlength=len(part)))
        lengths.append(last + 1)
        lo += len(part)
        chunk = int(np.clip(_CELLS // (longest * channels), 1, 512))
    events = EventBatch(
        np.concatenate(times or [np.zeros(0, np.int64)]),
        np.concatenate(neurons or [np.zeros(0, np.int32)]),
        np.concatenate([[0], np.cumsum(np.concatenate(counts))] if counts else [[0]]),
        np.concatenate(lengths or [np.zeros(0, np.int64)]),
        channels,
        None if binary else np.concatenate(values or [np.zeros(0, np.float32)]),
    )
    return Binned(
        events, dataset.labels, dataset.speakers, dataset.classes, dt, channels, dataset.name, dropped
    )


def _transformed(dataset: EventDataset, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    events = [dataset[int(i)][0] for i in part]
    for i, e in zip(part, events, strict=True):
        if getattr(getattr(e, "dtype", None), "names", None) is None:
            raise ParameterError(
                f"{dataset.name}, recording {i}: the transform gave {type(e).__name__}, not events; "
                "only events can be binned."
            )
    return (
        np.concatenate([e["t"] for e in events]).astype(np.int64),
        np.concatenate([e["x"] for e in events]).astype(np.int64),
        np.array([len(e) for e in events], np.int64),
    )


def _save(path: Path, binned: Binned, settings: str) -> None:
    e = binned.events
    with atomic_h5(path) as file:
        for name in ("times", "neurons", "offsets", "lengths"):
            file[name] = getattr(e, name)
        if e.values is not None:
            file["values"] = e.values
        file["labels"], file["speakers"] = binned.labels, binned.speakers
        file.attrs["channels"], file.attrs["dropped"] = binned.channels, binned.dropped
        file.attrs["settings"] = settings


def _load(path: Path, dataset: EventDataset, dt: float) -> Binned:
    with open_h5(path) as file:
        try:
            arrays = {name: mapped(path, file[name]) for name in ("times", "neurons")}
            values = mapped(path, file["values"]) if "values" in file else None
            channels, dropped = int(file.attrs["channels"]), int(file.attrs["dropped"])
            offsets, lengths = file["offsets"][:], file["lengths"][:]
        except (KeyError, OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}).") from error
    if len(lengths) != len(dataset) or offsets[-1] != len(arrays["times"]):
        raise DataError(f"{path} has {len(lengths)} recordings, expected {len(dataset)}.")
    events = EventBatch(arrays["times"], arrays["neurons"], offsets, lengths, channels, values)
    return Binned(
        events, dataset.labels, dataset.speakers, dataset.classes, dt, channels, dataset.name, dropped
    )


def mapped(path: Path, data: h5py.Dataset) -> np.ndarray:
    """A contiguous dataset as memory-mapped array: processes that train side by side share its pages."""
    offset = data.id.get_offset()
    if offset is None or data.size == 0:
        return data[()]
    return np.memmap(path, data.dtype, "c", offset, data.shape)


def _rows(indices: Any, count: int, name: str) -> np.ndarray:
    rows = np.asarray(indices)
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)
    rows = rows.astype(np.int64).reshape(-1)
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise ParameterError(
            f"{name or 'batch'}: indices {rows.min()}..{rows.max()} exceed its {count} recordings."
        )
    return rows


_NO_VALUES = np.ones(1, np.float32)


@numba.njit(cache=True, nogil=True)
def _scatter(times, neurons, values, weighted, starts, stops, x):  # type: ignore[no-untyped-def]
    """Computes `EventBatch.to_dense` of the spikes starts[b]:stops[b] into column b of x [T, B, N]."""
    for b in range(len(starts)):
        for e in range(starts[b], stops[b]):
            x[times[e], b, neurons[e]] += values[e] if weighted else np.float32(1)
