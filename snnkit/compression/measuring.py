"""What a compressed network does and costs: accuracy, spikes per neuron, energy by the paper's formula."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ParameterError
from ..training.evaluation import evaluating
from .ann import SYNAPSES
from .spiking import SpikingNet
from .walking import Fused, walk

MAC_PJ = 4.6
AC_PJ = 0.9
"""A 32-bit multiply-accumulate and an accumulate in 45 nm: Horowitz, ISSCC 2014."""


@dataclass
class Measured:
    """Figures over a set of images.

    accuracy           share of images classified correctly
    spikes_per_neuron  spikes of a neuron of the spiking layers in T steps, mean over neurons and images
    rates              the same, layer by layer
    energy_pj          of an image by the paper's formula
    ann_energy_pj      of the ANN of equal size by the same formula
    """

    accuracy: float
    spikes_per_neuron: float
    rates: dict[str, float] = field(default_factory=dict)
    energy_pj: float = 0.0
    ann_energy_pj: float = 0.0

    @property
    def energy_ratio_paper(self) -> float:
        """Energy of the ANN over that of the network."""
        return self.ann_energy_pj / self.energy_pj if self.energy_pj else float("nan")


def check_labelled(images: np.ndarray | Tensor, labels: np.ndarray) -> None:
    """Raise `ParameterError` unless there are images, each with its label."""
    if len(images) == 0 or len(images) != len(labels):
        raise ParameterError(f"there are {len(images)} images and {len(labels)} labels to measure on.")


class _Counts:
    """Spikes of neurons, and of synapses their MACs and the spikes that entered, of one batch."""

    def __init__(self) -> None:
        self.synaptic: dict[nn.Module, tuple[int, float | None]] = {}
        self.neurons: dict[str, tuple[float, int]] = {}

    def synapses(self, layer: nn.Module, x: Tensor, y: Tensor, static: bool) -> None:
        """Count MACs of a sample and step; None for the spikes of a static input, an image."""
        if isinstance(layer, SYNAPSES):
            macs = y[0].numel() * layer.weight[0].numel()
            spikes = None if static else float(x.sum(dtype=torch.float64)) / x[0].numel()
            self.synaptic[layer] = macs, spikes

    def spikes(self, name: str, s: Tensor) -> None:
        """Count spikes of all samples and steps, and neurons."""
        self.neurons[name] = float(s.sum(dtype=torch.float64)), s[0].numel()


@torch.no_grad()
def measure(
    network: SpikingNet, images: np.ndarray | Tensor, labels: np.ndarray, batch: int = 250
) -> Measured:
    """Run the network on images ``[N, C, H, W]`` in evaluation mode.

    Energy by the formula of arXiv 2110.05929: 4.6 pJ for each multiply-accumulate of layers that see the
    image (they are computed once, whatever T), 0.9 pJ for each accumulate of the others, of which there
    are as many as multiply-accumulates times the spikes per neuron of the layer before. No memory, no
    neurons: a lower bound. Prices with memory come from `snnkit.energy` on the lowered Graph.
    """
    check_labelled(images, labels)
    parameter = next(network.parameters())
    right, spikes, neurons = 0, dict[str, float](), dict[str, int]()
    macs, entered = dict[nn.Module, int](), dict[nn.Module, float | None]()
    with evaluating(network):
        for start in range(0, len(images), batch):
            x = torch.as_tensor(images[start : start + batch]).to(parameter.device, parameter.dtype)
            counts = _Counts()
            run = Fused(network.steps, watch=counts)
            s, _ = walk(network.layers, x, True, run)
            y, _ = walk(network.head, s, False, run)
            scores = y.view(network.steps, len(x), -1).sum(0)
            right += int((scores.argmax(1).cpu().numpy() == labels[start : start + batch]).sum())
            for name, (count, size) in counts.neurons.items():
                spikes[name], neurons[name] = spikes.get(name, 0.0) + count, size
            for layer, (n, count_in) in counts.synaptic.items():
                macs[layer] = n
                entered[layer] = None if count_in is None else (entered.get(layer) or 0.0) + count_in
    energy = sum(
        MAC_PJ * n if entered[layer] is None else AC_PJ * n * (entered[layer] or 0.0) / len(images)
        for layer, n in macs.items()
    )
    rates = {name: count / neurons[name] / len(images) for name, count in spikes.items()}
    total = sum(spikes.values()) / sum(neurons.values()) / len(images)
    return Measured(right / len(images), total, rates, energy, MAC_PJ * sum(macs.values()))


@torch.no_grad()
def accuracy(network: nn.Module, images: np.ndarray | Tensor, labels: np.ndarray, batch: int = 250) -> float:
    """Share of images [n, C, H, W], labels int [n], that a network in evaluation mode classifies correctly.

    Raises `ParameterError` without images, or with another number of labels.
    """
    check_labelled(images, labels)
    parameter: Any = next(network.parameters())
    right = 0
    with evaluating(network):
        for start in range(0, len(images), batch):
            x = torch.as_tensor(images[start : start + batch]).to(parameter.device, parameter.dtype)
            right += int((network(x).argmax(1).cpu().numpy() == labels[start : start + batch]).sum())
    return right / len(images)
