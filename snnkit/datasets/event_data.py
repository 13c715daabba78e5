"""Labelled event recordings: what a dataset of spikes is here, in a file or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from ..errors import DataError, ShapeError
from ..events import EVENT_DTYPE
from .labels import whole_numbers

CHANNELS = 700
"""Channels of the cochlea of SHD and SSC."""

Transform = Callable[[Any], Any]


class Store(Protocol):
    """Where the events of recordings lie: a file (`event_files.FileStore`) or memory (`ArrayStore`)."""

    def __len__(self) -> int:
        """Number of recordings."""

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Events of the recordings `rows` [R], end to end.

        Times int64 [E] (µs), neurons int64 [E], events of each int64 [R].
        """

    def where(self, row: int) -> str:
        """How an error names the recording."""


@dataclass(repr=False, eq=False, kw_only=True)
class EventDataset:
    """Recordings of spikes with labels: ``dataset[i] -> (events, label)``.

    `events` is a structured array t (µs, int64), x (channel, int32), p (always 1), as tonic has
    them, so its transforms apply (`sensor_size` is what they ask for).

    store             where the events lie
    rows              int64 [B]   rows of the store that are the recordings
    labels            int64 [B]   0 ≤ label < len(classes)
    speakers          int64 [B]   who spoke; −1 where unknown
    classes           names in label order
    channels          number of channels
    name              for messages and names of cache files
    key               identifies the content for caches; None: not cached
    transform         applied to the events of ``dataset[i]``
    target_transform  applied to its label
    shape             of one step, (N,) or (C, H, W), of `channels` values; () stands for (channels,)
    allow_empty       whether a recording may have no events
    durations         int64 [B]   µs that each recording lasts at least; None: up to its last event

    Raises `DataError` naming the first recording whose label has no class, `ShapeError` where labels,
    speakers and rows are not equally many.
    """

    store: Store
    rows: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    classes: list[str]
    channels: int = CHANNELS
    name: str
    key: str | None = None
    transform: Transform | None = None
    target_transform: Transform | None = None
    shape: tuple[int, ...] = ()
    allow_empty: bool = False
    durations: np.ndarray | None = None

    dtype: ClassVar = EVENT_DTYPE
    ordering: ClassVar = EVENT_DTYPE.names

    def __post_init__(self) -> None:
        self.classes = list(self.classes)
        for name in ("rows", "labels", "speakers"):
            setattr(self, name, whole_numbers(getattr(self, name), f"{self.name}: {name}"))
        if not len(self.labels) == len(self.speakers) == len(self.rows):
            raise ShapeError(
                f"{self.name}: {len(self.labels)} labels and {len(self.speakers)} speakers of "
                f"{len(self.rows)} recordings should be equally many."
            )
        wrong = (self.labels < 0) | (self.labels >= len(self.classes))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise DataError(
                f"{self.store.where(int(self.rows[i]))}: label {self.labels[i]} is outside "
                f"0..{len(self.classes) - 1} ({len(self.classes)} classes)."
            )

    @property
    def sensor_size(self) -> tuple[int, int, int]:
        """Width, height and polarities, as tonic's transforms ask for them."""
        return self.channels, 1, 1

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
        """Checked events of several recordings end to end.

        Times (µs) and neurons int64 [E], events of each int64 [len(indices)]. Raises `DataError` on a
        recording without events and on a neuron outside 0..channels−1.
        """
        rows = self.rows[indices]
        times, neurons, counts = self.store.read(rows)
        if (counts == 0).any() and not self.allow_empty:
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
        """The recordings `indices` [R] (in that order) of the same store."""
        indices = np.asarray(indices, np.int64)
        return replace(
            self,
            rows=self.rows[indices],
            labels=self.labels[indices],
            speakers=self.speakers[indices],
            durations=None if self.durations is None else self.durations[indices],
        )


@dataclass(frozen=True, kw_only=True)
class Parted:
    """All recordings of a data set, and which of them are in which part.

    data   the recordings
    rows   part → int64 [R], rows of `data`
    names  speaker number → name
    """

    data: EventDataset
    rows: dict[str, np.ndarray]
    names: dict[int, str]


class ArrayStore:
    """Events in memory: times int64 [E] (µs) and neurons [E] of all recordings end to end, offsets [len + 1].

    Raises `ShapeError` where they do not fit together.
    """

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
    """``[s0, s0+1, …, s0+c0−1, s1, …]``: the indices of runs of `counts` [R] that start at `starts` [R]."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


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
    """A dataset in memory from structured arrays with fields t (µs) and x (channel), one a recording.

    labels    [B], 0 ≤ label < len(classes)
    channels  number of channels; every x lies below it
    classes   names in label order; None: the numbers
    speakers  [B] who spoke; None: unknown
    key       identifies the content for caches; None: not cached
    """
    counts = np.array([len(e) for e in events], np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    times = np.concatenate([np.asarray(e["t"], np.int64) for e in events] or [np.zeros(0, np.int64)])
    neurons = np.concatenate(
        [whole_numbers(e["x"], f"{name}, recording {b}, x") for b, e in enumerate(events)]
        or [np.zeros(0, np.int64)]
    )
    marks = whole_numbers(labels, f"{name}: labels")
    return EventDataset(
        store=ArrayStore(times, neurons, offsets, name),
        rows=np.arange(len(events)),
        labels=marks,
        speakers=np.full(len(events), -1) if speakers is None else speakers,
        classes=[str(k) for k in range(int(marks.max(initial=0)) + 1)] if classes is None else list(classes),
        channels=channels,
        name=name,
        key=key,
    )
