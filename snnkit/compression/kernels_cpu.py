"""Soft-reset neurons over time on the CPU, forward and backward. Computes `reference.soft_reset_lif`.

A block of columns stays in cache while time runs. The forward pass writes the spikes and nothing else;
the backward pass works the potentials out again from the input, so that one array of the size of the
input is all that a layer keeps.
"""

from typing import Any

import numpy as np
from numba import njit

WIDTH = 2048
"""Columns in a block where all neurons share one threshold."""


@njit(cache=True, nogil=True, error_model="numpy")
def forward(x: Any, s: Any, decay: Any, v_th: Any, columns: Any, width: Any, first: Any, last: Any) -> None:
    """x [Tx, M] → s [T, M], where Tx is T, or 1 for an input that is the same in every step.

    Block k holds the columns from k·width on; its neurons have decay[k % C] and v_th[k % C].
    """
    steps, fixed = s.shape[0], x.shape[0] == 1
    v = np.empty(width, x.dtype)
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for k in range(first, last):
        lo, n = k * width, min(width, columns - k * width)
        d, th = decay[k % len(decay)], v_th[k % len(v_th)]
        for j in range(n):
            v[j] = zero
        for t in range(steps):
            xt, st = x[0 if fixed else t, lo : lo + n], s[t, lo : lo + n]
            for j in range(n):
                h = d * v[j] + xt[j]
                fires = one if h >= th else zero
                st[j] = fires
                v[j] = h - fires * th


@njit(cache=True, nogil=True, error_model="numpy")
def backward(
    gs: Any, x: Any, gx: Any, gdecay: Any, gv_th: Any, decay: Any, v_th: Any, columns: Any, width: Any,
    first: Any, last: Any,
) -> None:  # fmt: skip
    """gs [T, M] and x [Tx, M] → gx [Tx, M], and each block's share of the cotangents of its parameters."""
    steps, fixed = gs.shape[0], x.shape[0] == 1
    h = np.empty((steps, width), x.dtype)
    v, gv = np.empty(width, x.dtype), np.empty(width, x.dtype)
    sum_d, sum_th = np.empty(width, x.dtype), np.empty(width, x.dtype)
    one, zero, height = x.dtype.type(1), x.dtype.type(0), x.dtype.type(0.3)
    for k in range(first, last):
        lo, n = k * width, min(width, columns - k * width)
        d, th = decay[k % len(decay)], v_th[k % len(v_th)]
        per = one / th
        for j in range(n):
            v[j] = zero
            gv[j] = zero
            sum_d[j] = zero
            sum_th[j] = zero
        for t in range(steps):
            xt, ht = x[0 if fixed else t, lo : lo + n], h[t]
            for j in range(n):
                a = d * v[j] + xt[j]
                ht[j] = a
                v[j] = a - (th if a >= th else zero)
        for t in range(steps - 1, -1, -1):
            gt, ht, before = gs[t, lo : lo + n], h[t], h[t - 1 if t else 0]
            out = gx[0 if fixed else t, lo : lo + n]
            carry, add = one if t else zero, one if fixed and t < steps - 1 else zero
            for j in range(n):
                z = ht[j] * per - one
                gz = gt[j] * height * max(zero, one - abs(z))
                gh = gz * per + gv[j]
                sum_th[j] -= gz * ht[j] * per * per + (gv[j] if ht[j] >= th else zero)
                sum_d[j] += carry * gh * (before[j] - (th if before[j] >= th else zero))
                out[j] = gh + (out[j] if add else zero)
                gv[j] = d * gh
        gdecay[k] = np.sum(sum_d[:n])
        gv_th[k] = np.sum(sum_th[:n])


@njit(cache=True, nogil=True, error_model="numpy")
def pack(s: Any, bits: Any, first: Any, last: Any) -> None:
    """Spikes s [T, M] → bits [⌈T / 8⌉, M], one bit a step; columns `first` to `last`."""
    for plane in range(bits.shape[0]):
        row = bits[plane]
        for j in range(first, last):
            row[j] = 0
        for t in range(8 * plane, min(8 * plane + 8, s.shape[0])):
            st, bit = s[t], np.uint8(1 << (t - 8 * plane))
            for j in range(first, last):
                row[j] |= bit if st[j] != 0 else np.uint8(0)


@njit(cache=True, nogil=True, error_model="numpy")
def unpack(bits: Any, s: Any, value: Any, first: Any, last: Any) -> None:
    """The inverse of `pack`, a spike being `value`."""
    zero = value - value
    for t in range(s.shape[0]):
        row, st, bit = bits[t // 8], s[t], np.uint8(1 << (t % 8))
        for j in range(first, last):
            st[j] = value if row[j] & bit else zero
