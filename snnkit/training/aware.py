"""Quantisation-aware training: the forward pass sees the chip's weights, the backward pass the real ones.

`prepare` puts a straight-through rounding on the weights of a module: batch norm (running statistics),
gain and threshold folded in, rounded to the same integers as `snnkit.hardware.quantise`, and
unfolded again. Biases of batch norm are rounded to weight units, decays to 4096ths.

Straight-through estimator: Bengio, Léonard and Courville, arXiv 1308.3432, 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..chips import CHIPS, LOIHI2, Chip
from ..errors import ExportError, ParameterError
from ..neurons.loihi import ONE
from . import network
from .config import Model
from .network import Shape, SpikingClassifier


class _Fold:
    """A neuron layer's factor from a synapse's weight to thresholds, and the K that fits its bits."""

    def __init__(self, norm: nn.Module | None, neuron: Any, bits: int) -> None:
        self.norm, self.neuron = norm, neuron
        self.low, self.high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        self.bits = bits
        self.units = torch.ones(())

    def norm_factor(self) -> Tensor | None:
        """γ / √(σ² + ε) of the running statistics, [O]."""
        norm: Any = self.norm
        return None if norm is None else network.norm_factor(norm)

    def unit(self) -> Tensor:
        """What one unit of the neuron's input is in thresholds, [] or [O]."""
        params = self.neuron.per_step()
        gain = params.get("gain", torch.ones(()))
        scale = params["v_th"] - params.get("v_rest", 0.0) if self.spikes else torch.ones(())
        return (gain / scale).detach()

    @property
    def spikes(self) -> bool:
        """False for a read-out."""
        return "v_th" in self.neuron.per_step()

    def row(self) -> Tensor:
        """Weight → thresholds, [O] or a scalar; 1 where the factor is 0."""
        factor = self.norm_factor()
        row = self.unit() if factor is None else factor * self.unit()
        return torch.where(row == 0, torch.ones_like(row), row)

    def rounded(self, scaled: Tensor) -> Tensor:
        """Weights in thresholds, [O, …] → those the chip can hold; remembers K."""
        high, low = scaled.max().clamp(min=0), scaled.min().clamp(max=0)
        top = float((1 << self.bits) - 1) if low == 0 else float(self.high)
        # a side without weights divides by 0 and so does not bind
        fits = torch.minimum(top / high, self.low / low if low < 0 else top / low.abs())
        if not torch.isfinite(fits):
            return scaled
        k = torch.floor(fits) + 1 / ONE if self.spikes and fits >= 1 else fits
        self.units = k.detach()
        lowest = 0.0 if low == 0 else float(self.low)
        return torch.round(scaled * k).clamp(lowest, top) / k


class RoundedWeight(nn.Module):
    """Parametrisation of a synapse's weight."""

    def __init__(self, fold: _Fold) -> None:
        super().__init__()
        self._fold = (fold,)  # in a tuple: its parts belong to the network, not to this module

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [O, …] as the chip will hold it; its gradient is the real weight's."""
        (fold,) = self._fold
        row = fold.row()
        row = row if row.ndim == 0 else row.reshape(-1, *[1] * (weight.ndim - 1))
        with torch.no_grad():
            change = fold.rounded(weight * row) / row - weight
        return weight + change


class RoundedBias(nn.Module):
    """Parametrisation of a batch norm's bias: the bias that it folds into is rounded."""

    def __init__(self, fold: _Fold) -> None:
        super().__init__()
        self._fold = (fold,)

    def forward(self, bias: Tensor) -> Tensor:
        """β [O] such that (β − μ·γ/σ) is a whole number of weight units."""
        (fold,) = self._fold
        norm: Any = fold.norm
        factor, unit = fold.norm_factor(), fold.unit()
        if factor is None:
            return bias
        with torch.no_grad():
            folded = bias - norm.running_mean * factor
            k = fold.units * unit
            change = torch.round(folded * k) / k - folded
        return bias + change


class RoundedDecay(nn.Module):
    """Parametrisation of a learned decay, which is kept as its logit."""

    def forward(self, raw: Tensor) -> Tensor:
        """The logit of the nearest 4096th."""
        with torch.no_grad():
            kept = torch.round(torch.sigmoid(raw) * 4096).clamp(1, 4095) / 4096
            change = torch.logit(kept) - raw
        return raw + change


def prepare(module: nn.Module, chip: Chip = LOIHI2, bits: int | dict[str, int] = 8) -> None:
    """Make `module` train for the chip, in place.

    bits  of the weights, or {name of the synapse module: bits}

    Raises `ExportError` naming the layer whose delays or neurons the chip does not have. `finish` makes
    the roundings permanent.
    """
    for name, part in module.named_modules():
        longest = int(getattr(part, "max_delay", 0) or 0)
        if longest > chip.max_delay:
            raise ExportError(
                f"layer {name!r}: delays up to {longest} steps; {chip.name} holds {chip.max_delay}. "
                f"Train with max_delay = {chip.max_delay}."
            )
    for name, synapse, norm, neuron in layers(module):
        options = getattr(neuron, "options", {})
        reset, most = options.get("reset", "hard"), options.get("max_spikes", 1)
        if reset != "hard":
            raise ExportError(f"layer {name!r}: reset {reset!r}; {chip.name}'s neuron resets to 0 (hard).")
        if most != 1 or options.get("floor"):
            wrong = "v_min" if most == 1 else f"max_spikes = {most}"
            raise ExportError(
                f"layer {name!r}: {wrong}; {chip.name}'s neuron spikes once a step and has no floor under v."
            )
        width = bits.get(name, chip.weight_bits) if isinstance(bits, dict) else bits
        fold = _Fold(norm, neuron, width)
        parametrize.register_parametrization(synapse, "weight", RoundedWeight(fold))
        if norm is not None and getattr(norm, "bias", None) is not None:
            parametrize.register_parametrization(norm, "bias", RoundedBias(fold))
        for key in ("decay", "decay_syn", "decay_mem"):
            if isinstance(getattr(neuron, f"{key}_raw", None), nn.Parameter):
                parametrize.register_parametrization(neuron, f"{key}_raw", RoundedDecay())
            elif isinstance(getattr(neuron, key, None), Tensor):
                value = getattr(neuron, key)
                value.copy_(torch.round(value * 4096) / 4096)


Builder = Callable[[Model, int | Shape, int, float], SpikingClassifier]
"""(model configuration, channels or (C, H, W), classes, dt in ms) → a network, weights as seeded."""


def builder(hardware_aware: str) -> Builder:
    """What builds the networks of a run: ``train.hardware_aware`` is "none" or a name of `CHIPS`.

    Raises `ParameterError` for another name.
    """
    if hardware_aware == "none":
        return network.build
    if hardware_aware not in CHIPS:
        raise ParameterError(
            f"train.hardware_aware = {hardware_aware!r} is none of none, {', '.join(CHIPS)}."
        )
    return prepared(network.build, CHIPS[hardware_aware])


def prepared(make: Builder, chip: Chip) -> Builder:
    """A builder whose networks train for the chip, see `prepare`."""

    def build(model: Model, inputs: int | Shape, classes: int, dt: float) -> SpikingClassifier:
        made = make(model, inputs, classes, dt)
        prepare(made, chip)
        return made

    return build


def finish(module: nn.Module) -> None:
    """Take the roundings off again and leave the rounded values."""
    for part in module.modules():
        if parametrize.is_parametrized(part):
            for name in list(part.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(part, name, leave_parametrized=True)


def layers(module: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module | None, nn.Module]]:
    """(name, synapses, batch norm or None, neuron) of every layer, in the order of the module's parts."""
    synapse: tuple[str, nn.Module] | None = None
    norm: nn.Module | None = None
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            norm = part
        elif hasattr(part, "per_step"):
            if synapse is not None:
                yield *synapse, norm, part
            synapse, norm = None, None
        elif isinstance(getattr(part, "weight", None), Tensor):
            synapse, norm = (name, part), None


def fine_tuned(state: dict[str, Tensor], chip: Chip = LOIHI2) -> Builder:
    """A builder for `snnkit.training.Trainer(make=…)` that starts from the weights of a float network."""

    def loaded(model: Model, inputs: int | Shape, classes: int, dt: float) -> SpikingClassifier:
        made = network.build(model, inputs, classes, dt)
        made.load_state_dict(state)
        return made

    return prepared(loaded, chip)
