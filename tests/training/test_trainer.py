"""Training learns, keeps the best epoch, and goes on after a stop as if there had been none."""

import json
import os
import signal

import numpy as np
import pytest
import torch

from snnkit.datasets import Splits
from snnkit.errors import CheckpointError, ParameterError
from snnkit.training import Trainer, evaluate, load_network
from snnkit.training.config import parse_config
from snnkit.training.loop import Interrupted
from snnkit.training.schedules import kernel_width


def weights(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_it_learns_a_task_that_needs_timing(task, config, tmp_path):
    trainer = Trainer(config(train={"epochs": 25}), task, tmp_path, progress=False)
    network = trainer.fit()
    assert evaluate(network, task.test).accuracy > 0.85
    assert trainer.best_accuracy == evaluate(network, task.valid).accuracy
    assert trainer.history[trainer.best_epoch]["valid_accuracy"] == trainer.best_accuracy


def test_same_seed_same_bits_other_seed_other_bits(task, config, tmp_path):
    runs = [
        weights(Trainer(config(train={"seed": s}), task, tmp_path / str(i), progress=False).fit())
        for i, s in enumerate((1, 1, 2))
    ]
    assert_same(runs[0], runs[1])
    assert not torch.equal(runs[0]["readout_synapses.weight"], runs[2]["readout_synapses.weight"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("at", [2, 3, 5], ids=["mid-epoch", "boundary", "later"])
def test_a_stopped_run_resumes_to_the_bits_of_one_never_stopped(task, config, tmp_path, number, at):
    augment = {"time_mask": 3, "cutmix": 0.5, "drop_event": 0.1}
    whole = Trainer(config(augment=augment), task, tmp_path / "whole", progress=False)
    want = weights(whole.fit())

    stopped = Trainer(config(augment=augment), task, tmp_path / "stopped", progress=False)
    count, original = 0, stopped._train_batch

    def batch_then_signal(*arguments):
        nonlocal count
        original(*arguments)
        count += 1
        if count == at:
            os.kill(os.getpid(), number)

    stopped._train_batch = batch_then_signal
    with pytest.raises(Interrupted, match=r"last\.pt holds all of it"):
        stopped.fit()
    assert count == at

    torch.manual_seed(99)
    resumed = Trainer(config(augment=augment), task, tmp_path / "stopped", progress=False)
    assert_same(weights(resumed.fit(resume=True)), want)
    assert [{**r, "seconds": 0} for r in resumed.history] == [{**r, "seconds": 0} for r in whole.history]


def test_the_signal_handlers_of_the_caller_come_back(task, config, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    Trainer(config(train={"epochs": 1}), task, tmp_path, progress=False).fit()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_test_part_is_not_touched(task, config, tmp_path):
    def touched():
        raise AssertionError("training asked for the test part")

    task.make["test"] = touched
    Trainer(config(train={"epochs": 1}), task, tmp_path, progress=False).fit()


def test_patience_ends_a_run_that_no_longer_improves(task, config, tmp_path):
    trainer = Trainer(config(train={"epochs": 60, "patience": 3}), task, tmp_path, progress=False)
    trainer.fit()
    assert trainer.epoch == min(trainer.best_epoch + 4, 60)
    assert trainer.epoch < 60


def test_what_a_run_leaves_tells_how_it_was_made(task, config, tmp_path):
    trainer = Trainer(config(), task, tmp_path, progress=False)
    trainer.fit()
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["configuration"]["train"]["epochs"] == 4
    assert record["versions"].keys() >= {"snnkit", "torch", "numpy", "numba", "python"}
    assert {"seed", "revision", "machine", "wall_seconds", "valid_accuracy"} <= record.keys()
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 5
    assert list((tmp_path / "tensorboard").glob("events.*"))


class TestCheckpoint:
    def test_the_best_epoch_comes_back_as_it_was(self, task, config, tmp_path):
        network = Trainer(config(), task, tmp_path, progress=False).fit()
        again, read, _ = load_network(tmp_path / "last.pt")
        assert_same(weights(again), weights(network))
        assert read == config()

    def test_last_is_the_newest_epoch_and_best_the_chosen_one(self, task, config, tmp_path):
        trainer = Trainer(config(train={"epochs": 6}), task, tmp_path, progress=False)
        best = weights(trainer.fit())
        if trainer.best_epoch == 5:
            pytest.skip("the last epoch was the best")
        last, _, _ = load_network(tmp_path / "last.pt", "last")
        assert not torch.equal(last.readout_synapses.weight, best["readout_synapses.weight"])
        assert_same(weights(load_network(tmp_path / "last.pt")[0]), best)

    def test_a_folder_with_a_run_is_not_overwritten(self, task, config, tmp_path):
        Trainer(config(train={"epochs": 1}), task, tmp_path, progress=False).fit()
        before = (tmp_path / "last.pt").read_bytes()
        with pytest.raises(ParameterError, match="holds a run already"):
            Trainer(config(train={"epochs": 1}), task, tmp_path, progress=False).fit()
        assert (tmp_path / "last.pt").read_bytes() == before

    def test_another_configuration_is_refused_by_name(self, task, config, tmp_path):
        Trainer(config(), task, tmp_path, progress=False).fit()
        with pytest.raises(CheckpointError, match=r"model\.hidden = \[12, 10\], not \[5\]"):
            Trainer(config(model={"hidden": [5]}), task, tmp_path, progress=False).fit(resume=True)

    def test_another_architecture_is_refused_by_tensor(self, task, config, tmp_path):
        Trainer(config(), task, tmp_path, progress=False).fit()
        content = torch.load(tmp_path / "last.pt")
        content["best"]["readout_synapses.weight"] = torch.zeros(2, 3, 1)
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(CheckpointError, match=r"readout_synapses\.weight: \(2, 3, 1\) in the file"):
            load_network(tmp_path / "other.pt")

    @pytest.mark.parametrize(
        "content", [b"", b"\x80", b"not a checkpoint", None], ids=["empty", "byte", "text", "half"]
    )
    def test_a_damaged_file_is_refused(self, task, config, tmp_path, content):
        Trainer(config(train={"epochs": 1}), task, tmp_path, progress=False).fit()
        path = tmp_path / "last.pt"
        path.write_bytes(path.read_bytes()[:2000] if content is None else content)
        with pytest.raises(CheckpointError, match=r"last\.pt is no"):
            load_network(path)


def test_the_paper_protocol_counts_padding_and_means_over_batches(task, config, tmp_path):
    paper = config(train={"protocol": "paper", "epochs": 3}, model={"padding": "grow"})
    trainer = Trainer(paper, task, tmp_path, progress=False)
    network = trainer.fit()
    result = evaluate(network, task.valid, 32, count_padding=True)
    assert trainer.best_accuracy == np.mean(result.batch_accuracies)
    x, lengths, labels = task.valid.batch(np.arange(32))
    with torch.no_grad():
        out = network(torch.from_numpy(x), torch.full((32,), x.shape[0]))
    assert out.v.shape[0] == x.shape[0] + 3 * 4  # (window − 1)//2 steps a layer
    assert out.mask.all()
    assert np.mean(out.scores.argmax(1).numpy() == labels) == pytest.approx(result.batch_accuracies[0])
    assert (lengths < x.shape[0]).any()


def test_empty_parts_are_refused(task, config, tmp_path):
    empty = task.valid.subset(np.array([], int))
    task._made["valid"] = empty
    with pytest.raises(ParameterError, match="0 to validate on"):
        Trainer(config(), task, tmp_path, progress=False)


def test_sigma_shrinks_over_the_first_quarter_as_published(config):
    train = config(train={"epochs": 150, "sigma": 12.0}).train
    sigma, factor = 12.0, (0.23 / 12.0) ** (1 / (150 // 4))
    for epoch in range(150):
        assert kernel_width(train, 24, epoch) == pytest.approx(sigma, rel=1e-9)
        if epoch < 150 // 4:
            sigma *= factor


def test_published_rates_are_those_of_onecycle_and_cosine(task, config, tmp_path):
    trainer = Trainer(config(train={"epochs": 10}), task, tmp_path, progress=False)
    rates = {name: [] for name in trainer.groups}
    for _ in range(10):
        for name, (optimiser, schedule) in trainer.groups.items():
            rates[name].append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
    assert rates["weights"][0] == pytest.approx(5e-3 / 25)
    assert max(rates["weights"]) == pytest.approx(5e-3)
    assert rates["positions"][0] == 0.1
    assert rates["positions"][5] == pytest.approx(0.05)
    decays = [g["weight_decay"] for g in trainer.groups["weights"][0].param_groups]
    assert decays == [1e-5, 0.0]


def test_images_are_augmented_in_the_plane_from_the_seed(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(32) % 2
    x = (rng.random((32, 6, 2, 4, 4)) < 0.2).astype(np.float32)
    x[y == 1, 2, 0, :2] = 1
    data = Splits.from_arrays(all=(x, y), dt=10.0)

    def trained(name, **augment):
        tree = {
            "augment": augment,
            "model": {"hidden": [6], "max_delay": 2},
            "train": {"epochs": 1, "batch": 8, "threads": 1},
        }
        return weights(Trainer(parse_config(tree), data, tmp_path / name, progress=False).fit())

    changed = trained("a", shift=1, mirror=True, rotate=20.0, jitter=1)
    assert_same(changed, trained("b", shift=1, mirror=True, rotate=20.0, jitter=1))
    plain = trained("c")
    assert any(not torch.equal(changed[name], plain[name]) for name in plain)
