"""Whole runs: from a TOML file to result.json and graph.h5."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkit.compression import encode, image_data, load_stage, measure
from snnkit.compression import run as runs
from snnkit.compression.run import compress_run, load_compression
from snnkit.datasets.images import ImageSplits
from snnkit.engine import simulate
from snnkit.errors import ConfigError, DataError
from snnkit.graph import Graph

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def fake_images(counts, size=32, channels=3, classes=10, seed=0):
    """Noise with the label's colour, as bytes."""
    rng = np.random.default_rng(seed)
    parts = []
    for count in counts:
        y = np.arange(count) % classes
        x = rng.integers(0, 128, (count, channels, size, size))
        for b, label in enumerate(y):
            x[b, label % channels, :, label % size] += 100
        parts.append((x.astype(np.uint8), y.astype(np.int64)))
    x = parts[0][0] / 255
    return ImageSplits(*parts, [str(k) for k in range(classes)], x.mean((0, 2, 3)), x.std((0, 2, 3)), "fake")


@pytest.mark.parametrize("name", ["iir_digits", "iir_cifar10", "iir_cifar10_vgg16"])
def test_the_experiments_files_are_read(name):
    config = load_compression(EXPERIMENTS / f"{name}.toml")
    assert config.snn.stages[0] == 5
    assert config.snn.stages[-1] == 1


def test_the_papers_configuration_is_the_papers():
    config = load_compression(EXPERIMENTS / "iir_cifar10_vgg16.toml")
    snn = config.snn
    assert (config.ann.model, config.ann.width, snn.stages) == ("vgg16", 1.0, (5, 4, 3, 2, 1))
    assert (snn.lr, snn.batch, snn.milestones, snn.factor) == (1e-4, 64, (0.6, 0.8, 0.9), 5)
    assert (snn.percentile, snn.calibration_images, snn.calibration_steps) == (90, 512, 500)


def test_twenty_steps_of_the_papers_run(monkeypatch, tmp_path):
    """As configured but for the width, the device, the size of a batch and the length of the calibration."""
    config = load_compression(
        EXPERIMENTS / "iir_cifar10_vgg16.toml",
        ["ann.width=0.04", "ann.hidden=12", "ann.epochs=1", "ann.batch=8", "snn.epochs=1", "snn.batch=2",
         "snn.calibration_images=16", "snn.calibration_steps=2", "snn.stages=[5]", "snn.direct=false",
         "run.device=cpu"],
    )  # fmt: skip
    fake = fake_images((40, 10, 10))
    monkeypatch.setattr(runs.images, "load", lambda name, **_: fake)
    steps = []
    original = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: steps.append(original(self)))
    rows = []
    result = compress_run(config, tmp_path, report=rows.append)
    assert len(steps) == 20
    assert [r["T"] for r in rows] == [0, 5]
    assert all(np.isfinite(r["loss"]) for r in rows)
    assert result["stages"][0]["T"] == 5


def test_a_run_leaves_a_graph_that_scores_as_its_network(monkeypatch, tmp_path):
    (tmp_path / "c.toml").write_text(
        "[ann]\nwidth = 0.1\nhidden = 12\nepochs = 2\n"
        "[snn]\nstages = [3, 1]\nepochs = 1\ncalibration_images = 32\ncalibration_steps = 3\n"
    )
    fake = fake_images((120, 40, 40), 8, 1, 4)
    monkeypatch.setattr(runs.images, "load", lambda name, **_: fake)
    config = load_compression(tmp_path / "c.toml")
    result = compress_run(config, tmp_path / "run", cost=lambda net, x: {"extra": float(net.steps)})

    rows = result["stages"]
    assert [(r["T"], r["stage_from"], r["extra"]) for r in rows] == [
        (3, "ann", 3), (1, "T=3", 1), (1, "direct", 1)
    ]  # fmt: skip
    for key in (
        "accuracy",
        "ann_accuracy",
        "spikes_per_neuron",
        "energy_ratio_paper",
        "seed",
        "machine",
        "date",
    ):
        assert key in rows[0]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["stages"] == json.loads(
        json.dumps(rows)
    )

    graph = Graph.load(tmp_path / "run" / "graph.h5")
    assert graph.metadata["classes"] == ["0", "1", "2", "3"]
    x, y = fake.normalised("test")
    run = simulate(graph, encode(x, 1), record=[("out", "v")], progress=False)
    assert (run.recorded["out", "v"][0].argmax(1) == y).mean() == pytest.approx(rows[1]["accuracy"], abs=0.03)

    resumed = compress_run(config, tmp_path / "run", resume=True, cost=lambda net, x: {"extra": 0.0})
    assert [r["accuracy"] for r in resumed["stages"]] == [r["accuracy"] for r in rows]


@pytest.mark.parametrize("per_channel", ["true", "false"])
def test_the_network_of_a_stage_is_read_back(per_channel, monkeypatch, tmp_path):
    (tmp_path / "c.toml").write_text(
        "[ann]\nmodel = 'resnet20'\nwidth = 0.2\nepochs = 1\n"
        f"[snn]\nstages = [2, 1]\nepochs = 1\ncalibration_steps = 2\nper_channel = {per_channel}\n"
    )
    fake = fake_images((60, 20, 20), 8, 1, 4)
    monkeypatch.setattr(runs.images, "load", lambda name, **_: fake)
    config = load_compression(tmp_path / "c.toml")
    result = compress_run(config, tmp_path / "run")
    x, y = fake.normalised("test")
    for row, name in zip(result["stages"], ("T2", "T1", "direct"), strict=True):
        network = load_stage(config, tmp_path / "run", name)
        assert network.steps == row["T"]
        found = measure(network, x, y)
        assert found.accuracy == row["accuracy"]
        assert found.spikes_per_neuron == pytest.approx(row["spikes_per_neuron"])

    graph = Graph.load(tmp_path / "run" / "graph.h5")
    data = image_data(graph, "test")
    assert np.array_equal(data.labels, y)
    assert np.allclose(data.events.to_dense(1)[0], x.reshape(len(x), -1))
    graph.metadata["classes"] = ["a", "b"]
    with pytest.raises(DataError, match="knows 2 classes"):
        image_data(graph, "test")
    del graph.metadata["images"]
    with pytest.raises(DataError, match="does not say"):
        image_data(graph, "test")


def test_stages_are_priced_with_memory(monkeypatch, tmp_path):
    from snnkit.commands.compress import stage_cost
    from snnkit.compression import convert, vgg

    torch.manual_seed(0)
    ann = vgg(5, 4, 1, 8, width=0.1, hidden=8)
    x = np.random.default_rng(0).standard_normal((20, 1, 8, 8)).astype(np.float32)
    ann(torch.from_numpy(x))
    network = convert(ann, x, 90, steps=4, calibration_steps=3)
    prices = []
    for network.steps in (4, 1):
        prices.append(stage_cost(3, chip="loihi2_scaled")(network, x))
    assert prices[0]["energy_pj_memory"] > prices[1]["energy_pj_memory"] > 0
    assert prices[1]["energy_ratio_memory"] > prices[0]["energy_ratio_memory"]
    assert prices[0]["latency_us_loihi2_scaled"] > prices[1]["latency_us_loihi2_scaled"]
    ann_pj = [p["energy_pj_memory"] * p["energy_ratio_memory"] for p in prices]
    assert ann_pj[0] == pytest.approx(ann_pj[1])


def test_every_mistake_of_a_file_is_said(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[ann]\nepoch = 3\nmodel = 'alexnet'\n[snn]\nepochs = 0\n")
    with pytest.raises(ConfigError) as error:
        load_compression(path)
    message = str(error.value)
    assert "3 problems" in message
    assert "[ann] unknown key 'epoch', did you mean 'epochs'?" in message
    assert "[ann] model = 'alexnet'" in message
    assert "[snn] epochs = 0" in message
    with pytest.raises(ConfigError, match="does not exist"):
        load_compression(tmp_path / "no.toml")
    path.write_text("[ann\n")
    with pytest.raises(ConfigError, match="is no TOML"):
        load_compression(path)
    with pytest.raises(ConfigError, match="should read key=value"):
        load_compression(EXPERIMENTS / "iir_digits.toml", ["epochs"])
