"""Networks drawn at random out of everything that lowering follows."""

import random

import torch
from torch import nn
from torch.nn import functional as F

from snnkit.delays import (
    AxonalDelay,
    DelayedConv2d,
    DelayedLinear,
    DendriticDelay,
    RecurrentDelayedLinear,
)
from snnkit.neurons import IF, LI, LIF, AdLIF, CubaLIF, NeuronModule
from snnkit.training.network import TimeBatchNorm

SHAPE = (2, 8, 8)
ON_CHIP = {
    "lif": lambda: LIF(tau_mem=3.0, v_th=0.4),
    "slow": lambda: LIF(tau_mem=9.0, v_th=0.6),
}
ALL = ON_CHIP | {
    "cuba": lambda: CubaLIF(tau_syn=2.0, tau_mem=4.0, v_th=0.6),
    "soft": lambda: LIF(tau_mem=4.0, v_th=0.5, reset="soft"),
    "adlif": lambda: AdLIF(tau_mem=5.0, tau_w=20.0, v_th=0.1),
    "if": lambda: IF(v_th=0.8),
}


class Fold(nn.Module):
    """A layer of ``[B, …]`` on every step of ``[T, B, …]``, as people fold time into batch."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y = self.layer(x.flatten(0, 1))
        return y.view(x.shape[0], x.shape[1], *y.shape[1:])


class Block(nn.Module):
    """Convolution (plain, depthwise or with delays), norm and neurons, with a way around them."""

    def __init__(self, channels, kind, neuron, draw):
        super().__init__()
        self.kind = kind
        bias = draw.random() < 0.5
        groups = draw.choice([1, channels])
        if draw.random() < 0.5:
            self.conv = Fold(nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=bias))
        else:
            self.conv = DelayedConv2d(channels, channels, 3, 1, 1, groups=groups, max_delay=3, bias=bias)
        self.norm, self.neuron = Fold(nn.BatchNorm2d(channels)), neuron()

    def forward(self, x):
        y = self.neuron(self.norm(self.conv(x)))
        if self.kind == "sum":
            return x + y
        if self.kind == "joined":
            return torch.cat([x, y], 2)
        return y * 0.5 + x * 0.25 if self.kind == "scaled" else y


class Network(nn.Module):
    """Blocks, pooling, delays before, in and behind a linear layer, a loop, a layer used twice."""

    def __init__(self, seed, neurons):
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)

        def neuron():
            return neurons[draw.choice(list(neurons))]()

        channels, self.blocks = SHAPE[0], nn.ModuleList()
        for _ in range(draw.randint(0, 2)):
            kind = draw.choice(["plain", "sum", "joined", "scaled"])
            self.blocks.append(Block(channels, kind, neuron, draw))
            channels *= 2 if kind == "joined" else 1
        self.pool = draw.choice(["none", "function", "folded", "neurons"])
        self.pooled = neuron()
        inputs = channels * (64 if self.pool == "none" else 16)
        self.axons = AxonalDelay(inputs, max_delay=3) if draw.random() < 0.3 else nn.Identity()
        behind = draw.random() < 0.3
        if draw.random() < 0.5:
            self.linear = nn.Linear(inputs, 12, bias=not behind and draw.random() < 0.5)
        else:
            self.linear = DelayedLinear(inputs, 12, max_delay=4, kernel_count=draw.choice([1, 2]))
        with torch.no_grad():
            self.linear.weight.mul_(3 if inputs > 100 else 1.5)
        self.dendrites = DendriticDelay(12, max_delay=3) if behind and channels == 2 else nn.Identity()
        self.norm = TimeBatchNorm(12)
        looped = draw.random() < 0.4
        self.hidden = RecurrentDelayedLinear(12, neuron(), max_delay=3) if looped else neuron()
        self.cut = draw.choice(["none", "padded", "flipped"])
        self.twice = draw.random() < 0.5
        self.again, self.spikes = nn.Linear(12, 12), neuron()
        self.mask = nn.Parameter((torch.rand(12, 12) < 0.5).float())
        self.out, self.readout = nn.Linear(12, 5), LI(tau_mem=5.0)
        for norm in self.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.running_mean.uniform_(-0.1, 0.1)
                norm.running_var.uniform_(0.3, 1.0)
                nn.init.uniform_(norm.weight, 0.7, 1.4)
                nn.init.uniform_(norm.bias, -0.1, 0.1)
        self.double().eval()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        if self.pool == "function":
            x = F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
        elif self.pool != "none":
            steps, batch = x.shape[:2]
            x = F.avg_pool2d(x.reshape(steps * batch, *x.shape[2:]), 2)
            x = x.view(steps, batch, *x.shape[1:])
        x = x.flatten(2)
        if self.pool == "neurons":
            x = self.pooled(x)
        x = self.hidden(self.norm(self.dendrites(self.linear(self.axons(x)))))
        if self.cut == "padded":
            x = F.pad(x[:, :, 2:10], (1, 3))
        elif self.cut == "flipped":
            first, second = x.chunk(2, 2)
            x = torch.cat([second.flip(2), first], 2)
        if self.twice:
            x = self.spikes(self.again(x))
            x = self.spikes(F.linear(x, self.again.weight * self.mask, self.again.bias)) + x
        return self.readout(self.out(x))


def outputs(network, *inputs):
    """What the module gives, and {population: what its neurons gave} under lowering's names."""
    found = {}

    def keep(name):
        def hook(module, given, made):
            found[name if name not in found else f"{name}@2"] = made.flatten(2).numpy()

        return hook

    hooks = []
    loops = [m for m in network.modules() if isinstance(m, RecurrentDelayedLinear)]
    inner = {m.neuron for m in loops}
    for name, module in network.named_modules():
        if isinstance(module, NeuronModule | RecurrentDelayedLinear) and module not in inner:
            hooks.append(module.register_forward_hook(keep(name)))
    with torch.no_grad():
        made = network(*inputs)
    for hook in hooks:
        hook.remove()
    return made, found
