"""Current-based leaky integrate-and-fire neuron ("cuba"), the one of Loihi in real numbers.

    i[t] = decay_syn · i[t-1] + x[t]            synaptic current
    h[t] = decay_mem · v[t-1] + i[t]            membrane potential before the reset
    s[t] = 1 if h[t] ≥ v_th else 0
    v[t] = as for "lif": v_reset ("hard"), h − v_th ("soft") or h ("none") where s[t] = 1

The current of a step acts in that step. During refractory steps v rests and i goes on, as in Lava.
Davies et al., IEEE Micro 38(1), 2018 (Loihi).
"""

from typing import Any

from ..errors import ParameterError
from .equations import specialise
from .lif import RESETS
from .neuron import Neuron, register

PARAMS = ("decay_syn", "decay_mem", "v_th", "v_reset")


def step(
    i: Any, v: Any, wait: Any, x: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any,
    refractory: Any, reset: str, holds: bool,
) -> Any:  # fmt: skip
    """One time step; options `reset` and `holds` are fixed by `make`."""
    i = decay_syn * i + x
    h = decay_mem * v + i
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
        return fires, h, i, v, wait
    return fires, h, i, v


def adjoint(
    gs: Any, gh: Any, gi: Any, gv: Any, gwait: Any, h: Any, ds_dh: Any, through: Any, i: Any, v: Any,
    wait: Any, x: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any, refractory: Any, reset: str,
    holds: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, i, v, wait → cotangents of i, v, wait, x and the parameters."""
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
        gi = gi + gh
        gv = decay_mem * gh + held
        return decay_syn * gi, gv, 0 * gwait, gi, i * gi, v * gh, gv_th, gv_reset, 0 * gh
    gi = gi + gh
    return decay_syn * gi, decay_mem * gh, gi, i * gi, v * gh, gv_th, gv_reset


def rewind(
    h: Any, wait: Any, decay_syn: Any, decay_mem: Any, v_th: Any, v_reset: Any, refractory: Any, reset: str,
    holds: bool,
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


def make(reset: str = "hard", refractory: bool = False) -> Neuron:
    """The equations with these options."""
    if reset not in RESETS:
        raise ParameterError(f"neuron 'cuba': reset {reset!r} is none of {', '.join(RESETS)}.")
    holds = bool(refractory)
    without = () if holds else ("wait", "gwait", "refractory")
    return Neuron(
        "cuba",
        (*PARAMS, "refractory") if holds else PARAMS,
        ("i", "v", "wait") if holds else ("i", "v"),
        specialise(step, without, reset=reset, holds=holds),
        specialise(adjoint, without, reset=reset, holds=holds),
        taped=("wait",) if holds else (),
        rewind=specialise(rewind, without, reset=reset, holds=holds),
        rewound=("v",),
    )


register("cuba", make)
