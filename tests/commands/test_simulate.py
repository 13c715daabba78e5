"""`snnkit simulate`: what it measures is the run, not the machine's first steps."""

import time

import numpy as np
import pytest

from snnkit import engine
from snnkit.commands import simulate as command
from snnkit.commands.data import parse_pairs
from snnkit.errors import ConfigError
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
