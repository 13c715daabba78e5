"""Leaky integrator of a synaptic current ("cuba_li"): a read-out that never spikes.

i[t] = decay_syn · i[t-1] + x[t]
h[t] = v[t] = decay · v[t-1] + gain · i[t]

The current of a step acts in that step, as in `cuba`.
"""

from typing import Any

from .neuron import Neuron, register


def step(i: Any, v: Any, x: Any, decay_syn: Any, decay: Any, gain: Any) -> Any:
    """One time step; the spike is always 0."""
    i = decay_syn * i + x
    v = decay * v + gain * i
    return 0 * v, v, i, v


def adjoint(
    gs: Any, gh: Any, gi: Any, gv: Any, h: Any, ds_dh: Any, through: Any, i: Any, v: Any, x: Any,
    decay_syn: Any, decay: Any, gain: Any,
) -> Any:  # fmt: skip
    """Cotangents of s, h, i, v → cotangents of i, v, x, decay_syn, decay, gain."""
    gh = gh + gv
    gi = gi + gain * gh
    return decay_syn * gi, decay * gh, gi, i * gi, v * gh, (decay_syn * i + x) * gh


def rewind(h: Any, decay_syn: Any, decay: Any, gain: Any) -> Any:
    """v after a step, from the h of that step."""
    return h


def _cuba_li() -> Neuron:
    return Neuron(
        name="cuba_li",
        params=("decay_syn", "decay", "gain"),
        state=("i", "v"),
        step=step,
        adjoint=adjoint,
        spiking=False,
        defaults={"gain": 1.0},
        taped=(),
        rewind=rewind,
        rewound=("v",),
    )


register("cuba_li", _cuba_li)
