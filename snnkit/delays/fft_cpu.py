"""The matrices A, B, C of `snnkit.delays.fourier` and their transposes, applied by a fast transform.

Columns go through in blocks of 2 × 16: two real columns are the real and imaginary part of one complex
signal, 16 such side by side in vectors; there must be 32 at least, and the last block may overlap
the one before it. The transform is Stockham's, with passes of 2, 3, 4, 5 and 7.
"""

import math
from functools import lru_cache

import numpy as np
from numba import njit, prange

from .simd import vector

WIDE = 16
_GROUP = 8  # blocks that one task takes
_FACTORS = (4, 2, 3, 5, 7)
_ANGLES = 2 * np.pi * np.arange(4) / np.maximum(np.arange(8), 1)[:, None]  # of [r, k]
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)
load, store, splat, fma, add, sub, mul = vector(WIDE)[:7]


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
def plan(length: int, dtype: str) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Length, radix of each pass, where its turns start, and all turns: cos, sin of ``[p, k]``, k ≥ 1."""
    radices, n = [], length
    for factor in _FACTORS:
        while n % factor == 0:
            radices.append(factor)
            n //= factor
    tables, starts, n = [np.zeros(1)], [1], length
    for radix in radices:
        m = n // radix
        angle = -2 * math.pi / n * (np.arange(m)[:, None] * np.arange(1, radix))
        tables.append(np.stack([np.cos(angle), np.sin(angle)], -1).ravel())
        starts.append(starts[-1] + tables[-1].size)
        n = m
    turns = np.concatenate(tables).astype(dtype)
    return length, np.array(radices, np.int64), np.array(starts, np.int64), turns


# Butterflies: z[k] = Σ_u x[u]·exp(−2πi·u·k/r) of r vectors from `at` on at distance `d` in here = (re, im),
# turned by exp(−2πi·p·k/n), to `to` at distance `e` in there = (re2, im2). angle = (the table of turns, where
# those of this p start, whether p > 0). For odd r the inputs u and r − u are added and
# subtracted first: z[k], z[r − k] = (R ± S') + i(I ∓ S) with R, I the sums of cosines and S, S' of sines.


@njit(inline="always")
def _put(re2, im2, at, table, turn, a, b, turned):  # type: ignore[no-untyped-def]
    """Store the vector a + ib, turned by the angle at `turn` of the table."""
    if turned:
        c, s = splat(table, table[turn]), splat(table, table[turn + 1])
        a, b = sub(mul(c, a), mul(s, b)), fma(c, b, mul(s, a))
    store(re2, at, a)
    store(im2, at, b)


@njit(inline="always")
def _two(here, there, at, d, to, e, angle):  # type: ignore[no-untyped-def]
    (re, im), (re2, im2), (table, turn, turned) = here, there, angle
    x0, x1 = load(re, at), load(re, at + d)
    y0, y1 = load(im, at), load(im, at + d)
    _put(re2, im2, to, table, turn, add(x0, x1), add(y0, y1), False)
    _put(re2, im2, to + e, table, turn, sub(x0, x1), sub(y0, y1), turned)


@njit(inline="always")
def _three(here, there, at, d, to, e, angle):  # type: ignore[no-untyped-def]
    (re, im), (re2, im2), (table, turn, turned) = here, there, angle
    kind = table.dtype.type
    c, s = splat(table, kind(_COS[3, 1])), splat(table, kind(_SIN[3, 1]))
    x0, x1, x2 = load(re, at), load(re, at + d), load(re, at + 2 * d)
    y0, y1, y2 = load(im, at), load(im, at + d), load(im, at + 2 * d)
    a, b, f, g = add(x1, x2), sub(x1, x2), add(y1, y2), sub(y1, y2)
    _put(re2, im2, to, table, turn, add(x0, a), add(y0, f), False)
    r, i, v, w = fma(c, a, x0), fma(c, f, y0), mul(s, g), mul(s, b)
    _put(re2, im2, to + e, table, turn, add(r, v), sub(i, w), turned)
    _put(re2, im2, to + 2 * e, table, turn + 2, sub(r, v), add(i, w), turned)


@njit(inline="always")
def _four(here, there, at, d, to, e, angle):  # type: ignore[no-untyped-def]
    (re, im), (re2, im2), (table, turn, turned) = here, there, angle
    x0, x1, x2, x3 = load(re, at), load(re, at + d), load(re, at + 2 * d), load(re, at + 3 * d)
    y0, y1, y2, y3 = load(im, at), load(im, at + d), load(im, at + 2 * d), load(im, at + 3 * d)
    a, b, f, g = add(x0, x2), sub(x0, x2), add(y0, y2), sub(y0, y2)
    h, k, v, w = add(x1, x3), sub(x1, x3), add(y1, y3), sub(y1, y3)
    _put(re2, im2, to, table, turn, add(a, h), add(f, v), False)
    _put(re2, im2, to + e, table, turn, add(b, w), sub(g, k), turned)
    _put(re2, im2, to + 2 * e, table, turn + 2, sub(a, h), sub(f, v), turned)
    _put(re2, im2, to + 3 * e, table, turn + 4, sub(b, w), add(g, k), turned)


@njit(inline="always")
def _five(here, there, at, d, to, e, angle):  # type: ignore[no-untyped-def]
    (re, im), (re2, im2), (table, turn, turned) = here, there, angle
    kind = table.dtype.type
    c1, c2 = splat(table, kind(_COS[5, 1])), splat(table, kind(_COS[5, 2]))
    s1, s2 = splat(table, kind(_SIN[5, 1])), splat(table, kind(_SIN[5, 2]))
    x0, x1, x2 = load(re, at), load(re, at + d), load(re, at + 2 * d)
    x3, x4 = load(re, at + 3 * d), load(re, at + 4 * d)
    y0, y1, y2 = load(im, at), load(im, at + d), load(im, at + 2 * d)
    y3, y4 = load(im, at + 3 * d), load(im, at + 4 * d)
    a1, b1, f1, g1 = add(x1, x4), sub(x1, x4), add(y1, y4), sub(y1, y4)
    a2, b2, f2, g2 = add(x2, x3), sub(x2, x3), add(y2, y3), sub(y2, y3)
    _put(re2, im2, to, table, turn, add(x0, add(a1, a2)), add(y0, add(f1, f2)), False)
    r, i = fma(c1, a1, fma(c2, a2, x0)), fma(c1, f1, fma(c2, f2, y0))
    v, w = fma(s1, g1, mul(s2, g2)), fma(s1, b1, mul(s2, b2))
    _put(re2, im2, to + e, table, turn, add(r, v), sub(i, w), turned)
    _put(re2, im2, to + 4 * e, table, turn + 6, sub(r, v), add(i, w), turned)
    r, i = fma(c2, a1, fma(c1, a2, x0)), fma(c2, f1, fma(c1, f2, y0))
    v, w = sub(mul(s2, g1), mul(s1, g2)), sub(mul(s2, b1), mul(s1, b2))
    _put(re2, im2, to + 2 * e, table, turn + 2, add(r, v), sub(i, w), turned)
    _put(re2, im2, to + 3 * e, table, turn + 4, sub(r, v), add(i, w), turned)


@njit(inline="always")
def _seven(here, there, at, d, to, e, angle):  # type: ignore[no-untyped-def]
    (re, im), (re2, im2), (table, turn, turned) = here, there, angle
    kind = table.dtype.type
    c1, c2, c3 = (
        splat(table, kind(_COS[7, 1])), splat(table, kind(_COS[7, 2])), splat(table, kind(_COS[7, 3]))
    )  # fmt: skip
    s1, s2, s3 = (
        splat(table, kind(_SIN[7, 1])), splat(table, kind(_SIN[7, 2])), splat(table, kind(_SIN[7, 3]))
    )  # fmt: skip
    x0, x1, x2, x3 = load(re, at), load(re, at + d), load(re, at + 2 * d), load(re, at + 3 * d)
    x4, x5, x6 = load(re, at + 4 * d), load(re, at + 5 * d), load(re, at + 6 * d)
    y0, y1, y2, y3 = load(im, at), load(im, at + d), load(im, at + 2 * d), load(im, at + 3 * d)
    y4, y5, y6 = load(im, at + 4 * d), load(im, at + 5 * d), load(im, at + 6 * d)
    a1, b1, f1, g1 = add(x1, x6), sub(x1, x6), add(y1, y6), sub(y1, y6)
    a2, b2, f2, g2 = add(x2, x5), sub(x2, x5), add(y2, y5), sub(y2, y5)
    a3, b3, f3, g3 = add(x3, x4), sub(x3, x4), add(y3, y4), sub(y3, y4)
    a, b = add(x0, add(a1, add(a2, a3))), add(y0, add(f1, add(f2, f3)))
    _put(re2, im2, to, table, turn, a, b, False)
    r = fma(c1, a1, fma(c2, a2, fma(c3, a3, x0)))
    i = fma(c1, f1, fma(c2, f2, fma(c3, f3, y0)))
    v, w = fma(s1, g1, fma(s2, g2, mul(s3, g3))), fma(s1, b1, fma(s2, b2, mul(s3, b3)))
    _put(re2, im2, to + e, table, turn, add(r, v), sub(i, w), turned)
    _put(re2, im2, to + 6 * e, table, turn + 10, sub(r, v), add(i, w), turned)
    r = fma(c2, a1, fma(c3, a2, fma(c1, a3, x0)))
    i = fma(c2, f1, fma(c3, f2, fma(c1, f3, y0)))
    v = sub(mul(s2, g1), fma(s3, g2, mul(s1, g3)))
    w = sub(mul(s2, b1), fma(s3, b2, mul(s1, b3)))
    _put(re2, im2, to + 2 * e, table, turn + 2, add(r, v), sub(i, w), turned)
    _put(re2, im2, to + 5 * e, table, turn + 8, sub(r, v), add(i, w), turned)
    r = fma(c3, a1, fma(c1, a2, fma(c2, a3, x0)))
    i = fma(c3, f1, fma(c1, f2, fma(c2, f3, y0)))
    v = sub(fma(s3, g1, mul(s2, g3)), mul(s1, g2))
    w = sub(fma(s3, b1, mul(s2, b3)), mul(s1, b2))
    _put(re2, im2, to + 3 * e, table, turn + 4, add(r, v), sub(i, w), turned)
    _put(re2, im2, to + 4 * e, table, turn + 6, sub(r, v), add(i, w), turned)


@njit(inline="always")
def _butterfly(radix, here, there, at, d, to, e, angle):  # type: ignore[no-untyped-def]
    if radix == 2:
        _two(here, there, at, d, to, e, angle)
    elif radix == 3:
        _three(here, there, at, d, to, e, angle)
    elif radix == 4:
        _four(here, there, at, d, to, e, angle)
    elif radix == 5:
        _five(here, there, at, d, to, e, angle)
    else:
        _seven(here, there, at, d, to, e, angle)


@njit(cache=True)
def _transform(re, im, re2, im2, length, radices, starts, table):  # type: ignore[no-untyped-def]
    """Complex transform of ``[length]`` vectors; gives the pair of arrays that holds the result."""
    done, n = 1, length
    for step in range(len(radices)):
        radix = radices[step]
        m = n // radix
        d, e = done * m * WIDE, done * WIDE
        for q in range(done):  # angle 0
            _butterfly(radix, (re, im), (re2, im2), q * WIDE, d, q * WIDE, e, (table, 0, False))
        for p in range(1, m):
            turn = starts[step] + p * (radix - 1) * 2
            for q in range(done):
                at, to = (q + done * p) * WIDE, (q + done * radix * p) * WIDE
                _butterfly(radix, (re, im), (re2, im2), at, d, to, e, (table, turn, True))
        done *= radix
        n = m
        re, re2, im, im2 = re2, re, im2, im
    return re, im


@njit(inline="always")
def _blocks_of(task, tasks, blocks):  # type: ignore[no-untyped-def]
    """First and one past the last; the last block may overlap the one before, so that one task has both."""
    return task * _GROUP, blocks if task == tasks - 1 else (task + 1) * _GROUP


@njit(parallel=True, cache=True)
def analyse(x, part, adjoint, passes, out):  # type: ignore[no-untyped-def]
    """A x (``adjoint`` False) or C x (True): ``[steps, columns] → [points, columns]``, both flat.

    part    (origin, pitch, steps, columns): entry (t, c) of the input lies at ``x[origin + t · pitch + c]``
    passes  `plan` of the length in the dtype of x
    out     flat; of uint16 holds bfloat16
    """
    origin, pitch, steps, columns = part
    length, radices, starts, table = passes
    blocks = (columns + 2 * WIDE - 1) // (2 * WIDE)
    whole = (length - 1) // 2
    half = length // 2 + 1 - whole
    tasks = (max(blocks - 1, 1) + _GROUP - 1) // _GROUP
    for task in prange(tasks):
        first, end = _blocks_of(task, tasks, blocks)
        re, im = np.zeros(length * WIDE, x.dtype), np.zeros(length * WIDE, x.dtype)
        re2, im2 = np.empty(length * WIDE, x.dtype), np.empty(length * WIDE, x.dtype)
        scale = splat(table, table.dtype.type(1 / length if adjoint else 0.5))
        edge = splat(table, table.dtype.type(1 / length if adjoint else 1))
        minus = splat(table, table.dtype.type(-1))
        for block in range(first, end):
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
def synthesise(m, part, adjoint, passes, out):  # type: ignore[no-untyped-def]
    """Cᵀ m (``adjoint`` False) or Aᵀ m (True): ``[points, columns] → [steps, columns]``, both flat.

    m       flat; of uint16 holds bfloat16
    part    (origin, pitch, steps, columns): entry (t, c) of the output at ``out[origin + t · pitch + c]``
    passes  `plan` of the length in the dtype of `out`
    """
    origin, pitch, steps, columns = part
    length, radices, starts, table = passes
    blocks = (columns + 2 * WIDE - 1) // (2 * WIDE)
    whole = (length - 1) // 2
    half = length // 2 + 1 - whole
    tasks = (max(blocks - 1, 1) + _GROUP - 1) // _GROUP
    for task in prange(tasks):
        first, end = _blocks_of(task, tasks, blocks)
        re, im = np.empty(length * WIDE, table.dtype), np.empty(length * WIDE, table.dtype)
        re2, im2 = np.empty(length * WIDE, table.dtype), np.empty(length * WIDE, table.dtype)
        scale = splat(table, table.dtype.type(0.5 if adjoint else 1 / length))
        edge = splat(table, table.dtype.type(1 if adjoint else 1 / length))
        for block in range(first, end):
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
