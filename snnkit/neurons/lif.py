"""Leaky integrate-and-fire neuron ("lif") and the integrator without leak ("if").

    h[t] = v_rest + decay · (v[t-1] − v_rest) + gain · x[t]     before the reset
    s[t] = 1 if h[t] ≥ v_th else 0                               spike
    v[t] = what the reset leaves of h[t], see `resets`

With ``decay = 1 − dt/tau_mem``, ``gain = 1 − decay`` is SpikingJelly's decay_input=True and
``gain = 1`` its decay_input=False. With refractory=True a neuron that has spiked stays where the
reset put it, blind to its input, for the next `refractory` steps (state `wait` counts them).

Backwards a surrogate stands in for ds/dh: Neftci, Mostafa and Zenke, IEEE Signal Processing
Magazine 36(6), 2019. docs/math/neurons.md derives the adjoint.
"""

from typing import Any

from .equations import specialise
from .neuron import Neuron, register
from .resets import REFRACTORY, threshold

PARAMS = ("decay", "gain", "v_th", "v_reset", "v_rest")
DEFAULTS = {"gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}


def step(
    v: Any, wait: Any, x: Any, decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, refractory: Any,
    fire: Any, holds: bool,
) -> Any:  # fmt: skip
    """One time step; `fire` and `holds` are fixed by `make`."""
    h = v_rest + decay * (v - v_rest) + gain * x
    if holds:
        return fire(h, v, wait, v_th, v_reset, refractory)
    return fire(h, v_th, v_reset)


def adjoint(
    gs: Any, gh: Any, gv: Any, gwait: Any, h: Any, ds_dh: Any, through: Any, v: Any, wait: Any, x: Any,
    decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, refractory: Any, back: Any, holds: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v, wait → cotangents of v, wait, x and the parameters."""
    if holds:
        gh, held, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, wait, v_th, v_reset)
        return (
            decay * gh + held, 0 * gwait, gain * gh,
            (v - v_rest) * gh, x * gh, gv_th, gv_reset, (1 - decay) * gh, 0 * gh,
        )  # fmt: skip
    gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, v_th, v_reset)
    return decay * gh, gain * gh, (v - v_rest) * gh, x * gh, gv_th, gv_reset, (1 - decay) * gh


def rewind(
    h: Any, wait: Any, decay: Any, gain: Any, v_th: Any, v_reset: Any, v_rest: Any, refractory: Any,
    settle: Any, holds: bool,
) -> Any:  # fmt: skip
    """v after a step, from the h of that step (and the wait before it)."""
    if holds:
        return settle(h, wait, v_th, v_reset)
    return settle(h, v_th, v_reset)


def make(name: str, reset: str = "hard", refractory: bool = False) -> Neuron:
    """The equations with these options."""
    holds = bool(refractory)
    at = threshold(name, reset, holds)
    without = () if holds else REFRACTORY
    return Neuron(
        name=name,
        params=(*PARAMS, "refractory") if holds else PARAMS,
        state=("v", "wait") if holds else ("v",),
        step=specialise(step, without, fire=at.fire, holds=holds),
        adjoint=specialise(adjoint, without, back=at.adjoint, holds=holds),
        defaults={"decay": 1.0, **DEFAULTS} if name == "if" else DEFAULTS,
        taped=("wait",) if holds else (),
        rewind=specialise(rewind, without, settle=at.settle, holds=holds),
        rewound=("v",),
    )


def _lif(reset: str = "hard", refractory: bool = False) -> Neuron:
    return make("lif", reset, refractory)


def _if(reset: str = "hard", refractory: bool = False) -> Neuron:
    return make("if", reset, refractory)


register("lif", _lif)
register("if", _if)
