"""Spikes in the narrowest integers that hold them: how a data set keeps them, in memory or on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..events import EventBatch
from ..memory import visited
from .event_data import ranges


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """Spikes of R recordings as in an `EventBatch`, of any integer type: mostly 3 to 5 bytes a spike, not 16.

    times, neurons  [E], may be memory maps
    values          [E] of any type; None means 1 everywhere
    offsets         int64 [R+1]
    lengths         int64 [R]
    size            number of neurons
    """

    times: np.ndarray
    neurons: np.ndarray
    values: np.ndarray | None
    offsets: np.ndarray
    lengths: np.ndarray
    size: int

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, events: EventBatch) -> Packed:
        """The same spikes, narrow."""
        return cls(
            times=narrow(events.times),
            neurons=narrow(events.neurons),
            values=None if events.values is None else narrow(events.values),
            offsets=events.offsets,
            lengths=events.lengths,
            size=events.size,
        )

    @classmethod
    def joined(cls, parts: Sequence[Packed], size: int) -> Packed:
        """The recordings of all parts, one after the other."""
        weighted = any(part.values is not None for part in parts)
        ones = [np.ones(len(p.times), np.uint8) if p.values is None else p.values for p in parts]
        counts = [np.diff(part.offsets) for part in parts]
        return cls(
            times=_end_to_end([part.times for part in parts]),
            neurons=_end_to_end([part.neurons for part in parts]),
            values=_end_to_end(ones) if weighted else None,
            offsets=np.concatenate([[0], np.cumsum(_end_to_end(counts), dtype=np.int64)]),
            lengths=_end_to_end([part.lengths for part in parts]).astype(np.int64),
            size=size,
        )


def _end_to_end(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays or [np.zeros(0, np.uint8)])


def narrow(numbers: np.ndarray) -> np.ndarray:
    """`numbers` as uint8, uint16 or uint32, the first that holds them all; as they are where none does."""
    if numbers.size == 0:
        return numbers.astype(np.uint8)
    low, high = numbers.min(), numbers.max()
    for dtype in (np.uint8, np.uint16, np.uint32):
        if low >= 0 and high <= np.iinfo(dtype).max:
            small = numbers.astype(dtype)
            exact = numbers.dtype.kind in "iu" or np.array_equal(small, numbers)
            return small if exact else numbers
    return numbers


def taken(spikes: EventBatch | Packed, rows: np.ndarray) -> EventBatch:
    """The spikes of the recordings `rows` [R], in this order; they alone are read."""
    counts = spikes.offsets[rows + 1] - spikes.offsets[rows]
    index = ranges(spikes.offsets[rows], counts)
    values = None if spikes.values is None else spikes.values[index]
    if values is not None and values.dtype.kind != "f":
        values = values.astype(np.float32)
    batch = EventBatch(
        times=spikes.times[index],
        neurons=spikes.neurons[index],
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        lengths=spikes.lengths[rows],
        size=spikes.size,
        values=values,
    )
    read_of(spikes, rows)
    return batch


def read_of(spikes: EventBatch | Packed, rows: np.ndarray) -> None:
    """Tell what was read where the spikes lie on disk: else all of it would be resident after an epoch."""
    count = int((spikes.offsets[rows + 1] - spikes.offsets[rows]).sum())
    for array in (spikes.times, spikes.neurons, spikes.values):
        if array is not None:
            visited(array, len(rows), count * array.itemsize)
