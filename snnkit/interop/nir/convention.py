"""How frameworks step through NIR's continuous time; another framework is one more row of `CONVENTIONS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import numpy as np

from ...errors import ExportError, ParameterError
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


def _times_dt(tau: np.ndarray, dt: float) -> np.ndarray:
    """Norse's 1.1 writes tau · dt in place of tau."""
    return tau / dt


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


Steps = Callable[[str, Any], float | None]
"""Name and node → the step that it shows, s; None where it shows none."""


def _step_unseen(kind: str, node: Any) -> float | None:
    return None


def _step_of_rockpool(kind: str, node: Any) -> float | None:
    """Rockpool writes r = tau · exp(−dt/tau) / dt, from which dt comes back by Lambert's W."""
    from scipy.special import lambertw

    parameters = vars(node)
    tau = parameters.get("tau_mem", parameters.get("tau"))
    if tau is None or not (np.all(node.r > 0) and np.all(tau > 0) and np.isfinite(tau).all()):
        return None
    return float(np.median(tau * lambertw(1 / np.asarray(node.r, np.float64)).real))


def _step_of_spikingjelly(kind: str, node: Any) -> float | None:
    """SpikingJelly writes r = 1/dt of an IF, tau_mem/dt of a CubaLIF, and tau/dt of a LIF that is not 1."""
    r = np.asarray(getattr(node, "r", 0.0), np.float64)
    if not (r > 0).all() or (kind == "LIF" and (r == 1).all()):
        return None
    tau = {"IF": 1.0, "LIF": getattr(node, "tau", 0.0), "CubaLIF": getattr(node, "tau_mem", 0.0)}
    step = float(np.median(tau.get(kind, 0.0) / r))
    return step if 0 < step < np.inf else None


Written = Mapping[str, Callable[[Any, float], tuple[Any, ...]]]
"""Parameter → function of the node and the step (s) → the values of which the writer always writes one."""


def _always(*values: float) -> Callable[[Any, float], tuple[Any, ...]]:
    return lambda node, dt: values


def _tau_in_steps(name: str, *others: float) -> Callable[[Any, float], tuple[Any, ...]]:
    return lambda node, dt: (*others, getattr(node, name) / dt)


def _r_of_rockpool(node: Any, dt: float) -> tuple[Any, ...]:
    tau = node.tau_mem if type(node).__name__ == "CubaLIF" else node.tau
    tau = np.asarray(tau, np.float64)
    return (tau * np.exp(-dt / tau) / dt,)


_ONE, _ZERO = _always(1.0), _always(0.0)
_NORSE: dict[str, Written] = {
    "IF": {"r": _ONE, "v_reset": _ZERO},
    "LIF": {"r": _ONE, "v_reset": _ZERO},
    "LI": {"r": _ONE},
    "CubaLIF": {"r": _ONE, "v_reset": _ZERO, "w_in": _ONE},
}
_RESTS: Written = {"v_leak": _ZERO, "v_reset": _ZERO}


def floor_of(how: Convention, key: str) -> float | None:
    """The floor under v of node `key`, None where it has none."""
    return how.v_min.get(key) if isinstance(how.v_min, Mapping) else how.v_min


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
    v_min       a floor under v of all neurons, or node → its floor; None: none
    by_dt       whether an IF's input is multiplied by the step
    start       node of a spiking neuron → where v starts
    tau         (tau, dt) → the time constants meant by those in the file, s
    leaky       (gain, decay) → what r times a LIF's input is multiplied by
    current     what a CubaLIF's input is multiplied by
    read_out    (gain, decay) → what r times the input of an LI is multiplied by
    step        type of a node and node → the step that it shows, s, or None
    lacks       neurons of NIR that the framework does not write
    writes      type of a neuron → what its writer always writes; other values are another tool's
    in_steps    whether the file fixes the decays of a step, so that a step that a user names is its name only
    endless     whether tau may be infinite, with r = tau/dt: a neuron that does not leak
    named       what a step is called, s, where that is not `dt`
    seconds     the convention of the same framework's files whose tau is in seconds, where others' is not
    """

    dt: float
    decay: Callable[[np.ndarray, float], np.ndarray]
    gain: Callable[[np.ndarray, float], np.ndarray]
    reset: str = "hard"
    strict: bool = False
    max_spikes: int | None = 1
    floor: float | None = None
    v_min: float | Mapping[str, float] | None = None
    by_dt: bool = True
    start: Callable[[Any], Any] = _at_zero
    tau: Callable[[np.ndarray, float], np.ndarray] = _as_written
    leaky: Callable[[np.ndarray, np.ndarray], np.ndarray] = _share
    current: Callable[[Current], np.ndarray] = _both_filters
    read_out: Callable[[np.ndarray, np.ndarray], np.ndarray] = _share
    step: Steps = _step_unseen
    lacks: tuple[str, ...] = ()
    writes: Mapping[str, Written] = field(default_factory=dict)
    in_steps: bool = False
    endless: bool = False
    named: float | None = None
    seconds: str | None = None


_norse = Convention(
    1e-3,
    _euler,
    _euler_gain,
    strict=True,
    by_dt=False,
    start=_at_leak,
    tau=_times_dt,
    current=_whole_input,
    lacks=("I",),
    writes=_NORSE,
    seconds="norse-seconds",
)

CONVENTIONS = {
    "nir": Convention(1e-4, _euler, _euler_gain),
    "exponential": Convention(1e-4, _exponential, _exponential_gain),
    "snntorch": Convention(
        1e-4,
        _euler,
        _euler_gain,
        strict=True,
        lacks=("IF", "LI", "I"),
        writes={
            "LIF": {"r": _tau_in_steps("tau"), **_RESTS},
            "CubaLIF": {"r": _tau_in_steps("tau_mem"), "w_in": _tau_in_steps("tau_syn"), **_RESTS},
        },
        in_steps=True,
        endless=True,
    ),
    "spikingjelly": Convention(
        1e-4,
        _euler,
        _euler_gain,
        start=_at_reset,
        step=_step_of_spikingjelly,
        lacks=("LI", "I"),
        writes={
            "IF": {"r": lambda node, dt: (1 / dt,)},
            "LIF": {"r": _tau_in_steps("tau", 1.0), "v_leak": lambda node, dt: (node.v_reset,)},
            "CubaLIF": {
                "r": _tau_in_steps("tau_mem"),
                "w_in": _tau_in_steps("tau_syn"),
                "v_leak": _ZERO,
            },
        },
    ),
    "norse": _norse,
    "norse-seconds": replace(_norse, tau=_as_written, seconds=None),
    "sinabs": Convention(
        1.0,
        _exponential,
        _exponential_gain,
        reset="soft",
        max_spikes=None,
        by_dt=False,
        read_out=_whole,
        lacks=("CubaLIF", "I"),
        writes={
            "IF": {"r": _ONE, "v_reset": _ZERO},
            "LIF": {"r": _ONE, **_RESTS},
            "LI": {"r": _ONE, "v_leak": _ZERO},
        },
        in_steps=True,
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
        lacks=("IF", "I"),
        writes={
            "LIF": {"r": _r_of_rockpool, **_RESTS},
            "LI": {"r": _r_of_rockpool, "v_leak": _ZERO},
            "CubaLIF": {"r": _r_of_rockpool, "w_in": _ONE, **_RESTS},
        },
    ),
}
"""Framework → the steps of a network that it wrote, whose layers have that framework's defaults (snnTorch:
reset_mechanism "zero" without reset_delay, the only one that its files mean). Sinabs counts tau in steps.
Norse's to_nir (1.1) writes tau · dt; "norse-seconds" is for files whose tau is in seconds, as NIR's published
lif_norse.nir has it and Norse's from_nir reads it.

"nir" is NIR's own text in Euler steps. In continuous time v > v_th and v ≥ v_th are one; here it is ≥."""


class Choices(TypedDict, total=False):
    """What the layers behind a file were given in place of their framework's defaults, by keyword.

    reset       "hard", "soft", "none", or "subtract": the threshold, a step later (snnTorch)
    strict      whether they fire above the threshold only
    max_spikes  most spikes of a neuron in a step (sinabs: SingleSpike is 1), None for no limit
    v_min       a floor under v of all neurons, or node → its floor; None for none (sinabs: min_v_mem)
    norm_input  whether a LIF's and an LI's input is multiplied by its share of a step, 1 − decay (sinabs:
                norm_input, which its LIF has by default and its ExpLeak has not)
    """

    reset: str
    strict: bool
    max_spikes: int | None
    v_min: float | Mapping[str, float] | None
    norm_input: bool


def convention_of(name: str, nodes: Mapping[str, Any], dt: float | None, choices: Choices) -> Convention:
    """The convention of a name with its step, s, and what was chosen otherwise; dt in ms.

    nodes  of the network, by name

    Raises `ParameterError` naming an unknown convention or choice and what there is, `ExportError` naming two
    nodes of different steps, or the step that r shows where dt is another.
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
    floors = given.get("v_min")
    astray = [n for n in floors if n not in nodes] if isinstance(floors, Mapping) else []
    if astray:
        raise ParameterError(f"NIR: v_min names a node {astray[0]!r}{choices_of(astray[0], nodes)}")
    if "norm_input" in given:
        given["leaky"] = given["read_out"] = _share if given.pop("norm_input") else _whole
    if how.in_steps:
        return replace(how, named=None if dt is None else dt * 1e-3, **given)
    shown = _step_shown(how, nodes)
    step = dt * 1e-3 if dt is not None else how.dt if shown is None else shown
    if shown is not None and not np.isclose(step, shown, rtol=1e-4, atol=0):
        raise ExportError(
            f"NIR: r of the nodes says that a step is {1e3 * shown:g} ms, not {1e3 * step:g} ms; leave out "
            f"dt, or read it by the convention nir if another tool than {name} wrote it."
        )
    return replace(how, dt=step, **given)


def _step_shown(how: Convention, nodes: Mapping[str, Any]) -> float | None:
    """The step that all nodes show, s, or None where none does."""
    kinds = {key: type(node).__name__ for key, node in nodes.items()}
    found = {key: step for key, node in nodes.items() if (step := how.step(kinds[key], node)) is not None}
    if not found:
        return None
    first = next(iter(found))
    for key, step in found.items():
        if not np.isclose(step, found[first], rtol=1e-4, atol=0):
            raise ExportError(
                f"NIR: the step is {1e3 * found[first]:g} ms by r of node {first!r} and {1e3 * step:g} ms by "
                f"that of node {key!r}; a Graph has one."
            )
    return how.dt if np.isclose(found[first], how.dt, rtol=1e-12, atol=0) else found[first]


def check_written(name: str, how: Convention, key: str, node: Any) -> None:
    """Raises `ExportError` naming a time constant that is none and what the framework never writes."""
    for parameter in ("tau", "tau_mem", "tau_syn"):
        tau = np.asarray(getattr(node, parameter, 1.0), np.float64)
        good = (tau > 0) & (np.isfinite(tau) | how.endless)
        if not good.all():
            raise ExportError(
                f"NIR: node {key!r} has {parameter} = {tau[~good].flat[0]:g} s; a time constant is above 0 "
                "and finite."
            )
    for parameter, expected in how.writes.get(type(node).__name__, {}).items():
        value = getattr(node, parameter, None)
        if value is None:
            continue
        value = np.asarray(value, np.float64)
        values = [np.asarray(v, np.float64) for v in expected(node, how.dt)]
        if any(np.allclose(value, v, rtol=1e-4, atol=1e-12) for v in values):
            continue
        wrong = ", ".join(f"{v:g}" for v in np.unique(value)[:3])
        right = " or ".join(f"{v.flat[0]:g}" for v in values)
        steps = "" if how.in_steps else f" in steps of {1e3 * how.dt:g} ms"
        raise ExportError(
            f"NIR: node {key!r} has {parameter} = {wrong}, where {name}'s own writer has {right}{steps}; if "
            "another tool wrote it, read it by the convention nir."
        )
