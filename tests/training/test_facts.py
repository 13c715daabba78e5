"""A run knows its data: what it was trained on comes back with it, and other data are refused by name."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from snnkit.commands import evaluate as evaluating
from snnkit.commands.energy import estimate_energy
from snnkit.commands.evaluate import evaluate_run
from snnkit.commands.export import export_network
from snnkit.commands.simulate import simulate_on_data
from snnkit.commands.train import train_run
from snnkit.commands.verify import verify_export
from snnkit.datasets import DATASETS, Binned, from_events
from snnkit.datasets.splits import Splits
from snnkit.datasets.table import Dataset
from snnkit.errors import CheckpointError, ConfigError, DataError
from snnkit.events import EVENT_DTYPE, EventBatch
from snnkit.graph import Graph
from snnkit.training import Trainer, evaluate, load_network, lower
from snnkit.training.facts import Facts, Part, other_inputs
from snnkit.training.run import graph_data


def noise(seed=0, dt=1.0, classes=("a", "b"), channels=8, number=32):
    x = (np.random.default_rng(seed).random((20, number, channels)) < 0.2).astype(np.float32)
    labels = np.arange(number) % 2
    who = np.zeros(number, int)
    return Binned(EventBatch.from_dense(x), labels, who, list(classes), dt, channels, "mine")


def splits(seed=0, **options):
    parts = {name: noise(seed + k, **options) for k, name in enumerate(("train", "valid", "test"))}
    some = parts["train"]
    return Splits({k: lambda v=v: v for k, v in parts.items()}, some.classes, some.dt, some.channels, "mine")


def few(config, **train):
    return config(model={"hidden": [6], "tau_mem": 20.0}, train={"epochs": 1, **train})


@pytest.fixture
def run(config, tmp_path):
    """A run on data handed over in Python: its folder, its trainer."""
    trainer = Trainer(few(config), splits(), tmp_path / "run", progress=False)
    trainer.fit()
    return tmp_path / "run", trainer


def test_steps_and_time_constants_come_back_as_trained(run):
    folder, _ = run
    network, _, content = load_network(folder / "last.pt")
    assert (network.dt, lower(network).dt) == (1.0, 1.0)
    assert float(network.layers[0].neuron.tau_mem) == pytest.approx(20.0)
    known = Facts.from_json(content["trained_on"])
    assert (known.name, known.dt, known.shape, known.classes) == ("mine", 1.0, (8,), ("a", "b"))
    assert (known.parts["train"].samples, known.named) == (32, False)
    assert Facts.from_json(json.loads(json.dumps(known.to_json()))) == known


def test_a_checkpoint_from_before_the_facts_still_loads(run, task, config, tmp_path):
    Trainer(config(train={"epochs": 1}), task, tmp_path / "old", progress=False).fit()
    content = torch.load(tmp_path / "old" / "last.pt")
    del content["trained_on"]
    del content["record"]["configuration"]["train"]["clip_grad"]  # as if it were new since
    torch.save(content, tmp_path / "old" / "last.pt")
    assert load_network(tmp_path / "old" / "last.pt")[0].dt == 10.0
    resumed = Trainer(config(train={"epochs": 1}), task, tmp_path / "old", progress=False)
    resumed.fit(resume=True)
    other = Trainer(config(train={"epochs": 1, "clip_grad": 1.0}), task, tmp_path / "old", progress=False)
    with pytest.raises(CheckpointError, match=r"train\.clip_grad = None, not 1\.0"):
        other.fit(resume=True)


def test_own_data_are_never_taken_for_a_data_set(run, monkeypatch):
    folder, trainer = run
    monkeypatch.setattr(evaluating, "load_data", None)  # nothing may be loaded
    with pytest.raises(
        DataError, match=r"trained on 'mine' \(2 classes, steps of 1 ms.*evaluate\(network, da"
    ):
        evaluate_run(folder / "last.pt")
    for graph in (trainer.graph(), lower(trainer.network)):
        with pytest.raises(DataError, match=r"--data"):
            graph_data(graph, "valid")
        with pytest.raises(DataError, match=r"--data"):
            graph_data(graph, "valid", {"root": "elsewhere"})
    network, _, _ = load_network(folder / "last.pt")
    assert evaluate(network, splits().valid).accuracy == trainer.best_accuracy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 7}, r"trained on 'mine' .* not on 'mine' .*train: the same labels and other inputs"),
        ({"number": 30}, r"32 to train on.*30 to train on.*train: 32 samples, not 30"),
        ({"classes": ("a", "c")}, r"classes \['a', 'b'\]… \(2\), not \['a', 'c'\]… \(2\)"),
        ({"dt": 2.0}, r"steps of 1 ms.*steps of 2 ms"),
    ],
)
def test_resuming_on_other_data_names_both(run, config, change, message):
    folder, _ = run
    with pytest.raises(CheckpointError, match=message):
        Trainer(few(config, epochs=1), splits(**change), folder, progress=False).fit(resume=True)


def test_machine_settings_are_no_part_of_a_run(run, config):
    folder, _ = run
    moved = config(
        model={"hidden": [6], "tau_mem": 20.0},
        train={"epochs": 1, "device": "cpu", "threads": None}, data={"root": "elsewhere"},
    )  # fmt: skip
    trainer = Trainer(moved, splits(), folder, progress=False)
    trainer.fit(resume=True)
    assert trainer.record["configuration"]["data"]["root"] == "elsewhere"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("b", "a")}, r"number the classes differently: \['a', 'b'\]… \(2\) and \['b', 'a'\]"),
        ({"dt": 2.0}, r"have other steps \(ms\): 1.0 and 2.0"),
        ({"channels": 9}, r"have other inputs: \(8,\) and \(9,\)"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(config, tmp_path, change, message):
    data, other = splits(), noise(1, **change)
    data.make["valid"] = lambda: other
    with pytest.raises(DataError, match=message):
        Trainer(few(config), data, tmp_path, progress=False)


def test_rounding_of_another_machine_is_no_other_data():
    part = Part.of(noise())
    nearly = Part(part.samples, part.labels, tuple(a * 1.001 for a in part.activity))
    assert part.difference(nearly) == ""
    assert part.difference(Part.of(noise(1))) == "the same labels and other inputs"
    assert Part.of(noise(number=0)).samples == 0


def changed(data, change):
    """The data with other inputs: `change` of x [T, B, N]."""
    x, lengths, _ = data.batch(range(len(data)))
    return replace(data, spikes=EventBatch.from_dense(np.ascontiguousarray(change(x)), lengths))


CHANGES = {
    "reversed in time": lambda x: x[::-1],
    "channels in another order": lambda x: x[..., np.random.default_rng(0).permutation(x.shape[2])],
    "two halves of channels swapped": lambda x: np.roll(x, x.shape[2] // 2, 2),
    "one step later": lambda x: np.roll(x, 1, 0),
    "negative": lambda x: -x,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("steps", "channels", "number", "share"), [(20, 8, 32, 0.2), (100, 700, 16, 0.15), (30, 12, 1, 0.3)]
)
def test_inputs_of_equal_sums_are_other_data(change, steps, channels, number, share):
    x = (np.random.default_rng(1).random((steps, number, channels)) < share).astype(np.float32)
    labels = np.arange(number) % 2
    data = Binned(EventBatch.from_dense(x), labels, labels, ["a", "b"], 1.0, channels, "mine")
    part, other = Part.of(data), Part.of(changed(data, CHANGES[change]))
    assert part.activity == other.activity
    assert part.difference(other) == "the same labels, and inputs as active at other steps or channels"
    assert part.difference(Part.of(data)) == ""
    assert Part.from_json(json.loads(json.dumps(part.to_json()))) == part
    old = {k: v for k, v in part.to_json().items() if k != "places"}
    assert Part.from_json(old).difference(other) == ""  # a file from before it was kept can't tell


@pytest.mark.parametrize("seed", range(3))
def test_one_event_in_a_hundred_that_rounding_moved_is_no_other_data(seed):
    rng = np.random.default_rng(seed)
    data = noise(channels=100)

    def nudge(x):
        moved = x.copy()
        places = np.argwhere(x[:-1] > 0)
        for t, b, n in places[rng.random(len(places)) < 0.01]:
            moved[t, b, n] -= 1
            moved[t + 1, b, n] += 1
        return moved

    assert Part.of(data).difference(Part.of(changed(data, nudge))) == ""
    assert Part.of(data).difference(Part.of(changed(data, lambda x: x * np.float32(1.001)))) == ""


def test_resuming_on_reversed_data_is_refused(run, config):
    folder, _ = run
    data = splits()
    turned = {k: changed(getattr(data, k), lambda x: x[::-1]) for k in ("train", "valid")}
    other = Splits({k: lambda v=v: v for k, v in turned.items()}, data.classes, 1.0, 8, "mine")
    with pytest.raises(CheckpointError, match="train: the same labels, and inputs as active at other steps"):
        Trainer(few(config, epochs=1), other, folder, progress=False).fit(resume=True)


TOML = """
[data]
name = "blips"
dt = 10.0
channels = 10
[model]
hidden = [6]
max_delay = 4
[train]
epochs = 1
threads = 1
"""


def blips(root=None, *, seed=0):
    """Noise, low or high; `root`, a number, stands for another folder with other content."""
    rng = np.random.default_rng(seed if root is None else int(str(root)))
    labels = np.arange(40) % 2
    clips = []
    for label in labels:
        events = np.zeros(rng.integers(20, 60), EVENT_DTYPE)
        events["t"], events["p"] = np.sort(rng.integers(0, 200_000, len(events))), 1
        events["x"] = rng.integers(0, 10, len(events)) + 10 * label
        clips.append(events)
    made = from_events(clips, labels, 20, classes=["low", "high"], name="blips")
    return {"train": made, "test": made}


@pytest.fixture
def blipped(tmp_path, monkeypatch):
    """A trained run on a registered data set: its folder."""
    row = Dataset(name="blips", title="Blips", kind="events", read=blips)
    monkeypatch.setitem(DATASETS, "blips", row)
    (tmp_path / "c.toml").write_text(TOML)
    train_run(tmp_path / "c.toml", tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_a_graph_and_a_checkpoint_find_their_data_again(blipped):
    graph = Graph.load(blipped / "graph.h5")
    assert graph.metadata["trained_on"]["named"] is True
    found = evaluate_run(blipped / "last.pt")
    assert found["samples"] == len(graph_data(graph, "valid"))
    assert simulate_on_data(blipped / "graph.h5")["samples"] == found["samples"]
    for same in ({"root": "0"}, {}):
        graph_data(graph, "valid", same)
    for folder, where in ((blipped / "last.pt", "data.root='0'"), (blipped, "root=0"), (blipped, "root='0'")):
        assert evaluate_run(folder, settings=[where]) == found


def test_data_that_moved_must_be_the_same(blipped):
    graph = Graph.load(blipped / "graph.h5")
    with pytest.raises(DataError, match=r"valid of blips is not what .*that was 'blips' .*data\.root"):
        graph_data(graph, "valid", {"root": "5"})
    with pytest.raises(DataError, match=r"valid of blips is not what the network was trained on"):
        evaluate_run(blipped / "last.pt", settings=["data.root='5'"])
    assert evaluate_run(blipped / "last.pt", data=["seed=5"])["samples"] > 0  # asked for by name: others


def test_data_that_do_not_fit_name_both_sides(blipped):
    net = blipped / "graph.h5"
    with pytest.raises(DataError, match=r"runs in steps of 10 ms, and dt=5 asks for data in steps of 5 ms"):
        simulate_on_data(net, settings=["dt=5"])
    with pytest.raises(DataError, match=r"has 10 inputs, blips has 20 channels; .*--data channels=10"):
        simulate_on_data(net, settings=["channels=20"])
    with pytest.raises(DataError, match=r"trained in steps of 10 ms, blips comes in steps of 5 ms"):
        evaluate_run(blipped / "last.pt", data=["dt=5"])
    for asked in ("data.dt=5", "dt=5"):
        with pytest.raises(ConfigError, match=r"'data.dt=5' would make it another run; .*data\.root"):
            evaluate_run(blipped / "last.pt", settings=[asked])


def test_each_command_says_its_own_call_where_the_data_were_handed_over(run, tmp_path):
    net = run[0] / "graph.h5"
    for call, command in (
        (r"simulate\(graph, data", lambda: simulate_on_data(net)),
        (r"estimate\(graph, data", lambda: estimate_energy(net, ["cmos45"])),
        (r"quantise\(graph, calibration=data", lambda: export_network(net, "netx", tmp_path / "a.net")),
        (r"ladder\(graph, exported, data", lambda: verify_export(net, net)),
        (r"evaluate\(network, data", lambda: evaluate_run(run[0])),
    ):
        with pytest.raises(DataError, match=rf"handed over in Python .* call {call}"):
            command()


def test_inputs_of_another_shape_are_named_by_it_in_every_command():
    """As `evaluate` says it, though the number of channels alone would tell them apart."""
    camera = Facts("mine", 1.0, (2, 4, 4), ("a", "b"))
    small = replace(noise(channels=18), shape=(2, 3, 3))
    with pytest.raises(DataError) as evaluated:
        camera.checked(small, "other")
    assert str(evaluated.value) == str(other_inputs(camera, "other", small))
    assert "inputs of shape (2, 4, 4), other comes on inputs of shape (2, 3, 3)" in str(evaluated.value)


def test_other_labels_are_said_in_words():
    data = noise()
    other = replace(data, labels=data.labels[::-1].copy())
    assert re.match(
        r"other labels of the 32 samples, or another order \(digests",
        Part.of(data).difference(Part.of(other)),
    )
