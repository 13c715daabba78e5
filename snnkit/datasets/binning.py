"""Events → steps: counts of spikes per step and channel, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from ..errors import DataError, ParameterError
from ..files import atomic_h5, cache_folder, open_h5
from .batches import Binned
from .event_data import EventDataset
from .packed import Packed, narrow

_log = logging.getLogger("snnkit.datasets")
_VERSION = 1  # part of the cache's key: raise it when binning gives other numbers
_CELLS = 1 << 24  # cells of the dense scratch array that a chunk of recordings may use


def bin_events(
    dataset: EventDataset,
    dt: float = 10.0,
    channels: int | None = None,
    *,
    binary: bool = False,
    steps: int | None = None,
    duration: float | None = None,
    cache: bool = True,
) -> Binned:
    """Count the spikes of every step and channel.

    A spike at t µs belongs to step ⌊t / (1000·dt)⌋. `channels` neurons are left: neighbours
    ``dataset.channels / channels`` at a time are summed. A recording's length is the step of its last
    spike plus one, at most `steps`; spikes after that are counted in `dropped`. A width 1000·dt within
    10⁻⁶ µs of a whole number of µs is that number. Channels of a sensor with a shape (C, H, W) are not
    summed to fewer.

    dt        ms
    binary    1 where there was at least one spike, instead of the count
    duration  ms that every recording lasts: shorter ones end in silence, later spikes are dropped
    cache     keep the result under `files.cache_folder()` (only for a dataset that has a `key`)

    Raises `ParameterError` for a `dt`, `channels` or `steps` that cannot be, `DataError` for a recording
    that cannot be.
    """
    if channels is None:
        channels = dataset.channels
    elif len(dataset.shape) > 1 and channels != dataset.channels:
        raise ParameterError(
            f"channels = {channels}, but {dataset.name} has the shape {list(dataset.shape)}; leave channels "
            f"out, or take {dataset.channels}."
        )
    if not (isinstance(dt, int | float) and math.isfinite(dt) and dt >= 0.001):
        raise ParameterError(f"dt = {dt} ms; it must be a number of at least 0.001 ms (1 µs).")
    if channels < 1 or dataset.channels % channels:
        fitting = [n for n in range(1, dataset.channels + 1) if dataset.channels % n == 0]
        raise ParameterError(
            f"{dataset.channels} channels can't be summed to {channels}: take one of {fitting[-8:]}."
        )
    if steps is not None and steps < 1:
        raise ParameterError(f"steps = {steps}; it must be at least 1, or None for all.")
    if duration is not None:
        if not (math.isfinite(duration) and duration >= dt):
            raise ParameterError(f"duration = {duration} ms; it must be at least one step of {dt} ms.")
        last = math.ceil(duration / dt - 1e-9)
        steps = last if steps is None else min(steps, last)
    floor = None if duration is None else steps
    if dataset.transform is not None or dataset.key is None or not cache:
        return _bin(dataset, dt, channels, binary, steps, floor)
    settings = {
        "version": _VERSION if _kept_by_version_1(dt) else 2,
        "source": dataset.key,
        "dt": float(dt),
        "channels": channels,
        "binary": binary,
        "steps": steps,
        "rows": None
        if len(dataset) == len(dataset.store) and (np.diff(dataset.rows) == 1).all()
        else hashlib.sha256(dataset.rows.astype("<i8").tobytes()).hexdigest(),
    }
    if floor is not None:
        settings["at_least"] = floor
    text = json.dumps(settings, sort_keys=True)
    path = cache_folder() / "binned" / f"{dataset.name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.h5"
    if path.is_file():
        try:
            return _load(path, dataset, dt)
        except DataError as error:
            _log.warning("%s is made anew: %s", path, error)
    pieces = _pieces(dataset, dt, channels, binary, steps, floor)
    try:
        _save(path, pieces, dataset, channels, text)
        return _load(path, dataset, dt)
    except _Unkept as error:
        _log.warning("the binned events are not kept: %s", error)
        return _bin(dataset, dt, channels, binary, steps, floor)


def _kept_by_version_1(dt: float) -> bool:
    """Whether version 1 of the cache, which divided by ``dt * 1000``, binned this width as now."""
    return _width(dt) == dt * 1000


def _width(dt: float) -> int | float:
    """Length of a step of `dt` ms, µs: a whole number where the product misses one by its rounding."""
    width = dt * 1000
    return round(width) if abs(width - round(width)) < 1e-6 else width


class _Unkept(Exception):
    """The cache could not be written."""


def _bin(
    dataset: EventDataset, dt: float, channels: int, binary: bool, steps: int | None, floor: int | None
) -> Binned:
    """`bin_events` without looking on disk, all of it in memory."""
    pieces = list(_pieces(dataset, dt, channels, binary, steps, floor))
    spikes = Packed.joined([piece for piece, _ in pieces], channels)
    if not binary and spikes.values is None:  # there are no recordings
        spikes = replace(spikes, values=np.zeros(0, np.uint8))
    return _binned(dataset, spikes, dt, sum(dropped for _, dropped in pieces))


def _pieces(
    dataset: EventDataset, dt: float, channels: int, binary: bool, steps: int | None, floor: int | None
) -> Iterator[tuple[Packed, int]]:
    """The recordings in steps, a chunk at a time, and how many spikes of the chunk were dropped.

    floor  steps that a recording has at least
    """
    pool = dataset.channels // channels
    width = _width(dt)
    lo, chunk = 0, 64
    while lo < len(dataset):
        part = np.arange(lo, min(lo + chunk, len(dataset)))
        t, x, per = _transformed(dataset, part) if dataset.transform is not None else dataset.read(part)
        step = t // width if isinstance(width, int) else np.floor(t / width).astype(np.int64)
        sample = np.repeat(np.arange(len(part)), per)
        dropped = 0
        if steps is not None:
            late = step >= steps
            dropped = int(late.sum())
            step, x, sample = step[~late], x[~late], sample[~late]
        last = np.zeros(len(part), np.int64)
        np.maximum.at(last, sample, step)
        if floor is not None:
            last = np.maximum(last, floor - 1)
        if dataset.durations is not None:
            until = np.ceil(dataset.durations[part] / width - 1e-9).astype(np.int64) - 1
            last = np.maximum(last, until if steps is None else np.minimum(until, steps - 1))
        longest = int(last.max(initial=0)) + 1
        cell = (sample * longest + step) * channels + x // pool
        size = len(part) * longest * channels
        if size <= 4 * _CELLS:
            count = np.bincount(cell, minlength=size)
            full = np.flatnonzero(count)
            count = count[full]
        else:
            full, count = np.unique(cell, return_counts=True)
        counts = np.bincount(full // (longest * channels), minlength=len(part))
        yield (
            Packed(
                times=narrow(full // channels % longest),
                neurons=narrow(full % channels),
                values=None if binary else narrow(count),
                offsets=np.concatenate([[0], np.cumsum(counts)]),
                lengths=last + 1,
                size=channels,
            ),
            dropped,
        )
        lo += len(part)
        chunk = int(np.clip(_CELLS // (longest * channels), 1, 512))


def _binned(dataset: EventDataset, spikes: Packed, dt: float, dropped: int) -> Binned:
    return Binned(
        spikes=spikes,
        labels=dataset.labels,
        speakers=dataset.speakers,
        classes=dataset.classes,
        dt=dt,
        channels=spikes.size,
        name=dataset.name,
        shape=dataset.shape if spikes.size == dataset.channels else (),
        dropped=dropped,
    )


def _transformed(dataset: EventDataset, part: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`EventDataset.read` with the dataset's transform applied to each recording of `part`."""
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


def _save(
    path: Path, pieces: Iterator[tuple[Packed, int]], dataset: EventDataset, channels: int, settings: str
) -> None:
    """Write the cache, a piece in memory at a time; raises `_Unkept` where the disk refuses.

    The spikes are spilled to unnamed files beside `path` first: the datasets are contiguous, for `mapped`,
    and how long and how wide they are is known at the end only.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = {
                name: _Column(stack.enter_context(tempfile.TemporaryFile(dir=path.parent)))
                for name in ("times", "neurons", "values")
            }
        except OSError as error:
            raise _Unkept(f"{path} could not be written ({error}).") from error
        counts, lengths, dropped = [], [], 0
        for piece, late in pieces:
            counts.append(np.diff(piece.offsets))
            lengths.append(piece.lengths)
            dropped += late
            try:
                for name, column in columns.items():
                    column.append(getattr(piece, name))
            except OSError as error:
                raise _Unkept(f"{path} could not be written ({error}).") from error
        try:
            with atomic_h5(path) as file:
                for name, column in columns.items():
                    column.write(file, name)
                file["offsets"] = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
                file["lengths"] = np.concatenate(lengths)
                file["labels"], file["speakers"] = dataset.labels, dataset.speakers
                file.attrs["channels"], file.attrs["dropped"] = channels, dropped
                file.attrs["settings"] = settings
        except (DataError, OSError) as error:
            raise _Unkept(str(error)) from error


class _Column:
    """Arrays end to end in an unnamed file, each of its own integer type."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.pieces, self.count, self.dtype = 0, 0, np.dtype(np.uint8)

    def append(self, array: np.ndarray | None) -> None:
        if array is not None:
            np.save(self.file, array)
            self.pieces, self.count = self.pieces + 1, self.count + len(array)
            self.dtype = np.promote_types(self.dtype, array.dtype)

    def write(self, file: h5py.File, name: str) -> None:
        """The whole as a contiguous dataset of the widest type; nothing where there is none."""
        if not self.pieces:
            return
        data = file.create_dataset(name, (self.count,), self.dtype)
        self.file.seek(0)
        start = 0
        for _ in range(self.pieces):
            piece = np.load(self.file)
            data[start : start + len(piece)] = piece
            start += len(piece)


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
    spikes = Packed(
        times=arrays["times"],
        neurons=arrays["neurons"],
        values=values,
        offsets=offsets,
        lengths=lengths,
        size=channels,
    )
    return _binned(dataset, spikes, dt, dropped)


def mapped(path: Path, data: h5py.Dataset) -> np.ndarray:
    """A contiguous dataset as memory-mapped array of its shape and type, for reading only.

    Processes that train side by side share its pages.
    """
    offset = data.id.get_offset()
    if offset is None or data.size == 0:
        return data[()]
    return np.asarray(np.memmap(path, data.dtype, "r", offset, data.shape))
