"""Layers with learned synaptic delays.

All hold real-valued positions (steps), have `sigma` to set during training, `clamp_` to call after each
optimiser step and `delays` for the integers that remain; all compute with one tap at round(position) in
evaluation mode and with ``version="max"``.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from ..errors import GraphError, ParameterError, ShapeError
from ..graph import Projection
from .kernel import check_version
from .ops import channel_delay, delayed_product
from .recurrence import recur


class _Delays(nn.Module):
    """Positions, σ and what is done with them."""

    position: nn.Parameter
    _sigma: Tensor

    def _keep(
        self,
        shape: tuple[int, ...],
        max_delay: int,
        version: str,
        sigma: float | None,
        padding_right: int = 0,
        least: int = 0,
        learn_sigma: bool = False,
    ) -> None:
        name = type(self).__name__
        for what, value, bound in (("max_delay", max_delay, least), ("padding_right", padding_right, 0)):
            if value < bound:
                raise ParameterError(f"{name} needs {what} ≥ {bound}, got {value}.")
        if min(shape) < 1:
            raise ParameterError(f"{name} needs at least 1 of every feature and tap, got {shape}.")
        self.max_delay, self.least_delay = max_delay, least
        self.version, self.padding_right = check_version(version), padding_right
        self.position = nn.Parameter(torch.empty(shape))
        start = float(self.window // 2 if sigma is None else sigma)
        if not start >= 0:
            raise ParameterError(f"{name} needs sigma ≥ 0 steps, got {start}.")
        if learn_sigma:
            self._sigma = nn.Parameter(torch.full(shape, start))
        else:
            self.register_buffer("_sigma", torch.tensor(start, dtype=torch.float64))
        nn.init.uniform_(self.position, least, max_delay)

    @property
    def window(self) -> int:
        """Number of delays a synapse can have: max_delay + 1 (max_delay where 0 is none of them)."""
        return self.max_delay + 1 - self.least_delay

    @property
    def sigma(self) -> float:
        """Width of the kernel, steps (the mean, where it is learned); set it as the schedule says."""
        return float(self._sigma.detach().mean())

    @sigma.setter
    def sigma(self, value: float) -> None:
        if not value >= 0:
            raise ParameterError(f"sigma is a width of ≥ 0 steps, got {value}.")
        with torch.no_grad():
            self._sigma.fill_(value)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Put every position back into the window; call after each optimiser step."""
        self.position.clamp_(self.least_delay, self.max_delay)

    def delays(self) -> np.ndarray:
        """The positions rounded (half to even): integer delays, steps, in the shape of `position`."""
        return self._rounded().detach().to(torch.int32).cpu().numpy()

    def _rounded(self) -> Tensor:
        return self.position.round().clamp(self.least_delay, self.max_delay)

    def _kernel_version(self) -> str:
        return self.version if self.training else "max"

    def _positions(self) -> Tensor:
        """The positions; in evaluation, and with version "max", the integers that `delays` gives."""
        return self._rounded() if self._kernel_version() == "max" else self.position

    def _expect(self, x: Tensor, shape: str, fits: bool) -> None:
        if not fits:
            raise ShapeError(f"{type(self).__name__} expects x of shape {shape}, got {list(x.shape)}.")

    def extra_repr(self) -> str:
        return f"{list(self.position.shape)}, max_delay={self.max_delay}, version={self.version!r}"


def _taps(name: str, projection: Projection, weight: np.ndarray, delay: np.ndarray) -> list[Projection]:
    """One projection like the given one for each tap, the last axis of weight and delay."""
    count = weight.shape[-1]
    return [
        Projection(
            name if count == 1 else f"{name}.{k}", projection.source, projection.target,
            weight[..., k].copy(), delay[..., k].copy(), projection.kind, options=dict(projection.options),
        )
        for k in range(count)
    ]  # fmt: skip


class DelayedLinear(_Delays):
    """Linear map with a learned delay at every synapse: ``[T, B, I] → [T + padding_right, B, O]``.

        y[t, b, o] = Σ_i Σ_k weight[o, i, k] · Σ_d K(d; position[o, i, k], σ) · x[t − d, b, i]

    K is the kernel of `snnkit.delays.kernel`. Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024.

    in_features, out_features  I, O
    max_delay      longest delay, steps; the window has max_delay + 1 of them
    kernel_count   K, delays (each with its weight) of one synapse
    version        "gauss", "triangle" or "max"
    sigma          width of the kernel, steps; default window // 2, the start of the paper's schedule
    padding_right  steps the output is longer than the input; the paper's is max_delay // 2, and
                   max_delay keeps all that any spike causes
    bias           add a learned bias
    learn_sigma    make the width of every synapse's kernel a parameter
    tolerance      see `snnkit.delays.ops.delayed_product`
    bfloat16_gradient  `bfloat16` there
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int = 24,
        kernel_count: int = 1,
        version: str = "gauss",
        sigma: float | None = None,
        padding_right: int = 0,
        bias: bool = False,
        learn_sigma: bool = False,
        tolerance: float | None = None,
        bfloat16_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.kernel_count = in_features, out_features, kernel_count
        self.tolerance, self.bfloat16_gradient = tolerance, bfloat16_gradient
        shape = (out_features, in_features, kernel_count)
        self._keep(shape, max_delay, version, sigma, padding_right, learn_sigma=learn_sigma)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights Kaiming uniform (ReLU's gain, fan-in I·K), positions uniform over the window, bias 0."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        nn.init.uniform_(self.position, 0, self.max_delay)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, I] → [T + padding_right, B, O]``."""
        self._expect(x, f"[T, B, {self.in_features}]", x.ndim == 3 and x.shape[2] == self.in_features)
        y = delayed_product(
            x, self.weight, self._positions(), self._sigma, self.window, self._kernel_version(),
            self.padding_right, self.tolerance, self.bfloat16_gradient,
        )  # fmt: skip
        return y if self.bias is None else y + self.bias

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """A dense projection for each of the K taps, with integer delays."""
        weight = self.weight.detach().cpu().numpy()
        return _taps(name, Projection(name, source, target, weight), weight, self.delays())


class _NeuronDelay(_Delays):
    def __init__(
        self,
        features: int,
        max_delay: int = 24,
        version: str = "gauss",
        sigma: float | None = None,
        padding_right: int = 0,
    ) -> None:
        super().__init__()
        self.features = features
        self._keep((features,), max_delay, version, sigma, padding_right)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, N] → [T + padding_right, B, N]``."""
        self._expect(x, f"[T, B, {self.features}]", x.ndim == 3 and x.shape[2] == self.features)
        ones = torch.ones_like(self.position)[:, None]
        return channel_delay(
            x,
            ones,
            self._positions()[:, None],
            self._sigma,
            self.window,
            self._kernel_version(),
            self.padding_right,
        )

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """One synapse of weight 1 a neuron, for a target that relays; `fold` does without one."""
        weight = np.ones(self.features, np.float32)
        return [Projection(name, source, target, weight, self.delays(), "one_to_one")]


class AxonalDelay(_NeuronDelay):
    """One learned delay a source neuron, before a layer: y[t, b, n] = Σ_d K(d; p[n], σ)·x[t − d, b, n].

    ``[T, B, N] → [T + padding_right, B, N]``; arguments as `DelayedLinear`'s.
    """

    def fold(self, projections: list[Projection]) -> list[Projection]:
        """The projections that follow, each of their delays longer by that of its source neuron."""
        return [_longer(p, self.delays(), at_source=True) for p in projections]


class DendriticDelay(_NeuronDelay):
    """One learned delay a target neuron, after a layer: y[t, b, n] = Σ_d K(d; p[n], σ)·x[t − d, b, n].

    ``[T, B, N] → [T + padding_right, B, N]``; arguments as `DelayedLinear`'s.
    """

    def fold(self, projections: list[Projection]) -> list[Projection]:
        """The projections before, each of their delays longer by that of its target neuron."""
        return [_longer(p, self.delays(), at_source=False) for p in projections]


def _longer(p: Projection, delays: np.ndarray, at_source: bool) -> Projection:
    if p.kind == "dense":
        more = delays[None, :] if at_source else delays[:, None]
        expected = p.weight.shape[1 if at_source else 0]
    elif p.kind == "one_to_one":
        more, expected = delays, p.weight.shape[0]
    elif p.kind == "sparse" and p.indptr is not None and p.indices is not None:
        # a sparse projection does not say how many targets there are, only the highest it reaches
        expected = len(p.indptr) - 1 if at_source else max(len(delays), int(p.indices.max(initial=-1)) + 1)
        each = np.repeat(np.arange(len(p.indptr) - 1), np.diff(p.indptr)) if at_source else p.indices
        more = delays[each] if expected == len(delays) else delays
    else:
        raise GraphError(
            f"projection {p.name!r} is {p.kind}; a delay of each neuron folds into dense, sparse and "
            "one_to_one projections only."
        )
    if expected != len(delays):
        raise GraphError(
            f"projection {p.name!r} has {expected} {'sources' if at_source else 'targets'}, and there are "
            f"{len(delays)} delays."
        )
    return Projection(
        p.name, p.source, p.target, p.weight, p.delays + more, p.kind, p.indptr, p.indices, dict(p.options)
    )


class RecurrentDelayedLinear(_Delays):
    """Neurons that hear each other after learned delays of at least one step.

        u[t] = x[t] + Σ_j Σ_k weight[·, j, k] · Σ_{d ≥ 1} K(d; position[·, j, k], σ) · s[t − d, j]

    and s[t] is what the neuron makes of u[t]. The kernel is normalised over d = 1 … max_delay. Queant,
    Rançon, Cottereau and Masquelier, DelRec, 2025.

    features   N neurons
    neuron     a module with ``step(u [B, N], state) -> (s, state)`` and parameters of its own, such as
               `snnkit.neurons.LIF`
    the rest   as `DelayedLinear`'s, with 1 ≤ position ≤ max_delay
    """

    def __init__(
        self,
        features: int,
        neuron: nn.Module,
        max_delay: int = 24,
        kernel_count: int = 1,
        version: str = "gauss",
        sigma: float | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(neuron, "step"):
            raise ParameterError(
                f"RecurrentDelayedLinear needs a neuron with a method step(u, state), got "
                f"{type(neuron).__name__}; the neurons of snnkit.neurons have one."
            )
        self.features, self.neuron, self.kernel_count = features, neuron, kernel_count
        shape = (features, features, kernel_count)
        self._keep(shape, max_delay, version, sigma, least=1)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, N]`` from elsewhere → the neurons' spikes ``[T, B, N]``."""
        fits = x.ndim == 3 and x.shape[2] == self.features and len(x) > 0
        self._expect(x, f"[T ≥ 1, B, {self.features}]", fits)
        return recur(
            x, self.weight, self._positions() - 1, self._sigma, self.window, self._kernel_version(),
            self.neuron,
        )  # fmt: skip

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """The connection from `target` to itself (x comes by other projections; `source` is not used)."""
        weight = self.weight.detach().cpu().numpy()
        return _taps(name, Projection(name, target, target, weight), weight, self.delays())


class _DelayedConv(_Delays):
    """A convolution over space with a delay at every weight; `DelayedConv1d` is one of height 1."""

    def _build(
        self, channels: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
        padding: tuple[int, int], dilation: tuple[int, int], groups: int, max_delay: int, kernel_count: int,
        version: str, sigma: float | None, padding_right: int, bias: bool,
    ) -> None:  # fmt: skip
        n_in, n_out = channels
        if groups < 1 or n_in % groups or n_out % groups:
            raise ParameterError(
                f"{type(self).__name__}: {n_in} and {n_out} channels do not divide into {groups} groups."
            )
        self.in_channels, self.out_channels, self.groups, self.kernel_count = (
            n_in,
            n_out,
            groups,
            kernel_count,
        )
        self.kernel_size, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation
        shape = (n_out, n_in // groups, *kernel, kernel_count)
        self._keep(shape, max_delay, version, sigma, padding_right)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.weight.view(n_out, -1), nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def _convolve(self, x: Tensor) -> Tensor:
        """``[T, B, C, H, W] → [T + padding_right, B, C_out, H_out, W_out]``."""
        steps, batch, channels, *size = x.shape
        patches = F.unfold(
            x.flatten(0, 1), self.kernel_size, self.dilation, self.padding, self.stride
        )  # [T·B, C·kH·kW, L]
        places = patches.shape[2]
        fan = self.in_channels // self.groups * self.kernel_size[0] * self.kernel_size[1]
        patches = patches.reshape(steps, batch, self.groups, fan, places).permute(2, 0, 1, 4, 3)
        patches = patches.reshape(self.groups, steps, batch * places, fan)
        shape = (self.groups, self.out_channels // self.groups, fan, self.kernel_count)
        weight, position = self.weight.reshape(shape), self._positions().reshape(shape)
        rest: tuple[Any, ...] = (self._sigma, self.window, self._kernel_version(), self.padding_right)
        if self.groups == channels and self.groups > 1:
            y = self._depthwise(patches, weight, position, rest)
        else:
            parts = [
                delayed_product(x, w, p, *rest) for x, w, p in zip(patches, weight, position, strict=True)
            ]
            y = torch.cat(parts, -1)
        y = y.reshape(y.shape[0], batch, places, self.out_channels).movedim(3, 2)
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                size, self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        )
        y = y.reshape(*y.shape[:3], height, width)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _depthwise(self, patches: Tensor, weight: Tensor, position: Tensor, rest: tuple[Any, ...]) -> Tensor:
        """Every input of every output channel as a channel of its own, summed afterwards."""
        groups, each, fan, count = weight.shape
        x = patches.movedim(0, 2)[:, :, :, None].expand(-1, -1, -1, each, -1)
        y = channel_delay(x.flatten(2), weight.reshape(-1, count), position.reshape(-1, count), *rest)
        return y.reshape(*y.shape[:2], groups * each, fan).sum(-1)

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """A "conv" projection for each of the K taps, with integer delays; shapes are (C, H, W)."""
        weight = self.weight.detach().cpu().numpy()
        options = {
            "stride": list(self.stride), "padding": list(self.padding), "dilation": list(self.dilation),
            "groups": self.groups,
        }  # fmt: skip
        like = Projection(name, source, target, weight, kind="conv", options=options)
        return _taps(name, like, weight, self.delays())


class DelayedConv2d(_DelayedConv):
    """Convolution over space with a learned delay at every weight, along time.

    ``[T, B, C_in, H, W] → [T + padding_right, B, C_out, H_out, W_out]``: weight and position are
    ``[C_out, C_in / groups, kH, kW, K]``; stride, padding (zeros), dilation and groups as
    `torch.nn.Conv2d`'s (``groups=in_channels`` is depthwise), the rest as `DelayedLinear`'s.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        max_delay: int = 24,
        kernel_count: int = 1,
        version: str = "gauss",
        sigma: float | None = None,
        padding_right: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        pairs = (_pair(kernel_size), _pair(stride), _pair(padding), _pair(dilation))
        self._build(
            (in_channels, out_channels), *pairs, groups, max_delay, kernel_count, version, sigma,
            padding_right, bias,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, H, W] → [T + padding_right, B, C_out, H_out, W_out]``."""
        self._expect(x, f"[T, B, {self.in_channels}, H, W]", x.ndim == 5 and x.shape[2] == self.in_channels)
        return self._convolve(x)


class DelayedConv1d(_DelayedConv):
    """As `DelayedConv2d` over one axis of space: ``[T, B, C_in, L] → [T + padding_right, B, C_out, L_out]``.

    Weight and position are ``[C_out, C_in / groups, 1, k, K]``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        max_delay: int = 24,
        kernel_count: int = 1,
        version: str = "gauss",
        sigma: float | None = None,
        padding_right: int = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        pairs = ((1, kernel_size), (1, stride), (0, padding), (1, dilation))
        self._build(
            (in_channels, out_channels), *pairs, groups, max_delay, kernel_count, version, sigma,
            padding_right, bias,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, L] → [T + padding_right, B, C_out, L_out]``."""
        self._expect(x, f"[T, B, {self.in_channels}, L]", x.ndim == 4 and x.shape[2] == self.in_channels)
        return self._convolve(x[:, :, :, None])[:, :, :, 0]
