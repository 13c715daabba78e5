"""Sources of spikes for input populations.

A generator's ``source(size, dt, sample, seed, dtype)`` feeds `size` neurons of one sample, in steps of
`dt` ms; what spikes carry has the type `dtype`. It raises `ParameterError` or `DataError` where the
generator does not fit. Any object with such a method can be given to `simulate`. The seed is that of
the run and the population together (`seed_of`), so two populations with one generator draw apart.

Every draw is a hash of (seed, population, sample, neuron, step): the same spikes whatever the number of
threads, the cut of a run into pieces or the order of populations and samples.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ..errors import DataError, ParameterError
from ..events import EventBatch
from ..files import PathLike, open_h5
from .recording import Spikes

_njit: Any = functools.partial(numba.njit, nogil=True, cache=True, error_model="numpy")


def seed_of(seed: int, population: str) -> int:
    """The seed of one population's generator in a run with this seed, in 64 bits.

    Raises `ParameterError` for a seed that is no whole number of at least 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ParameterError(f"seed must be a whole number of at least 0, got {seed!r}.")
    name = f"{int(seed)} {population}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


BLOCK = 1024

LEAST = 1e-6
"""Smallest mean of a step that is drawn: probabilities are exact to 2^-32, so to 0.01 % here."""


@_njit
def _mix(z):  # type: ignore[no-untyped-def]
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014): uint64 → uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@_njit
def _half(z):  # type: ignore[no-untyped-def]
    """32 bits → 32 bits, bijective; shifts and factors found by Wellons' search for little bias, 2018."""
    # Numba widens 32-bit integers to 64: cut back after every product
    z = np.uint32((z ^ (z >> np.uint32(16))) * np.uint32(0x21F0AAAD))
    z = np.uint32((z ^ (z >> np.uint32(15))) * np.uint32(0xD35A2D97))
    return np.uint32(z ^ (z >> np.uint32(15)))


@_njit
def _passed(u, found, e, first):  # type: ignore[no-untyped-def]
    """found += how many of the eight edges e[first:first + 8] lie below u."""
    a, b, c, d = e[first], e[first + 1], e[first + 2], e[first + 3]
    f, g, h, i = e[first + 4], e[first + 5], e[first + 6], e[first + 7]
    for n in range(len(u)):
        z = u[n]
        four = np.uint32(z > a) + np.uint32(z > b) + np.uint32(z > c) + np.uint32(z > d)
        more = np.uint32(z > f) + np.uint32(z > g) + np.uint32(z > h) + np.uint32(z > i)
        found[n] += np.uint32(four + more)


@_njit
def _draw_poisson(key, start, n0, rows, edges, which):  # type: ignore[no-untyped-def]
    """Poisson counts of the neurons n0:n0 + N, [T, N], by inversion of a 32-bit uniform number.

    edges [W, 8·K]: the cumulated probabilities of each mean, in units of 2^-32, filled up with 2^32 − 1.
    Returns (counts that are not 0, their sum).
    """
    size = rows.shape[1]
    u = np.empty(size, np.uint32)
    found = np.empty(size, np.uint32)
    spikes, total = np.int64(0), np.int64(0)
    for k in range(rows.shape[0]):
        step = _mix(key + np.uint64(start + k) * np.uint64(0x9E3779B97F4A7C15))
        first = np.uint32(step & np.uint64(0xFFFFFFFF))
        second = np.uint32(step >> np.uint64(32))
        for n in range(size):
            u[n] = _half(np.uint32(_half(np.uint32(np.uint32(n0 + n) ^ first)) + second))
        if len(which) == 1:
            found[:] = 0
            for j in range(0, edges.shape[1], 8):
                _passed(u, found, edges[0], j)
        else:
            for n in range(size):
                j = 0
                row = edges[which[n0 + n]]
                while j < len(row) and u[n] > row[j]:
                    j += 1
                found[n] = j
        out = rows[k]
        some, many = np.uint32(0), np.uint32(0)
        for n in range(size):
            out[n] = found[n]
            some += np.uint32(found[n] != 0)
            many += found[n]
        spikes += some
        total += many
    return spikes, total


@_njit
def _draw_all(key, start, rows, edges, which):  # type: ignore[no-untyped-def]
    """As `_draw_poisson`, block by block over all neurons: rows [T, N]."""
    spikes, total = np.int64(0), np.int64(0)
    for n0 in range(0, rows.shape[1], BLOCK):
        found = _draw_poisson(key, start, n0, rows[:, n0 : n0 + BLOCK], edges, which)
        spikes += found[0]
        total += found[1]
    return spikes, total


@numba.njit(nogil=True, cache=True, error_model="numpy", parallel=True)
def _draw_all_parts(key, start, rows, edges, which):  # type: ignore[no-untyped-def]
    """As `_draw_all`, blocks side by side."""
    spikes, total = np.int64(0), np.int64(0)
    for b in numba.prange((rows.shape[1] + BLOCK - 1) // BLOCK):
        n0 = b * BLOCK
        found = _draw_poisson(key, start, n0, rows[:, n0 : n0 + BLOCK], edges, which)
        spikes += found[0]
        total += found[1]
    return spikes, total


@dataclass(frozen=True)
class Poisson:
    """Independent Poisson spike trains; a neuron may spike several times in a step.

    rate_hz  spikes a second, one number or one a neuron
    """

    rate_hz: Any

    def source(self, size: int, dt: float, sample: int, seed: int, dtype: Any) -> PoissonSource:
        """The draws of this sample; another seed or sample gives others."""
        rate = np.atleast_1d(np.asarray(self.rate_hz, float))
        if rate.shape not in ((1,), (size,)):
            raise ParameterError(f"Poisson: {len(rate)} rates for a population of {size} neurons.")
        if not (np.isfinite(rate).all() and (rate >= 0).all()):
            raise ParameterError("Poisson: rate_hz must be finite and not negative.")
        return PoissonSource(rate * dt / 1000, size, sample, seed, dtype)


class PoissonSource:
    """Draws of the means [N], spikes a step."""

    def __init__(self, mean: np.ndarray, size: int, sample: int, seed: int, dtype: Any) -> None:
        different, self.which = np.unique(mean, return_inverse=True)
        if different.max() > 100:
            raise ParameterError(f"Poisson: {different.max():g} spikes a step is too many; at most 100.")
        if ((different > 0) & (different < LEAST)).any():
            raise ParameterError(
                f"Poisson: a mean of {different[different > 0].min():g} spikes a step is below the "
                f"resolution of {LEAST:g}; use 0 or a larger rate."
            )
        length = int(different.max() + 10 * math.sqrt(different.max()) + 12)
        k = np.arange(length)
        logs = np.array([math.lgamma(n + 1) for n in k])
        powers = k * np.log(np.maximum(different, 1e-300))[:, None]
        sums = np.cumsum(np.exp(powers - different[:, None] - logs), axis=1)
        sums[different == 0] = 1
        edges = np.clip(np.round(sums * 2.0**32) - 1, 0, 2.0**32 - 1)  # count k where u > edge[k - 1]
        last = int((edges.min(axis=0) < 2.0**32 - 1).sum())
        self.edges = np.full((len(edges), max(8, -(-last // 8) * 8)), np.uint32(2**32 - 1))
        self.edges[:, :last] = edges[:, :last]
        self.size, self.dtype = size, dtype
        mixed = np.random.SeedSequence([seed, sample]).generate_state(1, np.uint64)[0]
        self.key = np.uint64(mixed)

    def dense(self, start: int, stop: int, threads: int = 1) -> tuple[np.ndarray, int, int]:
        """Counts [stop − start, N], how many are not 0, and their sum."""
        rows = np.empty((stop - start, self.size), self.dtype)
        draw = _draw_all if threads == 1 else _draw_all_parts
        spikes, total = draw(self.key, start, rows, self.edges, self.which)
        return rows, int(spikes), int(total)

    def events(self, start: int, stop: int) -> Spikes:
        """Spikes of steps start:stop."""
        rows, _, _ = self.dense(start, stop)
        times, neurons = np.nonzero(rows)
        return Spikes(times + start, neurons.astype(np.int32), rows[times, neurons])


@dataclass(frozen=True)
class Regular:
    """Spikes at equal distances: neuron n at steps phase, phase + interval, …

    interval  steps, one number or one a neuron, ≥ 1
    phase     step of the first spike, likewise, ≥ 0
    """

    interval: Any
    phase: Any = 0

    def source(self, size: int, dt: float, sample: int, seed: int, dtype: Any) -> RegularSource:
        """The same for every sample."""
        interval, phase = (np.asarray(a) for a in (self.interval, self.phase))
        for name, value, least in (("interval", interval, 1), ("phase", phase, 0)):
            if value.dtype.kind not in "iu" or value.shape not in ((), (size,)) or (value < least).any():
                raise ParameterError(
                    f"Regular: {name} must be integer steps ≥ {least}, one or {size} of them, got {value}."
                )
        return RegularSource(
            np.broadcast_to(interval, size).astype(np.int64),
            np.broadcast_to(phase, size).astype(np.int64),
            dtype,
        )


class RegularSource:
    """Spikes of neurons with intervals and phases int64 [N], steps."""

    def __init__(self, interval: np.ndarray, phase: np.ndarray, dtype: Any) -> None:
        self.interval, self.phase, self.none = interval, phase, np.zeros(0, dtype)

    def events(self, start: int, stop: int) -> Spikes:
        """Spikes of steps start:stop."""
        t = np.arange(start, stop)[:, None]
        times, neurons = np.nonzero((t >= self.phase) & ((t - self.phase) % self.interval == 0))
        return Spikes(times + start, neurons.astype(np.int32), self.none)


@dataclass(frozen=True)
class Array:
    """Given spikes: step and neuron of each, and what it carries; sorted by time.

    The same spikes for every sample; for one set a sample give an `EventBatch`.
    """

    times: Sequence[int] | np.ndarray
    neurons: Sequence[int] | np.ndarray
    values: Sequence[float] | np.ndarray | None = None

    def source(self, size: int, dt: float, sample: int, seed: int, dtype: Any) -> ArraySource:
        """The same for every sample."""
        times = np.asarray(self.times, np.int64)
        length = int(times.max(initial=-1)) + 1
        values = None if self.values is None else np.asarray(self.values)
        batch = EventBatch(
            times=times,
            neurons=np.asarray(self.neurons),
            offsets=np.array([0, len(times)]),
            lengths=np.array([length]),
            size=size,
            values=values,
        )
        return ArraySource(batch.validate(), dtype)


class ArraySource:
    """The spikes of a batch of one."""

    def __init__(self, batch: EventBatch, dtype: Any) -> None:
        self.times, self.neurons = batch.times, batch.neurons
        self.values = np.zeros(0, dtype)
        if batch.values is not None:
            if np.dtype(dtype).kind == "i" and (batch.values != np.round(batch.values)).any():
                raise DataError("an integer network takes events with integer values only.")
            if not np.isfinite(batch.values).all():
                e = int(np.argmin(np.isfinite(batch.values)))
                raise DataError(f"event {e} carries {batch.values[e]}; values must be finite.")
            self.values = batch.values.astype(dtype)

    def events(self, start: int, stop: int) -> Spikes:
        """Spikes of steps start:stop."""
        a, b = np.searchsorted(self.times, (start, stop))
        return Spikes(self.times[a:b], self.neurons[a:b], self.values[a:b])


@dataclass(frozen=True)
class EventFile:
    """Spikes in an HDF5 file, read piece by piece.

    path   file with the datasets ``times`` (steps, sorted), ``neurons`` and perhaps ``values``, 1-d
    group  where in the file they are; what `simulate(..., out=path)` writes is ``spikes/<population>``
    """

    path: PathLike
    group: str = "/"

    def source(self, size: int, dt: float, sample: int, seed: int, dtype: Any) -> EventFileSource:
        """The same for every sample, read anew."""
        return EventFileSource(self, size, dtype)


class EventFileSource:
    """Reads an `EventFile` as the run goes on; holds at most what a chunk needs, and a piece."""

    PIECE = 1 << 20

    def __init__(self, file: EventFile, size: int, dtype: Any) -> None:
        self.file, self.size, self.dtype = file, size, dtype
        with open_h5(file.path) as h5:
            if file.group not in h5 or not {"times", "neurons"} <= set(h5[file.group]):
                raise DataError(f"{file.path} has no datasets 'times' and 'neurons' in {file.group!r}.")
            self.length = len(h5[file.group]["times"])
            if len(h5[file.group]["neurons"]) != self.length:
                raise DataError(f"{file.path}: times and neurons differ in length.")
        self.at, self.first, self.last = 0, 0, -1
        self.buffer = self._empty()

    def _empty(self) -> Spikes:
        return Spikes(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, self.dtype))

    def _read(self) -> None:
        with open_h5(self.file.path) as h5:
            group, piece = h5[self.file.group], slice(self.at, self.at + self.PIECE)
            times, neurons = group["times"][piece], group["neurons"][piece]
            values = group["values"][piece] if "values" in group else None
        length = np.array([int(times.max(initial=0)) + 1])
        batch = EventBatch(
            times=times,
            neurons=neurons,
            offsets=np.array([0, len(times)]),
            lengths=length,
            size=self.size,
            values=values,
        )
        if len(times) and times[0] < self.last:
            raise DataError(f"{self.file.path}: event {self.at} is earlier than the one before it.")
        loaded = ArraySource(batch.validate(), self.dtype)
        self.at += len(times)
        self.last = int(times[-1])
        kept = (loaded.times, loaded.neurons, loaded.values)
        self.buffer = Spikes(*(np.concatenate([a, b]) for a, b in zip(self.buffer, kept, strict=True)))

    def events(self, start: int, stop: int) -> Spikes:
        """Spikes of steps start:stop."""
        if start < self.first:  # a run that starts again
            self.at, self.last, self.buffer = 0, -1, self._empty()
        self.first = start
        while self.at < self.length and self.last < stop:
            self._read()
        times, neurons, values = self.buffer
        a, b = np.searchsorted(times, (start, stop))
        self.buffer = Spikes(times[b:], neurons[b:], values[b:])
        self.first = stop
        return Spikes(times[a:b], neurons[a:b], values[a:b])


Generator = Poisson | Regular | Array | EventFile
