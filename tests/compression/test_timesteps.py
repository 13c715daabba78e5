"""Stages: what they start from, that they resume bit for bit, when they stop; early exit."""

import copy
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from snnkit.compression import (
    Schedule,
    choose_threshold,
    compress_timesteps,
    convert,
    early_exit,
    exit_table,
    measure,
    train_images,
    vgg,
)
from snnkit.compression.fitting import augmented, distilled
from snnkit.datasets.images import ImageSplits
from snnkit.errors import CheckpointError, ParameterError, ShapeError
from snnkit.training.checkpoint import load_checkpoint, save_checkpoint
from snnkit.training.loop import Interrupted


def bars(count, seed):
    """Images with one bright row or column; which of the two is the label."""
    rng = np.random.default_rng(seed)
    x, y = rng.random((count, 1, 8, 8)).astype(np.float32) * 0.6, rng.integers(0, 2, count)
    for image, label, place in zip(x, y, rng.integers(0, 8, count), strict=True):
        image[0, place if label else slice(None), slice(None) if label else place] += 0.7
    return x, y.astype(np.int64)


@pytest.fixture(scope="module")
def data():
    train, valid, test = bars(240, 0), bars(80, 1), bars(80, 2)
    return ImageSplits(
        train, valid, test, ["column", "row"], train[0].mean((0, 2, 3)), train[0].std((0, 2, 3))
    )


@pytest.fixture(scope="module")
def start(data):
    """A trained ANN, and what it became."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ann = vgg(5, 2, 1, 8, width=0.1, hidden=12, dropout=0.1)
    fit = train_images(ann, data, Schedule(epochs=6, lr=5e-3, batch=32))
    assert fit.valid_accuracy > 0.9
    network = convert(ann, data.normalised("train")[0][:64], 90, calibration_steps=8)
    return ann, network


def fresh(start):
    return copy.deepcopy(start[1])


QUICK = Schedule(epochs=2, lr=2e-3, batch=32)


def test_stages_go_on_from_the_one_before(data, start):
    network, seen = fresh(start), []
    done = compress_timesteps(
        network, data, (4, 2, 1), QUICK, direct=True,
        cost=lambda net, x: {"cost": 10.0 * net.steps + len(x)}, report=seen.append,
    )  # fmt: skip
    assert [(s.T, s.stage_from, s.epochs) for s in done.stages] == [
        (4, "ann", 2), (2, "T=4", 2), (1, "T=2", 2), (1, "direct", 6)
    ]  # fmt: skip
    assert [s.cost["cost"] for s in done.stages] == [120, 100, 90, 90]
    assert len(seen) == 12
    assert network.steps == 1
    images, labels = data.normalised("valid")
    assert measure(network, images, labels).accuracy == done.stages[2].valid.accuracy > 0.8
    for before, after in zip(done.stages[:2], done.stages[1:3], strict=True):
        network.load_state_dict(before.state)
        network.steps = after.T
        assert measure(network, images, labels).accuracy == after.valid_start
    network.load_state_dict(start[1].state_dict())
    network.steps = 1
    assert measure(network, images, labels).accuracy == done.stages[3].valid_start
    assert 0 < done.stages[2].valid.spikes_per_neuron < done.stages[0].valid.spikes_per_neuron
    assert done.table()[0]["energy_ratio_paper"] > 0


@pytest.mark.parametrize(
    "schedule", [QUICK, QUICK.schedule(average=0.9, distillation=0.5)], ids=["", "average"]
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(data, start, tmp_path, schedule):
    whole, teacher = fresh(start), start[0]
    compress_timesteps(whole, data, (3, 1), schedule, teacher=teacher, folder=tmp_path / "a")

    class StopError(Exception):
        pass

    def stop(row):
        if row["T"] == 1 and row["epoch"] == 0:
            raise StopError

    part = fresh(start)
    with pytest.raises(StopError):  # after epoch 1 of T = 1, before its checkpoint
        compress_timesteps(part, data, (3, 1), schedule, teacher=teacher, folder=tmp_path / "b", report=stop)
    resumed = fresh(start)
    epochs = []
    compress_timesteps(
        resumed, data, (3, 1), schedule, teacher=teacher, folder=tmp_path / "b", resume=True,
        report=lambda row: epochs.append((row["T"], row["epoch"])),
    )  # fmt: skip
    assert epochs == [(1, 0), (1, 1)]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
@pytest.mark.parametrize("at", [3, 8, 11], ids=["mid-epoch", "last batch", "later stage"])
def test_a_stage_stopped_between_two_batches_ends_with_the_same_bits(data, start, tmp_path, number, at):
    schedule = QUICK.schedule(epochs=1, augment=1, average=0.9, distillation=0.5)
    plan = {"stages": (3, 1), "schedule": schedule, "teacher": start[0]}
    whole = fresh(start)
    done = compress_timesteps(whole, data, **plan, folder=tmp_path / "whole")
    count = 0

    class Stopping(torch.optim.Adam):
        def step(self, closure=None):
            nonlocal count
            super().step(closure)
            count += 1
            if count == at:
                os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Stopping)
        with pytest.raises(Interrupted, match=rf"stage_T{3 if at <= 8 else 1}\.pt holds all of it"):
            compress_timesteps(fresh(start), data, **plan, folder=tmp_path / "part")
    assert count == at
    assert signal.getsignal(number) is handler

    resumed = fresh(start)
    torch.manual_seed(99)
    again = compress_timesteps(resumed, data, **plan, folder=tmp_path / "part", resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert [s.best_epoch for s in again.stages] == [s.best_epoch for s in done.stages]


def test_a_checkpoint_of_before_batches_were_counted_goes_on(data, start, tmp_path):
    """Such a file has the epochs that are done, under "fit", and no state of a generator."""
    whole = fresh(start)
    compress_timesteps(whole, data, (2,), QUICK, folder=tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(row):
        if row["epoch"] == 1:
            raise StopError

    with pytest.raises(StopError):
        compress_timesteps(fresh(start), data, (2,), QUICK, folder=tmp_path / "part", report=stop)
    path = tmp_path / "part" / "stage_T2.pt"
    known = ("record", "classes", "inputs", "epoch", "fit", "best", "last", "optimiser", "average")
    save_checkpoint(path, {k: v for k, v in load_checkpoint(path).items() if k in known})
    resumed, epochs = fresh(start), []
    compress_timesteps(
        resumed, data, (2,), QUICK, folder=tmp_path / "part", resume=True,
        report=lambda row: epochs.append(row["epoch"]),
    )  # fmt: skip
    assert epochs == [1]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_folder_with_a_run_is_not_overwritten(data, start, tmp_path):
    compress_timesteps(fresh(start), data, (2,), Schedule(epochs=1), folder=tmp_path)
    before = (tmp_path / "stage_T2.pt").read_bytes()
    with pytest.raises(ParameterError, match=r"holds a run already \(stage_T2\.pt\)"):
        compress_timesteps(fresh(start), data, (2,), Schedule(epochs=1), folder=tmp_path)
    assert (tmp_path / "stage_T2.pt").read_bytes() == before


def test_resuming_with_another_plan_is_refused(data, start, tmp_path):
    compress_timesteps(fresh(start), data, (2,), Schedule(epochs=1), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"trained with lr = 0\.0001, not 0\.5"):
        compress_timesteps(fresh(start), data, (2,), Schedule(epochs=1, lr=0.5), folder=tmp_path, resume=True)


def test_a_folder_of_another_run_is_refused(data, start, tmp_path):
    """Other stages, other weights to start from, another teacher, other images."""
    one = Schedule(epochs=1, lr=1e-3, distillation=0.5)
    compress_timesteps(fresh(start), data, (3, 2, 1), one, teacher=start[0], folder=tmp_path)

    def again(network=None, images=data, stages=(3, 2, 1), teacher=start[0]):
        compress_timesteps(
            network or fresh(start), images, stages, one, teacher=teacher, folder=tmp_path, resume=True
        )

    again()
    with pytest.raises(CheckpointError, match="stage_from = 'T=2', not 'T=3'"):
        again(stages=(3, 1))
    other = fresh(start)
    other.layers.relu1.set_threshold(other.layers.relu1.v_th * 1.1)
    with pytest.raises(CheckpointError, match="start = 'other weights'"):
        again(other)
    teacher = copy.deepcopy(start[0])
    with torch.no_grad():
        teacher.out.weight.mul_(1.1)
    with pytest.raises(CheckpointError, match="teacher = 'other weights'"):
        again(teacher=teacher)
    with pytest.raises(CheckpointError, match="trained with images"):
        again(images=replace(data, valid=bars(80, 5)))


def test_a_checkpoint_of_something_else_is_refused(data, start, tmp_path):
    path = tmp_path / "stage_T2.pt"
    content = {"classes": [], "inputs": [1, 8, 8], "best": {}, "last": {}}
    save_checkpoint(path, {"record": {}, **content})
    with pytest.raises(CheckpointError, match="was not written by train_images"):
        compress_timesteps(fresh(start), data, (2,), QUICK, folder=tmp_path, resume=True)


def test_batches_of_one_image_train_a_network_without_batch_norm_only(data, start):
    few = replace(data, train=(data.train[0][:9], data.train[1][:9]))
    network, steps = fresh(start), []

    class Counted(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            steps.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Counted)
        train_images(network, few, Schedule(epochs=1, batch=1, lr=1e-3, optimiser="sgd"))
    assert len(steps) == 9
    with pytest.raises(ParameterError, match="batch norm needs at least 2 images, the batch is 1 of 240"):
        train_images(copy.deepcopy(start[0]), data, Schedule(epochs=1, batch=1))


def test_a_teacher_keeps_its_mode_and_must_know_the_same_classes(data, start):
    teacher = copy.deepcopy(start[0]).train()
    one = Schedule(epochs=1, distillation=0.5)
    train_images(fresh(start), data, one, teacher=teacher)
    assert teacher.training
    with pytest.raises(ShapeError, match=r"teacher's scores are \[64, 3\], the network's \[64, 2\]"):
        train_images(fresh(start), data, one, teacher=vgg(5, 3, 1, 8, width=0.1, hidden=12))


def test_direct_training_has_as_many_epochs_as_the_stages_that_ran(data, start):
    done = compress_timesteps(fresh(start), data, (3, 2, 1), Schedule(epochs=1), floor=1.01, direct=True)
    assert [(s.stage_from, s.epochs) for s in done.stages] == [("ann", 1), ("direct", 1)]


@pytest.mark.parametrize("wrong", [{"factor": 0.5}, {"weight_decay": -1.0}], ids=str)
def test_a_schedule_that_cannot_be_is_refused(wrong):
    with pytest.raises(ParameterError, match="factor ≥ 1 and weight_decay ≥ 0"):
        Schedule(**wrong)


def test_exit_tables_name_what_is_wrong(data, start):
    images, labels = data.normalised("valid")
    with pytest.raises(ParameterError, match="80 images and 7 labels"):
        exit_table(fresh(start), images, labels[:7])
    with pytest.raises(ParameterError, match=r"tolerance = -1 "):
        choose_threshold([{"threshold": 2.0, "accuracy": 1.0, "mean_steps": 1.0}], -1)


def test_what_is_kept_is_the_running_average_of_weights(data):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    seen, decay = [], 0.8

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            seen.append([p.detach().clone() for p in network.parameters()])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Watched)
        train_images(network, data, Schedule(epochs=1, batch=40, lr=0.1, optimiser="sgd", average=decay))
    assert len(seen) == 6
    shares = np.array([decay**k for k in range(6)][::-1])
    for got, *steps in zip(network.parameters(), *seen, strict=True):
        want = sum(float(a) * b for a, b in zip(shares / shares.sum(), steps, strict=True))
        torch.testing.assert_close(got.detach(), want)


def test_the_average_of_batch_norms_has_their_statistics(data):
    torch.manual_seed(0)
    ann = vgg(5, 2, 1, 8, width=0.1, hidden=12, dropout=0.1)
    assert train_images(ann, data, Schedule(epochs=6, lr=5e-3, batch=32, average=0.9)).valid_accuracy > 0.9
    convert(ann, data.normalised("train")[0][:64], 90, calibration_steps=8)


def test_distillation_is_hintons_loss():
    rng = np.random.default_rng(3)
    scores, teacher = rng.normal(size=(2, 5, 4))
    labels, share, tau = np.array([0, 3, 1, 1, 2]), 0.3, 2.5
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (teacher / tau, scores / 3 / tau))
    s = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    want = -(1 - share) * np.log(s[np.arange(5), labels]) + share * tau**2 * (p * np.log(p / q)).sum(1)
    parts = [torch.from_numpy(a) for a in (scores, labels, teacher)]
    assert float(distilled(*parts, share, tau, steps=3)) == pytest.approx(want.mean(), rel=1e-12)


def test_a_network_that_is_its_own_teacher_learns_nothing(data):
    torch.manual_seed(2)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    before = [p.detach().clone() for p in network.parameters()]
    schedule = Schedule(epochs=1, optimiser="sgd", lr=0.1, distillation=1.0)
    train_images(network, data, schedule, teacher=network)
    for a, b in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(a, b.detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "wrong", [{"average": 1.0}, {"average": -0.1}, {"distillation": 1.5}, {"temperature": 0.0}], ids=str
)
def test_averaging_and_distillation_have_their_ranges(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Schedule(**wrong)


def test_distillation_without_a_teacher_is_refused(data, start):
    with pytest.raises(ParameterError, match=r"distillation = 0\.5 needs a teacher"):
        compress_timesteps(fresh(start), data, (1,), Schedule(epochs=1, distillation=0.5))


def test_it_stops_below_the_floor(data, start):
    done = compress_timesteps(fresh(start), data, (3, 2, 1), Schedule(epochs=1, lr=1e-6), floor=1.01)
    assert [s.T for s in done.stages] == [3]
    assert "T = 3 reaches" in done.stopped


@pytest.mark.parametrize("stages", [(), (3, 3), (1, 2), (2, 0)])
def test_stages_must_fall(data, start, stages):
    with pytest.raises(ParameterError, match="must fall"):
        compress_timesteps(fresh(start), data, stages)


def test_a_negative_threshold_is_named_before_anything_is_trained(data, start):
    network = fresh(start)
    network.layers.relu2.v_th.data.fill_(-0.5)
    with pytest.raises(ParameterError, match=r"layer 'relu2': threshold -0\.5 must be positive"):
        compress_timesteps(network, data, (1,), QUICK)


def test_the_rate_falls_at_the_milestones():
    lr = [Schedule(epochs=10, lr=1.0).lr_at(e) for e in range(10)]
    assert lr == pytest.approx([1.0] * 6 + [0.2] * 2 + [0.04, 0.008])
    with pytest.raises(ParameterError, match="epochs ≥ 1"):
        Schedule(epochs=0)


def test_augmentation_shifts_and_mirrors_but_keeps_what_is_inside():
    x = np.zeros((64, 1, 9, 9), np.float32)
    x[:, 0, 4, 3:5] = [1, 2]
    y = augmented(x, np.random.default_rng(0), 2)
    assert (y.sum((1, 2, 3)) == 3).all()
    assert len({np.argwhere(a[0] == 2).tobytes() for a in y}) > 20
    mirrored = [bool((np.diff(np.argwhere(a[0])[:, 1]) > 0).all() and a[0].max(0).argmax() != 0
                     and a[0][a[0] > 0].tolist() == [2, 1]) for a in y]  # fmt: skip
    assert 20 < sum(mirrored) < 44
    assert augmented(x, np.random.default_rng(0), 0) is x


def test_digits_are_shifted_as_before_but_not_mirrored():
    x = np.random.default_rng(1).random((40, 2, 8, 8)).astype(np.float32)
    both = augmented(x, np.random.default_rng(0), 1)
    plain = augmented(x, np.random.default_rng(0), 1, mirror=False)
    same = np.array([np.array_equal(a, b) for a, b in zip(both, plain, strict=True)])
    assert 10 < same.sum() < 30
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for image, shifted in zip(wide, plain, strict=True):
        assert any(
            np.array_equal(image[:, i : i + 8, j : j + 8], shifted) for i in range(3) for j in range(3)
        )


def test_measured_energy_is_the_papers_formula(data, start):
    network = fresh(start)
    network.steps = 3
    images, labels = data.normalised("valid")
    found = measure(network, images, labels, batch=33)
    with torch.no_grad():
        rates = []
        network(torch.from_numpy(images), rates)
    spikes = {name: count / len(images) for name, count, _ in rates}
    # VGG-5 of widths 6, 13, 13 on 8×8; average pooling keeps the mean
    first = 8 * 8 * 6 * 9
    second, third = 4 * 4 * 13 * 6 * 9, 4 * 4 * 13 * 13 * 9
    fourth, out = 13 * 4 * 12, 12 * 2
    per = {
        "relu1": (second, 6 * 64),
        "relu2": (third, 13 * 16),
        "relu3": (fourth, 13 * 16),
        "relu4": (out, 12),
    }
    energy = 4.6 * first + sum(0.9 * macs * spikes[n] / size for n, (macs, size) in per.items())
    assert found.energy_pj == pytest.approx(energy, rel=1e-5)
    assert found.ann_energy_pj == pytest.approx(4.6 * (first + second + third + fourth + out))
    assert found.rates["relu2"] == pytest.approx(spikes["relu2"] / (13 * 16))
    with pytest.raises(ParameterError, match="0 images"):
        measure(network, images[:0], labels[:0])


def test_leaving_early_keeps_predictions_that_were_sure(data, start):
    network = fresh(start)
    for _, layer in network.spiking():
        layer.v_th.data.mul_(0.4)
    network.steps = 6
    images, labels = data.normalised("valid")
    x = torch.from_numpy(images)
    with torch.no_grad():
        whole = network(x).argmax(1).numpy()
        after = {}
        for t in range(1, 7):
            network.steps = t
            after[t] = network(x) / t
    network.steps = 6
    never = early_exit(network, images, 2.0)
    assert (never.steps == 6).all()
    assert (never.predictions == whole).all()
    enough = float(torch.softmax(after[3], 1).amax(1).median())
    some = early_exit(network, images, enough)
    assert 1 <= some.steps.min() < some.steps.max()
    for b, t in enumerate(some.steps):
        p = {k: float(torch.softmax(v[b], 0).max()) for k, v in after.items()}
        assert p[t] >= enough - 1e-5 or t == 6
        assert all(p[k] < enough + 1e-5 for k in range(1, t))
        assert some.predictions[b] == int(after[t][b].argmax())
    rows = exit_table(network, images, labels, (0.5, enough), batch=33)
    assert [r["mean_steps"] for r in rows] == sorted(r["mean_steps"] for r in rows)
    assert rows[1]["mean_steps"] == pytest.approx(some.steps.mean(), abs=0.05)
    assert choose_threshold(rows, 1.0) == 0.5
    with pytest.raises(ParameterError, match="threshold > 0"):
        early_exit(network, images, 0)
