"""What an evaluation says in words is what its table of confusion holds."""

import numpy as np
import pytest
import torch

from snnkit.training import build
from snnkit.training.config import Model
from snnkit.training.evaluation import Evaluation, evaluate


def evaluation(labels, predictions):
    return Evaluation(
        labels=np.array(labels), predictions=np.array(predictions), loss=0.0,
        spikes=np.zeros((1, len(labels))), rates=[0.0], classes=["no", "yes", "off"], batch_accuracies=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "predictions", "said"),
    [
        ([0, 1, 2, 2], [0, 1, 2, 2], "none, all 4 are right"),
        ([0, 1, 2, 2, 2], [1, 0, 0, 0, 2], "off taken for no, 2 of 3 times"),
        ([1, 1, 0, 0], [2, 1, 0, 1], "no taken for yes, 1 of 2 times"),
        ([1], [2], "yes taken for off, 1 of 1 times"),
    ],
)
def test_the_most_confused_pair(labels, predictions, said):
    result = evaluation(labels, predictions)
    assert result.most_confused == said
    for label, guess in zip(labels, predictions, strict=True):
        assert result.confusion[label, guess] == sum(
            (a, b) == (label, guess) for a, b in zip(labels, predictions, strict=True)
        )


def test_silent_layers_and_ties_are_counted(task):
    torch.manual_seed(0)
    model = Model(hidden=(6, 5, 4), delays="none", readout="mean", tau_mem=20.0)
    network = build(model, task.channels, 2, task.dt)
    network.eval()
    with torch.no_grad():
        network.layers[0].synapses.weight.fill_(1.0)
        network.layers[1].synapses.weight.fill_(-1.0)
    result = evaluate(network, task.valid)
    assert result.silent == [1, 2]
    assert result.tied == len(task.valid)  # both outputs stay at 0
    assert result.summary().keys() >= {"silent", "tied"}
    assert set(result.predictions) == {0}
