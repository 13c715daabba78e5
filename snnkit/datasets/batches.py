"""Recordings in steps, given out as dense batches: `Binned` from spikes, `Frames` from analogue input.

A batch is flat, [T, B, N], whatever the `shape` of one step is: spikes, augmentation, Graphs and the engine
all number neurons in one row. A network of images asks `shape` and takes ``x.unflatten(2, shape)``, which
copies nothing: neuron n is the n-th value of [C, H, W], row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np

from ..errors import ParameterError, ShapeError
from ..events import EventBatch
from ..memory import visited
from .packed import Packed, read_of, taken


def told(classes: Sequence[str], dt: float, shape: Sequence[int]) -> str:
    """The classes, the first of them by name, step and shape of data in one line."""
    some = ", ".join(map(str, classes[:5])) + ", …" * (len(classes) > 5)
    return f"{len(classes)} classes ({some}), steps of {dt:g} ms, each of shape {list(shape)}"


@dataclass(repr=False)
class Binned:
    """Recordings in steps of `dt` ms.

    spikes    where the spikes lie, which `subset` never copies; values are counts, or None where binary
    labels    int64 [B]
    speakers  int64 [B]; −1 where unknown
    classes   names in label order
    dt        ms
    channels  number of input neurons
    dropped   spikes that `steps` cut off
    shape     of one step, (N,) or (C, H, W), of `channels` values; () stands for (channels,)
    rows      int64 [B]: recording b is number ``rows[b]`` of `spikes`; None: all of them, in their order

    Raises `ShapeError` for a shape of another number of values.
    """

    spikes: EventBatch | Packed
    labels: np.ndarray
    speakers: np.ndarray
    classes: list[str]
    dt: float
    channels: int
    name: str = ""
    dropped: int = 0
    shape: tuple[int, ...] = ()
    rows: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.shape = fitting_shape(self.name, self.shape, self.channels)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{self.name}: {len(self)} recordings; {told(self.classes, self.dt, self.shape)}"

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each recording: up to and with its last spike. int64 [B]"""
        return self.spikes.lengths if self.rows is None else self.spikes.lengths[self.rows]

    @property
    def events(self) -> EventBatch:
        """The spikes of these recordings.

        16 bytes each, made anew at each call unless `spikes` is an `EventBatch` of just these recordings:
        where there are many, take them by `subset`.
        """
        if self.rows is None and isinstance(self.spikes, EventBatch):
            return self.spikes
        return taken(self.spikes, self._at(np.arange(len(self))))

    def _at(self, indices: np.ndarray) -> np.ndarray:
        return indices if self.rows is None else self.rows[indices]

    def batch(
        self,
        indices: Sequence[int] | np.ndarray,
        steps: int | None = None,
        augment: Callable[[EventBatch], EventBatch] | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Dense x float32 [T, B, N], lengths int64 [B] and labels int64 [B] of these recordings.

        T is `steps`, or the longest of the recordings; shorter ones end in zeros. `augment` changes the
        recordings' spikes first (`snnkit.datasets.augment`).

        Raises `ParameterError` for recordings that there are not, or that are longer than `steps`.
        """
        rows = _rows(indices, len(self), self.name)
        at = self._at(rows)
        spikes: EventBatch | Packed = self.spikes
        if augment is not None:
            spikes = augment(taken(spikes, at))
            at = np.arange(len(spikes))
        lengths, values = spikes.lengths[at], spikes.values
        longest = _longest(lengths, steps)
        x: np.ndarray = np.zeros((steps or longest, len(rows), self.channels), np.float32)
        _scatter(
            spikes.times,
            spikes.neurons,
            _NO_VALUES if values is None else values,
            values is not None,
            spikes.offsets[at],
            spikes.offsets[at + 1],
            x,
        )
        read_of(spikes, at)
        return x, lengths, self.labels[rows]

    def subset(self, indices: Sequence[int] | np.ndarray) -> Binned:
        """The recordings `indices` [R] (or bool [B]) alone, in this order; the spikes are not copied."""
        rows = _rows(indices, len(self), self.name)
        return replace(self, labels=self.labels[rows], speakers=self.speakers[rows], rows=self._at(rows))

    @property
    def occupancy(self) -> float:
        """Share of (step, channel) cells within the recordings' lengths that hold a spike."""
        cells = int(self.lengths.sum()) * self.channels
        return self.filled / cells if cells else 0.0

    @property
    def filled(self) -> int:
        """Number of (step, channel) cells that hold a spike."""
        rows, offsets = self._at(np.arange(len(self))), self.spikes.offsets
        return int((offsets[rows + 1] - offsets[rows]).sum())

    @property
    def total(self) -> float:
        """What the spikes add up to: their number, each with its count."""
        parts = (
            self.subset(range(start, min(start + 1024, len(self)))).events
            for start in range(0, len(self), 1024)
        )
        return float(sum(len(e.times) if e.values is None else e.values.sum(dtype=np.float64) for e in parts))


@dataclass(repr=False)
class Frames:
    """Recordings as analogue frames (mel spectra): `Binned` with real-valued input in every cell.

    frames       float16 or float32 [R, T, N], may lie on disk
    mean, scale  a batch holds (frames − mean) / scale
    lengths      int64 [B]
    rows         int64 [B]: recording b is ``frames[rows[b]]``
    shape        of one step, as `Binned.shape`
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
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.shape = fitting_shape(self.name, self.shape, self.channels)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{self.name}: {len(self)} recordings; {told(self.classes, self.dt, self.shape)}"

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
        longest = _longest(lengths, steps)
        at = rows if self.rows is None else self.rows[rows]
        order = np.argsort(at, kind="stable")  # in the order of the file, in case it lies on disk
        x: np.ndarray = np.zeros((steps or longest, len(rows), self.channels), np.float32)
        x[:longest, order] = self.frames[at[order], :longest].transpose(1, 0, 2)
        visited(self.frames, len(at), len(at) * longest * self.channels * self.frames.itemsize)
        x = (x - np.float32(self.mean)) / np.float32(self.scale)
        x[np.arange(len(x))[:, None] >= lengths[None, :]] = 0
        if augment is not None:
            changed = augment(EventBatch.from_dense(x, lengths))
            x, lengths = changed.to_dense(steps), changed.lengths
        return x, lengths, self.labels[rows]

    def subset(self, indices: Sequence[int] | np.ndarray) -> Frames:
        """The recordings `indices` [R] alone, in this order; the frames themselves are not copied."""
        rows = _rows(indices, len(self), self.name)
        return replace(
            self,
            lengths=self.lengths[rows],
            labels=self.labels[rows],
            speakers=self.speakers[rows],
            rows=rows if self.rows is None else self.rows[rows],
        )


Data = Binned | Frames


def fitting_shape(name: str, shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """`shape`, or (channels,) for (). Raises `ShapeError` unless it has `channels` values."""
    shape = tuple(int(n) for n in shape) or (channels,)
    if math.prod(shape) != channels:
        raise ShapeError(
            f"{name or 'data'}: a step of shape {list(shape)} has {math.prod(shape)} values, but there are "
            f"{channels} channels."
        )
    return shape


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


def _longest(lengths: np.ndarray, steps: int | None) -> int:
    longest = int(lengths.max(initial=0))
    if steps is not None and steps < longest:
        raise ParameterError(f"batch: steps = {steps}, but a recording of it has {longest} steps.")
    return longest


_NO_VALUES = np.ones(1, np.float32)


@numba.njit(cache=True, nogil=True)
def _scatter(times, neurons, values, weighted, starts, stops, x):  # type: ignore[no-untyped-def]
    """Computes `EventBatch.to_dense` of the spikes starts[b]:stops[b] into column b of x [T, B, N]."""
    for b in range(len(starts)):
        for e in range(starts[b], stops[b]):
            x[times[e], b, neurons[e]] += values[e] if weighted else np.float32(1)
