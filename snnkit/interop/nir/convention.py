"""How frameworks step through NIR's continuous time; another framework is one more row of `CONVENTIONS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from ...errors import ParameterError
from ...errors import choices as choices_of


def _euler(tau: np.ndarray, dt: float) -> np.ndarray:
    return 1 - dt / tau


def _euler_gain(tau: np.ndarray, dt: float) -> np.ndarray:
    return dt / tau


def _exponential(tau: np.ndarray, dt: float) -> np.ndarray:
    return np.exp(-dt / tau)


def _exponential_gain(tau: np.ndarray, dt: float) -> np.ndarray:
    return 1 - np.exp(-dt / tau)


def _as_written(tau: np.ndarray, dt: float) -> np.ndarray:
    return tau


def _tau_of_norse(tau: np.ndarray, dt: float) -> np.ndarray:
    """Norse's 1.1 writes tau · dt in place of tau, which shows in a tau below dt."""
    return tau / dt if (tau < dt).all() else tau


def whole(gain: np.ndarray) -> np.ndarray:
    """`gain`, 1 where only rounding keeps it from 1: files hold tau and r in float32."""
    return np.where(np.isclose(gain, 1.0, rtol=0, atol=1e-6), 1.0, gain)


def _share(gain: np.ndarray, decay: np.ndarray) -> np.ndarray:
    return gain


def _whole(gain: np.ndarray, decay: np.ndarray) -> np.ndarray:
    return np.ones_like(gain)


def _share_before_decay(gain: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """Rockpool's r holds the factor exp(−dt/tau)."""
    return gain / decay


@dataclass(frozen=True)
class Current:
    """One step of a current-based neuron's two filters, arrays float ``[N…]``.

    gain         share of a current that reaches v in a step, r in it
    mem, syn     what is left of v and of the current after a step
    syn_gain     share of an input that reaches the current in a step
    """

    gain: np.ndarray
    mem: np.ndarray
    syn: np.ndarray
    syn_gain: np.ndarray


def _both_filters(c: Current) -> np.ndarray:
    return c.gain * c.syn_gain


def _whole_input(c: Current) -> np.ndarray:
    """i = (1 − dt/tau_syn) · i + x"""
    return c.gain


def _input_that_decays(c: Current) -> np.ndarray:
    """i = β · (i + x), h = α · v + i"""
    return whole(c.gain / c.mem) * c.syn


def _at_zero(node: Any) -> Any:
    return 0.0


def _at_reset(node: Any) -> Any:
    return node.v_reset


def _at_leak(node: Any) -> Any:
    return node.v_reset if type(node).__name__ == "IF" else node.v_leak


def _step_as_given(graph: Any, dt: float) -> float:
    return dt


def _step_of_rockpool(graph: Any, dt: float) -> float:
    """Rockpool writes r = tau · exp(−dt/tau) / dt, from which dt comes back by Lambert's W."""
    from scipy.special import lambertw

    for node in graph.nodes.values():
        if type(node).__name__ == "NIRGraph":
            return _step_of_rockpool(node, dt)
        parameters = vars(node)
        tau = parameters.get("tau_mem", parameters.get("tau"))
        if tau is not None and np.all(node.r > 0):
            return float(np.median(tau * lambertw(1 / np.asarray(node.r, np.float64)).real))
    return dt


@dataclass(frozen=True)
class Convention:
    """How a framework turns NIR's continuous time into steps.

    dt          its step, s
    decay       (tau, dt) → what is left after a step
    gain        (tau, dt) → share of r · I that reaches v in a step
    reset       what a spike does to v; NIR itself only knows a reset value
    strict      whether a neuron fires above its threshold only, and not at it
    max_spikes  most spikes of a neuron in a step, None for no limit
    floor       where v of an IF ends below, in thresholds; None: nowhere
    v_min       a floor under v of all neurons; None: none
    by_dt       whether an IF's input is multiplied by the step
    start       node of a spiking neuron → where v starts
    tau         (tau, dt) → the time constants meant by those in the file, s
    leaky       (gain, decay) → what r times a LIF's input is multiplied by
    current     what a CubaLIF's input is multiplied by
    step        (NIR graph, dt) → the step that shows in the file, s, where nobody names one
    lacks       neurons of NIR that the framework neither writes nor reads
    """

    dt: float
    decay: Callable[[np.ndarray, float], np.ndarray]
    gain: Callable[[np.ndarray, float], np.ndarray]
    reset: str = "hard"
    strict: bool = False
    max_spikes: int | None = 1
    floor: float | None = None
    v_min: float | None = None
    by_dt: bool = True
    start: Callable[[Any], Any] = _at_zero
    tau: Callable[[np.ndarray, float], np.ndarray] = _as_written
    leaky: Callable[[np.ndarray, np.ndarray], np.ndarray] = _share
    current: Callable[[Current], np.ndarray] = _both_filters
    step: Callable[[Any, float], float] = _step_as_given
    lacks: tuple[str, ...] = ()


CONVENTIONS = {
    "nir": Convention(1e-4, _euler, _euler_gain),
    "exponential": Convention(1e-4, _exponential, _exponential_gain),
    "snntorch": Convention(1e-4, _euler, _euler_gain, strict=True, lacks=("IF",)),
    "spikingjelly": Convention(1e-4, _euler, _euler_gain, start=_at_reset),
    "norse": Convention(
        1e-3,
        _euler,
        _euler_gain,
        strict=True,
        by_dt=False,
        start=_at_leak,
        tau=_tau_of_norse,
        current=_whole_input,
    ),
    "sinabs": Convention(
        1.0,
        _exponential,
        _exponential_gain,
        reset="soft",
        max_spikes=None,
        by_dt=False,
        lacks=("CubaLIF",),
    ),
    "rockpool": Convention(
        1e-3,
        _exponential,
        _euler_gain,
        reset="soft",
        max_spikes=1 << 16,
        leaky=_share_before_decay,
        current=_input_that_decays,
        step=_step_of_rockpool,
        lacks=("IF",),
    ),
}
"""Framework → the steps of a network that it wrote, whose layers have that framework's defaults (snnTorch:
reset_mechanism "zero" without reset_delay, the only one that its files mean). Sinabs counts tau in steps.

"nir" is NIR's own text in Euler steps. In continuous time v > v_th and v ≥ v_th are one; here it is ≥."""


class Choices(TypedDict, total=False):
    """What the layers behind a file were given in place of their framework's defaults, by keyword.

    reset       "hard", "soft", "none", or "subtract": the threshold, a step later (snnTorch)
    strict      whether they fire above the threshold only
    max_spikes  most spikes of a neuron in a step (sinabs: SingleSpike is 1), None for no limit
    v_min       a floor under v of all neurons, None for none (sinabs: min_v_mem)
    norm_input  whether a LIF's input is multiplied by its share of a step, 1 − decay (sinabs: norm_input)
    """

    reset: str
    strict: bool
    max_spikes: int | None
    v_min: float | None
    norm_input: bool


def convention_of(name: str, graph: Any, dt: float | None, choices: Choices) -> Convention:
    """The convention of a name with its step, s, and what was chosen otherwise; dt in ms.

    Raises `ParameterError` naming an unknown convention or choice and what there is.
    """
    if name not in CONVENTIONS:
        raise ParameterError(f"there is no NIR convention {name!r}{choices_of(name, CONVENTIONS)}")
    known = Choices.__annotations__
    unknown = [n for n in choices if n not in known]
    if unknown:
        raise ParameterError(f"NIR: {unknown[0]!r} is no choice; there are dt, {', '.join(known)}.")
    how = CONVENTIONS[name]
    given: dict[str, Any] = dict(choices)
    if given.get("reset") is None:
        given.pop("reset", None)
    if "norm_input" in given:
        given["leaky"] = _share if given.pop("norm_input") else _whole
    step = how.step(graph, how.dt) if dt is None else dt * 1e-3
    return replace(how, dt=step, **given)
