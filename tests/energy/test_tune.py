"""The Pareto search, on functions whose front is known."""

import json

import numpy as np
import pytest

from snnkit.energy.tune import SPACE, pareto, tune
from snnkit.errors import ParameterError

pytest.importorskip("optuna")

SMALL = {
    "hidden": [16, 32, 64],
    "bits": {"low": 2, "high": 8, "step": 2},
    "beta": {"low": 0.1, "high": 10.0, "log": True},
}


def evaluate(p):
    return {
        "accuracy": 1 - 1 / p["hidden"] - (0.5 if p["bits"] == 2 else 0.0),
        "energy_pj": float(p["hidden"] * p["bits"]),
        "latency_us": float(p["hidden"]) + p["beta"],
    }


def test_the_front_is_the_best_found_and_nothing_beaten():
    study = tune(evaluate, SMALL, trials=40, seed=1)
    front = study.front()
    assert len(study.table["trial"]) == 40
    assert (np.diff(front["accuracy"]) <= 0).all()
    assert set(front["hidden"].tolist()) == {16, 32, 64}
    for i in range(len(front["trial"])):
        beats = (
            (study.table["accuracy"] >= front["accuracy"][i])
            & (study.table["energy_pj"] <= front["energy_pj"][i])
            & (study.table["latency_us"] < front["latency_us"][i])
        )
        assert not beats.any()


def test_the_same_seed_searches_the_same_networks():
    a, b, c = (tune(evaluate, SMALL, trials=12, seed=s) for s in (3, 3, 4))
    assert a.to_json() == b.to_json()
    assert a.to_json() != c.to_json()


def test_the_default_space_is_that_of_the_issue_and_typed():
    seen = []

    def note(p):
        seen.append(p)
        return {"accuracy": 0.5, "energy_pj": 1.0, "latency_us": 1.0}

    tune(note, trials=5)
    assert (
        set(SPACE) == {"rate_regularisation", "hidden", "bits", "max_delay", "bin_width_ms"} == set(seen[0])
    )
    for p in seen:
        assert isinstance(p["hidden"], int)
        assert isinstance(p["max_delay"], int)
        assert p["max_delay"] % 5 == 0
        assert 1e-4 <= p["rate_regularisation"] <= 1


def test_parameters_that_come_up_again_are_not_trained_again():
    calls = []

    def once(p):
        calls.append(tuple(p.values()))
        return {"accuracy": p["a"], "energy_pj": 1.0, "latency_us": 1.0}

    study = tune(once, {"a": [1, 2]}, trials=20)
    assert len(calls) == len(set(calls)) == 2
    assert len(study.table["trial"]) == 20
    assert study.front()["a"].tolist() == [2]


def test_a_trial_that_fails_is_noted_and_the_search_goes_on():
    def brittle(p):
        if p["hidden"] == 32:
            raise ValueError("diverged")
        if p["hidden"] == 64:
            return {"accuracy": float("nan"), "energy_pj": 1.0, "latency_us": 1.0}
        return evaluate(p)

    study = tune(brittle, SMALL, trials=20)
    assert set(study.table["hidden"].tolist()) == {16}
    assert any("diverged" in why for why in study.failed.values())
    assert any("not all finite" in why for why in study.failed.values())
    assert len(study.failed) + len(study.table["trial"]) == 20


def test_pareto_by_hand():
    values = np.array([[1.0, 5.0], [2.0, 5.0], [2.0, 7.0], [0.5, 1.0], [2.0, 5.0]])
    assert pareto(values, ["maximize", "minimize"]).tolist() == [False, True, False, True, True]
    assert pareto(values, ["minimize", "minimize"]).tolist() == [False, False, False, True, False]


def test_a_study_is_saved_as_json(tmp_path):
    study = tune(evaluate, SMALL, trials=5)
    study.save(tmp_path / "study.json")
    assert json.loads((tmp_path / "study.json").read_text())["table"]["trial"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"a": {"low": 2, "high": 1}}, "should be low ≤ high"),
        ({"a": {"low": 1}}, "should be low ≤ high"),
        ({"a": {"low": 0.0, "high": 1.0, "log": True}}, "needs low > 0"),
        ({"a": []}, "neither a list of choices nor a range"),
        ({"a": "8"}, "neither a list of choices nor a range"),
    ],
)
def test_a_bad_space_is_named(space, message):
    with pytest.raises(ParameterError, match=message):
        tune(evaluate, space)


def test_what_the_search_refuses():
    with pytest.raises(ParameterError, match="at least one trial"):
        tune(evaluate, SMALL, trials=0)
    with pytest.raises(ParameterError, match="direction 'up'"):
        tune(evaluate, SMALL, objectives=[("accuracy", "up")])
    with pytest.raises(ParameterError, match=r"none of 3 trials gave figures; the first said: objectives"):
        tune(lambda p: {"accuracy": 1.0}, SMALL, trials=3)
