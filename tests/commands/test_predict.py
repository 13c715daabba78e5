"""`snnkit predict`: classes of recordings that have no labels, binned as the run's data were."""

import wave

import h5py
import numpy as np
import pytest

from snnkit.commands.predict import decided, predict, recordings
from snnkit.datasets import load
from snnkit.engine.readout import scores
from snnkit.errors import DataError
from snnkit.graph import Graph, Population, Projection
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
    every = np.concatenate(
        [scores(graph, getattr(whole, p).events) for p in ("train", "valid", "test") if whole.sizes[p]]
    )
    assert np.isclose(every, list(first.scores.values())).all(1).any()


def test_the_step_of_the_decision():
    graph = network(readout="max_over_time", steps_tail=1)
    v = np.array([[0, 0, 0], [3, 1, 0], [3, 4, 0], [0, 0, 0], [0, 0, 5], [0, 4, 0]], float)
    assert decided(v, graph, 5, 2) == 4  # the highest from there on
    assert decided(v, graph, 1, 0) == 1  # two steps: nobody is ahead in the first
    assert decided(v, graph, 5, 0) is None
    graph = network(readout="last_step", steps_tail=0)
    assert decided(v, graph, 3, 1) == 2
    assert decided(v, graph, 4, 0) is None  # a tie at the end


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
        ("a.wav", {"data": {"name": "shd"}}, "no readable WAV file"),
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
