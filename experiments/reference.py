"""The network of SNN-delays built from the authors' own packages, `dcls` and `spikingjelly`.

`build` has the signature of `snnkit.training.build` and its network the same outputs, so the same
`Trainer` trains it on the same batches: what differs is the packages' code alone.
"""

from __future__ import annotations

import itertools

import torch
from DCLS.construct.modules import Dcls1d
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit.readouts import READOUTS
from snnkit.training.config import Model
from snnkit.training.losses import valid_steps
from snnkit.training.network import Output


class Delayed(nn.Module):
    """`Dcls1d` on ``[T, B, I]``, padded with window − 1 on the left: position P delays by window//2 − P."""

    def __init__(self, n_in: int, n_out: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.conv = Dcls1d(
            n_in, n_out, kernel_count=1, groups=1, dilated_kernel_size=window, bias=False, version="gauss"
        )
        nn.init.kaiming_uniform_(self.conv.weight, nonlinearity="relu")
        nn.init.uniform_(self.conv.P, a=-(window // 2) - 1, b=window // 2)
        self.conv.SIG.requires_grad_(False)
        self.clamp_()

    @property
    def position(self) -> Tensor:
        return self.conv.P

    @property
    def sigma(self) -> float:
        return float(self.conv.SIG.flatten()[0])

    @sigma.setter
    def sigma(self, value: float) -> None:
        with torch.no_grad():
            self.conv.SIG.fill_(value)

    @torch.no_grad()
    def clamp_(self) -> None:
        self.conv.P.clamp_(-(self.window // 2), self.window // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x.permute(1, 2, 0), (self.window - 1, 0))
        if self.training:
            return self.conv(x).permute(2, 0, 1)
        position, sigma, version = (
            self.conv.P.detach().clone(),
            self.conv.SIG.detach().clone(),
            self.conv.version,
        )
        with torch.no_grad():
            self.conv.version = self.conv.DCK.version = "max"
            self.conv.P.round_()
            self.conv.SIG.zero_()
            y = self.conv(x).permute(2, 0, 1)
            self.conv.version = self.conv.DCK.version = version
            self.conv.P.copy_(position)
            self.conv.SIG.copy_(sigma)
        return y


class ReferenceClassifier(nn.Module):
    """Hidden layers of Dcls1d, batch norm, `LIFNode`, dropout; read-out `LIFNode` that never spikes."""

    def __init__(self, model: Model, inputs: int, classes: int, dt: float) -> None:
        super().__init__()
        self.config, self.inputs, self.classes, self.dt = model, inputs, classes, dt
        window = model.max_delay + 1
        sizes = [inputs, *model.hidden]
        self.tail = (window // 2) * len(sizes) if model.tail is None else model.tail
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Delayed(n_in, n_out, window),
                    layer.BatchNorm1d(n_out, step_mode="m"),
                    self._lif(model.v_th),
                    layer.Dropout(model.dropout, step_mode="m"),
                ]
            )
            for n_in, n_out in itertools.pairwise(sizes)
        )
        for parts in self.layers:
            nn.init.constant_(parts[1].weight, model.norm_weight)
        self.readout_synapses = Delayed(sizes[-1], classes, window)
        self.readout = self._lif(1e9)
        self.readout.store_v_seq = True

    def _lif(self, v_th: float) -> neuron.LIFNode:
        return neuron.LIFNode(
            tau=self.config.tau_mem / self.dt,
            decay_input=False,
            v_threshold=v_th,
            v_reset=0.0,
            surrogate_function=surrogate.ATan(alpha=self.config.surrogate_alpha),
            detach_reset=True,
            step_mode="m",
        )

    @property
    def delayed(self) -> list[Delayed]:
        return [m for m in self.modules() if isinstance(m, Delayed)]

    def set_sigma(self, sigma: float) -> None:
        for synapses in self.delayed:
            synapses.sigma = sigma

    def clamp_(self) -> None:
        for synapses in self.delayed:
            synapses.clamp_()

    def forward(self, x: Tensor, lengths: Tensor) -> Output:
        functional.reset_net(self)
        x = F.pad(x, (0, 0, 0, 0, 0, self.tail))
        spikes = []
        for synapses, norm, lif, dropout in self.layers:
            s = lif(norm(synapses(x)))
            spikes.append(s)
            x = dropout(s)
        self.readout(self.readout_synapses(x))
        v = self.readout.v_seq
        mask = valid_steps(v.shape[0], lengths + self.tail)
        return Output(READOUTS[self.config.readout](v, mask), v, spikes, mask)


def build(model: Model, inputs: int, classes: int, dt: float) -> ReferenceClassifier:
    """The reference network with the weights that the torch seed gives."""
    return ReferenceClassifier(model, inputs, classes, dt)
