"""Where recorded spikes and variables go: thinned, then to memory or to an HDF5 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..errors import DataError
from ..files import PathLike


class Spikes(NamedTuple):
    """Spikes of one population, sorted by time and neuron.

    times    int64 [E], steps
    neurons  int32 [E], flat indices
    values   [E] in the dtype of the run's sums, or [0] where each spike carries 1
    """

    times: np.ndarray
    neurons: np.ndarray
    values: np.ndarray

    def weighted(self, dtype: Any) -> np.ndarray:
        """What each spike carries, [E]; ones of `dtype` where each carries 1."""
        return self.values if len(self.values) else np.ones(len(self.times), dtype)

    def total(self) -> float:
        """The sum of what the spikes carry."""
        return float(self.values.sum()) if len(self.values) else len(self.times)


FORMAT = "snnkit-run"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Watch:
    """A variable that is recorded.

    neurons  int64 [n], flat indices; None for all
    every    one row is kept for so many steps (for "rate": their mean)
    """

    population: str
    variable: str
    neurons: np.ndarray | None
    every: int

    @property
    def key(self) -> tuple[str, str]:
        """(population, variable), as in `Result.recorded`."""
        return self.population, self.variable


@dataclass(frozen=True)
class Recording:
    """What a run keeps: the spikes of some populations, and variables."""

    spikes: frozenset[str] = frozenset()
    watches: tuple[Watch, ...] = ()


class Thinner:
    """Keeps one row in `every`, counted from step 0, however the run is cut; averages a rate."""

    def __init__(self, watch: Watch) -> None:
        self.every, self.averages = watch.every, watch.variable == "rate" and watch.every > 1
        self.reset()

    def reset(self) -> None:
        """Begin a new window."""
        self.sum: Any = 0.0
        self.count = 0

    def feed(self, start: int, rows: np.ndarray) -> np.ndarray:
        """The rows to keep of steps start:start + T: rows [T, n] → [T', n]."""
        if not self.averages:
            return rows[-start % self.every :: self.every]
        kept = []
        at = 0
        while at < len(rows):
            take = min(self.every - self.count, len(rows) - at)
            self.sum = self.sum + rows[at : at + take].sum(0)
            self.count += take
            at += take
            if self.count == self.every:
                kept.append(self.sum / self.every)
                self.reset()
        return np.array(kept).reshape(len(kept), rows.shape[1])

    def rest(self) -> np.ndarray | None:
        """The mean of a last window that is shorter, [1, n]; None if nothing is left over."""
        if not self.count:
            return None
        row = (self.sum / self.count)[None]
        self.reset()
        return row


class Memory:
    """Keeps what a run gives, as lists of pieces."""

    def __init__(self, recording: Recording) -> None:
        self.spikes: dict[str, list[Spikes]] = {n: [] for n in recording.spikes}
        self.rows: dict[tuple[str, str], list[np.ndarray]] = {w.key: [] for w in recording.watches}

    def spiked(self, name: str, spikes: Spikes) -> None:
        """Keep spikes of a population; later ones than before."""
        self.spikes[name].append(spikes)

    def watched(self, watch: Watch, rows: np.ndarray) -> None:
        """Keep the next rows [T, n] of a variable."""
        self.rows[watch.key].append(rows)


class File(Memory):
    """Writes to an HDF5 file whenever a few MB have gathered.

    Layout: ``spikes/<population>/times, neurons[, values]`` (1-d, steps and flat indices) and
    ``recorded/<population>/<variable>`` ``[T, n]``; attributes format, version, dt, steps, size.
    """

    PIECE = 1 << 22

    def __init__(self, file: h5py.File, recording: Recording) -> None:
        super().__init__(recording)
        self.file, self.waiting = file, 0
        for name in recording.spikes:
            file.create_group(f"spikes/{name}")

    def spiked(self, name: str, spikes: Spikes) -> None:
        super().spiked(name, spikes)
        self._gathered(sum(a.nbytes for a in spikes))

    def watched(self, watch: Watch, rows: np.ndarray) -> None:
        super().watched(watch, rows)
        self._gathered(rows.nbytes)

    def _gathered(self, count: int) -> None:
        self.waiting += count
        if self.waiting >= self.PIECE:
            self.write()

    def write(self) -> None:
        """Append all that waits."""
        self.waiting = 0
        for name, pieces in self.spikes.items():
            if pieces:
                columns = {"times": [p.times for p in pieces], "neurons": [p.neurons for p in pieces]}
                if any(len(p.values) for p in pieces):
                    columns["values"] = [p.weighted(np.float32) for p in pieces]
                for column, parts in columns.items():
                    _append(self.file, f"spikes/{name}/{column}", np.concatenate(parts))
                pieces.clear()
        for (population, variable), rows in self.rows.items():
            if rows:
                _append(self.file, f"recorded/{population}/{variable}", np.concatenate(rows))
                rows.clear()

    def close(self, steps: int, dt: float, sizes: dict[str, int], complete: bool) -> None:
        """Write the rest and what the run was."""
        self.write()
        for name, group in self.file["spikes"].items():
            group.attrs["size"] = sizes[name]
            for column, kind in (("times", np.int64), ("neurons", np.int32)):
                if column not in group:
                    group.create_dataset(column, data=np.zeros(0, kind))
        self.file.attrs.update(
            {
                "format": FORMAT,
                "version": FORMAT_VERSION,
                "dt": dt,
                "steps": steps,
                "complete": complete,
            }
        )


def _append(file: h5py.File, name: str, rows: np.ndarray) -> None:
    """Rows [n, …] behind those that the data set `name` has."""
    if name not in file:
        piece = (max(1, min(len(rows), (1 << 16) // max(1, int(np.prod(rows.shape[1:]))))), *rows.shape[1:])
        file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=piece)
        return
    data = file[name]
    data.resize(len(data) + len(rows), axis=0)
    data[-len(rows) :] = rows


def check_run(file: h5py.File, path: PathLike) -> None:
    """Raise `DataError` unless the file is one that a run wrote."""
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"{path} is HDF5, but holds no run of snnkit (attribute 'format' is missing).")
    if int(file.attrs["version"]) > FORMAT_VERSION:
        raise DataError(
            f"{path}: run format version {file.attrs['version']}; this snnkit reads up to {FORMAT_VERSION}."
        )
