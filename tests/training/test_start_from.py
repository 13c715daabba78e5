"""Fine-tuning starts from another run's weights, and says which did not come over."""

import pytest
import torch

from snnkit.errors import CheckpointError
from snnkit.training import Trainer, load_network


@pytest.fixture
def first(task, config, tmp_path):
    """A finished run; its checkpoint and network."""
    network = Trainer(config(), task, tmp_path / "first", progress=False).fit()
    return tmp_path / "first" / "last.pt", network


def start(config, checkpoint, **sections):
    """A run of no step: what it starts from is what it ends with."""
    train = {"start_from": str(checkpoint), "epochs": 1, "weights": {"lr": 1e-12, "schedule": "constant"},
             "positions": {"lr": 1e-12, "schedule": "constant"}}  # fmt: skip
    return config(**{**sections, "train": train | sections.get("train", {})})


def test_the_weights_are_the_other_runs(first, task, config, tmp_path):
    checkpoint, network = first
    trainer = Trainer(start(config, checkpoint), task, tmp_path / "b", progress=False)
    trainer.fit()
    want = dict(network.named_parameters())
    for name, value in trainer.network.named_parameters():
        torch.testing.assert_close(value, want[name], atol=1e-6, rtol=0)
    assert trainer.record["start_from"]["left"] == {}  # the schedule of σ begins anew


def test_what_differs_is_named_and_starts_anew(first, task, config, tmp_path, caplog):
    checkpoint, network = first
    other = start(config, checkpoint, model={"hidden": [12, 7], "tau_mem": 30.0})
    trainer = Trainer(other, task, tmp_path / "b", progress=False)
    trainer.fit()
    left = trainer.record["start_from"]["left"]
    assert left["layers.1.synapses.weight"] == "(10, 12, 1) in the file, (7, 12, 1) in the network"
    assert left["layers.0.neuron.decay"] == "as this configuration says"
    assert float(trainer.network.layers[0].neuron.tau_mem) == pytest.approx(30.0)
    weight = trainer.network.layers[0].synapses.weight
    torch.testing.assert_close(weight, network.layers[0].synapses.weight, atol=1e-6, rtol=0)
    assert "layers.1.synapses.weight did not come over" in caplog.text


def test_a_float_run_is_fine_tuned_for_a_chip(first, task, config, tmp_path):
    checkpoint, network = first
    aware = start(config, checkpoint, train={"hardware_aware": "loihi2"})
    trainer = Trainer(aware, task, tmp_path / "b", progress=False)
    trainer.fit()
    original = trainer.network.layers[0].synapses.parametrizations.weight.original
    torch.testing.assert_close(original, network.layers[0].synapses.weight, atol=1e-6, rtol=0)


def test_a_resumed_run_does_not_start_again(first, task, config, tmp_path):
    checkpoint, _ = first
    tuned = config(train={"start_from": str(checkpoint)})
    want = Trainer(tuned, task, tmp_path / "b", progress=False).fit().state_dict()
    checkpoint.unlink()
    again = Trainer(tuned, task, tmp_path / "b", progress=False).fit(resume=True).state_dict()
    assert all(torch.equal(want[name], again[name]) for name in want)
    assert load_network(tmp_path / "b" / "last.pt")[1].train.start_from == checkpoint


def test_a_file_of_another_network_is_refused(first, task, config, tmp_path):
    checkpoint, _ = first
    content = torch.load(checkpoint)
    content["best"] = {f"other.{name}": value for name, value in content["best"].items()}
    torch.save(content, checkpoint)
    trainer = Trainer(config(train={"start_from": str(checkpoint)}), task, tmp_path / "b", progress=False)
    with pytest.raises(CheckpointError, match=r"no weight of it has the name and shape.*absent in the file"):
        trainer.fit()
    assert not (tmp_path / "b" / "last.pt").exists()


def test_a_run_is_named_by_its_folder_and_a_graph_is_no_run(first, task, config, tmp_path):
    checkpoint, network = first
    trainer = Trainer(start(config, checkpoint.parent), task, tmp_path / "b", progress=False)
    trainer.fit()
    again = load_network(checkpoint.parent)[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    graph = Trainer(start(config, checkpoint.parent / "graph.h5"), task, tmp_path / "c", progress=False)
    with pytest.raises(
        CheckpointError, match=r"first/graph\.h5 is a network in HDF5.*give the run's .*first/last"
    ):
        graph.fit()
    (tmp_path / "b2").mkdir()
    with pytest.raises(CheckpointError, match=r"b2/last\.pt does not exist"):
        load_network(tmp_path / "b2")
