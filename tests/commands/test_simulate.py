"""`snnkit simulate`: what it measures is the run, not the machine's first steps."""

import time

import numpy as np

from snnkit import engine
from snnkit.commands import simulate as command
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
