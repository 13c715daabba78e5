"""The matrices A, B, C of `snnkit.delays.fourier` and their transposes, applied by a fast transform.

Columns go through in blocks of 2 × 16: two real columns are the real and imaginary part of one complex
signal, 16 such side by side in vectors. The transform is Stockham's, each pass a small dense product
with the twiddle factors folded in, so that any factors of the length will do.
"""

import math
from functools import lru_cache

import numpy as np
from numba import njit, prange

from .simd import vector

_WIDE = 16
_GROUP = 8  # blocks that one task takes
_FACTORS = (4, 2, 3, 5, 7)
load, store, splat, fma, add, sub, mul, _ = vector(_WIDE)


def good_length(least: int) -> int:
    """The smallest number ≥ `least` whose prime factors are 2, 3, 5 and 7."""
    n = max(1, least)
    while _rest(n) != 1:
        n += 1
    return n


def _rest(n: int) -> int:
    for factor in (2, 3, 5, 7):
        while n % factor == 0:
            n //= factor
    return n


@lru_cache(maxsize=64)
def plan(length: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radix of each pass, where its table starts, and all tables: cos, sin of ``[p, k, u]``."""
    radices, n = [], length
    for factor in _FACTORS:
        while n % factor == 0:
            radices.append(factor)
            n //= factor
    tables, starts, n = [], [0], length
    for radix in radices:
        m = n // radix
        p, k, u = np.ogrid[:m, :radix, :radix]
        angle = -2 * math.pi * ((p * k / n) + (u * k % radix) / radix)
        tables.append(np.stack([np.cos(angle), np.sin(angle)], -1).ravel())
        starts.append(starts[-1] + tables[-1].size)
        n = m
    table = np.concatenate(tables) if tables else np.zeros(0)
    return np.array(radices, np.int64), np.array(starts, np.int64), table.astype(dtype)


@njit(cache=True)
def _transform(re, im, re2, im2, length, radices, starts, table):  # type: ignore[no-untyped-def]
    """Complex transform of ``[length]`` vectors; True if the result is in the second pair of arrays."""
    zero = splat(table, table.dtype.type(0))
    done, n, second = 1, length, False
    for step in range(len(radices)):
        radix = radices[step]
        m = n // radix
        for p in range(m):
            for k in range(radix):
                at = starts[step] + (p * radix + k) * radix * 2
                for q in range(done):
                    a, b = zero, zero
                    for u in range(radix):
                        c = splat(table, table[at + 2 * u])
                        s = splat(table, table[at + 2 * u + 1])
                        source = (q + done * (p + u * m)) * _WIDE
                        if second:
                            x, y = load(re2, source), load(im2, source)
                        else:
                            x, y = load(re, source), load(im, source)
                        a = fma(c, x, sub(a, mul(s, y)))
                        b = fma(c, y, fma(s, x, b))
                    target = (q + done * (radix * p + k)) * _WIDE
                    if second:
                        store(re, target, a)
                        store(im, target, b)
                    else:
                        store(re2, target, a)
                        store(im2, target, b)
        done *= radix
        n = m
        second = not second
    return second


@njit(cache=True)
def _put(out, at, left, v, spare):  # type: ignore[no-untyped-def]
    """Write up to 16 numbers."""
    if left >= _WIDE:
        store(out, at, v)
    elif left > 0:
        store(spare, 0, v)
        for j in range(left):
            out[at + j] = spare[j]


@njit(cache=True)
def _get(x, at, left, spare):  # type: ignore[no-untyped-def]
    """Read up to 16 numbers, zeros beyond."""
    if left >= _WIDE:
        return load(x, at)
    for j in range(_WIDE):
        spare[j] = x[at + j] if j < left else spare.dtype.type(0)
    return load(spare, 0)


@njit(parallel=True, cache=True)
def analyse(x, origin, pitch, steps, columns, length, adjoint, radices, starts, table, out):  # type: ignore[no-untyped-def]
    """A x (``adjoint`` False) or C x (True): ``[steps, columns] → [points, columns]``, both flat.

    Entry (t, c) of the input lies at ``x[origin + t · pitch + c]``.
    """
    blocks = (columns + 2 * _WIDE - 1) // (2 * _WIDE)
    whole = (length - 1) // 2
    half = length // 2 + 1 - whole
    for task in prange((blocks + _GROUP - 1) // _GROUP):
        re, im = np.zeros(length * _WIDE, x.dtype), np.zeros(length * _WIDE, x.dtype)
        re2, im2 = np.empty(length * _WIDE, x.dtype), np.empty(length * _WIDE, x.dtype)
        spare = np.empty(_WIDE, x.dtype)
        scale = splat(table, table.dtype.type(1 / length if adjoint else 0.5))
        edge = splat(table, table.dtype.type(1 / length if adjoint else 1))
        minus = splat(table, table.dtype.type(-1))
        for block in range(task * _GROUP, min(blocks, (task + 1) * _GROUP)):
            one = block * 2 * _WIDE
            two = one + _WIDE
            n1, n2 = min(columns - one, _WIDE), min(columns - two, _WIDE)
            for t in range(steps):
                store(re, t * _WIDE, _get(x, origin + t * pitch + one, n1, spare))
                store(im, t * _WIDE, _get(x, origin + t * pitch + two, n2, spare))
            for t in range(steps * _WIDE, length * _WIDE):
                re[t] = 0
                im[t] = 0
            second = _transform(re, im, re2, im2, length, radices, starts, table)
            zr, zi = (re2, im2) if second else (re, im)
            for e in range(half):
                f = e * (length // 2)
                _put(out, e * columns + one, n1, mul(edge, load(zr, f * _WIDE)), spare)
                _put(out, e * columns + two, n2, mul(edge, load(zi, f * _WIDE)), spare)
            for w in range(whole):
                a, b = load(zr, (w + 1) * _WIDE), load(zi, (w + 1) * _WIDE)
                c, d = load(zr, (length - 1 - w) * _WIDE), load(zi, (length - 1 - w) * _WIDE)
                r1, i1 = mul(scale, add(a, c)), mul(scale, sub(d, b))
                r2, i2 = mul(scale, add(b, d)), mul(scale, sub(a, c))
                if adjoint:
                    p1, q1, s1 = sub(r1, i1), mul(minus, add(r1, i1)), i1
                    p2, q2, s2 = sub(r2, i2), mul(minus, add(r2, i2)), i2
                else:
                    p1, q1, s1 = r1, i1, add(r1, i1)
                    p2, q2, s2 = r2, i2, add(r2, i2)
                row = half + w
                _put(out, row * columns + one, n1, p1, spare)
                _put(out, row * columns + two, n2, p2, spare)
                _put(out, (row + whole) * columns + one, n1, q1, spare)
                _put(out, (row + whole) * columns + two, n2, q2, spare)
                _put(out, (row + 2 * whole) * columns + one, n1, s1, spare)
                _put(out, (row + 2 * whole) * columns + two, n2, s2, spare)


@njit(parallel=True, cache=True)
def synthesise(m, steps, columns, length, adjoint, radices, starts, table, out, origin, pitch):  # type: ignore[no-untyped-def]
    """Cᵀ m (``adjoint`` False) or Aᵀ m (True): ``[points, columns] → [steps, columns]``, both flat.

    Entry (t, c) of the output goes to ``out[origin + t · pitch + c]``.
    """
    blocks = (columns + 2 * _WIDE - 1) // (2 * _WIDE)
    whole = (length - 1) // 2
    half = length // 2 + 1 - whole
    for task in prange((blocks + _GROUP - 1) // _GROUP):
        re, im = np.empty(length * _WIDE, m.dtype), np.empty(length * _WIDE, m.dtype)
        re2, im2 = np.empty(length * _WIDE, m.dtype), np.empty(length * _WIDE, m.dtype)
        spare = np.empty(_WIDE, m.dtype)
        scale = splat(table, table.dtype.type(0.5 if adjoint else 1 / length))
        edge = splat(table, table.dtype.type(1 if adjoint else 1 / length))
        for block in range(task * _GROUP, min(blocks, (task + 1) * _GROUP)):
            one = block * 2 * _WIDE
            two = one + _WIDE
            n1, n2 = min(columns - one, _WIDE), min(columns - two, _WIDE)
            # real and imaginary part change places, which turns the transform into its inverse
            for e in range(half):
                f = e * (length // 2)
                store(im, f * _WIDE, mul(edge, _get(m, e * columns + one, n1, spare)))
                store(re, f * _WIDE, mul(edge, _get(m, e * columns + two, n2, spare)))
            for w in range(whole):
                row = half + w
                p1 = mul(scale, _get(m, row * columns + one, n1, spare))
                p2 = mul(scale, _get(m, row * columns + two, n2, spare))
                q1 = mul(scale, _get(m, (row + whole) * columns + one, n1, spare))
                q2 = mul(scale, _get(m, (row + whole) * columns + two, n2, spare))
                s1 = mul(scale, _get(m, (row + 2 * whole) * columns + one, n1, spare))
                s2 = mul(scale, _get(m, (row + 2 * whole) * columns + two, n2, spare))
                if adjoint:
                    r1, i1, r2, i2 = add(p1, s1), add(q1, s1), add(p2, s2), add(q2, s2)
                else:
                    r1, i1 = sub(p1, q1), sub(s1, add(p1, q1))
                    r2, i2 = sub(p2, q2), sub(s2, add(p2, q2))
                f, g = (w + 1) * _WIDE, (length - 1 - w) * _WIDE
                store(im, f, add(r1, i2))
                store(re, f, sub(r2, i1))
                store(im, g, sub(r1, i2))
                store(re, g, add(r2, i1))
            second = _transform(re, im, re2, im2, length, radices, starts, table)
            zr, zi = (im2, re2) if second else (im, re)
            for t in range(steps):
                _put(out, origin + t * pitch + one, n1, load(zr, t * _WIDE), spare)
                _put(out, origin + t * pitch + two, n2, load(zi, t * _WIDE), spare)
