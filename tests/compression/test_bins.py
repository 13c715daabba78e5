"""Coarser bins: what rescaling keeps, and the stages."""

import numpy as np
import pytest
import torch

from snnkit.compression import compress_bins
from snnkit.compression.bins import coarser, renormalise, rescale
from snnkit.datasets import Binned
from snnkit.datasets.splits import Splits
from snnkit.errors import CheckpointError, ParameterError
from snnkit.events import EventBatch
from snnkit.training.network import build


def merged(data, ratio):
    """The same recordings in bins `ratio` times as wide."""
    e = data.events
    x = e.to_dense()
    x = np.pad(x, ((0, -len(x) % ratio), (0, 0), (0, 0)))
    x = x.reshape(-1, ratio, *x.shape[1:]).sum(1)
    lengths = -(-e.lengths // ratio)
    return Binned(
        EventBatch.from_dense(x, lengths), data.labels, data.speakers, data.classes, data.dt * ratio,
        data.channels, data.name,
    )  # fmt: skip


def in_bins(task, ratio):
    if ratio == 1:
        return task
    parts = {name: merged(getattr(task, name), ratio) for name in ("train", "valid", "test")}
    make = {k: lambda v=v: v for k, v in parts.items()}
    return Splits(make, task.classes, task.dt * ratio, task.channels, task.name)


@pytest.mark.parametrize("learn_tau", [False, True])
def test_rescaling_divides_delays_and_raises_the_leak_to_the_ratio(config, learn_tau):
    fine_config = config(model={"tau_mem": 40.0, "learn_tau": learn_tau, "max_delay": 9, "tail": 5})
    coarse_config = coarser(fine_config, 20.0)
    assert coarse_config.model.max_delay == 5
    assert coarse_config.model.tail == 3
    assert 1 - 20 / coarse_config.model.tau_mem == pytest.approx(0.75**2)
    fine, coarse = build(fine_config.model, 8, 2, 10.0), build(coarse_config.model, 8, 2, 20.0)
    fine.layers[0].norm.running_mean.uniform_()
    rescale(fine, coarse)
    for a, b in zip(fine.delayed, coarse.delayed, strict=True):
        torch.testing.assert_close(b.position, a.position / 2)
        assert torch.equal(a.weight, b.weight)
    for a, b in zip(fine.layers, coarse.layers, strict=True):
        torch.testing.assert_close(b.neuron.per_step()["decay"], a.neuron.per_step()["decay"] ** 2)


def test_renormalising_keeps_the_gain_and_multiplies_the_offset(config, task):
    fine_config = config(model={"tau_mem": 30.0})
    fine = build(fine_config.model, 8, 2, 10.0)
    coarse = build(coarser(fine_config, 20.0).model, 8, 2, 20.0)
    for layer in fine.layers:
        torch.nn.init.uniform_(layer.norm.bias)
        layer.norm.running_mean.uniform_()
        layer.norm.running_var.uniform_(0.5, 2)
    rescale(fine, coarse)
    renormalise(coarse, in_bins(task, 2).train, 2.0)
    for a, b in zip(fine.layers, coarse.layers, strict=True):
        n, m = a.norm, b.norm
        gains = [k.weight / torch.sqrt(k.running_var + k.eps) for k in (n, m)]
        torch.testing.assert_close(gains[1], gains[0])
        offsets = [k.bias - g * k.running_mean for k, g in zip((n, m), gains, strict=True)]
        torch.testing.assert_close(offsets[1], 2 * offsets[0])
    x, _, _ = in_bins(task, 2).train.batch(np.arange(96))
    drive = coarse.layers[0].synapses(torch.from_numpy(np.pad(x, ((0, coarse.tail), (0, 0), (0, 0)))))
    torch.testing.assert_close(coarse.layers[0].norm.running_mean, drive.mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_stages_start_from_the_one_before_and_are_not_repeated(config, task, tmp_path):
    first = config(
        model={"tau_mem": 30.0}, train={"epochs": 10, "batch": 16, "weights": {"lr_max": 0.02}}
    )  # fmt: skip
    loaded = []

    def load(c):
        loaded.append(c.data.dt)
        return in_bins(task, round(c.data.dt / 10))

    def run(resume, config=first):
        return compress_bins(
            config, load, tmp_path, (10.0, 20.0), epochs=(10, 3), resume=resume,
            cost=lambda graph, events: {"cost": float(len(events))}, samples=7,
        )  # fmt: skip

    stages = run(False)
    assert loaded == [10, 20]
    assert [(s.dt, s.stage_from) for s in stages] == [(10, ""), (20, "10 ms")]
    assert stages[0].accuracy > 0.9
    assert stages[1].accuracy > 0.85
    assert stages[1].steps < 0.6 * stages[0].steps
    assert stages[1].synops > 0
    assert stages[0].row()["cost"] == 7
    again = run(True)
    assert [s.accuracy for s in again] == [s.accuracy for s in stages]
    assert [s.valid_start for s in again] == [s.valid_start for s in stages]
    assert all(
        torch.equal(a, b)
        for a, b in zip(stages[1].network.parameters(), again[1].network.parameters(), strict=True)
    )
    other = first.model_copy(update={"model": first.model.model_copy(update={"hidden": (9, 9)})})
    with pytest.raises(CheckpointError, match=r"trained with model\.hidden = \[12, 10\], not \[9, 9\]"):
        run(True, other)


@pytest.mark.parametrize("bins", [(10.0, 10.0), (20.0, 40.0), ()])
def test_bins_must_rise_from_the_configurations(config, task, tmp_path, bins):
    with pytest.raises(ParameterError, match="must rise"):
        compress_bins(config(), lambda c: task, tmp_path, bins)


@pytest.mark.parametrize("model", [{"neuron": "if"}, {"recurrent": "dense"}, {"tau_spread": 0.5}], ids=str)
def test_networks_whose_bins_have_no_rule_are_refused(config, model):
    with pytest.raises(ParameterError, match=r"coarser bins are worked out for .* Train it with the coarser"):
        coarser(config(model=model), 20.0)


def test_a_stage_below_the_floor_is_the_last(config, task, tmp_path):
    quick = config(train={"epochs": 1})
    stages = compress_bins(quick, lambda c: in_bins(task, round(c.data.dt / 10)), tmp_path, floor=1.01)
    assert len(stages) == 1
