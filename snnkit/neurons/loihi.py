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

from typing import Any

from .neuron import Neuron, register

ONE = 64
"""Units of u, v and bias in one unit of weight."""

FULL = 1 << 23
"""u and v stay below this."""

WHOLE = 1 << 12
"""A decay of the chip is in parts of this."""

NEVER = 1 << 30
"""A `reset_interval` longer than any run."""


def kept(value: Any, share: Any) -> Any:
    """trunc(value · share / 4096), in two halves of `value` so that no product leaves 32 bits."""
    sign = ((value >= 0) * 2 - 1) * ((share >= 0) * 2 - 1)
    share = abs(share)
    size = abs(value)
    return sign * ((size >> 12) * share + (((size & 4095) * share) >> 12))


def update(u: Any, v: Any, x: Any, du: Any, dv: Any, bias: Any) -> Any:
    """u[t-1], v[t-1], x[t] → u[t], h[t]."""
    a = x & 0x3FFFFFF
    a = (a - ((a & 0x2000000) << 1)) * ONE  # 64·x in 32 bits, as the chip's simulator holds it
    u = kept(u, WHOLE - 1 - du) + a
    u = u - (u > FULL) * (2 * FULL) + (u <= -FULL) * (2 * FULL)
    h = kept(v, WHOLE - dv) + u + bias
    return u, h - (h > FULL - 1) * (h - (FULL - 1)) - (h < 1 - FULL) * (h + (FULL - 1))


def step(u: Any, v: Any, x: Any, du: Any, dv: Any, vth: Any, bias: Any) -> Any:
    """u[t-1], v[t-1], x[t] → s[t], h[t], u[t], v[t]."""
    u, h = update(u, v, x, du, dv, bias)
    return h > vth * ONE, h, u, (h <= vth * ONE) * h


def timed_step(
    u: Any, v: Any, wait: Any, clock: Any, x: Any, du: Any, dv: Any, vth: Any, bias: Any, refractory: Any,
    reset_interval: Any, reset_offset: Any,
) -> Any:  # fmt: skip
    """As `step`, with a clock that resets the neuron and a pause after a spike.

    In steps whose number, counted from 1, is `reset_offset` modulo `reset_interval`, u and v are 0
    before the update. For `refractory` steps after a spike v stays 0, while u goes on.
    """
    clock = clock + 1
    keeps = clock % reset_interval != reset_offset % reset_interval
    wait = keeps * wait
    u, h = update(keeps * u, keeps * v, x, du, dv, bias)
    h = (wait == 0) * h
    s = h > vth * ONE
    rests = h <= vth * ONE
    return s, h, u, rests * h, s * refractory + rests * (wait - (wait > 0) * 1), clock


def loihi(timed: bool = False) -> Neuron:
    """The chip's neuron; `timed` adds the clocked reset and the refractory period."""
    if timed:
        return Neuron(
            name="loihi",
            params=("du", "dv", "vth", "bias", "refractory", "reset_interval", "reset_offset"),
            state=("u", "v", "wait", "clock"),
            step=timed_step,
            defaults={"bias": 0, "refractory": 0, "reset_interval": NEVER, "reset_offset": 0},
            integer=True,
        )
    return Neuron(
        name="loihi",
        params=("du", "dv", "vth", "bias"),
        state=("u", "v"),
        step=step,
        defaults={"bias": 0},
        integer=True,
    )


register("loihi", loihi)
