"""Networks of a stranger: a residual block with a delay on the skip, a convolution, and wrong ones."""

import torch
from torch import Tensor, nn

from snnkit.delays import DelayedConv2d, DelayedLinear
from snnkit.neurons import LI, LIF


class Skipping(nn.Module):
    """Two hidden layers, the second added to the first's delayed spikes, and a leaky read-out."""

    def __init__(self, inputs, classes, dt, hidden=12, max_delay=6):
        super().__init__()
        self.first, self.a = DelayedLinear(inputs, hidden, max_delay=max_delay), LIF(2 * dt, dt=dt, v_th=0.2)
        self.second, self.b = nn.Linear(hidden, hidden), LIF(2 * dt, dt=dt, v_th=0.2)
        self.skip = DelayedLinear(hidden, hidden, max_delay=max_delay)
        self.last, self.out = DelayedLinear(hidden, classes, max_delay=max_delay), LI(tau_mem=2 * dt, dt=dt)

    def forward(self, x: Tensor) -> Tensor:
        s = self.a(self.first(x))
        t = self.b(self.second(s) + self.skip(s))
        return self.out(self.last(t))


class Convolving(nn.Module):
    """A convolution with delays over images, and a leaky read-out."""

    def __init__(self, shape, classes, dt):
        super().__init__()
        self.conv, self.a = DelayedConv2d(shape[0], 3, 3, padding=1, max_delay=4), LIF(tau_mem=2 * dt, dt=dt)
        self.last, self.out = nn.Linear(3 * shape[1] * shape[2], classes), LI(tau_mem=2 * dt, dt=dt)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.last(self.a(self.conv(x)).flatten(2)))


class Wrong(nn.Module):
    """Gives what `change` makes of [T, B, C]."""

    def __init__(self, inputs, classes, change):
        super().__init__()
        self.linear, self.change = nn.Linear(inputs, classes), change

    def forward(self, x: Tensor) -> object:
        return self.change(self.linear(x))


def build(shape: tuple[int, ...], classes: int, dt: float) -> nn.Module:
    """As ``model.network`` names it."""
    return Skipping(shape[0], classes, dt) if len(shape) == 1 else Convolving(shape, classes, dt)


def no_module(shape, classes, dt):
    """What ``model.network`` must not give."""
    return torch.zeros(classes)


class Squared(Skipping):
    """With a product of spikes, which no Graph holds."""

    def forward(self, x: Tensor) -> Tensor:
        s = self.a(self.first(x))
        return self.out(self.last(self.b(self.second(s) * self.skip(s))))


def build_squared(shape, classes, dt):
    """As ``model.network`` names it."""
    return Squared(shape[0], classes, dt)
