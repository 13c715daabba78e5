"""Accuracy, spike rates and confusion of a network on a data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.splits import Data
from .losses import readout_loss
from .network import SpikingClassifier


@dataclass
class Evaluation:
    """What `evaluate` measures; counts are of samples, so batches need not be equal.

    predictions  int64 [B]
    loss         mean cross entropy
    spikes       spikes of each hidden layer per sample, [layers, B]
    rates        spikes per neuron and valid step of each hidden layer
    confusion    int64 [classes, classes], rows are labels
    """

    labels: np.ndarray
    predictions: np.ndarray
    loss: float
    spikes: np.ndarray
    rates: list[float]
    classes: list[str]
    batch_accuracies: list[float]

    @property
    def correct(self) -> np.ndarray:
        """True where the prediction is the label, [B]."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """Share of samples classified correctly."""
        return float(self.correct.mean())

    @property
    def confusion(self) -> np.ndarray:
        """Number of samples of each label (row) given each prediction (column)."""
        table = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(table, (self.labels, self.predictions), 1)
        return table

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "samples": len(self.labels),
            "rates": self.rates,
            "spikes_per_inference": float(self.spikes.sum(0).mean()),
        }


def as_tensors(
    batch: tuple[np.ndarray, np.ndarray, np.ndarray], network: torch.nn.Module
) -> tuple[Tensor, Tensor, Tensor]:
    """A `Binned.batch` on the network's device, inputs in its dtype."""
    parameter = next(network.parameters())
    x, lengths, labels = (torch.from_numpy(np.ascontiguousarray(a)) for a in batch)
    return x.to(parameter.device, parameter.dtype), lengths.to(parameter.device), labels.to(parameter.device)


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """In evaluation mode for a while, whatever happens meanwhile."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@torch.no_grad()
def evaluate(
    network: SpikingClassifier, data: Data, batch: int = 256, *, count_padding: bool = False
) -> Evaluation:
    """Run the network in evaluation mode (rounded delays, fixed batch norm) on all of `data`.

    count_padding  read out over the batch's longest sample, as SNN-delays was published
    """
    predictions, losses, spikes, batch_accuracies = [], 0.0, [], []
    neuron_steps = np.zeros(len(network.layers))
    with evaluating(network):
        for start in range(0, len(data), batch):
            indices = np.arange(start, min(start + batch, len(data)))
            x, lengths, labels = as_tensors(data.batch(indices), network)
            if count_padding:
                lengths = torch.full_like(lengths, x.shape[0])
            out = network(x, lengths)
            predicted = out.scores.argmax(1)
            predictions.append(predicted.cpu().numpy())
            batch_accuracies.append((predicted == labels).float().mean().item())
            losses += readout_loss(out.scores, labels).item() * len(indices)
            counted = []
            for i, s in enumerate(out.spikes):
                inside = out.mask[: s.shape[0], :, None]
                counted.append((s * inside).sum((0, 2)).cpu().numpy())
                neuron_steps[i] += inside.sum().item() * s.shape[2]
            spikes.append(np.stack(counted))
    total = np.concatenate(spikes, 1)
    return Evaluation(
        np.asarray(data.labels, np.int64),
        np.concatenate(predictions),
        losses / len(data),
        total,
        (total.sum(1) / neuron_steps).tolist(),
        list(data.classes),
        batch_accuracies,
    )
