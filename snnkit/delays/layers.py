"""Layers with learned synaptic delays.

All hold real-valued positions (steps), have `sigma` to set during training, `clamp_` to call after each
optimiser step and `delays` for the integers that remain; all compute with one tap at round(position) in
evaluation mode and with ``version="max"``.
"""

from dataclasses import replace
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from ..errors import GraphError, ParameterError, ShapeError
from ..graph import Projection
from .kernel import ROUNDED, resolve
from .ops import channel_delay, delayed_product
from .recurrence import Stepped, recur
from .synapses import Synapses


class Taps(TypedDict, total=False):
    """What every layer is told of its synapses' delays, by keyword, but for the longest.

    kernel_count  K, delays (each with its weight) of one synapse (1)
    version       name of a kernel in `snnkit.delays.kernel.VERSIONS`: "gauss" (default), "triangle", "max" …
    sigma         width of the kernel, steps; default window // 2, the start of the paper's schedule
    learn_sigma   make the width of every synapse's kernel a parameter (False)
    """

    kernel_count: int
    version: str
    sigma: float | None
    learn_sigma: bool


class Delays(Taps, total=False):
    """`Taps`, and max_delay: the longest delay, steps (24); the window has max_delay + 1 of them."""

    max_delay: int


class _Delays(nn.Module):
    """Positions, σ and what is done with them; `kernel_count` None: of one tap, without an axis for taps."""

    position: nn.Parameter
    _sigma: Tensor

    def __init__(
        self,
        synapses: tuple[int, ...],
        *,
        least_delay: int = 0,
        max_delay: int = 24,
        kernel_count: int | None = 1,
        version: str = "gauss",
        sigma: float | None = None,
        learn_sigma: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if max_delay < least_delay:
            raise ParameterError(f"{name} needs max_delay ≥ {least_delay}, got {max_delay}.")
        shape = synapses if kernel_count is None else (*synapses, kernel_count)
        if min(shape) < 1:
            raise ParameterError(f"{name} needs at least 1 of every feature and tap, got {shape}.")
        resolve(version)
        self.max_delay, self.least_delay = max_delay, least_delay
        self.kernel_count, self.version = kernel_count or 1, version
        self.position = nn.Parameter(torch.empty(shape))
        start = float(self.window // 2 if sigma is None else sigma)
        if not start >= 0:
            raise ParameterError(f"{name} needs sigma ≥ 0 steps, got {start}.")
        if learn_sigma:
            self._sigma = nn.Parameter(torch.full(shape, start))
        else:
            self.register_buffer("_sigma", torch.tensor(start, dtype=torch.float64))
        nn.init.uniform_(self.position, least_delay, max_delay)

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

    def _synapses(self, weight: Tensor) -> Synapses:
        """With the positions; in evaluation, and with version "max", the integers that `delays` gives."""
        version = self.version if self.training else ROUNDED
        position = self._rounded() if resolve(version).rounded else self.position
        return Synapses(weight, position, self._sigma, self.window, version)

    def _expect(self, x: Tensor, shape: str, fits: bool) -> None:
        if not fits:
            raise ShapeError(f"{type(self).__name__} expects x of shape {shape}, got {list(x.shape)}.")

    def extra_repr(self) -> str:
        return f"{list(self.position.shape)}, max_delay={self.max_delay}, version={self.version!r}"


def _taps(name: str, projection: Projection, weight: np.ndarray, delay: np.ndarray) -> list[Projection]:
    """One projection like the given one for each tap, the last axis of weight and delay."""
    count = weight.shape[-1]
    return [
        replace(
            projection,
            name=name if count == 1 else f"{name}.{k}",
            weight=weight[..., k].copy(),
            delay=delay[..., k].copy(),
            options=dict(projection.options),
        )
        for k in range(count)
    ]


class DelayedLinear(_Delays):
    """Linear map with a learned delay at every synapse: ``[T, B, I] → [T + padding_right, B, O]``.

        y[t, b, o] = Σ_i Σ_k weight[o, i, k] · Σ_d K(d; position[o, i, k], σ) · x[t − d, b, i]

    K is the kernel of `snnkit.delays.kernel`. Hammouamri, Khalfaoui-Hassani and Masquelier, ICLR 2024.

    in_features, out_features  I, O
    bias               add a learned bias
    tolerance          see `snnkit.delays.ops.delayed_product`
    bfloat16_gradient  `bfloat16` there
    max_delay, taps    see `Delays`

    Raises `ParameterError` for sizes, delays and widths that can't be.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        max_delay: int = 24,
        *,
        bias: bool = False,
        tolerance: float | None = None,
        bfloat16_gradient: bool = False,
        **taps: Unpack[Taps],
    ) -> None:
        super().__init__((out_features, in_features), max_delay=max_delay, **taps)
        self.in_features, self.out_features = in_features, out_features
        self.tolerance, self.bfloat16_gradient = tolerance, bfloat16_gradient
        self.weight = nn.Parameter(torch.empty(self.position.shape))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights Kaiming uniform (ReLU's gain, fan-in I·K), positions uniform over the window, bias 0."""
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        nn.init.uniform_(self.position, 0, self.max_delay)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, padding_right: int = 0) -> Tensor:
        """``[T, B, I] → [T + padding_right, B, O]``, x being silent after its last step.

        The paper goes on for max_delay // 2 steps, and max_delay keeps all that any spike causes. Raises
        `ShapeError` for another x and `ParameterError` for fewer than 0 steps.
        """
        self._expect(x, f"[T, B, {self.in_features}]", x.ndim == 3 and x.shape[2] == self.in_features)
        y = delayed_product(
            x, self._synapses(self.weight), padding_right, self.tolerance, self.bfloat16_gradient
        )
        return y if self.bias is None else y + self.bias

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """A dense projection for each of the K taps, with integer delays."""
        weight = self.weight.detach().cpu().numpy()
        return _taps(name, Projection(name, source, target, weight), weight, self.delays())


class _NeuronDelay(_Delays):
    def __init__(
        self, features: int, max_delay: int = 24, version: str = "gauss", sigma: float | None = None
    ) -> None:
        super().__init__((features,), kernel_count=None, max_delay=max_delay, version=version, sigma=sigma)
        self.features = features

    def forward(self, x: Tensor, padding_right: int = 0) -> Tensor:
        """``[T, B, N] → [T + padding_right, B, N]``; raises as `DelayedLinear`."""
        self._expect(x, f"[T, B, {self.features}]", x.ndim == 3 and x.shape[2] == self.features)
        synapses = self._synapses(torch.ones_like(self.position))
        one = synapses._replace(weight=synapses.weight[:, None], position=synapses.position[:, None])
        return channel_delay(x, one, padding_right)

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """One synapse of weight 1 a neuron, for a target that relays; `fold` does without one."""
        weight = np.ones(self.features, np.float32)
        return [Projection(name, source, target, weight, self.delays(), "one_to_one")]


class AxonalDelay(_NeuronDelay):
    """One learned delay a source neuron, before a layer: y[t, b, n] = Σ_d K(d; p[n], σ)·x[t − d, b, n].

    ``[T, B, N] → [T + padding_right, B, N]``; max_delay, version and sigma as in `Delays`.
    """

    def fold(self, projections: list[Projection]) -> list[Projection]:
        """The projections that follow, each of their delays longer by that of its source neuron."""
        return [_longer(p, self.delays(), at_source=True) for p in projections]


class DendriticDelay(_NeuronDelay):
    """One learned delay a target neuron, after a layer: y[t, b, n] = Σ_d K(d; p[n], σ)·x[t − d, b, n].

    ``[T, B, N] → [T + padding_right, B, N]``; max_delay, version and sigma as in `Delays`.
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
    return replace(p, delay=p.delays + more, options=dict(p.options))


class RecurrentDelayedLinear(_Delays):
    """Neurons that hear each other after learned delays of at least one step.

        u[t] = x[t] + Σ_j Σ_k weight[·, j, k] · Σ_{d ≥ 1} K(d; position[·, j, k], σ) · s[t − d, j]

    and s[t] is what the neuron makes of u[t]. The kernel is normalised over d = 1 … max_delay. Queant,
    Rançon, Cottereau and Masquelier, DelRec, 2025.

    features           N neurons
    neuron             a module with ``step(u [B, N], state) -> (s, state)`` and parameters of its own, such
                       as `snnkit.neurons.LIF`
    max_delay, taps    see `Delays`; here 1 ≤ position ≤ max_delay

    Raises `ParameterError` for sizes, delays and widths that can't be, or a neuron without steps.
    """

    def __init__(self, features: int, neuron: nn.Module, max_delay: int = 24, **taps: Unpack[Taps]) -> None:
        if not isinstance(neuron, Stepped):
            raise ParameterError(
                f"RecurrentDelayedLinear needs a neuron with a method step(u, state), got "
                f"{type(neuron).__name__}; the neurons of snnkit.neurons have one."
            )
        super().__init__((features, features), least_delay=1, max_delay=max_delay, **taps)
        self.features, self.neuron = features, neuron
        self.weight = nn.Parameter(torch.empty(self.position.shape))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Input ``[T, B, N]`` from elsewhere → the neurons' spikes ``[T, B, N]``.

        Raises `ShapeError` for another x or none.
        """
        fits = x.ndim == 3 and x.shape[2] == self.features and len(x) > 0
        self._expect(x, f"[T ≥ 1, B, {self.features}]", fits)
        synapses = self._synapses(self.weight)
        return recur(x, synapses._replace(position=synapses.position - 1), self.neuron)

    def projections(self, name: str, source: str, target: str) -> list[Projection]:
        """The connection from `target` to itself (x comes by other projections; `source` is not used)."""
        weight = self.weight.detach().cpu().numpy()
        return _taps(name, Projection(name, target, target, weight), weight, self.delays())


class _Space(NamedTuple):
    """A window over (H, W) as `torch.nn.Conv2d` has it."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def _each(grouped: Synapses) -> list[Synapses]:
    """The synapses ``[O / G, fan-in, K]`` of every group from those of all, ``[G, O / G, fan-in, K]``."""
    weight, position, sigma, window, version = grouped
    sigmas = sigma.unbind() if sigma.ndim else [sigma] * len(weight)
    parts = zip(weight.unbind(), position.unbind(), sigmas, strict=True)
    return [Synapses(w, p, s, window, version) for w, p, s in parts]


def _depthwise(patches: Tensor, grouped: Synapses, padding_right: int) -> Tensor:
    """Every input of every output channel as a channel of its own, summed afterwards.

    patches ``[G, T, places, fan-in]``, weights ``[G, O / G, fan-in, K]``, the result
    ``[T + padding_right, places, O]``.
    """
    groups, each, fan, count = grouped.weight.shape
    x = patches.movedim(0, 2)[:, :, :, None].expand(-1, -1, -1, each, -1)
    weight, position, sigma = (v.reshape(-1, count) if v.ndim else v for v in grouped[:3])
    y = channel_delay(
        x.flatten(2), grouped._replace(weight=weight, position=position, sigma=sigma), padding_right
    )
    return y.reshape(*y.shape[:2], groups * each, fan).sum(-1)


class _DelayedConv(_Delays):
    """A convolution over space with a delay at every weight; `DelayedConv1d` is one of height 1."""

    def __init__(
        self, channels: tuple[int, int], space: _Space, bias: bool, **delays: Unpack[Delays]
    ) -> None:
        n_in, n_out = channels
        groups = space.groups
        if groups < 1 or n_in % groups or n_out % groups:
            raise ParameterError(
                f"{type(self).__name__}: {n_in} and {n_out} channels do not divide into {groups} groups."
            )
        super().__init__((n_out, n_in // groups, *space.kernel_size), **delays)
        self.in_channels, self.out_channels, self.groups = n_in, n_out, groups
        self.kernel_size, self.stride, self.padding, self.dilation, _ = space
        self.weight = nn.Parameter(torch.empty(self.position.shape))
        nn.init.kaiming_uniform_(self.weight.view(n_out, -1), nonlinearity="relu")
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None

    def _convolve(self, x: Tensor, padding_right: int) -> Tensor:
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
        synapses = self._synapses(self.weight)
        weight, position, sigma = (v.reshape(shape) if v.ndim else v for v in synapses[:3])
        grouped = synapses._replace(weight=weight, position=position, sigma=sigma)
        if self.groups == channels and self.groups > 1:
            y = _depthwise(patches, grouped, padding_right)
        else:
            y = torch.cat(
                [
                    delayed_product(x, one, padding_right)
                    for x, one in zip(patches, _each(grouped), strict=True)
                ],
                -1,
            )
        # in the order that its shape says: of other layouts torch's batch norm has a slow backward pass
        y = y.reshape(y.shape[0], batch, places, self.out_channels).movedim(3, 2).contiguous()
        height, width = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                size, self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        )
        y = y.reshape(*y.shape[:3], height, width)
        return y if self.bias is None else y + self.bias[:, None, None]

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
    `torch.nn.Conv2d`'s (``groups=in_channels`` is depthwise), `bias` adds a learned one, the rest is in
    `Delays`.

    Raises `ParameterError` for groups that don't divide the channels, and as `DelayedLinear`.
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
        *,
        bias: bool = False,
        **delays: Unpack[Delays],
    ) -> None:
        space = _Space(_pair(kernel_size), _pair(stride), _pair(padding), _pair(dilation), groups)
        super().__init__((in_channels, out_channels), space, bias, **delays)

    def forward(self, x: Tensor, padding_right: int = 0) -> Tensor:
        """``[T, B, C_in, H, W] → [T + padding_right, B, C_out, H_out, W_out]``; raises as `DelayedLinear`."""
        self._expect(x, f"[T, B, {self.in_channels}, H, W]", x.ndim == 5 and x.shape[2] == self.in_channels)
        return self._convolve(x, padding_right)


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
        *,
        bias: bool = False,
        **delays: Unpack[Delays],
    ) -> None:
        space = _Space((1, kernel_size), (1, stride), (0, padding), (1, dilation), groups)
        super().__init__((in_channels, out_channels), space, bias, **delays)

    def forward(self, x: Tensor, padding_right: int = 0) -> Tensor:
        """``[T, B, C_in, L] → [T + padding_right, B, C_out, L_out]``; raises as `DelayedLinear`."""
        self._expect(x, f"[T, B, {self.in_channels}, L]", x.ndim == 4 and x.shape[2] == self.in_channels)
        return self._convolve(x[:, :, :, None], padding_right)[:, :, :, 0]
