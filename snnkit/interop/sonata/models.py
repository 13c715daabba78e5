"""NEST's point neurons in ours, exactly: potentials above E_L, propagators of NEST's own step.

    iaf_psc_delta   V[t] = P33 · V[t-1] + P30 · I_e + Σ w            "lif"   gain = 1
    iaf_psc_exp     V[t] = P22 · V[t-1] + P21 · I[t-1] + P20 · I_e   "cuba"  i[t] = P21 · I[t-1] + P20 · I_e
                    I[t] = P11 · I[t-1] + Σ w

In "cuba" a weight acts one step later and is multiplied by P21 (`nest.reach` / C_m); a constant current
is a bias of 1 − P11 of it and a current that starts there. V_m, V_th and V_reset that are not given are
NEST's defaults, absolute whatever E_L is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import DataError, ExportError, choices
from ...graph import Population
from ..nest import reach

DEFAULTS = {
    "tau_m": 10.0, "C_m": 250.0, "t_ref": 2.0, "E_L": -70.0, "I_e": 0.0, "V_th": -55.0, "V_reset": -70.0,
    "V_m": -70.0,
}  # fmt: skip
"""NEST's parameters of both models where none are given; ms, pF, mV, pA."""

IRRELEVANT = ("tau_minus", "tau_minus_triplet")
"""Parameters that only plastic synapses read."""

FLOORLESS = -1e30
"""V_min of a neuron without one beside neurons that have one, mV above E_L."""


@dataclass(frozen=True)
class Made:
    """Neurons of one model in ours.

    scale   weight of a NEST weight of 1, float [N]
    lag     steps by which an input acts later
    rest    E_L, mV [N]
    """

    population: Population
    scale: np.ndarray
    lag: int
    rest: np.ndarray


@dataclass(frozen=True)
class Model:
    """A NEST model: our neuron, what parameters it has beyond `DEFAULTS`, and how they are made ours."""

    neuron: str
    make: Callable[[str, dict[str, np.ndarray], float], tuple[Population, np.ndarray]]
    lag: int = 0
    more: dict[str, float] = field(default_factory=dict)


def neurons(
    template: str, name: str, given: dict[str, np.ndarray], size: int, settings: tuple[float, str]
) -> Made:
    """The population `name` of `size` neurons of a NEST model, of parameters that are NaN where not given.

    settings  dt (ms), and the place of the neurons for messages

    Raises `ExportError` for a parameter that the model does not have, `DataError` for a value that it
    refuses, each naming the node.
    """
    dt, where = settings
    model = MODELS[template]
    known = DEFAULTS | model.more
    for key, values in given.items():
        if key not in known and key not in IRRELEVANT and not np.isnan(values).all():
            raise ExportError(f"{where}: {template} has no parameter {key!r}{choices(key, known)}")
    params = {
        key: np.where(np.isnan(values), usual, values)
        for key, usual in known.items()
        for values in [given.get(key, np.full(size, np.nan))]
    }
    _check(where, params)
    params["t_ref"] = whole_steps(params["t_ref"], dt, where, "t_ref").astype(float)
    rest = params["E_L"]
    for key in ("V_th", "V_reset", "V_m"):
        params[key] = params[key] - rest
    population, scale = model.make(where, params, dt)
    population.name = name
    return Made(population, scale, model.lag, rest)


def whole_steps(ms: np.ndarray, dt: float, where: str, what: str) -> np.ndarray:
    """Times in steps, int64. Raises `DataError` naming the first that is no whole number of them.

    What float32 rounds off a time is no fraction of a step.
    """
    steps = ms / dt
    whole = np.round(steps)
    wrong = np.abs(steps - whole) > 1e-6 * np.maximum(1, whole)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{where}: {what}[{row}] is {ms[row]} ms, which is {steps[row]:.6g} steps of dt = {dt} ms; it "
            "must be a whole number of steps. Choose a dt that divides it."
        )
    return whole.astype(np.int64)


def compact(values: np.ndarray) -> np.ndarray:
    """One number where all are equal, else the array."""
    return values[0] if len(values) and (values == values[0]).all() else values


def _check(where: str, p: dict[str, np.ndarray]) -> None:
    """What NEST refuses. Raises `DataError` naming the first node."""
    positive = [key for key in ("tau_m", "C_m", "tau_syn_ex", "tau_syn_in") if key in p]
    rules = [(p[key] > 0, f"{key} must be above 0") for key in positive]
    rules += [
        (p["t_ref"] >= 0, "t_ref must not be below 0"),
        (p["V_reset"] < p["V_th"], "V_reset must lie below V_th"),
    ]
    for holds, rule in rules:
        if not holds.all():
            raise DataError(f"{where}: {rule}; it does not at node {int(np.argmin(holds))} of this model.")


def _refuse(where: str, p: dict[str, np.ndarray], key: str, why: str) -> None:
    if (p[key] != 0).any():
        row = int(np.argmax(p[key] != 0))
        raise ExportError(f"{where}: {key} = {p[key][row]:g} at node {row} of this model; {why}.")


def _shared(p: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Parameters and options of the threshold."""
    params = {"v_th": compact(p["V_th"]), "v_reset": compact(p["V_reset"])}
    if not p["t_ref"].any():
        return params, {}
    return params | {"refractory": compact(p["t_ref"])}, {"refractory": True}


def _delta(where: str, p: dict[str, np.ndarray], dt: float) -> tuple[Population, np.ndarray]:
    _refuse(where, p, "refractory_input", "here what arrives in the refractory period is lost")
    params, options = _shared(p)
    floor = p["V_min"] - p["E_L"]
    if np.isfinite(floor).any():
        if (p["V_reset"] < floor).any() or (p["V_th"] <= floor).any():
            row = int(np.argmax((p["V_reset"] < floor) | (p["V_th"] <= floor)))
            raise ExportError(f"{where}: V_min at node {row} of this model must not lie above V_reset.")
        params["v_min"] = compact(np.where(np.isfinite(floor), floor, FLOORLESS))
        options["floor"] = True
    lost = -np.expm1(-dt / p["tau_m"])
    population = Population(
        name="",
        neuron="lif",
        shape=(len(lost),),
        params={
            "decay": compact(np.exp(-dt / p["tau_m"])),
            "gain": np.ones(()),
            "v_rest": np.zeros(()),
            **params,
        },
        bias=compact(p["I_e"] * p["tau_m"] / p["C_m"] * lost),
        options=options,
        initial={"v": compact(p["V_m"])},
    )
    return population, np.ones(len(lost))


def _exponential(where: str, p: dict[str, np.ndarray], dt: float) -> tuple[Population, np.ndarray]:
    _refuse(where, p, "delta", "spikes by chance are not in 'cuba'")
    tau, tau_syn = p["tau_m"], p["tau_syn_ex"]
    if (tau_syn != p["tau_syn_in"]).any():
        row = int(np.argmax(tau_syn != p["tau_syn_in"]))
        raise ExportError(
            f"{where}: tau_syn_ex = {tau_syn[row]:g} and tau_syn_in = {p['tau_syn_in'][row]:g} ms at node "
            f"{row} of this model; 'cuba' has one synaptic current, so they must be equal."
        )
    params, options = _shared(p)
    drive = -p["I_e"] * tau / p["C_m"] * np.expm1(-dt / tau)
    population = Population(
        name="",
        neuron="cuba",
        shape=(len(tau),),
        params={
            "decay_syn": compact(np.exp(-dt / tau_syn)),
            "decay_mem": compact(np.exp(-dt / tau)),
            **params,
        },
        bias=compact(-drive * np.expm1(-dt / tau_syn)),
        options=options,
        initial={"v": compact(p["V_m"]), **({"i": compact(drive)} if drive.any() else {})},
    )
    return population, reach(tau, tau_syn, dt) / p["C_m"]


MODELS: dict[str, Model] = {
    "iaf_psc_delta": Model("lif", _delta, more={"V_min": -np.inf, "refractory_input": 0.0}),
    "iaf_psc_exp": Model(
        "cuba", _exponential, lag=1, more={"tau_syn_ex": 2.0, "tau_syn_in": 2.0, "rho": 0.01, "delta": 0.0}
    ),
}
"""NEST model → how its neurons become ours; add to it to have another read."""
