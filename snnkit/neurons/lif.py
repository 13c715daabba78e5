"""Leaky integrate-and-fire neuron ("lif") and the integrator without leak ("if").

    h[t] = v_rest + decay · (v[t-1] − v_rest) + gain · x[t]     before the reset
    s[t] = 1 if h[t] ≥ v_th else 0                               spike
    v[t] = v_reset         where s[t] = 1, reset="hard"
           h[t] − v_th     where s[t] = 1, reset="soft"
           h[t]            elsewhere, and everywhere with reset="none"

With ``decay = 1 − dt/tau_mem``, ``gain = 1 − decay`` is SpikingJelly's decay_input=True and
``gain = 1`` its decay_input=False. With refractory=True a neuron that has spiked stays where the
reset put it, blind to its input, for the next `refractory` steps (state `wait` counts them).

Backwards a surrogate stands in for ds/dh: Neftci, Mostafa and Zenke, IEEE Signal Processing
Magazine 36(6), 2019. docs/math/neurons.md derives the adjoint.
"""

from typing import Any

from ..errors import ParameterError
from .equations import specialise
from .neuron import Neuron, register

RESETS = ("hard", "soft", "none")
PARAMS = ("decay", "gain", "v_th", "v_reset", "v_rest")


def step(
    v: Any, wait: Any, x: Any, decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, refractory: Any,
    reset: str, holds: bool,
) -> Any:  # fmt: skip
    """One time step; options `reset` and `holds` are fixed by `make`."""
    h = v_rest + decay * (v - v_rest) + gain * x
    fires = h >= v_th
    resets = v_th <= h
    rests = h < v_th
    if holds:
        active = wait == 0
        idle = wait != 0
        h = active * h + idle * v
        fires = active * fires
        resets = active * resets
        rests = active * rests + idle
        wait = fires * refractory + idle * (wait - 1)
    if reset == "hard":
        v = rests * h + resets * v_reset
    elif reset == "soft":
        v = h - resets * v_th
    else:
        v = h
    if holds:
        return fires, h, v, wait
    return fires, h, v


def adjoint(
    gs: Any, gh: Any, gv: Any, gwait: Any, h: Any, ds_dh: Any, through: Any, v: Any, wait: Any, x: Any,
    decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, refractory: Any, reset: str, holds: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v, wait → cotangents of v, wait, x and the parameters."""
    resets = h >= v_th
    rests = h < v_th
    if holds:
        active = wait == 0
        idle = wait != 0
        resets = active * resets
        rests = active * rests + idle
        ds_dh = active * ds_dh
    if reset == "hard":
        gu = (gs + through * gv * (v_reset - h)) * ds_dh
        gh = gh + gu + rests * gv
        gv_th = -gu
        gv_reset = resets * gv
    elif reset == "soft":
        gu = (gs - through * gv * v_th) * ds_dh
        gh = gh + gu + gv
        gv_th = -gu - resets * gv
        gv_reset = 0 * gv
    else:
        gu = gs * ds_dh
        gh = gh + gu + gv
        gv_th = -gu
        gv_reset = 0 * gv
    if holds:
        held = idle * gh
        gh = active * gh
        return (
            decay * gh + held, 0 * gwait, gain * gh,
            (v - v_rest) * gh, x * gh, gv_th, gv_reset, (1 - decay) * gh, 0 * gh,
        )  # fmt: skip
    return decay * gh, gain * gh, (v - v_rest) * gh, x * gh, gv_th, gv_reset, (1 - decay) * gh


def rewind(
    h: Any, wait: Any, decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, refractory: Any,
    reset: str, holds: bool,
) -> Any:  # fmt: skip
    """v after a step, from the h of that step (and the wait before it)."""
    resets = h >= v_th
    rests = h < v_th
    if holds:
        resets = (wait == 0) * resets
        rests = (wait == 0) * rests + (wait != 0)
    if reset == "hard":
        return rests * h + resets * v_reset
    if reset == "soft":
        return h - resets * v_th
    return h


def make(name: str, reset: str = "hard", refractory: bool = False) -> Neuron:
    """The equations with these options."""
    if reset not in RESETS:
        raise ParameterError(f"neuron {name!r}: reset {reset!r} is none of {', '.join(RESETS)}.")
    holds = bool(refractory)
    without = () if holds else ("wait", "gwait", "refractory")
    return Neuron(
        name,
        (*PARAMS, "refractory") if holds else PARAMS,
        ("v", "wait") if holds else ("v",),
        specialise(step, without, reset=reset, holds=holds),
        specialise(adjoint, without, reset=reset, holds=holds),
        taped=("wait",) if holds else (),
        rewind=specialise(rewind, without, reset=reset, holds=holds),
        rewound=("v",),
    )


def _lif(reset: str = "hard", refractory: bool = False) -> Neuron:
    return make("lif", reset, refractory)


def _if(reset: str = "hard", refractory: bool = False) -> Neuron:
    return make("if", reset, refractory)


register("lif", _lif)
register("if", _if)
