"""The threshold, what a spike does to the membrane potential, and a floor under it.

    s[t] = 1 if h[t] ≥ v_th else 0                               spike
    v[t] = v_reset              where s[t] > 0, reset="hard"
           h[t] − s[t]·v_th     where s[t] > 0, reset="soft"
           h[t] − v_reset       where s[t] > 0, reset="subtract"
           h[t]                 elsewhere, and everywhere with reset="none"

    strict=True      spikes where h[t] > v_th
    max_spikes=m     s[t] = min(⌊h[t] / v_th⌋, m) where h[t] > 0, v_th > 0: the multiples of v_th that h
                     reached (strict: ⌈h[t] / v_th⌉ − 1, those that it exceeded); None: all of them
    floor=True       v[t] ← max(v[t], v_min), after the reset

Of several spikes in a step the surrogate stands at the multiple n of v_th that is nearest to h, 1 ≤ n ≤ m:
ds/dh = σ'(h − n·v_th) and ds/dv_th = −n·σ'(h − n·v_th). Below the floor v has no gradient but v_min's.

`RESETS` is the only list of resets; `threshold` puts one together with the comparisons, for the
neurons that call it. In the `wait` steps of a refractory period h is held and nothing spikes.
docs/math/neurons.md derives the adjoints.
"""

from collections.abc import Callable, Mapping
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
    each     whether each of several spikes in a step takes its share off h: `resets` is then their number,
             and ``after(h, n + k, …) = after(h − n·v_th, k, …)``
    """

    after: Callable[..., Any]
    adjoint: Callable[..., Any]
    each: bool = False


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


def subtract(h: Any, resets: Any, rests: Any, v_th: Any, v_reset: Any) -> Any:
    """v after v_reset is subtracted, whatever the threshold is."""
    return h - resets * v_reset


def subtract_adjoint(
    gs: Any, gh: Any, gv: Any, h: Any, ds_dh: Any, through: Any, resets: Any, rests: Any, v_th: Any,
    v_reset: Any,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v → of h, v_th, v_reset."""
    gu = (gs - through * gv * v_reset) * ds_dh
    return gh + gu + gv, -gu, -resets * gv


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
    "soft": Reset(after=soft, adjoint=soft_adjoint, each=True),
    "subtract": Reset(after=subtract, adjoint=subtract_adjoint),
    "none": Reset(after=none, adjoint=none_adjoint),
}
"""Option `reset` of "lif", "if" and "cuba" → what it does. Add to it to make a reset of one's own known."""

USUAL: dict[str, Any] = {"strict": False, "max_spikes": 1, "floor": False}
"""Options of a threshold with their defaults, which are what most other software has."""


def unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that `USUAL` has otherwise."""
    return {n: options[n] for n, usual in USUAL.items() if options.get(n, usual) != usual}


REFRACTORY = ("wait", "gwait", "refractory")
"""Arguments that only a neuron with a refractory period has."""


def reaches(h: Any, v_th: Any) -> Any:
    """Spikes, and 1 and 0 (else 0 and 1) where they reset: at v_th and above."""
    return h >= v_th, v_th <= h, h < v_th


def exceeds(h: Any, v_th: Any) -> Any:
    """As `reaches`, above v_th only; autograd sees nothing of `==`."""
    at = 1 * (h == v_th)
    return 1 * (h >= v_th) - at, 1 * (v_th <= h) - at, (h < v_th) + at


def multiples(h: Any, v_th: Any, most: Any, capped: bool, strict: bool) -> Any:
    """Multiples of v_th that h has reached (strict: exceeded), at most `most`; autograd sees nothing of it.

    By a division that is rounded, as sinabs and Rockpool count.
    """
    q = h / v_th
    k = q - q % 1
    if strict:
        k = k - 1 * (k == q)
    k = (k > 0) * k
    if capped:
        k = k - (k > most) * (k - most)
    return k


def nearest(h: Any, v_th: Any, most: Any, capped: bool) -> Any:
    """The multiple of v_th that is nearest to h, 1 to `most`; autograd sees nothing of it."""
    q = h / v_th + 0.5
    n = q - q % 1
    n = 1 + (n > 1) * (n - 1)
    if capped:
        n = n - (n > most) * (n - most)
    return n


def distance(h: Any, v_th: Any, level: Any) -> Any:
    """How far h is above the nearest multiple of v_th."""
    return h - (level(h, v_th) - 1) * v_th - v_th


def several(h: Any, v_th: Any, count: Any, level: Any, each: bool) -> Any:
    """As `reaches`, any number of spikes; `resets` is their number too where `each` of them counts.

    The number is `count`'s; h − n·v_th at the nearest multiple only lends its gradient.
    """
    k = count(h, v_th)
    n = level(h, v_th)
    u = h - (n - 1) * v_th
    at = 1 * (u > v_th) + 1 * (u == v_th)
    if each:
        resets = k + (v_th <= u) - at
    else:
        first = n == 1
        resets = first * (v_th <= u) + 1 * (k > 0) - first * at
    return k + (u >= v_th) - at, resets, 1 - resets


def fire(h: Any, v_th: Any, v_reset: Any, crosses: Any, after: Any) -> Any:
    """h of a step → s, h, v after it; ``crosses(h, v_th)`` gives spikes, resets and rests."""
    fires, resets, rests = crosses(h, v_th)
    return fires, h, after(h, resets, rests, v_th, v_reset)


def fire_or_wait(
    h: Any, v: Any, wait: Any, v_th: Any, v_reset: Any, refractory: Any, crosses: Any, after: Any
) -> Any:
    """h of a step and v, wait before it → s, h, v, wait after it."""
    active = wait == 0
    idle = wait != 0
    h = active * h + idle * v
    fires, resets, rests = crosses(h, v_th)
    fires = active * fires
    resets = active * resets
    rests = active * rests + idle
    return fires, h, after(h, resets, rests, v_th, v_reset), fires * refractory + idle * (wait - 1)


def fire_adjoint(
    gs: Any, gh: Any, gv: Any, h: Any, ds_dh: Any, through: Any, wait: Any, v_th: Any, v_reset: Any,
    back: Any, crosses: Any, level: Any, holds: bool, many: bool, each: bool,
) -> Any:  # fmt: skip
    """Cotangents of s, h, v after it → of h that the step computed, [v that it held], v_th, v_reset."""
    _, resets, rests = crosses(h, v_th)
    if holds:
        active = wait == 0
        idle = wait != 0
        resets = active * resets
        rests = active * rests + idle
        ds_dh = active * ds_dh
        gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, resets, rests, v_th, v_reset)
        return active * gh, idle * gh, gv_th, gv_reset
    if many:
        below = level(h, v_th) - 1
        if each:  # one spike of the potential above the multiples below
            gu, gv_th, gv_reset = back(
                gs, 0 * gh, gv, h - below * v_th, ds_dh, through, resets - below, rests, v_th, v_reset
            )
            return gh + gu, gv_th - below * gu, gv_reset
        through = (below == 0) * through
        gh, gv_th, gv_reset = back(gs, gh, gv, h, ds_dh, through, resets, rests, v_th, v_reset)
        return gh, gv_th - below * (gs * ds_dh), gv_reset
    return back(gs, gh, gv, h, ds_dh, through, resets, rests, v_th, v_reset)


def settle(h: Any, wait: Any, v_th: Any, v_reset: Any, crosses: Any, after: Any, holds: bool) -> Any:
    """v after a step, from the h of that step (and the wait before it)."""
    _, resets, rests = crosses(h, v_th)
    if holds:
        resets = (wait == 0) * resets
        rests = (wait == 0) * rests + (wait != 0)
    return after(h, resets, rests, v_th, v_reset)


def above_floor(v: Any, v_min: Any) -> Any:
    """max(v, v_min); autograd sees the one that it takes, v_min where they are equal."""
    higher = 1 * (v > v_min)
    return higher * v + (1 - higher) * v_min


def above_floor_adjoint(gv: Any, v: Any, v_min: Any) -> Any:
    """Cotangent of the result → of v, v_min."""
    higher = 1 * (v > v_min)
    return higher * gv, (1 - higher) * gv


@dataclass(frozen=True)
class Threshold:
    """`fire`, `fire_adjoint` and `settle` of one choice of options; no `distance` for one spike a step."""

    fire: Callable[..., Any]
    adjoint: Callable[..., Any]
    settle: Callable[..., Any]
    distance: Callable[..., Any] | None = None


def threshold(
    neuron: str, reset: str, holds: bool = False, strict: bool = False, max_spikes: int | None = 1
) -> Threshold:
    """The threshold of `neuron` with these options; `holds` for a refractory period.

    Raises `ParameterError` naming the neuron and the option, for a reset that is none of `RESETS`, for a
    `max_spikes` that is no number from 1, and for several spikes of a neuron that rests after each.
    """
    if reset not in RESETS:
        raise ParameterError(f"neuron {neuron!r}: reset {reset!r} is none of {', '.join(RESETS)}.")
    whole = isinstance(max_spikes, int) and not isinstance(max_spikes, bool) and max_spikes >= 1
    if max_spikes is not None and not whole:
        raise ParameterError(
            f"neuron {neuron!r}: max_spikes must be an integer from 1, or None for no limit, got "
            f"{max_spikes!r}."
        )
    many = max_spikes != 1
    if many and holds:
        raise ParameterError(
            f"neuron {neuron!r}: max_spikes = {max_spikes} and a refractory period, in which a neuron cannot "
            "spike again; choose one of them."
        )
    way = RESETS[reset]
    crosses: Callable[..., Any] = exceeds if strict else reaches
    level: Any = None
    if many:
        limit: dict[str, Any] = {"most": max_spikes or 0, "capped": max_spikes is not None}
        level = specialise(nearest, **limit)
        count = specialise(multiples, strict=bool(strict), **limit)
        crosses = specialise(several, count=count, level=level, each=way.each)
    without = () if holds else REFRACTORY
    return Threshold(
        fire=specialise(fire_or_wait if holds else fire, crosses=crosses, after=way.after),
        adjoint=specialise(
            fire_adjoint,
            without,
            back=way.adjoint,
            crosses=crosses,
            holds=holds,
            many=many,
            each=way.each,
            level=level if many else 0,
        ),
        settle=specialise(settle, without, crosses=crosses, after=way.after, holds=holds),
        distance=specialise(distance, level=level) if many else None,
    )
