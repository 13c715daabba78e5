"""Leaky integrator ("li"): a read-out that never spikes.

h[t] = v[t] = decay · v[t-1] + gain · x[t]
"""

from typing import Any

from .neuron import Neuron, register


def step(v: Any, x: Any, decay: Any, gain: Any) -> Any:
    """One time step; the spike is always 0."""
    v = decay * v + gain * x
    return 0 * v, v, v


def adjoint(
    gs: Any, gh: Any, gv: Any, h: Any, ds_dh: Any, through: Any, v: Any, x: Any, decay: Any, gain: Any
) -> Any:
    """Cotangents of s, h, v → cotangents of v, x, decay, gain."""
    gh = gh + gv
    return decay * gh, gain * gh, v * gh, x * gh


def rewind(h: Any, decay: Any, gain: Any) -> Any:
    """v after a step, from the h of that step."""
    return h


def _li() -> Neuron:
    return Neuron(
        name="li",
        params=("decay", "gain"),
        state=("v",),
        step=step,
        adjoint=adjoint,
        spiking=False,
        defaults={"gain": 1.0},
        taped=(),
        rewind=rewind,
        rewound=("v",),
    )


register("li", _li)
