"""Loihi's current-based integrate-and-fire neuron in the chip's integers.

    u[t] = wrap(trunc(u[t-1] · (4095 − du) / 4096) + 64 · x[t])       synaptic current
    h[t] = clip(trunc(v[t-1] · (4096 − dv) / 4096) + u[t] + bias)     potential before the reset
    s[t] = 1 if h[t] > 64 · vth else 0                                strictly greater
    v[t] = 0 if s[t] else h[t]

`trunc` rounds towards zero, `clip` holds v within ±(2²³ − 1), `wrap` adds or subtracts 2²⁴ once
where u leaves (−2²³, 2²³]: a sum further out stays outside, which is what lava-nc's CPU model does.
All is exact in int64; x counts weight units, u, v and bias are in units 1/64 of that.

Source: lava-nc 0.10.0, ``PyLifModelBitAcc``; the equality is held by vectors made with it.
"""

from .neuron import Neuron, register


def step(u, v, x, du, dv, vth, bias):  # type: ignore[no-untyped-def]
    """u[t-1], v[t-1], x[t] → s[t], h[t], u[t], v[t]."""
    a = x & 0x3FFFFFF
    a = (a - ((a & 0x2000000) << 1)) << 6  # 64·x in 32 bits, as the chip's simulator holds it
    keep = 4095 - du
    sign = ((u >= 0) * 2 - 1) * ((keep >= 0) * 2 - 1)
    keep = abs(keep)
    size = abs(u)
    u = sign * ((size >> 12) * keep + (((size & 4095) * keep) >> 12)) + a
    u = u - (u > 8388608) * 16777216 + (u <= -8388608) * 16777216
    keep = 4096 - dv
    sign = ((v >= 0) * 2 - 1) * ((keep >= 0) * 2 - 1)
    keep = abs(keep)
    size = abs(v)
    h = sign * ((size >> 12) * keep + (((size & 4095) * keep) >> 12)) + u + bias
    h = h - (h > 8388607) * (h - 8388607) - (h < -8388607) * (h + 8388607)
    return h > (vth << 6), h, u, (h <= (vth << 6)) * h


def timed_step(u, v, wait, clock, x, du, dv, vth, bias, refractory, reset_interval, reset_offset):  # type: ignore[no-untyped-def]
    """As `step`, with a clock that resets the neuron and a pause after a spike.

    In steps whose number, counted from 1, is `reset_offset` modulo `reset_interval`, u and v are 0
    before the update. For `refractory` steps after a spike v stays 0, while u goes on.
    """
    clock = clock + 1
    keeps = clock % reset_interval != reset_offset % reset_interval
    u = keeps * u
    v = keeps * v
    wait = keeps * wait
    a = x & 0x3FFFFFF
    a = (a - ((a & 0x2000000) << 1)) << 6
    keep = 4095 - du
    sign = ((u >= 0) * 2 - 1) * ((keep >= 0) * 2 - 1)
    keep = abs(keep)
    size = abs(u)
    u = sign * ((size >> 12) * keep + (((size & 4095) * keep) >> 12)) + a
    u = u - (u > 8388608) * 16777216 + (u <= -8388608) * 16777216
    keep = 4096 - dv
    sign = ((v >= 0) * 2 - 1) * ((keep >= 0) * 2 - 1)
    keep = abs(keep)
    size = abs(v)
    h = sign * ((size >> 12) * keep + (((size & 4095) * keep) >> 12)) + u + bias
    h = h - (h > 8388607) * (h - 8388607) - (h < -8388607) * (h + 8388607)
    h = (wait == 0) * h
    s = h > (vth << 6)
    wait = s * refractory + (h <= (vth << 6)) * (wait - (wait > 0) * 1)
    return s, h, u, (h <= (vth << 6)) * h, wait, clock


NEVER = 1 << 30
"""A `reset_interval` longer than any run."""
ONE = 64
"""Units of v in one weight unit."""
FULL = 1 << 23
"""u and v lie below it."""


def loihi(timed: bool = False) -> Neuron:
    """The chip's neuron; `timed` adds the clocked reset and the refractory period."""
    if timed:
        return Neuron(
            "loihi",
            ("du", "dv", "vth", "bias", "refractory", "reset_interval", "reset_offset"),
            ("u", "v", "wait", "clock"),
            timed_step,
            integer=True,
        )
    return Neuron("loihi", ("du", "dv", "vth", "bias"), ("u", "v"), step, integer=True)


register("loihi", loihi)
