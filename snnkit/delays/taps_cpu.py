"""The delayed product by the few taps of each synapse that matter, on the CPU, for sparse input.

Computes `reference.delayed_product` and its gradient to weight, position and σ, except for kernel
values outside `taps` adjacent delays around the position (`tap_count` says how many are needed for a
tolerance). Work is done only for inputs that are not zero: time runs innermost in a tile of the output
(or of its gradient), so that an event through a synapse is one short vector added at step t + delay.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from .. import memory
from ..jit import build, source_of
from .kernel import FLOOR, DelayKernel, gauss_taps, resolve
from .simd import count as count_bits
from .simd import lowest, vector

BATCH_BLOCK = 16
"""Samples of one tile: 16 outputs × 16 samples × some 150 steps of float32 fit a core's cache."""
OUTPUT_BLOCK = 16
_PHASES = 16
"""Events of one list are ordered by step modulo this, so that what one has written is not read back by the
next ones before it has left the core's store buffer."""
WIDTHS = (8, 16, 32)
"""Taps that the kernels come in."""
LANES = 16
load16, nonzero = vector(LANES).load, vector(LANES).nonzero
# what the functions below read as, for one of the widths and one of the kernels
load, store, splat, fma, add = vector(8)[:5]
unscaled: Any = gauss_taps
LEAST_WIDTH, ROUNDED = 0.27, False


class Taps(NamedTuple):
    """Synapses as the loops read them.

    weight    ``[O, I, K]``, float32 or float64
    position  likewise, steps
    sigma     likewise, steps
    window    number of delays
    version   of a kernel that has `taps`
    width     how many adjacent delays of each are taken, at most `window` except in `forward` and `gradient`
    """

    weight: np.ndarray
    position: np.ndarray
    sigma: np.ndarray
    window: int
    version: str
    width: int


class Events(NamedTuple):
    """Non-zero entries of x ``[T, B, I]``, listed by block of samples, then input, then step.

    pointer  ``[blocks · I + 1]`` where each list starts
    at       offset of the entry in a row of a tile: sample in block · stride + step
    value    its value, or empty if all have the value `uniform`
    uniform  the common value; NaN if they differ
    stride   steps between samples in a tile
    """

    pointer: np.ndarray
    at: np.ndarray
    value: np.ndarray
    uniform: float
    stride: int
    steps: int
    batch: int
    inputs: int

    @property
    def nbytes(self) -> int:
        """Memory of the lists."""
        return self.pointer.nbytes + self.at.nbytes + self.value.nbytes


def tap_count(sigma: float, version: str, window: int, tolerance: float) -> int:
    """Adjacent delays that hold every kernel value above `tolerance` × the largest, wherever p lies."""
    kernel = resolve(version)
    needed = 2 * kernel.reach(sigma + kernel.least_width, tolerance)
    return window if needed + 1 >= window else math.ceil(needed) + 1


def find_events(x: np.ndarray, window: int, steps_out: int, width: int) -> Events:
    """List what is not zero in x ``[T, B, I]``, for kernels of `width` taps."""
    steps, batch, inputs = x.shape
    # the taps of a kernel may reach beyond the last delay
    stride = max(steps + window - 1, steps_out) + width
    pointer, at, value, least, most = _list_events(x, x.reshape(-1), min(BATCH_BLOCK, max(batch, 1)), stride)
    uniform = float(least) if len(at) and least == most else math.nan
    if not math.isnan(uniform):
        value = value[:0]
    return Events(pointer, at, value, uniform, stride, steps, batch, inputs)


@njit(parallel=True, cache=True)
def _list_events(x, flat, block, stride):  # type: ignore[no-untyped-def]
    """`flat` is x in one dimension."""
    steps, batch, inputs = x.shape
    blocks = (batch + block - 1) // block
    pointer = np.zeros(blocks * inputs + 1, np.int64)
    start = np.zeros(blocks + 1, np.int64)
    for k in prange(blocks):
        n = 0
        for t in range(steps):
            row = (t * batch + k * block) * inputs
            size = min(block, batch - k * block) * inputs
            for j in range(0, size - LANES + 1, LANES):
                n += count_bits(nonzero(load16(flat, row + j)))  # type: ignore[call-arg]
            for j in range(size // LANES * LANES, size):
                n += flat[row + j] != 0
        start[k + 1] = n
    for k in range(blocks):
        start[k + 1] += start[k]
    # as they come; then sorted by input
    source = np.empty(start[blocks], np.int32)
    place_of = np.empty(start[blocks], np.int32)
    amount = np.empty(start[blocks], x.dtype)
    least = np.full(blocks, np.inf, x.dtype)
    most = np.full(blocks, -np.inf, x.dtype)
    whole = inputs // LANES * LANES
    for k in prange(blocks):
        count = np.zeros(inputs, np.int64)
        n = start[k]
        for phase in range(_PHASES):
            for t in range(phase, steps, _PHASES):
                for b in range(k * block, min(batch, (k + 1) * block)):
                    row = (t * batch + b) * inputs
                    where = (b - k * block) * stride + t
                    for i0 in range(0, whole, LANES):
                        bits = nonzero(load16(flat, row + i0))
                        while bits:
                            i = i0 + lowest(bits)  # type: ignore[call-arg]
                            bits &= bits - 1
                            source[n], place_of[n], amount[n] = i, where, flat[row + i]
                            count[i] += 1
                            n += 1
                    for i in range(whole, inputs):
                        if flat[row + i] != 0:
                            source[n], place_of[n], amount[n] = i, where, flat[row + i]
                            count[i] += 1
                            n += 1
        pointer[k * inputs + 1 : (k + 1) * inputs + 1] = count
    for j in range(blocks * inputs):
        pointer[j + 1] += pointer[j]
    at = np.empty(pointer[-1], np.int32)
    value = np.empty(pointer[-1], x.dtype)
    for k in prange(blocks):
        place = pointer[k * inputs : (k + 1) * inputs].copy()
        low, high = least[k], most[k]
        for e in range(start[k], start[k + 1]):
            i, v = source[e], amount[e]
            at[place[i]] = place_of[e]
            value[place[i]] = v
            place[i] += 1
            low, high = min(low, v), max(high, v)
        least[k], most[k] = low, high
    if blocks == 0:
        return pointer, at, value, x.dtype.type(0), x.dtype.type(0)
    return pointer, at, value, least.min(), most.max()


def _kernel(p: Any, sigma: Any, first: Any, window: Any, k: Any, dp: Any, ds: Any) -> None:
    """K, ∂K/∂p and ∂K/∂σ at the delays first … first + len(k) − 1 (0 beyond the window)."""
    sign = 1.0 if sigma > 0 else (-1.0 if sigma < 0 else 0.0)
    total, total_p, total_s = 0.0, 0.0, 0.0
    unscaled(p, abs(sigma) + LEAST_WIDTH, first, window, k, dp, ds)
    for j in range(len(k)):
        ds[j] *= sign
        total += k[j]
        total_p += dp[j]
        total_s += ds[j]
    if not ROUNDED:
        inverse = 1 / (total + FLOOR)
        for j in range(len(k)):
            k[j] *= inverse
            dp[j] = (dp[j] - k[j] * total_p) * inverse
            ds[j] = (ds[j] - k[j] * total_s) * inverse


def _first(p: Any, taps: Any, window: Any) -> Any:
    """First delay of the `taps` nearest to p that lie in the window."""
    if taps >= window:
        return 0
    return min(max(math.floor(p) - (taps // 2 - 1), 0), window - taps)


def _tables(weight, position, sigma, window, first, table):  # type: ignore[no-untyped-def]
    width = table.shape[3]
    for o in prange(weight.shape[0]):
        k, dp, ds = np.empty(width), np.empty(width), np.empty(width)
        for i in range(weight.shape[1]):
            for c in range(weight.shape[2]):
                n = _first(position[o, i, c], width, window)
                _kernel(position[o, i, c], sigma[o, i, c], n, window, k, dp, ds)
                first[o, i, c] = n
                for j in range(width):
                    table[o, i, c, j] = weight[o, i, c] * k[j]


def _adjoint(weight, position, sigma, window, sums, gw, gp, gs):  # type: ignore[no-untyped-def]
    width = sums.shape[3]
    for o in prange(weight.shape[0]):
        k, dp, ds = np.empty(width), np.empty(width), np.empty(width)
        for i in range(weight.shape[1]):
            for c in range(weight.shape[2]):
                n = _first(position[o, i, c], width, window)
                _kernel(position[o, i, c], sigma[o, i, c], n, window, k, dp, ds)
                a, b, e = 0.0, 0.0, 0.0
                for j in range(width):
                    g = sums[o, i, c, j]
                    a += k[j] * g
                    b += dp[j] * g
                    e += ds[j] * g
                gw[o, i, c] = a
                gp[o, i, c] = weight[o, i, c] * b
                gs[o, i, c] = weight[o, i, c] * e


def _spread(weight, position, sigma, width, out):  # type: ignore[no-untyped-def]
    window = out.shape[0]
    for o in prange(weight.shape[0]):
        k, dp, ds = np.empty(width), np.empty(width), np.empty(width)
        for i in range(weight.shape[1]):
            for c in range(weight.shape[2]):
                n = _first(position[o, i, c], width, window)
                _kernel(position[o, i, c], sigma[o, i, c], n, window, k, dp, ds)
                for j in range(width):
                    out[n + j, o, i] += weight[o, i, c] * k[j]


def _gather(weight, position, sigma, width, gk, gw, gp, gs):  # type: ignore[no-untyped-def]
    window = gk.shape[0]
    for o in prange(weight.shape[0]):
        k, dp, ds = np.empty(width), np.empty(width), np.empty(width)
        for i in range(weight.shape[1]):
            for c in range(weight.shape[2]):
                n = _first(position[o, i, c], width, window)
                _kernel(position[o, i, c], sigma[o, i, c], n, window, k, dp, ds)
                a, b, e = 0.0, 0.0, 0.0
                for j in range(width):
                    g = gk[n + j, o, i]
                    a += k[j] * g
                    b += dp[j] * g
                    e += ds[j] * g
                gw[o, i, c] = a
                gp[o, i, c] = weight[o, i, c] * b
                gs[o, i, c] = weight[o, i, c] * e


@lru_cache(maxsize=64)
def _tapped(kernel: DelayKernel) -> ModuleType:
    """The functions above compiled for one kernel: ``.tables``, ``.adjoint``, ``.spread``, ``.gather``."""
    assert kernel.taps is not None
    source = (
        "import math\nfrom typing import Any\nimport numpy as np\nfrom numba import njit, prange\n"
        f"FLOOR, LEAST_WIDTH, ROUNDED = {FLOOR!r}, {float(kernel.least_width)!r}, {kernel.rounded!r}\n"
    )
    inner: dict[str, Callable[..., Any]] = {"unscaled": kernel.taps, "_first": _first, "_kernel": _kernel}
    outer: dict[str, Callable[..., Any]] = {
        "tables": _tables, "adjoint": _adjoint, "spread": _spread, "gather": _gather,
    }  # fmt: skip
    for name, function in inner.items():
        source += f"\n@njit(inline='always')\n{source_of(function, name)}"
    for name, function in outer.items():
        source += f"\n@njit(parallel=True, cache=True)\n{source_of(function, name)}"
    return build("delay_kernel", source)


def _forward(events, table, first, taps, tiles, y):  # type: ignore[no-untyped-def]
    """Events (pointer, at, value); taps (width, inputs, count); tiles (stride, block, group)."""
    pointer, at, value = events
    width, inputs, count = taps
    stride, block, group = tiles
    steps, batch, outputs = y.shape
    blocks = (batch + block - 1) // block
    groups = (outputs + group - 1) // group
    row = block * stride + width
    varied = len(value) > 0
    for task in prange(blocks * groups):
        k, o0 = task % blocks, task // blocks * group
        o1 = min(outputs, o0 + group)
        tile = np.zeros(group * row, y.dtype)
        none = splat(tile, y.dtype.type(0))
        for o in range(o0, o1, 4):
            r0 = (o - o0) * row
            for i in range(inputs):
                begin, end = pointer[k * inputs + i], pointer[k * inputs + i + 1]
                for c in range(count):
                    s0 = (o * inputs + i) * count + c
                    s1, s2, s3 = (
                        s0 + inputs * count,
                        s0 + 2 * inputs * count,
                        s0 + 3 * inputs * count,
                    )
                    c0, n0 = load(table, s0 * width), r0 + first[s0]
                    c1, n1, c2, n2, c3, n3 = none, n0, none, n0, none, n0
                    if o + 1 < o1:
                        c1, n1 = load(table, s1 * width), r0 + row + first[s1]
                    if o + 2 < o1:
                        c2, n2 = load(table, s2 * width), r0 + 2 * row + first[s2]
                    if o + 3 < o1:
                        c3, n3 = load(table, s3 * width), r0 + 3 * row + first[s3]
                    if varied:
                        for e in range(begin, end):
                            a = np.intp(at[e])
                            v = splat(tile, value[e])
                            store(tile, a + n0, fma(v, c0, load(tile, a + n0)))
                            store(tile, a + n1, fma(v, c1, load(tile, a + n1)))
                            store(tile, a + n2, fma(v, c2, load(tile, a + n2)))
                            store(tile, a + n3, fma(v, c3, load(tile, a + n3)))
                    else:
                        for e in range(begin, end):
                            a = np.intp(at[e])
                            store(tile, a + n0, add(load(tile, a + n0), c0))
                            store(tile, a + n1, add(load(tile, a + n1), c1))
                            store(tile, a + n2, add(load(tile, a + n2), c2))
                            store(tile, a + n3, add(load(tile, a + n3), c3))
        for b in range(min(block, batch - k * block)):
            for t0 in range(0, steps, 16):
                for t in range(t0, min(steps, t0 + 16)):
                    for o in range(o0, o1):
                        y[t, k * block + b, o] = tile[(o - o0) * row + b * stride + t]


def _gradient(events, first, taps, tiles, g, sums):  # type: ignore[no-untyped-def]
    """Arguments as `_forward`'s."""
    pointer, at, value = events
    width, inputs, count = taps
    stride, block, group = tiles
    steps, batch, outputs = g.shape
    blocks = (batch + block - 1) // block
    row = block * stride + width
    varied = len(value) > 0
    for task in prange((outputs + group - 1) // group):
        o0 = task * group
        o1 = min(outputs, o0 + group)
        tile = np.zeros(group * row, g.dtype)
        none = splat(tile, g.dtype.type(0))
        for k in range(blocks):
            for b in range(min(block, batch - k * block)):
                for t0 in range(0, steps, 16):
                    for t in range(t0, min(steps, t0 + 16)):
                        for o in range(o0, o1):
                            tile[(o - o0) * row + b * stride + t] = g[t, k * block + b, o]
            for o in range(o0, o1, 4):
                r0 = (o - o0) * row
                for i in range(inputs):
                    begin, end = pointer[k * inputs + i], pointer[k * inputs + i + 1]
                    for c in range(count):
                        s0 = (o * inputs + i) * count + c
                        s1, s2, s3 = (
                            s0 + inputs * count,
                            s0 + 2 * inputs * count,
                            s0 + 3 * inputs * count,
                        )
                        n0 = r0 + first[s0]
                        n1, n2, n3 = n0, n0, n0
                        if o + 1 < o1:
                            n1 = r0 + row + first[s1]
                        if o + 2 < o1:
                            n2 = r0 + 2 * row + first[s2]
                        if o + 3 < o1:
                            n3 = r0 + 3 * row + first[s3]
                        z0, z1, z2, z3 = none, none, none, none
                        if varied:
                            for e in range(begin, end):
                                a = np.intp(at[e])
                                v = splat(tile, value[e])
                                z0 = fma(v, load(tile, a + n0), z0)
                                z1 = fma(v, load(tile, a + n1), z1)
                                z2 = fma(v, load(tile, a + n2), z2)
                                z3 = fma(v, load(tile, a + n3), z3)
                        else:
                            for e in range(begin, end):
                                a = np.intp(at[e])
                                z0 = add(z0, load(tile, a + n0))
                                z1 = add(z1, load(tile, a + n1))
                                z2 = add(z2, load(tile, a + n2))
                                z3 = add(z3, load(tile, a + n3))
                        store(sums, s0 * width, add(load(sums, s0 * width), z0))
                        if o + 1 < o1:
                            store(sums, s1 * width, add(load(sums, s1 * width), z1))
                        if o + 2 < o1:
                            store(sums, s2 * width, add(load(sums, s2 * width), z2))
                        if o + 3 < o1:
                            store(sums, s3 * width, add(load(sums, s3 * width), z3))


@lru_cache(maxsize=4)
def _kernels(width: int) -> ModuleType:
    """The two loops above compiled for vectors of `width` lanes: ``.forward`` and ``.gradient``."""
    source = (
        "import numpy as np\nfrom numba import njit, prange\nfrom snnkit.delays.simd import vector\n"
        f"load, store, splat, fma, add = vector({width})[:5]\n"
    )
    for name, function in (("forward", _forward), ("gradient", _gradient)):
        source += f"\n@njit(parallel=True, cache=True)\n{source_of(function, name)}"
    return build(f"taps{width}", source)


def _tiles(events: Events, outputs: int) -> tuple[int, int, int]:
    """Steps between samples of a tile, samples and outputs of one."""
    return events.stride, min(BATCH_BLOCK, max(events.batch, 1)), _group(outputs)


def _group(outputs: int) -> int:
    """Outputs of one task: a multiple of 4, at most 16, and so that every thread gets some."""
    tasks = max(-(-outputs // OUTPUT_BLOCK), min(2 * get_num_threads(), -(-outputs // 4)))
    return 4 * -(-outputs // (4 * tasks))


def tables(taps: Taps) -> tuple[np.ndarray, np.ndarray]:
    """The first of the taps of every synapse, int32 ``[O, I, K]``, and w·K at each, ``[O, I, K, width]``."""
    first = np.empty(taps.weight.shape, np.int32)
    table = np.empty((*taps.weight.shape, taps.width), taps.weight.dtype)
    kernel = _tapped(resolve(taps.version))
    kernel.tables(taps.weight, taps.position, taps.sigma, taps.window, first, table)
    return first, table


def adjoint(sums: np.ndarray, taps: Taps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """∂L/∂weight, ∂L/∂position, ∂L/∂σ ``[O, I, K]`` from `sums`, the gradient of K at each tap."""
    gw, gp, gs = (np.empty_like(taps.weight) for _ in range(3))
    kernel = _tapped(resolve(taps.version))
    kernel.adjoint(taps.weight, taps.position, taps.sigma, taps.window, sums, gw, gp, gs)
    return gw, gp, gs


def forward(events: Events, taps: Taps, steps_out: int) -> np.ndarray:
    """y ``[steps_out, B, O]`` in the dtype of the weights; `taps.width` is one of `WIDTHS`."""
    outputs, inputs, count = taps.weight.shape
    first, table = tables(taps)
    if not math.isnan(events.uniform) and events.uniform != 1:
        table *= table.dtype.type(events.uniform)
    y = np.empty((steps_out, events.batch, outputs), table.dtype)
    if y.nbytes >= memory.LARGE:
        memory.huge_pages(y.ctypes.data, y.nbytes)
    _kernels(taps.width).forward(
        events[:3], table.reshape(-1), first.reshape(-1), (taps.width, inputs, count),
        _tiles(events, outputs), y,
    )  # fmt: skip
    return y


def gradient(events: Events, g: np.ndarray, taps: Taps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """∂L/∂weight, ∂L/∂position and ∂L/∂σ of every synapse ``[O, I, K]`` from g = ∂L/∂y ``[steps_out, B, O]``.

    `taps.width` is that of the events, one of `WIDTHS`.
    """
    outputs, inputs, count = taps.weight.shape
    width = taps.width
    first = _starts(taps.position, width, taps.window)
    sums = np.zeros((*taps.weight.shape, width), taps.weight.dtype)
    _kernels(width).gradient(
        events[:3], first.reshape(-1), (width, inputs, count), _tiles(events, outputs), g, sums.reshape(-1)
    )
    if not math.isnan(events.uniform) and events.uniform != 1:
        sums *= sums.dtype.type(events.uniform)
    return adjoint(sums, taps)


def _starts(position: np.ndarray, width: int, window: int) -> np.ndarray:
    if width >= window:
        return np.zeros(position.shape, np.int32)
    return np.clip(np.floor(position).astype(np.int32) - (width // 2 - 1), 0, window - width)


def dense_kernel(taps: Taps) -> np.ndarray:
    """Σ_k w·K of every synapse, ``[window, O, I]`` in the dtype of the weights."""
    out = np.zeros((taps.window, *taps.weight.shape[:2]), taps.weight.dtype)
    _tapped(resolve(taps.version)).spread(taps.weight, taps.position, taps.sigma, taps.width, out)
    return out


def dense_adjoint(gk: np.ndarray, taps: Taps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """∂L/∂weight, ∂L/∂position, ∂L/∂σ ``[O, I, K]`` from gk ``[window, O, I]``, that of `dense_kernel`."""
    gw, gp, gs = (np.empty_like(taps.weight) for _ in range(3))
    kernel = _tapped(resolve(taps.version))
    kernel.gather(taps.weight, taps.position, taps.sigma, taps.width, gk, gw, gp, gs)
    return gw, gp, gs
