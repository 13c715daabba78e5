"""The matrices A, B, C of `snnkit.delays.fourier` and their transposes, applied by a fast transform.

Columns go through in blocks of 2 × 16: two real columns are the real and imaginary part of one complex
signal, 16 such side by side in vectors; there must be 32 at least, and the last block may overlap
the one before it. The transform is Stockham's, each pass a small dense product
with the twiddle factors folded in, so that any factors of the length will do.
"""

import math
from functools import lru_cache

import numpy as np
from numba import njit, prange

from .simd import vector

WIDE = 16
_GROUP = 8  # blocks that one task takes
_FACTORS = (4, 2, 3, 5, 7)
load, store, splat, fma, add, sub, mul, _ = vector(WIDE)


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


@njit(inline="always")
def _transform(re, im, re2, im2, length, radices, starts, table):  # type: ignore[no-untyped-def]
    """Complex transform of ``[length]`` vectors; gives the pair of arrays that holds the result."""
    zero = splat(table, table.dtype.type(0))
    done, n = 1, length
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
                        source = (q + done * (p + u * m)) * WIDE
                        x, y = load(re, source), load(im, source)
                        a = fma(c, x, sub(a, mul(s, y)))
                        b = fma(c, y, fma(s, x, b))
                    target = (q + done * (radix * p + k)) * WIDE
                    store(re2, target, a)
                    store(im2, target, b)
        done *= radix
        n = m
        re, re2, im, im2 = re2, re, im2, im
    return re, im


@njit(parallel=True, cache=True)
def analyse(x, origin, pitch, steps, columns, length, adjoint, radices, starts, table, out):  # type: ignore[no-untyped-def]
    """A x (``adjoint`` False) or C x (True): ``[steps, columns] → [points, columns]``, both flat.

    Entry (t, c) of the input lies at ``x[origin + t · pitch + c]``.
    """
    blocks = (columns + 2 * WIDE - 1) // (2 * WIDE)
    whole = (length - 1) // 2
    half = length // 2 + 1 - whole
    for task in prange((blocks + _GROUP - 1) // _GROUP):
        re, im = np.zeros(length * WIDE, x.dtype), np.zeros(length * WIDE, x.dtype)
        re2, im2 = np.empty(length * WIDE, x.dtype), np.empty(length * WIDE, x.dtype)
        scale = splat(table, table.dtype.type(1 / length if adjoint else 0.5))
        edge = splat(table, table.dtype.type(1 / length if adjoint else 1))
        minus = splat(table, table.dtype.type(-1))
        for block in range(task * _GROUP, min(blocks, (task + 1) * _GROUP)):
            one = min(block * 2 * WIDE, columns - 2 * WIDE)
            two = one + WIDE
            for t in range(steps):
                store(re, t * WIDE, load(x, origin + t * pitch + one))
                store(im, t * WIDE, load(x, origin + t * pitch + two))
            for t in range(steps * WIDE, length * WIDE):
                re[t] = 0
                im[t] = 0
            zr, zi = _transform(re, im, re2, im2, length, radices, starts, table)
            for e in range(half):
                f = e * (length // 2)
                store(out, e * columns + one, mul(edge, load(zr, f * WIDE)))
                store(out, e * columns + two, mul(edge, load(zi, f * WIDE)))
            for w in range(whole):
                a, b = load(zr, (w + 1) * WIDE), load(zi, (w + 1) * WIDE)
                c, d = load(zr, (length - 1 - w) * WIDE), load(zi, (length - 1 - w) * WIDE)
                r1, i1 = mul(scale, add(a, c)), mul(scale, sub(d, b))
                r2, i2 = mul(scale, add(b, d)), mul(scale, sub(a, c))
                if adjoint:
                    p1, q1, s1 = sub(r1, i1), mul(minus, add(r1, i1)), i1
                    p2, q2, s2 = sub(r2, i2), mul(minus, add(r2, i2)), i2
                else:
                    p1, q1, s1 = r1, i1, add(r1, i1)
                    p2, q2, s2 = r2, i2, add(r2, i2)
                row = half + w
                store(out, row * columns + one, p1)
                store(out, row * columns + two, p2)
                store(out, (row + whole) * columns + one, q1)
                store(out, (row + whole) * columns + two, q2)
                store(out, (row + 2 * whole) * columns + one, s1)
                store(out, (row + 2 * whole) * columns + two, s2)


@njit(parallel=True, cache=True)
def synthesise(m, steps, columns, length, adjoint, radices, starts, table, out, origin, pitch):  # type: ignore[no-untyped-def]
    """Cᵀ m (``adjoint`` False) or Aᵀ m (True): ``[points, columns] → [steps, columns]``, both flat.

    Entry (t, c) of the output goes to ``out[origin + t · pitch + c]``.
    """
    blocks = (columns + 2 * WIDE - 1) // (2 * WIDE)
    whole = (length - 1) // 2
    half = length // 2 + 1 - whole
    for task in prange((blocks + _GROUP - 1) // _GROUP):
        re, im = np.empty(length * WIDE, m.dtype), np.empty(length * WIDE, m.dtype)
        re2, im2 = np.empty(length * WIDE, m.dtype), np.empty(length * WIDE, m.dtype)
        scale = splat(table, table.dtype.type(0.5 if adjoint else 1 / length))
        edge = splat(table, table.dtype.type(1 if adjoint else 1 / length))
        for block in range(task * _GROUP, min(blocks, (task + 1) * _GROUP)):
            one = min(block * 2 * WIDE, columns - 2 * WIDE)
            two = one + WIDE
            # real and imaginary part change places, which turns the transform into its inverse
            for e in range(half):
                f = e * (length // 2)
                store(im, f * WIDE, mul(edge, load(m, e * columns + one)))
                store(re, f * WIDE, mul(edge, load(m, e * columns + two)))
            for w in range(whole):
                row = half + w
                p1 = mul(scale, load(m, row * columns + one))
                p2 = mul(scale, load(m, row * columns + two))
                q1 = mul(scale, load(m, (row + whole) * columns + one))
                q2 = mul(scale, load(m, (row + whole) * columns + two))
                s1 = mul(scale, load(m, (row + 2 * whole) * columns + one))
                s2 = mul(scale, load(m, (row + 2 * whole) * columns + two))
                if adjoint:
                    r1, i1, r2, i2 = add(p1, s1), add(q1, s1), add(p2, s2), add(q2, s2)
                else:
                    r1, i1 = sub(p1, q1), sub(s1, add(p1, q1))
                    r2, i2 = sub(p2, q2), sub(s2, add(p2, q2))
                f, g = (w + 1) * WIDE, (length - 1 - w) * WIDE
                store(im, f, add(r1, i2))
                store(re, f, sub(r2, i1))
                store(im, g, sub(r1, i2))
                store(re, g, add(r2, i1))
            zi, zr = _transform(re, im, re2, im2, length, radices, starts, table)
            for t in range(steps):
                store(out, origin + t * pitch + one, load(zr, t * WIDE))
                store(out, origin + t * pitch + two, load(zi, t * WIDE))
