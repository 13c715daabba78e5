"""Adaptive leaky integrate-and-fire neuron ("adlif") in two discretisations.

    h[t] = decay · v[t-1] + (1 − decay) · (x[t] − w[t-1])       before the reset
    s[t] = 1 if h[t] ≥ v_th else 0
    v[t] = v_reset where s[t] = 1, else h[t]
    w[t] = decay_w · w[t-1] + (1 − decay_w) · (a · v[t-1] + b · s[t-1])     discretisation="euler"
    w[t] = decay_w · w[t-1] + (1 − decay_w) · (a · v[t] + b · s[t])         discretisation="se"

with ``decay = exp(−dt/tau_mem)`` and ``decay_w = exp(−dt/tau_w)``. The symplectic Euler form ("se")
stays stable over the whole range of a where the Euler form does not. Baronig, Ferrand, Sabathiel and
Legenstein, "Advancing spatio-temporal processing in spiking neural networks through adaptation",
2024 (arXiv 2408.07517), equations 6a and 6b.
"""

from typing import Any

from ..errors import ParameterError
from .equations import specialise
from .neuron import Neuron, register
from .resets import threshold

PARAMS = ("decay", "decay_w", "a", "b", "v_th", "v_reset")
DISCRETISATIONS = ("euler", "se")


def step(
    v: Any, w: Any, z: Any, x: Any, decay: Any, decay_w: Any, a: Any, b: Any, v_th: Any, v_reset: Any,
    se: bool,
) -> Any:  # fmt: skip
    """One time step; z is the spike of the step before (Euler only)."""
    h = decay * v + (1 - decay) * (x - w)
    fires = h >= v_th
    # the hard reset of `resets`, written out: autograd adds up h's gradient in the order of these terms
    if se:
        v = (h < v_th) * h + (v_th <= h) * v_reset
        w = decay_w * w + (1 - decay_w) * (a * v + b * fires)
        return fires, h, v, w
    w = decay_w * w + (1 - decay_w) * (a * v + b * z)
    v = (h < v_th) * h + (v_th <= h) * v_reset
    return fires, h, v, w, 1 * fires


def adjoint(
    gs: Any, gh: Any, gv: Any, gw: Any, gz: Any, h: Any, ds_dh: Any, through: Any, v: Any, w: Any, z: Any,
    x: Any, decay: Any, decay_w: Any, a: Any, b: Any, v_th: Any, v_reset: Any, back: Any, settle: Any,
    se: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v, w, z → cotangents of v, w, z, x and the parameters."""
    fires = h >= v_th
    gdrive = (1 - decay_w) * gw
    if se:
        after = settle(h, v_th, v_reset)
        drive = a * after + b * fires
        ga = after * gdrive
        gb = fires * gdrive
        gv = gv + a * gdrive
        gs = gs + b * gdrive
    else:
        drive = a * v + b * z
        ga = v * gdrive
        gb = z * gdrive
        gs = gs + gz
    gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, v_th, v_reset)
    gx = (1 - decay) * gh
    gdecay = (v - (x - w)) * gh
    gdecay_w = (w - drive) * gw
    gw = decay_w * gw - gx
    if se:
        return decay * gh, gw, gx, gdecay, gdecay_w, ga, gb, gv_th, gv_reset
    return decay * gh + a * gdrive, gw, b * gdrive, gx, gdecay, gdecay_w, ga, gb, gv_th, gv_reset


def rewind(h: Any, decay: Any, decay_w: Any, a: Any, b: Any, v_th: Any, v_reset: Any, settle: Any) -> Any:
    """v after a step, from the h of that step."""
    return settle(h, v_th, v_reset)


def make(discretisation: str = "se") -> Neuron:
    """The equations with these options.

    Raises `ParameterError` for another discretisation than those of `DISCRETISATIONS`.
    """
    if discretisation not in DISCRETISATIONS:
        raise ParameterError(
            f"neuron 'adlif': discretisation {discretisation!r} is none of {', '.join(DISCRETISATIONS)}."
        )
    se = discretisation == "se"
    at = threshold("adlif", "hard", False)
    without = ("z", "gz") if se else ()
    return Neuron(
        name="adlif",
        params=PARAMS,
        state=("v", "w") if se else ("v", "w", "z"),
        step=specialise(step, without, se=se),
        adjoint=specialise(adjoint, without, back=at.adjoint, settle=at.settle, se=se),
        defaults={"a": 1.0, "b": 1.0, "v_th": 1.0, "v_reset": 0.0},
        taped=(),
        rewind=specialise(rewind, settle=at.settle),
        rewound=("v",),
    )


register("adlif", make)
