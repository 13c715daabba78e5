"""Where recorded spikes and variables go: thinned, then to memory or to an HDF5 file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from ..errors import DataError

Spikes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""times int64 [E], neurons int32 [E], values [E] or [0] where each is 1."""

FORMAT = "snnkit-run"
FORMAT_VERSION = 1


@dataclass
class Watch:
    """A recorded variable. every: one row is kept for so many steps (for "rate": their mean)."""

    population: str
    variable: str
    neurons: np.ndarray | None
    every: int

    @property
    def key(self) -> tuple[str, str]:
        return self.population, self.variable


class Thinner:
    """Keeps one row in `every`, counted from step 0, however the run is cut; averages a rate."""

    def __init__(self, watch: Watch) -> None:
        self.every, self.averages = watch.every, watch.variable == "rate" and watch.every > 1
        self.reset()

    def reset(self) -> None:
        self.sum: Any = 0.0
        self.count = 0

    def feed(self, start: int, rows: np.ndarray) -> np.ndarray:
        """The rows to keep of steps start:start + len(rows)."""
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
        """The mean of a last window that is shorter."""
        if not self.count:
            return None
        row = (self.sum / self.count)[None]
        self.reset()
        return row


class Memory:
    """Keeps what a run gives, as lists of pieces."""

    def __init__(self, kept: frozenset[str], watches: list[Watch]) -> None:
        self.spikes: dict[str, list[Spikes]] = {n: [] for n in kept}
        self.rows: dict[tuple[str, str], list[np.ndarray]] = {w.key: [] for w in watches}

    def spiked(self, name: str, spikes: Spikes) -> None:
        self.spikes[name].append(spikes)

    def watched(self, watch: Watch, rows: np.ndarray) -> None:
        self.rows[watch.key].append(rows)


class File(Memory):
    """Writes to an HDF5 file whenever a few MB have gathered.

    Layout: ``spikes/<population>/times, neurons[, values]`` (1-d, steps and flat indices) and
    ``recorded/<population>/<variable>`` ``[T, n]``; attributes format, version, dt, steps, size.
    """

    PIECE = 1 << 22

    def __init__(self, file: h5py.File, kept: frozenset[str], watches: list[Watch]) -> None:
        super().__init__(kept, watches)
        self.file, self.waiting = file, 0
        for name in kept:
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
                weighted = any(len(p[2]) for p in pieces)
                values = [p[2] if len(p[2]) else np.ones(len(p[0]), np.float32) for p in pieces]
                columns = [[p[0] for p in pieces], [p[1] for p in pieces], values if weighted else []]
                for column, part in zip(("times", "neurons", "values"), columns, strict=True):
                    if part:
                        _append(self.file, f"spikes/{name}/{column}", np.concatenate(part))
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
    if name not in file:
        piece = (max(1, min(len(rows), (1 << 16) // max(1, int(np.prod(rows.shape[1:]))))), *rows.shape[1:])
        file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=piece)
        return
    data = file[name]
    data.resize(len(data) + len(rows), axis=0)
    data[-len(rows) :] = rows


def check_run(file: h5py.File, path: str | os.PathLike[str]) -> None:
    """Raise `DataError` unless the file is one that a run wrote."""
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"{path} is HDF5, but holds no run of snnkit (attribute 'format' is missing).")
    if int(file.attrs["version"]) > FORMAT_VERSION:
        raise DataError(
            f"{path}: run format version {file.attrs['version']}; this snnkit reads up to {FORMAT_VERSION}."
        )
