"""Delays of single channels on the CPU: each neuron's sequence filtered by its own few taps.

Computes `reference.channel_delay` and its gradient. A block of neurons of one sample is laid with time
innermost, so that every tap is one shifted multiply-add of whole vectors.
"""

import numpy as np
from numba import njit, prange

from . import taps_cpu
from .taps_cpu import Taps

_BLOCK = 16


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc"})
def _forward(x, first, table, y):  # type: ignore[no-untyped-def]
    steps, batch, neurons = x.shape
    steps_out, count, width = y.shape[0], table.shape[1], table.shape[2]
    blocks = (neurons + _BLOCK - 1) // _BLOCK
    for task in prange(blocks * batch):
        b, n0 = task // blocks, task % blocks * _BLOCK
        n1 = min(neurons, n0 + _BLOCK)
        source = np.empty((_BLOCK, steps), x.dtype)
        target = np.zeros((_BLOCK, steps_out), x.dtype)
        for t in range(steps):
            for n in range(n0, n1):
                source[n - n0, t] = x[t, b, n]
        for n in range(n0, n1):
            for c in range(count):
                for j in range(width):
                    shift = first[n, c] + j
                    k = table[n, c, j]
                    for t in range(min(steps, steps_out - shift)):
                        target[n - n0, t + shift] += k * source[n - n0, t]
        for t in range(steps_out):
            for n in range(n0, n1):
                y[t, b, n] = target[n - n0, t]


@njit(parallel=True, cache=True, fastmath={"contract", "reassoc"})
def _gradient(g, x, first, table, gx, sums):  # type: ignore[no-untyped-def]
    steps, batch, neurons = x.shape
    steps_out, count, width = g.shape[0], table.shape[1], table.shape[2]
    for task in prange((neurons + _BLOCK - 1) // _BLOCK):
        n0 = task * _BLOCK
        n1 = min(neurons, n0 + _BLOCK)
        source = np.empty((_BLOCK, steps), x.dtype)
        target = np.empty((_BLOCK, steps_out), x.dtype)
        for b in range(batch):
            for t in range(steps):
                for n in range(n0, n1):
                    source[n - n0, t] = x[t, b, n]
            for t in range(steps_out):
                for n in range(n0, n1):
                    target[n - n0, t] = g[t, b, n]
            back = np.zeros((_BLOCK, steps), x.dtype)
            for n in range(n0, n1):
                for c in range(count):
                    for j in range(width):
                        shift = first[n, c] + j
                        k = table[n, c, j]
                        product = x.dtype.type(0)
                        for t in range(min(steps, steps_out - shift)):
                            back[n - n0, t] += k * target[n - n0, t + shift]
                            product += source[n - n0, t] * target[n - n0, t + shift]
                        sums[n, c, j] += product
            for t in range(steps):
                for n in range(n0, n1):
                    gx[t, b, n] = back[n - n0, t]


def forward(x: np.ndarray, taps: Taps, steps_out: int) -> np.ndarray:
    """y ``[steps_out, B, N]`` for x ``[T, B, N]``; the taps are of weights ``[1, N, K]``."""
    first, table = taps_cpu.tables(taps)
    y = np.empty((steps_out, *x.shape[1:]), x.dtype)
    _forward(x, first[0], table[0], y)
    return y


def gradient(
    g: np.ndarray, x: np.ndarray, taps: Taps
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """∂L/∂x, and ∂L/∂weight, ∂L/∂position, ∂L/∂σ ``[1, N, K]`` from g = ∂L/∂y ``[steps_out, B, N]``."""
    first, table = taps_cpu.tables(taps)
    gx, sums = np.empty_like(x), np.zeros_like(table)
    _gradient(g, x, first[0], table[0], gx, sums[0])
    return gx, *taps_cpu.adjoint(sums, taps)
