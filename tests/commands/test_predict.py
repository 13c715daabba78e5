"""`snnkit predict`: classes of recordings that have no labels, binned as the run's data were."""

import json
import wave
from dataclasses import replace

import h5py
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from snnkit import cli
from snnkit.commands.predict import decided, predict, prediction_table, recordings
from snnkit.datasets import load
from snnkit.engine.readout import scores
from snnkit.errors import DataError
from snnkit.graph import Graph, Population, Projection
from snnkit.readouts import READOUTS
from snnkit.training import Trainer, parse_config
from snnkit.training.run import load_data
from tests.helpers.made_files import heidelberg


def network(inputs=20, classes=3, shape=None, **metadata):
    rng = np.random.default_rng(0)
    lif = {"decay": 0.7, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    return Graph(
        {
            "input": Population("input", "input", shape or inputs),
            "hidden": Population("hidden", "lif", 30, lif),
            "out": Population("out", "li", classes, {"decay": 0.9, "gain": 1.0}),
        },
        [
            Projection(
                "a", "input", "hidden", rng.normal(size=(30, inputs)), rng.integers(0, 5, (30, inputs))
            ),
            Projection("b", "hidden", "out", rng.normal(size=(classes, 30))),
        ],
        dt=10.0,
        outputs=["out"],
        metadata={"readout": "softmax_sum", "steps_tail": 5, "classes": list("abc")[:classes]} | metadata,
    ).validate()


def clips(number=9):
    rng = np.random.default_rng(3)
    times = [np.sort(rng.uniform(0, 0.3, 80)) for _ in range(number)]
    return times, [rng.integers(0, 700, 80) for _ in times], rng.integers(0, 3, number)


@pytest.mark.parametrize("binary", [False, True])
def test_the_answer_is_that_of_the_data_set_without_its_labels(tmp_path, binary):
    for seed, part in enumerate(("train", "valid", "test")):
        heidelberg(tmp_path / f"ssc_{part}.h5", *clips(9 + seed))
    data = {"name": "ssc", "binary": binary, "channels": 20}
    graph = network(data=data)
    graph.save(tmp_path / "graph.h5")
    valid = load(root=tmp_path, cache=False, **data).valid
    with h5py.File(tmp_path / "ssc_valid.h5") as file, h5py.File(tmp_path / "bare.h5", "w") as bare:
        file.copy("spikes", bare)
        times, units = file["spikes/times"][()], file["spikes/units"][()]
    np.savez(
        tmp_path / "bare.npz",
        t=(np.concatenate(times).astype(np.float64) * 1e6).astype(np.int64),
        x=np.concatenate(units),
        offsets=np.cumsum([0, *map(len, times)]),
    )
    want = scores(graph, valid.events)
    for file in ("bare.h5", "bare.npz"):
        found = list(predict(tmp_path, [tmp_path / file]))
        np.testing.assert_allclose([list(p.scores.values()) for p in found], want)
        assert [p.label for p in found] == [list("abc")[k] for k in want.argmax(1)]
        assert [p.recording for p in found] == list(range(len(valid)))
        assert [p.length_ms for p in found] == (valid.lengths * 10.0).tolist()


def test_sound_goes_through_the_cochlea_of_the_run(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "words"
    for word in ("no", "yes"):
        (folder / word).mkdir(parents=True)
        for k in range(4):
            t = np.arange(2400) / 8000
            samples = 8000 * np.sin(2 * np.pi * (400 if word == "no" else 1500) * t * (1 + 0.01 * k))
            with wave.open(str(folder / word / f"{k}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes((samples + rng.normal(size=2400)).astype("<i2").tobytes())
    data = {"name": "audio", "channels": 20, "seed": 4}
    graph = network(classes=2, data=data)
    graph.save(tmp_path / "graph.h5")
    whole = load(root=folder, progress=False, validation="random", **data)
    (first,) = predict(tmp_path / "graph.h5", [folder / "no" / "0.wav"])
    # the first clip of the folder is encoded with the same seed in the data set
    parts = [getattr(whole, part) for part, size in whole.sizes.items() if size]
    every = np.concatenate([scores(graph, part.events) for part in parts])
    assert np.isclose(every, list(first.scores.values())).all(1).any()


def test_sound_of_another_rate_is_refused_as_in_training(tmp_path):
    """What training keeps of its sound is what predict holds a file against."""
    for k, word in enumerate(("low", "high") * 6):
        (tmp_path / "sound" / word).mkdir(parents=True, exist_ok=True)
        tone(tmp_path / "sound" / word / f"{k}.wav", 8000)
    data = {"name": "audio", "root": str(tmp_path / "sound"), "channels": 20, "features": "mel"}
    config = parse_config({
        "data": data, "model": {"hidden": [4], "delays": "none"}, "train": {"epochs": 1, "device": "cpu"},
    })  # fmt: skip
    splits = load_data(config)
    assert splits.rate == 8000
    Trainer(config, splits, tmp_path / "run", progress=False).fit()
    for rate in (8000, 16000):
        tone(tmp_path / f"{rate}.wav", rate)
    assert len(list(predict(tmp_path / "run", [tmp_path / "8000.wav"]))) == 1
    with pytest.raises(
        DataError, match=r"16000\.wav has 16000 Hz, and the network was trained on sound of 8000"
    ):
        list(predict(tmp_path / "run", [tmp_path / "16000.wav"]))


def tone(path, rate):
    samples = 9000 * np.sin(2 * np.pi * 440 * np.arange(rate // 5) / rate)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def test_the_step_of_the_decision():
    graph = network(readout="max_over_time", steps_tail=1)
    v = np.array([[0, 0, 0], [3, 1, 0], [3, 4, 0], [0, 0, 0], [0, 0, 5], [0, 4, 0]], float)
    assert decided(v, graph, 5, 2) == 4  # the highest from there on
    assert decided(v, graph, 1, 0) == 1  # two steps: nobody is ahead in the first
    assert decided(v, graph, 5, 0) is None
    graph = network(readout="last_step", steps_tail=0)
    assert decided(v, graph, 3, 1) == 2
    assert decided(v, graph, 4, 0) is None  # a tie at the end


def by_prefixes(values, graph, length, winner):
    """As the definition says: every beginning of the run read out by itself."""
    metadata = graph.metadata
    start = metadata.get("latency", 0)
    stop = min(length + metadata["steps_tail"], len(values))
    leads = []
    for t in range(start, stop):
        now = READOUTS[metadata["readout"]].scores(
            values[start : t + 1, None], np.ones((t + 1 - start, 1), bool)
        )[0]
        leads.append(all(now[winner] > now[k] for k in range(len(now)) if k != winner))
    return next((start + i for i in range(len(leads)) if all(leads[i:])), None)


@pytest.mark.parametrize("readout", READOUTS)
def test_the_decision_is_that_of_reading_out_at_every_step(readout):
    rng = np.random.default_rng(0)
    found = set()
    for steps, classes, tail, latency in ((40, 3, 5, 0), (31, 2, 0, 2), (12, 1, 3, 0), (5, 4, 9, 5)):
        graph = network(classes=classes, readout=readout, steps_tail=tail, latency=latency)
        for _ in range(20):
            v = rng.normal(size=(steps, classes))
            values = np.round(v).clip(0) if READOUTS[readout].of_spikes else v
            for winner in range(classes):
                for length in (steps, steps - tail, 1):
                    want = by_prefixes(values, graph, length, winner)
                    assert decided(values, graph, length, winner) == want
                    found.add(want)
    assert len(found) > 10
    assert None in found


@pytest.mark.parametrize("readout", READOUTS)
def test_scores_so_far_are_those_of_every_beginning(readout):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4, (23, 4, 3)).astype(float)
    mask = np.arange(23)[:, None] < [23, 20, 7, 1]
    rule = READOUTS[readout]
    np.testing.assert_allclose(
        rule.so_far(values, mask), replace(rule, running=None).so_far(values, mask), rtol=1e-12
    )


def test_a_decision_in_the_silent_steps_lies_within_what_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", t=np.zeros(400, int), x=np.tile(np.arange(20), 20), shape=20)
    graph = network(data={"name": "events"}, readout="last_step")
    graph.projections[0].delay[:] = 4  # the only step of input arrives when the recording is over
    graph.save(tmp_path / "graph.h5")
    (p,) = predict(tmp_path, [tmp_path / "a.npz"])
    assert (p.length_ms, p.read_ms) == (10.0, 60.0)
    assert p.length_ms < p.decided_ms <= p.read_ms
    assert p.row()["read_ms"] == 60.0
    shown = Console(width=120)
    with shown.capture() as text:
        shown.print(prediction_table([p]))
    assert "read for ms" in text.get()


def test_a_camera_is_seen_as_the_run_saw_it(tmp_path):
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 200_000, 300))
    x, y, p = (rng.integers(0, n, 300) for n in (8, 6, 2))
    np.savez(tmp_path / "a.npz", t=t, x=x, y=y, p=p, shape=(2, 6, 8))
    graph = network(24, shape=(2, 3, 4), data={"name": "events", "downsample": 2, "polarity": True})
    data = recordings(graph, tmp_path / "a.npz")
    dense = data.events.to_dense()
    want = np.zeros((len(dense), 1, 24))
    np.add.at(want, (t // 10_000, 0, (p * 3 + y // 2) * 4 + x // 2), 1)
    np.testing.assert_array_equal(dense, want)


@pytest.mark.parametrize(
    ("file", "metadata", "message"),
    [
        ("absent.h5", {}, "does not exist"),
        ("words.txt", {}, "expected .h5"),
        ("a.wav", {"data": {"name": "shd"}}, r"no readable WAV file \(it ends before its samples begin\)"),
        ("absent.wav", {"data": {"name": "shd"}}, r"absent\.wav does not exist"),
        ("a.wav", {"data": {"name": "events"}}, "is sound, and the network was trained on 'events'"),
        ("a.h5", {"data": {"name": "gsc", "features": "mel"}}, "trained on mel bands; give .wav"),
        ("bad.npz", {}, "has no 'x'"),
        ("wide.npz", {"data": {"name": "events"}}, "25 channels, which do not become the 20 inputs"),
        ("a.h5", {"images": {}}, "trained on images"),
    ],
)
def test_what_can_not_be_shown_to_the_network_is_named(tmp_path, file, metadata, message):
    for name in ("words.txt", "a.wav", "a.h5"):
        (tmp_path / name).write_bytes(b"RIFF")
    np.savez(tmp_path / "bad.npz", t=[1])
    np.savez(tmp_path / "wide.npz", t=[1], x=[1], shape=25)
    network(**metadata).save(tmp_path / "graph.h5")
    with pytest.raises(DataError, match=message):
        list(predict(tmp_path, [tmp_path / file]))


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(DataError, match=r"neither graph\.h5 nor last\.pt"):
        list(predict(tmp_path, [tmp_path / "a.npz"]))


def test_every_command_after_training_takes_data_of_ones_own(tmp_path):
    """A network that knows no data, and a file of events: simulate, export, verify, energy, predict."""
    times, units, labels = clips(30)
    heidelberg(tmp_path / "mine.h5", times, units, labels)
    with h5py.File(tmp_path / "mine.h5", "a") as file:
        file.attrs["channels"] = 700
        classes = [k.decode() for k in file["extra/keys"][()]]
    net = tmp_path / "net.h5"
    network(classes=len(classes)).save(net)
    graph = Graph.load(net)
    graph.metadata["classes"] = classes
    graph.save(net)
    pairs = ("events", "file=mine.h5", f"root={tmp_path}", "channels=20", "split=random")
    data = [text for pair in pairs for text in ("--data", pair)]

    def run(*arguments):
        done = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.strip().splitlines()[-1])

    simulated = run("simulate", net, *data)
    assert 0 < simulated["samples"] < 30
    run("export", net, "--to", "netx", "-o", tmp_path / "a.net", *data)
    rungs = run("verify", tmp_path / "a.net", "--against", net, "--tolerance", 1, *data)["rungs"]
    assert rungs[0]["accuracy"] == simulated["accuracy"]
    priced = run("energy", net, "--profile", "cmos45", "--html", tmp_path / "energy.html", *data)
    assert priced["samples"] == simulated["samples"]
    assert len(run("predict", net, tmp_path / "mine.h5")) == 30
