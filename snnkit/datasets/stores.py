"""Stores of events made from others: several end to end, a camera seen smaller, files read one by one."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ParameterError
from .event_data import EventDataset, Store, ranges


class OneByOne:
    """Recordings that `read_one` gives, row → times (µs) and neurons, each read when it is asked for."""

    def __init__(self, count: int, read_one: Callable[[int], np.ndarray], name: str) -> None:
        self.count, self.read_one, self.name = count, read_one, name

    def __len__(self) -> int:
        return self.count

    def where(self, row: int) -> str:
        return f"{self.name}, recording {row}"

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        events = [self.read_one(int(row)) for row in rows]
        none = [np.zeros(0, np.int64)]
        return (
            np.concatenate([e["t"] for e in events] or none).astype(np.int64),
            np.concatenate([e["x"] for e in events] or none).astype(np.int64),
            np.array([len(e) for e in events], np.int64),
        )


class Joined:
    """The recordings of several stores, one after the other."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = list(stores)
        self.starts = np.concatenate([[0], np.cumsum([len(s) for s in self.stores])])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def where(self, row: int) -> str:
        k = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.stores[k].where(row - int(self.starts[k]))

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        of = np.searchsorted(self.starts, rows, side="right") - 1
        cuts = np.concatenate([[0], np.flatnonzero(np.diff(of)) + 1, [len(rows)]]) if len(rows) else [0, 0]
        parts = [
            self.stores[of[lo]].read(rows[lo:hi] - self.starts[of[lo]])
            for lo, hi in itertools.pairwise(cuts)
            if hi > lo
        ]
        none = [np.zeros(0, np.int64)]
        times, neurons, counts = (np.concatenate([p[k] for p in parts] or none) for k in range(3))
        return times, neurons, counts


class Mapped:
    """A store whose neurons are renamed by `table` [channels], and whose steps may be event counts.

    step  (n, width): events in order of time, n to a step of `width` µs; None: at their own times
    """

    def __init__(self, store: Store, table: np.ndarray, step: tuple[int, float] | None = None) -> None:
        self.store, self.table, self.step = store, table, step

    def __len__(self) -> int:
        return len(self.store)

    def where(self, row: int) -> str:
        return self.store.where(row)

    def read(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        times, neurons, counts = self.store.read(rows)
        inside = (neurons >= 0) & (neurons < len(self.table))
        neurons = np.where(inside, self.table[np.where(inside, neurons, 0)], -1)
        if self.step is not None:
            size, width = self.step
            order = np.lexsort((times, np.repeat(np.arange(len(rows)), counts)))
            rank = ranges(np.zeros(len(counts), np.int64), counts)
            times, neurons = np.ceil(rank // size * width).astype(np.int64), neurons[order]
        return times, neurons, counts


@dataclass(frozen=True, kw_only=True)
class View:
    """How the events of a sensor are taken.

    downsample       pixels in x and in y that become one (W and H are rounded up)
    polarity         a channel for each polarity; else both are one
    events_per_step  so many events make a step, whatever time they take; None: a step is `dt`
    dt               ms

    Raises `ParameterError` for a number below 1.
    """

    downsample: int = 1
    polarity: bool = True
    events_per_step: int | None = None
    dt: float = 10.0

    def __post_init__(self) -> None:
        for name in ("downsample", "events_per_step"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ParameterError(f"{name} = {value}; it must be at least 1.")

    def of(self, data: EventDataset) -> EventDataset:
        """`data` so seen. Raises `ParameterError` where channels in a row should be made fewer pixels."""
        if self == View(dt=self.dt):
            return data
        shape = data.shape or (data.channels,)
        table = np.arange(data.channels)
        if self.downsample > 1 or not self.polarity:
            if len(shape) != 3:
                raise ParameterError(
                    f"{data.name} has {data.channels} channels in a row; downsample and polarity are for "
                    "cameras, with a shape (C, H, W). Take fewer channels with channels = …."
                )
            p, y, x = np.unravel_index(table, shape)
            y, x, p = y // self.downsample, x // self.downsample, p if self.polarity else 0 * p
            shape = (int(p.max()) + 1, int(y.max()) + 1, int(x.max()) + 1)
            table = np.ravel_multi_index((p, y, x), shape)
        step = None if self.events_per_step is None else (self.events_per_step, self.dt * 1000)
        return replace(
            data,
            store=Mapped(data.store, table, step),
            channels=math.prod(shape),
            shape=shape,
            durations=None if step else data.durations,
            key=None if data.key is None else f"{data.key}|{self}",
        )


def joined(parts: Sequence[EventDataset], classes: Sequence[str], name: str) -> EventDataset:
    """Several data sets of the same sensor as one; `classes` gives the numbers that their names have.

    Raises `ParameterError` where their channels differ.
    """
    first = parts[0]
    for other in parts[1:]:
        if other.channels != first.channels or other.shape != first.shape:
            raise ParameterError(
                f"{name}: {other.name} has {other.channels} channels of shape {list(other.shape)}, "
                f"{first.name} has {first.channels} of shape {list(first.shape)}; say shape = […]."
            )
    number = {c: k for k, c in enumerate(classes)}
    durations = None
    if any(p.durations is not None for p in parts):
        durations = np.concatenate(
            [np.zeros(len(p), np.int64) if p.durations is None else p.durations for p in parts]
        )
    starts = np.cumsum([0, *(len(p.store) for p in parts)])
    keys = [p.key for p in parts]
    return EventDataset(
        store=Joined([p.store for p in parts]),
        rows=np.concatenate([p.rows + start for p, start in zip(parts, starts, strict=False)]),
        labels=np.concatenate([np.array([number[c] for c in p.classes], np.int64)[p.labels] for p in parts]),
        speakers=np.concatenate([p.speakers for p in parts]),
        classes=list(classes),
        channels=first.channels,
        shape=first.shape,
        allow_empty=all(p.allow_empty for p in parts),
        durations=durations,
        name=name,
        key=None if None in keys else hashlib.sha256("\n".join(map(str, keys)).encode()).hexdigest(),
    )
