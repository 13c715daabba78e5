"""`snnkit simulate`: what it measures is the run, not the machine's first steps."""

import time
from dataclasses import replace

import numpy as np
import pytest

from snnkit import engine
from snnkit.commands import simulate as command
from snnkit.commands.data import parse_pairs
from snnkit.commands.evaluate import evaluate_run
from snnkit.commands.export import export_network
from snnkit.commands.verify import verify_export
from snnkit.errors import ConfigError, ParameterError
from snnkit.graph import Graph
from snnkit.hardware.ladder import ladder
from snnkit.training import Trainer, evaluate, parse_config
from snnkit.training.run import load_data
from tests.helpers.networks import network, spikes


def test_the_first_call_is_told_apart_from_an_inference(tmp_path, monkeypatch):
    """An engine that takes 0.4 s to start is as fast as another afterwards."""
    network(sizes=(21, 10, 3)).save(tmp_path / "graph.h5")
    events, asked = spikes(samples=70, steps=20), []
    np.savez(
        tmp_path / "mine.npz", t=events.times * 10_000, x=events.neurons, offsets=events.offsets,
        labels=np.arange(70) % 3, shape=21,
    )  # fmt: skip

    def starting_late(graph, events, **options):
        if not asked:
            time.sleep(0.4)
        asked.append(len(events))
        return engine.simulate(graph, events, **options)

    monkeypatch.setattr(command, "simulator", lambda name: starting_late)
    data = ["name=events", f"root={tmp_path}", "file=mine.npz", "split=random", "channels=21"]
    plain = command.simulate_on_data(tmp_path / "graph.h5", "train", data)
    late = command.simulate_on_data(tmp_path / "graph.h5", "train", data)
    samples = plain["samples"]
    assert asked == [1, *[min(64, samples - k) for k in range(0, samples, 64)]] * 2
    assert plain["first_inference_ms"] > 400
    assert plain["ms_per_inference"] * samples < 400
    timed = {"ms_per_inference", "first_inference_ms"}
    assert {k: v for k, v in plain.items() if k not in timed} == {
        k: v for k, v in late.items() if k not in timed
    }


def test_a_key_that_only_the_networks_own_data_have_needs_no_name(tmp_path):
    graph = network(sizes=(21, 10, 3))
    events = spikes(samples=40, steps=20)
    for file, labels in (("mine.npz", np.arange(40) % 3), ("other.npz", (np.arange(40) + 1) % 3)):
        np.savez(
            tmp_path / file, t=events.times * 10_000, x=events.neurons, offsets=events.offsets,
            labels=labels, shape=21,
        )  # fmt: skip
    own = {"name": "events", "root": str(tmp_path), "file": "mine.npz", "split": "random", "seed": 3}
    graph.metadata["data"] = own
    graph.save(tmp_path / "graph.h5")
    right = [
        command.simulate_on_data(tmp_path / "graph.h5", "train", asked)["accuracy"]
        for asked in ([], ["file=mine.npz"], ["file=other.npz"], ["events", *(f"{k}={own[k]}" for k in own)])
    ]
    assert right[0] == right[1] == right[3] != right[2]
    with pytest.raises(ConfigError, match=r"unknown key 'flie', did you mean 'file'\?"):
        parse_pairs(["flie=other.npz"], "events")
    assert parse_pairs(["data.file=a.npz", "dt=5"], "events") == {"file": "a.npz", "dt": 5.0}
    assert parse_pairs(["shd", "dt=5"], "events") == {"name": "shd", "dt": 5.0}


def test_a_class_in_every_step_is_counted_step_by_step(tmp_path):
    """The share of steps of the engine is what the metric of the trainer is, which torch measures."""
    config = parse_config(
        {
            "data": {"name": "tests.helpers.objectives:steps", "dt": 5.0},
            "model": {"hidden": [16], "delays": "none", "tau_mem": 20.0},
            "train": {"epochs": 4, "batch": 16, "device": "cpu", "weights": {"lr_max": 0.02}},
        }
    )
    trainer = Trainer(config, load_data(config), tmp_path, progress=False)
    trainer.named = True
    trainer.fit()
    known = evaluate_run(tmp_path / "last.pt")
    found = command.simulate_on_data(tmp_path / "graph.h5", dtype="float64", against=tmp_path / "last.pt")
    assert "accuracy" not in found
    assert found["equal_spikes"] == 1.0
    assert 0.4 < found["step_accuracy"] == found["graph_step_accuracy"] == found["network_step_accuracy"] < 1
    assert found["step_accuracy"] == pytest.approx(known["metric"], abs=0.005)
    export_network(tmp_path / "graph.h5", "graph", tmp_path / "chip.h5")
    rungs = verify_export(tmp_path / "chip.h5", tmp_path / "graph.h5").rungs
    assert all(rung.accuracy is None for rung in rungs)
    assert all(rung.agree is not None for rung in rungs[1:])
    chip = command.simulate_on_data(tmp_path / "chip.h5")
    assert abs(chip["step_accuracy"] - found["step_accuracy"]) < 0.1
    labels = trainer.data.valid.labels
    graph = Graph.load(tmp_path / "graph.h5")
    with pytest.raises(ParameterError, match=r"labels of shape \[30, 24\] .*not one class a sample"):
        ladder(graph, graph, trainer.data.valid.events, labels)
    result = evaluate(trainer.network, trainer.data.valid)
    for name in ("correct", "accuracy", "confusion", "most_confused"):
        with pytest.raises(ParameterError, match=r"\[30, 24\] are a class in every step.*\.metric = 0\.\d+"):
            getattr(result, name)


def test_targets_that_are_no_classes_have_no_accuracy():
    right = command.Right(np.zeros((3, 5, 2), np.float32))
    right.add(np.zeros((3, 2)), None, np.full(3, 5), None)
    assert right.share() == {}


def test_what_is_silent_and_what_is_tied_is_said(tmp_path, caplog):
    """Nothing passes a threshold that no input can reach; without biases all potentials behind it stay 0."""
    graph = network(sizes=(21, 10, 3), bias=0.0)
    events = spikes(samples=40, steps=20)
    np.savez(
        tmp_path / "mine.npz", t=events.times * 10_000, x=events.neurons, offsets=events.offsets,
        labels=np.arange(40) % 3, shape=21,
    )  # fmt: skip
    graph.metadata["data"] = {
        "name": "events", "root": str(tmp_path), "file": "mine.npz", "split": "random",
    }  # fmt: skip
    graph.save(tmp_path / "graph.h5")
    loud = command.simulate_on_data(tmp_path / "graph.h5")
    assert loud["silent"] == []
    assert "tied" not in loud
    assert not caplog.text
    (hidden,) = [n for n in graph.populations if n not in (*graph.inputs, *graph.outputs)]
    cell = graph.populations[hidden]
    graph.populations[hidden] = replace(cell, params=cell.params | {"v_th": np.float32(1e9)})
    graph.save(tmp_path / "quiet.h5")
    quiet = command.simulate_on_data(tmp_path / "quiet.h5")
    assert quiet["silent"] == [hidden]
    assert quiet["tied"] == quiet["samples"]
    assert f"{hidden!r} gave no spike on valid" in caplog.text
