"""Spiking classifiers of fully connected layers with delays."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backend import fuses
from ..delays import DelayedLinear
from ..errors import ShapeError
from ..neurons import LI, LIF
from ..readouts import READOUTS
from .config import Model
from .dropout import Dropout
from .losses import valid_steps


@dataclass
class Output:
    """What a forward pass gives.

    scores  [B, C] class scores
    v       [T, B, C] what the read-out saw (potentials, or spikes, as its rule reads)
    spikes  of each hidden layer, [T, B, N], before dropout
    mask    [T, B] the steps that count
    """

    scores: Tensor
    v: Tensor
    spikes: list[Tensor]
    mask: Tensor


class TimeBatchNorm(nn.BatchNorm1d):
    """Batch norm of ``[T, B, N]`` over time and batch, per neuron."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).view_as(x)


def norm_factor(norm: nn.modules.batchnorm._BatchNorm) -> Tensor:
    """γ/√(σ² + ε) of the running statistics, [O]: by this a batch norm multiplies what its synapses give.

    In the norm's dtype and detached; γ is 1 without ``affine``. `lower` works it out in float64 and NumPy,
    `compress_bins` by one division: both round otherwise in the last bit.
    """
    assert norm.running_var is not None
    factor = torch.rsqrt(norm.running_var + norm.eps)
    return factor if norm.weight is None else factor * norm.weight.detach()


class Layer(nn.Module):
    """Synapses, batch norm, neuron, dropout.

    In training the last three run as one where `snnkit.backend` fuses: hooks on them are called under
    `backend.unfused` only.
    """

    def __init__(self, synapses: nn.Module, norm: TimeBatchNorm, neuron: LIF, dropout: Dropout) -> None:
        super().__init__()
        self.synapses = synapses
        self.norm = norm
        self.neuron = neuron
        self.dropout = dropout

    def forward(self, x: Tensor, padding_right: int = 0) -> tuple[Tensor, Tensor]:
        """``[T, B, I]`` → spikes ``[T + padding_right, B, N]``, and these after dropout.

        Only synapses with delays can make a sequence longer.
        """
        y = self.synapses(x, padding_right) if padding_right else self.synapses(x)
        if not (self.training and fuses()):
            s, _ = self.neuron(self.norm(y))
            return s, self.dropout(s)
        mask = self.dropout.shared(y)
        s, d = self.neuron.after_norm(y, self.norm, mask)
        return s, self.dropout(s) if mask is None else d


class SpikingClassifier(nn.Module):
    """``[T, B, I]`` events to class scores: hidden layers of LIF neurons, then a leaky read-out.

    With ``padding="tail"`` the input is followed by `tail` silent steps and every layer keeps the
    length; with ``"grow"`` each layer lengthens the sequence by (window − 1)//2 steps as published
    (Hammouamri et al., ICLR 2024), so that a layer's last spikes are cut off before a later layer's.
    Either way a sample of length L is read out over L + `tail` steps.
    """

    def __init__(self, model: Model, inputs: int, classes: int, dt: float) -> None:
        super().__init__()
        self.config, self.inputs, self.classes, self.dt = model, inputs, classes, dt
        half = (model.max_delay // 2) if model.delays != "none" else 0
        depth = len(model.hidden) + 1
        self.grow = half if model.padding == "grow" else 0
        self.tail = self.grow * depth if self.grow else (half * depth if model.tail is None else model.tail)
        sizes = [inputs, *model.hidden]
        self.layers = nn.ModuleList(
            Layer(
                self._synapses(n_in, n_out),
                self._norm(n_out),
                self._neuron(n_out),
                Dropout(model.dropout, model.dropout_mask),
            )
            for n_in, n_out in itertools.pairwise(sizes)
        )
        self.readout_synapses = self._synapses(sizes[-1], classes)
        self.readout = (
            self._neuron(classes)
            if READOUTS[model.readout].of_spikes
            else LI(tau_mem=model.tau_readout or model.tau_mem, dt=dt, decay_input=model.decay_input)
        )

    def _synapses(self, n_in: int, n_out: int) -> nn.Module:
        model = self.config
        if model.delays == "none":
            linear = nn.Linear(n_in, n_out, bias=False)
            nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
            return linear
        fixed = model.delays == "random"
        layer = DelayedLinear(
            n_in,
            n_out,
            max_delay=model.max_delay,
            kernel_count=model.kernel_count,
            version="max" if fixed else model.version,
        )
        layer.position.requires_grad_(not fixed)
        return layer

    def _norm(self, size: int) -> TimeBatchNorm:
        norm = TimeBatchNorm(size)
        nn.init.constant_(norm.weight, self.config.norm_weight)
        return norm

    def _neuron(self, size: int) -> LIF:
        model = self.config
        return LIF(
            tau_mem=model.tau_mem,
            dt=self.dt,
            v_th=model.v_th,
            reset=model.reset,
            decay_input=model.decay_input,
            detach_reset=model.detach_reset,
            surrogate=model.surrogate,
            alpha=model.surrogate_alpha,
            learn_tau=model.learn_tau,
        )

    @property
    def delayed(self) -> list[DelayedLinear]:
        """The layers with delays, first to last."""
        return [m for m in self.modules() if isinstance(m, DelayedLinear)]

    def set_sigma(self, sigma: float) -> None:
        """Width of the delay kernels, steps."""
        for layer in self.delayed:
            layer.sigma = sigma

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring the learned positions back into the window."""
        for layer in self.delayed:
            layer.clamp_()

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, whole: bool = False) -> Output:
        """Scores, read-out and spikes.

        x        [T, B, I]
        lengths  steps of each sample, int64 [B]; None: all T
        whole    also with ``padding="grow"`` run every layer over all steps, as the lowered Graph does
        """
        if x.ndim != 3 or x.shape[2] != self.inputs:
            raise ShapeError(
                f"SpikingClassifier expects x of shape [T, B, {self.inputs}], got {list(x.shape)}."
            )
        if lengths is None:
            lengths = torch.full((x.shape[1],), x.shape[0], device=x.device)
        more = 0 if whole else self.grow
        if not more:
            x = F.pad(x, (0, 0, 0, 0, 0, self.tail))
        spikes = []
        for layer in self.layers:
            s, x = layer(x, more)
            spikes.append(s)
        y = self.readout_synapses(x, more) if more else self.readout_synapses(x)
        out, _state = self.readout(y)
        mask = valid_steps(out.shape[0], lengths + self.tail)
        return Output(READOUTS[self.config.readout](out, mask), out, spikes, mask)


def build(model: Model, inputs: int, classes: int, dt: float) -> SpikingClassifier:
    """A network with the weights that the torch seed gives."""
    return SpikingClassifier(model, inputs, classes, dt)
