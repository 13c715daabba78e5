"""Accuracy, spike rates and confusion of a network on a data set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.splits import Data
from ..engine.readout import tied
from ..errors import ParameterError
from .config import Model
from .losses import TARGETS, Objective, Score, is_class, kind_of, objective
from .own import Runner, runner


@dataclass
class Evaluation:
    """What `evaluate` measures; counts are of samples, so batches need not be equal.

    predictions  int64 [B]
    loss         mean cross entropy
    spikes       spikes of each hidden layer per sample, [layers, B]
    rates        spikes per neuron and valid step of each hidden layer
    confusion    int64 [classes, classes], rows are labels
    metric       mean of the objective's own, where it is not the accuracy: with a class in every step the
                 share of steps that count whose highest output is their class, `TARGETS`
    tied         samples whose highest score several classes share; the first of these is the prediction
    """

    labels: np.ndarray
    predictions: np.ndarray
    loss: float
    spikes: np.ndarray
    rates: list[float]
    classes: list[str]
    batch_accuracies: list[float]
    metric: float | None = None
    tied: int = 0

    @property
    def silent(self) -> list[int]:
        """Numbers of the hidden layers, first to last from 0, that gave no spike at all."""
        return [layer for layer, count in enumerate(self.spikes.sum(1)) if count == 0]

    @property
    def correct(self) -> np.ndarray:
        """True where the prediction is the label, [B].

        Raises `ParameterError` naming what the targets are if they are not a class a sample.
        """
        return self.predictions == self._classes()

    def _classes(self) -> np.ndarray:
        """The labels, which are a class a sample, [B]."""
        if not is_class(self.labels):
            kind = kind_of(self.labels)
            about = "targets of a loss of one's own" if kind is None else TARGETS[kind].about
            raise ParameterError(
                f"the targets {list(self.labels.shape)} are {about}, not one class a sample: there is no "
                f"accuracy, confusion or correct. What is measured is .metric = {self.metric}."
            )
        return self.labels

    @property
    def accuracy(self) -> float:
        """Share of samples classified correctly; raises as `correct`."""
        return float(self.correct.mean())

    @property
    def confusion(self) -> np.ndarray:
        """Number of samples of each label (row) given each prediction (column); raises as `correct`."""
        table = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(table, (self._classes(), self.predictions), 1)
        return table

    @property
    def most_confused(self) -> str:
        """The label that is most often taken for another, in words; ties go to the first in `classes`.

        Raises as `correct`.
        """
        wrong = self.confusion
        np.fill_diagonal(wrong, 0)
        label, guess = np.unravel_index(wrong.argmax(), wrong.shape)
        if not wrong.any():
            return f"none, all {len(self.labels)} are right"
        share = f"{wrong[label, guess]} of {int((self.labels == label).sum())}"
        return f"{self.classes[label]} taken for {self.classes[guess]}, {share} times"

    def summary(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        measure = {"accuracy": self.accuracy} if self.metric is None else {"metric": self.metric}
        return {
            **measure,
            "loss": self.loss,
            "samples": len(self.labels),
            "rates": self.rates,
            "spikes_per_inference": float(self.spikes.sum(0).mean()),
            "silent": self.silent,
            **({"tied": self.tied} if self.tied else {}),
        }


def as_tensors(
    batch: tuple[np.ndarray, np.ndarray, np.ndarray], network: torch.nn.Module
) -> tuple[Tensor, Tensor, Tensor]:
    """A `Binned.batch` on the network's device, inputs in its dtype; one without tensors: float32."""
    held = itertools.chain(network.parameters(), network.buffers(), [torch.zeros(())])
    parameter = next(one for one in held if one.is_floating_point())
    x, lengths, labels = (torch.from_numpy(np.ascontiguousarray(a)) for a in batch)
    return x.to(parameter.device, parameter.dtype), lengths.to(parameter.device), labels.to(parameter.device)


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """In evaluation mode for a while; afterwards every part is back in its own mode, whatever happened."""
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def evaluate(
    network: torch.nn.Module,
    data: Data,
    batch: int = 256,
    *,
    count_padding: bool = False,
    model: Model | None = None,
    loss: Score | None = None,
    metric: Score | None = None,
) -> Evaluation:
    """Run the network in evaluation mode (rounded delays, fixed batch norm) on all of `data`.

    count_padding  read out over the batch's longest sample, as SNN-delays was published
    model          for a module of one's own: the configuration's, whose read-out and tail are its
    loss, metric   ``f(out, targets)`` instead of those of `snnkit.training.losses.TARGETS`

    Raises `ParameterError` for a module of one's own without it, `ShapeError` where it gives another shape
    than [T, B, C].
    """
    run = runner(network, model, data.shape, len(data.classes) or None)
    goal = objective(data.labels, loss=loss, metric=metric)
    return measured(run, data, batch, goal, count_padding=count_padding)


@torch.no_grad()
def measured(
    network: Runner, data: Data, batch: int, goal: Objective, *, count_padding: bool = False
) -> Evaluation:
    """What `evaluate` gives, of a network with the way it is run."""
    predictions, losses, spikes, batch_accuracies, metrics, ties = [], 0.0, [], [], 0.0, 0
    counts, total = (goal.loss_count, goal.metric_count), np.zeros(2)
    neuron_steps: dict[int, float] = {}
    with evaluating(network.network):
        for start in range(0, len(data), batch):
            indices = np.arange(start, min(start + batch, len(data)))
            x, lengths, labels = as_tensors(data.batch(indices), network.network)
            own = lengths
            if count_padding:
                lengths = torch.full_like(lengths, x.shape[0])
            out = replace(network(x, lengths), lengths=own)
            predicted = out.scores.argmax(1)
            predictions.append(predicted.cpu().numpy())
            ties += tied(out.scores.cpu().numpy())
            if goal.classes:
                batch_accuracies.append((predicted == labels).float().mean().item())
            number = [len(indices) if f is None else f(own, labels) for f in counts]
            if not goal.accuracy and number[1]:
                metrics += goal.metric(out, labels).item() * number[1]
            if number[0]:
                losses += goal.loss(out, labels).item() * number[0]
            total = total + np.array(number)
            counted = []
            for i, s in enumerate(out.spikes):
                inside = out.mask[: s.shape[0], :, None]
                counted.append((s * inside).sum((0, 2)).cpu().numpy())
                neuron_steps[i] = neuron_steps.get(i, 0.0) + inside.sum().item() * s.shape[2]
            spikes.append(np.stack(counted) if counted else np.zeros((0, len(indices))))
    all_spikes = np.concatenate(spikes, 1)
    total = np.maximum(total, 1)  # of no step at all both are 0
    return Evaluation(
        np.asarray(data.labels, np.int64) if goal.classes else np.asarray(data.labels),
        np.concatenate(predictions),
        float(losses / total[0]),
        all_spikes,
        (all_spikes.sum(1) / np.array(list(neuron_steps.values()))).tolist(),
        list(data.classes),
        batch_accuracies,
        None if goal.accuracy else float(metrics / total[1]),
        ties if goal.classes else 0,
    )
