"""How frameworks step through NIR's continuous time; another framework is one more row of `CONVENTIONS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


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


def _share(gain: np.ndarray, decay: np.ndarray) -> np.ndarray:
    return gain


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
    return c.gain / c.mem * c.syn


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

    dt       its step, s
    decay    (tau, dt) → what is left after a step
    gain     (tau, dt) → share of r · I that reaches v in a step
    reset    what a spike does to v; NIR itself only knows a reset value
    tau      (tau, dt) → the time constants meant by those in the file, s
    leaky    (gain, decay) → what a LIF's input is multiplied by
    current  what a CubaLIF's input is multiplied by
    step     (NIR graph, dt) → the step that shows in the file, s, where nobody names one
    """

    dt: float
    decay: Callable[[np.ndarray, float], np.ndarray]
    gain: Callable[[np.ndarray, float], np.ndarray]
    reset: str = "hard"
    tau: Callable[[np.ndarray, float], np.ndarray] = _as_written
    leaky: Callable[[np.ndarray, np.ndarray], np.ndarray] = _share
    current: Callable[[Current], np.ndarray] = _both_filters
    step: Callable[[Any, float], float] = _step_as_given


CONVENTIONS = {
    "nir": Convention(1e-4, _euler, _euler_gain),
    "exponential": Convention(1e-4, _exponential, _exponential_gain),
    "snntorch": Convention(1e-4, _euler, _euler_gain),
    "spikingjelly": Convention(1e-4, _euler, _euler_gain),
    "norse": Convention(1e-3, _euler, _euler_gain, tau=_tau_of_norse, current=_whole_input),
    "sinabs": Convention(1.0, _exponential, _exponential_gain, reset="soft"),
    "rockpool": Convention(
        1e-3,
        _exponential,
        _euler_gain,
        reset="soft",
        leaky=_share_before_decay,
        current=_input_that_decays,
        step=_step_of_rockpool,
    ),
}
"""Framework → its steps. Sinabs counts tau in steps."""
