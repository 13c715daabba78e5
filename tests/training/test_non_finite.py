"""A number that is not finite stops a run where it comes up, and the checkpoint before stays."""

import numpy as np
import pytest
import torch

from snnkit.errors import NonFiniteError, SnnkitError
from snnkit.training import Trainer, load_network
from tests.helpers.own_networks import Skipping


def broken_after(trainer, batches, damage):
    """`damage` is done to the network before batch `batches` (from 0) of all."""
    original, count = trainer._train_batch, 0

    def train(index):
        nonlocal count
        if count == batches:
            damage(trainer.network)
        count += 1
        original(index)

    trainer._train_batch = train
    return trainer


def test_epoch_batch_and_layer_are_named_and_the_checkpoint_stays(task, config, tmp_path):
    """Three batches an epoch; the read-out's weights are spoilt before the second of the second epoch."""

    def damage(network):
        with torch.no_grad():
            network.readout_synapses.weight[0] = float("nan")

    trainer = broken_after(Trainer(config(), task, tmp_path, progress=False), 4, damage)
    with pytest.raises(
        NonFiniteError,
        match=r"epoch 2, batch 2: the loss is nan: the first layer .* is readout_synapses \(DelayedLinear\); "
        r".*last\.pt holds the run before it",
    ):
        trainer.fit()
    assert issubclass(NonFiniteError, SnnkitError)
    network, _, content = load_network(tmp_path / "last.pt", "last")
    assert content["epoch"] == 1
    assert all(torch.isfinite(p).all() for p in network.parameters())
    Trainer(config(), task, tmp_path, progress=False).fit(resume=True)


def test_a_weight_that_overflows_is_named(task, config, tmp_path):
    trainer = Trainer(config(), task, tmp_path, progress=False)
    optimiser = trainer.groups["weights"][0]

    def spoil_it(*_):
        with torch.no_grad():
            trainer.network.layers[1].norm.bias[0] = float("inf")

    optimiser.register_step_post_hook(spoil_it)
    with pytest.raises(NonFiniteError, match=r"epoch 1, batch 1: layers\.1\.norm\.bias is not finite"):
        trainer.fit()
    assert not (tmp_path / "last.pt").exists()


def test_input_and_loss_are_told_from_layers(task, config, tmp_path):
    network = Skipping(8, 2, 10.0)
    trainer = Trainer(config(), task, tmp_path / "a", network=network, progress=False)
    original = trainer._augmented

    def with_nan(data, chosen, rng):
        x, lengths, labels = original(data, chosen, rng)
        x[3, 5] = np.nan
        return x, lengths, labels

    trainer._augmented = with_nan
    trainer_order = np.random.default_rng([0, 0]).permutation(96)  # of seed 0, epoch 0
    with pytest.raises(
        NonFiniteError, match=rf"the input is not finite in sample {trainer_order[5]} of the training part"
    ):
        trainer.fit()

    def loss(out, targets):
        return out.scores.mean() / 0

    trainer = Trainer(config(), task, tmp_path / "b", progress=False, loss=loss)
    with pytest.raises(NonFiniteError, match=r"every layer's output is finite, the loss of it is not"):
        trainer.fit()
