"""Search for networks that trade accuracy, energy and time: the Pareto front, by Optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ParameterError, require
from ..files import PathLike, atomic

Objective = tuple[str, str]
OBJECTIVES: tuple[Objective, ...] = (
    ("accuracy", "maximize"),
    ("energy_pj", "minimize"),
    ("latency_us", "minimize"),
)
SPACE: dict[str, Any] = {
    "rate_regularisation": {"low": 1e-4, "high": 1.0, "log": True},
    "hidden": [64, 128, 256, 512],
    "bits": [4, 6, 8],
    "max_delay": {"low": 0, "high": 40, "step": 5},
    "bin_width_ms": [5.0, 10.0, 20.0],
}
"""What `snnkit tune` searches unless told otherwise."""


@dataclass(frozen=True)
class Study:
    """What was tried.

    table       one row a finished trial: columns trial, every parameter, every objective, front
    parameters  names of the parameters
    objectives  (name, "maximize" or "minimize"), in order
    failed      trial → why it gave no figures
    """

    table: dict[str, np.ndarray]
    parameters: tuple[str, ...]
    objectives: tuple[Objective, ...]
    failed: dict[int, str]

    def front(self) -> dict[str, np.ndarray]:
        """The rows no other row beats, best of the first objective first; each choice of parameters once."""
        first, direction = self.objectives[0]
        first_trial: dict[tuple[Any, ...], int] = {}  # choice of parameters → its first row
        for i in np.flatnonzero(self.table["front"]):
            first_trial.setdefault(tuple(self.table[name][i] for name in self.parameters), int(i))
        index = np.array(sorted(first_trial.values()), int)
        order = np.argsort(self.table[first][index], kind="stable")
        index = index[order[::-1] if direction == "maximize" else order]
        return {name: column[index] for name, column in self.table.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for `json.dumps`."""
        return {
            "parameters": list(self.parameters),
            "objectives": [list(o) for o in self.objectives],
            "failed": {str(k): v for k, v in self.failed.items()},
            "table": {name: column.tolist() for name, column in self.table.items()},
        }

    def save(self, path: PathLike) -> None:
        """Write `to_json` to a file."""
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def tune(
    evaluate: Callable[[dict[str, Any]], Mapping[str, float]],
    space: Mapping[str, Any] | None = None,
    trials: int = 40,
    seed: int = 0,
    *,
    objectives: Sequence[Objective] = OBJECTIVES,
    storage: str | None = None,
    progress: Callable[[int, dict[str, Any], Mapping[str, float]], None] | None = None,
) -> Study:
    """Pareto search: `evaluate` gets a choice of parameters and gives its objectives.

    evaluate   ``{"hidden": 128, …} -> {"accuracy": 0.93, "energy_pj": 2e6, "latency_us": 900.0}``: trains
               and prices one network. A trial that raises `ValueError` or gives no finite number is
               noted in `failed` and the search goes on
    space      parameter → list of choices, or {"low", "high"} with "step" or "log"; two integers mean
               an integer. None: `SPACE`
    storage    Optuna's storage URL, to resume a search
    progress   called after each trial with its number, parameters and objectives

    Parameters that come up again are not evaluated again. The sampler is NSGA-II, seeded: with a
    deterministic `evaluate` the same seed gives the same search. Raises `ParameterError` naming what is
    wrong with the trials, an objective or the space, or if no trial gave figures; `MissingExtraError`
    without Optuna.
    """
    optuna = require("optuna", "tune")
    space = SPACE if space is None else space
    objectives = tuple((str(n), str(d)) for n, d in objectives)
    _check_search(space, trials, objectives)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what failed is in the result
    population = max(4, min(20, trials // 3))
    study = optuna.create_study(
        directions=[d for _, d in objectives],
        sampler=optuna.samplers.NSGAIISampler(population_size=population, seed=seed),
        storage=storage,
        study_name="snnkit" if storage else None,
        load_if_exists=storage is not None,
    )
    failed: dict[int, str] = {}
    known: dict[str, Mapping[str, float]] = {}

    def run(trial: Any) -> list[float]:
        parameters = {name: _suggest(trial, name, choice) for name, choice in space.items()}
        key = json.dumps(parameters, sort_keys=True)
        try:
            got = known[key] if key in known else evaluate(dict(parameters))
            known[key] = got
            values = [float(got.get(name, math.nan)) for name, _ in objectives]
            if not all(map(math.isfinite, values)):
                raise ValueError(f"objectives {dict(got)} are not all finite")
        except ValueError as error:
            failed[trial.number] = str(error)
            raise
        if progress is not None:
            progress(trial.number, parameters, got)
        return values

    study.optimize(run, n_trials=trials, catch=(ValueError,))
    found = _study(study, tuple(space), objectives, failed)
    if not len(found.table["trial"]):
        first = next(iter(failed.values()), "nothing")
        raise ParameterError(f"none of {trials} trials gave figures; the first said: {first}")
    return found


def _check_search(space: Mapping[str, Any], trials: int, objectives: Sequence[Objective]) -> None:
    if trials < 1:
        raise ParameterError(f"tune needs at least one trial, got {trials}.")
    for name, direction in objectives:
        if direction not in ("maximize", "minimize"):
            raise ParameterError(
                f"objective {name!r}: direction {direction!r} is none of maximize, minimize."
            )
    for name, choice in space.items():
        _check(name, choice)


def _check(name: str, choice: Any) -> None:
    if isinstance(choice, Mapping):
        unknown = set(choice) - {"low", "high", "step", "log"}
        if unknown or not {"low", "high"} <= set(choice) or not choice["low"] <= choice["high"]:
            raise ParameterError(
                f"space {name!r}: {dict(choice)} should be low ≤ high and perhaps step or log."
            )
        if choice.get("log") and choice["low"] <= 0:
            raise ParameterError(f"space {name!r}: a logarithmic range needs low > 0, got {choice['low']}.")
    elif isinstance(choice, str) or not isinstance(choice, Sequence) or not choice:
        raise ParameterError(f"space {name!r}: {choice!r} is neither a list of choices nor a range.")


def _suggest(trial: Any, name: str, choice: Any) -> Any:
    if not isinstance(choice, Mapping):
        return trial.suggest_categorical(name, list(choice))
    low, high = choice["low"], choice["high"]
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, step=choice.get("step", 1), log=choice.get("log", False))
    return trial.suggest_float(name, low, high, step=choice.get("step"), log=choice.get("log", False))


def pareto(values: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """Which rows of ``values [R, K]`` no other row beats: none better in one and as good in all."""
    signs = np.array([1.0 if d == "minimize" else -1.0 for d in directions])
    cost = np.asarray(values, float) * signs
    beaten = np.zeros(len(cost), bool)
    for i, row in enumerate(cost):
        beaten[i] = ((cost <= row).all(1) & (cost < row).any(1)).any()
    return ~beaten


def _study(
    study: Any, parameters: tuple[str, ...], objectives: tuple[Objective, ...], failed: dict[int, str]
) -> Study:
    done = [t for t in study.trials if t.values is not None]
    values = np.array([t.values for t in done], float).reshape(len(done), len(objectives))
    table: dict[str, np.ndarray] = {"trial": np.array([t.number for t in done], int)}
    for name in parameters:
        table[name] = np.array([t.params[name] for t in done])
    for i, (name, _) in enumerate(objectives):
        table[name] = values[:, i]
    table["front"] = pareto(values, [d for _, d in objectives])
    return Study(table, parameters, objectives, failed)
