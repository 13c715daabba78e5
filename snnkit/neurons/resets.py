"""What a spike does to the membrane potential, and the threshold with a refractory period before it.

    s[t] = 1 if h[t] ≥ v_th else 0                               spike
    v[t] = v_reset         where s[t] = 1, reset="hard"
           h[t] − v_th     where s[t] = 1, reset="soft"
           h[t]            elsewhere, and everywhere with reset="none"

`RESETS` is the only list of resets; `threshold` puts one together with the comparisons, for the
neurons that call it. In the `wait` steps of a refractory period h is held and nothing spikes.
docs/math/neurons.md derives the adjoints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ParameterError
from .equations import specialise


@dataclass(frozen=True)
class Reset:
    """One way to reset, in plain arithmetic; `resets` and `rests` are 1 and 0 in a spike, else 0 and 1.

    after    ``after(h, resets, rests, v_th, v_reset) -> v``
    adjoint  ``adjoint(gs, gh, gv, h, ds_dh, through, resets, rests, v_th, v_reset) -> (gh, gv_th, gv_reset)``
             with the cotangents of s, h and v, as in `Neuron.adjoint`
    """

    after: Callable[..., Any]
    adjoint: Callable[..., Any]


def hard(h: Any, resets: Any, rests: Any, v_th: Any, v_reset: Any) -> Any:
    """v after a reset to v_reset."""
    return rests * h + resets * v_reset


def hard_adjoint(
    gs: Any, gh: Any, gv: Any, h: Any, ds_dh: Any, through: Any, resets: Any, rests: Any, v_th: Any,
    v_reset: Any,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v → of h, v_th, v_reset."""
    gu = (gs + through * gv * (v_reset - h)) * ds_dh
    return gh + gu + rests * gv, -gu, resets * gv


def soft(h: Any, resets: Any, rests: Any, v_th: Any, v_reset: Any) -> Any:
    """v after v_th is subtracted."""
    return h - resets * v_th


def soft_adjoint(
    gs: Any, gh: Any, gv: Any, h: Any, ds_dh: Any, through: Any, resets: Any, rests: Any, v_th: Any,
    v_reset: Any,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v → of h, v_th, v_reset."""
    gu = (gs - through * gv * v_th) * ds_dh
    return gh + gu + gv, -gu - resets * gv, 0 * gv


def none(h: Any, resets: Any, rests: Any, v_th: Any, v_reset: Any) -> Any:
    """v without a reset."""
    return h


def none_adjoint(
    gs: Any, gh: Any, gv: Any, h: Any, ds_dh: Any, through: Any, resets: Any, rests: Any, v_th: Any,
    v_reset: Any,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v → of h, v_th, v_reset."""
    gu = gs * ds_dh
    return gh + gu + gv, -gu, 0 * gv


RESETS: dict[str, Reset] = {
    "hard": Reset(after=hard, adjoint=hard_adjoint),
    "soft": Reset(after=soft, adjoint=soft_adjoint),
    "none": Reset(after=none, adjoint=none_adjoint),
}
"""Option `reset` of "lif", "if" and "cuba" → what it does. Add to it to make a reset of one's own known."""

REFRACTORY = ("wait", "gwait", "refractory")
"""Arguments that only a neuron with a refractory period has."""


def fire(h: Any, v: Any, wait: Any, v_th: Any, v_reset: Any, refractory: Any, after: Any, holds: bool) -> Any:
    """h of a step and v, wait before it → s, h, v, wait after it; without `holds` no v and wait go in."""
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
        return fires, h, after(h, resets, rests, v_th, v_reset), fires * refractory + idle * (wait - 1)
    return fires, h, after(h, resets, rests, v_th, v_reset)


def fire_adjoint(
    gs: Any, gh: Any, gv: Any, h: Any, ds_dh: Any, through: Any, wait: Any, v_th: Any, v_reset: Any,
    back: Any, holds: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v after it → of h that the step computed, [v that it held], v_th, v_reset."""
    resets = h >= v_th
    rests = h < v_th
    if holds:
        active = wait == 0
        idle = wait != 0
        resets = active * resets
        rests = active * rests + idle
        ds_dh = active * ds_dh
        gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, resets, rests, v_th, v_reset)
        return active * gh, idle * gh, gv_th, gv_reset
    return back(gs, gh, gv, h, ds_dh, through, resets, rests, v_th, v_reset)


def settle(h: Any, wait: Any, v_th: Any, v_reset: Any, after: Any, holds: bool) -> Any:
    """v after a step, from the h of that step (and the wait before it)."""
    resets = h >= v_th
    rests = h < v_th
    if holds:
        resets = (wait == 0) * resets
        rests = (wait == 0) * rests + (wait != 0)
    return after(h, resets, rests, v_th, v_reset)


@dataclass(frozen=True)
class Threshold:
    """`fire`, `fire_adjoint` and `settle` of one reset, with or without a refractory period."""

    fire: Callable[..., Any]
    adjoint: Callable[..., Any]
    settle: Callable[..., Any]


def threshold(neuron: str, reset: str, holds: bool) -> Threshold:
    """The threshold of `neuron` with this reset; `holds` for a refractory period.

    Raises `ParameterError` naming the neuron and the resets there are.
    """
    if reset not in RESETS:
        raise ParameterError(f"neuron {neuron!r}: reset {reset!r} is none of {', '.join(RESETS)}.")
    way = RESETS[reset]
    without = () if holds else ("v", *REFRACTORY)
    return Threshold(
        fire=specialise(fire, without, after=way.after, holds=holds),
        adjoint=specialise(fire_adjoint, without, back=way.adjoint, holds=holds),
        settle=specialise(settle, without, after=way.after, holds=holds),
    )
