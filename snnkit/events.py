"""Spikes as flat arrays: the sparse form that kernels, files and the engine share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from .errors import DataError

EVENT_DTYPE = np.dtype([("t", "<i8"), ("x", "<i4"), ("p", "<i1")])
"""One recording's events as tonic has them: time in µs, neuron, polarity."""


@dataclass(repr=False)
class EventBatch:
    """Spikes of B samples, sample after sample, each sorted by time.

    times    int64   [E]  step of each spike, 0 ≤ t < lengths of its sample
    neurons  int32   [E]  which neuron, 0 ≤ n < size
    offsets  int64 [B+1]  spikes of sample b are ``offsets[b]:offsets[b + 1]``
    lengths  int64   [B]  number of steps of each sample
    size     number of neurons
    values   float32 [E]  what each spike carries; None means 1 everywhere
    """

    times: np.ndarray
    neurons: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    size: int
    values: np.ndarray | None = field(default=None)

    def __post_init__(self) -> None:
        self.times = _integers("times", self.times, np.int64)
        self.neurons = _integers("neurons", self.neurons, np.int32)
        self.offsets = _integers("offsets", self.offsets, np.int64)
        self.lengths = _integers("lengths", self.lengths, np.int64)
        if self.values is not None:
            self.values = np.ascontiguousarray(self.values)

    def __len__(self) -> int:
        return len(self.lengths)

    def __repr__(self) -> str:
        steps = f"{self.lengths.min()} to {self.lengths.max()} steps" if len(self) else "no steps"
        return f"{len(self)} samples of {steps}: {len(self.times)} spikes of {self.size} neurons"

    def __getitem__(self, b: int) -> EventBatch:
        """Sample `b` alone, as a batch of one; −1 is the last."""
        if not -len(self) <= b < len(self):
            raise IndexError(f"sample {b} of {len(self)}")
        b %= len(self)
        lo, hi = self.offsets[b], self.offsets[b + 1]
        return EventBatch(
            self.times[lo:hi],
            self.neurons[lo:hi],
            np.array([0, hi - lo]),
            self.lengths[b : b + 1],
            self.size,
            None if self.values is None else self.values[lo:hi],
        )

    def __iter__(self) -> Iterator[EventBatch]:
        return (self[b] for b in range(len(self)))

    def validate(self) -> EventBatch:
        """Return self, or raise `DataError` naming the first sample and event that is wrong."""
        if (
            len(self.offsets) != len(self.lengths) + 1
            or self.offsets[0] != 0
            or (np.diff(self.offsets) < 0).any()
        ):
            raise DataError(
                f"EventBatch: {len(self.lengths)} samples need {len(self.lengths) + 1} offsets from 0 that "
                f"never fall, got {self.offsets[:5].tolist()}… ({len(self.offsets)})."
            )
        if not len(self.times) == len(self.neurons) == self.offsets[-1]:
            raise DataError(
                f"EventBatch: {len(self.times)} times, {len(self.neurons)} neurons and a last offset "
                f"of {self.offsets[-1]} should be equal."
            )
        if self.values is not None and len(self.values) != len(self.times):
            raise DataError(f"EventBatch: {len(self.values)} values for {len(self.times)} events.")
        if self.values is not None and not np.isfinite(self.values).all():
            e = int(np.argmax(~np.isfinite(self.values)))
            raise DataError(f"EventBatch: the value of event {e} is {self.values[e]}.")
        sample = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        late = (self.times < 0) | (self.times >= self.lengths[sample])
        outside = (self.neurons < 0) | (self.neurons >= self.size)
        back = np.zeros(len(self.times), bool)
        back[1:] = (np.diff(self.times) < 0) & (np.diff(sample) == 0)
        for wrong, what in (
            (late, "has a time outside its sample's steps"),
            (outside, f"names a neuron outside 0..{self.size - 1}"),
            (back, "is earlier than the one before it; sort each sample by time"),
        ):
            if wrong.any():
                e = int(np.argmax(wrong))
                raise DataError(
                    f"EventBatch: event {e} of sample {sample[e]} (step {self.times[e]}, neuron "
                    f"{self.neurons[e]}) {what}."
                )
        return self

    @classmethod
    def from_dense(cls, x: np.ndarray, lengths: np.ndarray | None = None) -> EventBatch:
        """Spikes of a dense array ``[T, B, N]``; a value other than 1 is kept in `values`."""
        steps, batch, size = x.shape
        b, t, n = np.nonzero(x.transpose(1, 0, 2))
        if lengths is None:
            lengths = np.full(batch, steps)
        inside = t < np.asarray(lengths)[b]
        b, t, n = b[inside], t[inside], n[inside]
        values = x[t, b, n]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(b, minlength=batch))])
        return cls(t, n, offsets, lengths, size, None if (values == 1).all() else values)

    def to_dense(self, steps: int | None = None, dtype: type = np.float32) -> np.ndarray:
        """Dense ``[T, B, N]``; several spikes of a neuron in one step add up."""
        steps = int(self.lengths.max(initial=0)) if steps is None else steps
        x: np.ndarray = np.zeros((steps, len(self), self.size), dtype)
        sample = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        np.add.at(x, (self.times, sample, self.neurons), 1 if self.values is None else self.values)
        return x


def _integers(name: str, values: np.ndarray, dtype: type) -> np.ndarray:
    """`values` as a contiguous array of `dtype`; a `DataError` where that would change one."""
    given = np.asarray(values)
    with np.errstate(invalid="ignore"):
        array: np.ndarray = np.ascontiguousarray(given, dtype)
    if given.dtype != array.dtype and given.size and not np.array_equal(given, array):
        e = int(np.argmax((given != array).ravel()))
        raise DataError(f"EventBatch: {name}[{e}] is {given.ravel()[e]}, expected a {array.dtype} number.")
    return array
