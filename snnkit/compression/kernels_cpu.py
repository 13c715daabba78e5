"""Soft-reset neurons over time on the CPU, forward and backward. Computes `reference.soft_reset_lif`.

A block of columns stays in cache while time runs. The forward pass writes the spikes and nothing else,
or, where 2×2 average pooling follows, the pooled spikes and nothing else; the backward pass works the
potentials out again from the input, so that one array of the size of the input is all that a layer
keeps. Loops are short and touch few arrays, and no branch hides a load: so LLVM makes vectors of them.
"""

from typing import Any

import numpy as np
from numba import njit

WIDTH = 2048
"""Columns in a block where all neurons share one threshold."""


@njit(cache=True, nogil=True, error_model="numpy")
def forward(x: Any, s: Any, neurons: Any, layout: Any, first: Any, last: Any) -> None:
    """x [Tx, M] → s [T, M], where Tx is T, or 1 for an input that is the same in every step.

    neurons  decay and v_th, [C] each; block k has decay[k % C] and v_th[k % C]
    layout   a `neuron.Layout` as a plain tuple; where it has rows, s is [T, M / 4]
    """
    decay, v_th = neurons
    columns, width, row, inner = layout
    steps, fixed = s.shape[0], x.shape[0] == 1
    v, fired = np.empty(width, x.dtype), np.empty(width, x.dtype)
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for k in range(first, last):
        lo, n = k * width, min(width, columns - k * width)
        d, th = decay[k % len(decay)], v_th[k % len(v_th)]
        for j in range(n):
            v[j] = zero
        for t in range(steps):
            xt = x[0 if fixed else t, lo : lo + n]
            st = fired if row else s[t, lo : lo + n]
            for j in range(n):
                h = d * v[j] + xt[j]
                fires = one if h >= th else zero
                st[j] = fires
                v[j] = h - fires * th
            if row:
                _pool(fired, s[t, lo // 4 : (lo + n) // 4], row, inner)


@njit(cache=True, nogil=True, error_model="numpy")
def _pool(x: Any, y: Any, row: Any, inner: Any) -> None:
    """Means over 2×2 pixels: pairs of rows x [4·M] → y [M]."""
    quarter = x.dtype.type(0.25)
    for k in range(len(y) * 2 // row):
        for pixel in range(row // (2 * inner)):
            lo = 2 * k * row + 2 * pixel * inner
            a, b = x[lo : lo + inner], x[lo + inner : lo + 2 * inner]
            c, d = x[lo + row : lo + row + inner], x[lo + row + inner : lo + row + 2 * inner]
            out = y[(k * row // 2) + pixel * inner :]
            for j in range(inner):
                out[j] = quarter * ((a[j] + b[j]) + (c[j] + d[j]))


@njit(cache=True, nogil=True, error_model="numpy")
def _spread(gy: Any, gx: Any, row: Any, inner: Any) -> None:
    """The adjoint of `_pool`."""
    quarter = gx.dtype.type(0.25)
    for k in range(len(gy) * 2 // row):
        for pixel in range(row // (2 * inner)):
            lo = 2 * k * row + 2 * pixel * inner
            a, b = gx[lo : lo + inner], gx[lo + inner : lo + 2 * inner]
            c, d = gx[lo + row : lo + row + inner], gx[lo + row + inner : lo + row + 2 * inner]
            g = gy[(k * row // 2) + pixel * inner :]
            for j in range(inner):
                each = quarter * g[j]
                a[j] = each
                b[j] = each
                c[j] = each
                d[j] = each


@njit(cache=True, nogil=True, error_model="numpy")
def backward(gs: Any, x: Any, gx: Any, shares: Any, neurons: Any, layout: Any, first: Any, last: Any) -> None:
    """gs [T, M] (pooled: [T, M / 4]) and x [Tx, M] → gx [Tx, M], and each block's shares of gdecay and gv_th.

    shares  [2, blocks]
    """
    decay, v_th = neurons
    columns, width, row, inner = layout
    gdecay, gv_th = shares[0], shares[1]
    steps, fixed = gs.shape[0], x.shape[0] == 1
    h = np.empty((steps, width), x.dtype)
    whole = np.empty(width, x.dtype)
    v, gv, gz = np.empty(width, x.dtype), np.empty(width, x.dtype), np.empty(width, x.dtype)
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
            if row:
                _spread(gs[t, lo // 4 : (lo + n) // 4], whole, row, inner)
            gt = whole if row else gs[t, lo : lo + n]
            ht, out = h[t], gx[0 if fixed else t, lo : lo + n]
            for j in range(n):
                near = one - abs(ht[j] * per - one)
                near = near if near > zero else zero
                gz[j] = gt[j] * (height * near) * per
            for j in range(n):
                a, g = ht[j], gv[j]
                reset = g if a >= th else zero
                sum_th[j] -= gz[j] * a * per + reset
            for j in range(n):
                gv[j] += gz[j]  # now the cotangent of h
            if t:
                before = h[t - 1]
                for j in range(n):
                    a = before[j]
                    sum_d[j] += gv[j] * (a - (th if a >= th else zero))
            if fixed and t < steps - 1:
                for j in range(n):
                    out[j] += gv[j]
            else:
                for j in range(n):
                    out[j] = gv[j]
            for j in range(n):
                gv[j] *= d
        gdecay[k] = _sum(sum_d, n)
        gv_th[k] = _sum(sum_th, n)


@njit(cache=True, nogil=True, error_model="numpy")
def _sum(x: Any, n: Any) -> Any:
    """Sum of the first n ≥ 1 entries, by halves; x is overwritten."""
    while n > 1:
        half = (n + 1) // 2
        for j in range(n - half):
            x[j] += x[j + half]
        n = half
    return x[0]


@njit(cache=True, nogil=True, error_model="numpy")
def pack(s: Any, bits: Any, first: Any, last: Any) -> None:
    """Spikes s [T, M] → bits [⌈T / 8⌉, M], one bit a step; columns `first` to `last`."""
    for t in range(s.shape[0]):
        st, row, bit, none = s[t, first:last], bits[t // 8, first:last], np.uint8(1 << (t % 8)), np.uint8(0)
        if t % 8 == 0:
            for j in range(len(row)):
                row[j] = none
        for j in range(len(row)):
            row[j] |= bit if st[j] != 0 else none


@njit(cache=True, nogil=True, error_model="numpy")
def unpack(bits: Any, s: Any, value: Any, first: Any, last: Any) -> None:
    """The inverse of `pack`, a spike being `value`."""
    zero = value - value
    for t in range(s.shape[0]):
        row, st, bit = bits[t // 8, first:last], s[t, first:last], np.uint8(1 << (t % 8))
        for j in range(len(st)):
            st[j] = value if row[j] & bit else zero
