"""Bushy cells: probability of release → spikes.

Each of 40 afferents fires with that probability unless it fired within the last ms; a LIF cell (τ_mem 1 ms,
τ_syn 0.5 ms, refractory for 1 ms) with threshold 1 adds them up.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from .settings import Cochlea

Spikes = tuple[np.ndarray, np.ndarray]
"""Times (seconds as float64, or steps as int64; sorted) and channels (int32) of the spikes of one clip."""


def bushy_spikes(probability: np.ndarray, rate: float, seed: int, settings: Cochlea) -> Spikes:
    """Steps and channels of the bushy cells' spikes, sorted. `probability` ``[T, C]``, per step."""
    p = np.ascontiguousarray(probability)
    keys = channel_keys(seed, p.shape[1])
    return fire(p, keys, *constants_at(rate, settings))


def constants_at(rate: float, s: Cochlea) -> tuple[int, int, np.ndarray]:
    """What `fire` takes at `rate` steps a second: afferents, refractory steps, decays and weight.

    The last is float32 [3]: decay of the potential, of the current, and weight of an afferent.
    """
    wait = math.ceil(s.refractory * rate / 1000 - 1e-9)
    values = [
        math.exp(-1000 / (rate * s.tau_mem)),
        math.exp(-1000 / (rate * s.tau_syn)),
        s.weight / s.afferents / rate,
    ]
    return s.afferents, wait, np.array(values, np.float32)


def channel_keys(seed: int, channels: int) -> np.ndarray:
    """One random stream per channel, uint64 [channels]: how the work is split over blocks changes nothing."""
    return np.random.SeedSequence(seed).generate_state(channels, np.uint64)


@numba.njit(nogil=True, inline="always")
def _uniform(state, j):  # type: ignore[no-untyped-def]
    """Next number in (0, 1] of stream j: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    state[j] += np.uint64(0x9E3779B97F4A7C15)
    z = state[j]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 1.0) * (1.0 / 9007199254740992.0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fire(p: Any, keys: Any, afferents: Any, wait: Any, constants: Any) -> Any:
    """Afferents and LIF cells of a block of channels.

    The afferents of a channel that are free are alike, so only their number is kept, and how many fired
    in each of the last `wait` steps. Every free afferent is one trial with probability p; instead of one
    random number a trial there is one a success: a trial uses up −ln(1 − p) of an exponentially
    distributed supply, and the trial that exhausts it succeeds. By the exponential's lack of memory that
    is the same as independent trials.
    """
    steps, channels = p.shape
    decay_mem, decay_syn, weight = constants
    one = np.float32(1)
    state = keys.copy()
    supply = np.empty(channels, np.float32)
    for j in range(channels):
        supply[j] = -np.log(_uniform(state, j))
    free = np.full(channels, afferents, np.float32)
    fired = np.zeros((max(1, wait), channels), np.float32)
    hazard = np.empty(channels, np.float32)
    current = np.zeros(channels, np.float32)
    v = np.zeros(channels, np.float32)
    resting = np.zeros(channels, np.int32)
    at = np.empty(256, np.int64)
    who = np.empty(256, np.int32)
    count = 0
    slot = 0
    for t in range(steps):
        ring = fired[slot]
        slot = slot + 1 if slot + 1 < wait else 0
        high = 0
        for j in range(channels):
            x = np.float32(p[t, j])
            # −ln(1 − x) to float32's last bit below 0.05
            series = np.float32(1 / 3) + x * (np.float32(1 / 4) + x * np.float32(1 / 5))
            hazard[j] = x * (one + x * (np.float32(1 / 2) + x * series))
            high += 1 if x > np.float32(0.05) else 0
        if high:
            for j in range(channels):
                if p[t, j] > 0.05:
                    hazard[j] = -np.log1p(-min(np.float64(p[t, j]), 0.9999999))
        due = 0
        for j in range(channels):
            free[j] += ring[j]
            ring[j] = np.float32(0)
            supply[j] -= free[j] * hazard[j]
            due += supply[j] < np.float32(0)
        if due:
            for j in range(channels):
                while supply[j] < np.float32(0):
                    ring[j] += one
                    # whole trials after the one that succeeded; no more than there are, whatever the rounding
                    left = np.minimum(np.floor(-supply[j] / hazard[j]), free[j] - ring[j])
                    supply[j] = -np.log(_uniform(state, j)) - left * hazard[j]
        crossing = 0
        for j in range(channels):
            free[j] -= ring[j]
            current[j] = current[j] * decay_syn + ring[j]
            h = v[j] * decay_mem + current[j] * weight
            v[j] = h if resting[j] <= 0 else np.float32(0)
            resting[j] -= 1
            crossing += v[j] >= one
        if crossing:
            for j in range(channels):
                if v[j] >= one:
                    v[j] = np.float32(0)
                    resting[j] = wait
                    if count == len(at):
                        at = np.concatenate((at, np.empty_like(at)))
                        who = np.concatenate((who, np.empty_like(who)))
                    at[count] = t
                    who[count] = j
                    count += 1
    return at[:count].copy(), who[:count].copy()
