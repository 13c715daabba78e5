"""How training and evaluation run a network: one of ours, or any module of one's own.

A module of one's own takes x ``[T, B, *shape]`` and gives potentials or spikes of its outputs
``[T, B, C]``, which a read-out of `READOUTS` turns into scores; or it takes ``(x, lengths)`` and gives an
`Output` itself.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..delays import (
    AxonalDelay,
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    DendriticDelay,
    RecurrentDelayedLinear,
)
from ..errors import ConfigError, ParameterError, ShapeError, SnnkitError, nearest, nearest_module
from ..metadata import Readout, Timing
from ..neurons import NeuronModule
from ..readouts import READOUTS
from .config import Config, Model, Train
from .lines import first_line, line_of
from .losses import valid_steps
from .network import Layer, Output, SpikingClassifier
from .schedules import kernel_width

DELAYED = (
    AxonalDelay, DelayedConv1d, DelayedConv2d, DelayedLinear, DendriticDelay, RecurrentDelayedLinear
)  # fmt: skip
"""The layers whose positions are learned at a rate of their own, and whose σ shrinks."""

NetworkBuilder = Callable[[tuple[int, ...], int, float], nn.Module]
"""``build(shape, classes, dt)``: shape of one step, (N,) or (C, H, W); number of classes; step in ms."""


@dataclass(frozen=True)
class Runner:
    """Calls a network and reads it out.

    network  the module
    model    whose `readout` and `tail` are those of a module of one's own
    shape    of one step of its input
    outputs  how many it should have; None: not known
    itself   whether it is called with ``(x, lengths)`` and gives an `Output`, as `SpikingClassifier` does
    """

    network: Any
    model: Model
    shape: tuple[int, ...]
    outputs: int | None
    itself: bool

    @property
    def ours(self) -> bool:
        """Whether it has `delayed`, `set_sigma` and `clamp_` of its own."""
        return self.itself and all(hasattr(self.network, name) for name in ("delayed", "set_sigma", "clamp_"))

    @property
    def delayed(self) -> list[Any]:
        """The layers with delays, first to last."""
        if self.ours:
            return list(self.network.delayed)
        return [m for m in self.network.modules() if isinstance(m, DELAYED)]

    @property
    def tail(self) -> int:
        """Silent steps that follow the input: ``model.tail``, or (window − 1)//2 a layer with delays."""
        if isinstance(self.network, SpikingClassifier):
            return self.network.tail
        if self.model.tail is not None:
            return self.model.tail
        return sum((layer.window - 1) // 2 for layer in self.delayed)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The network's."""
        yield from self.network.parameters()

    def modules(self) -> Iterator[nn.Module]:
        """The network's."""
        yield from self.network.modules()

    def set_sigma(self, train: Train, epoch: int) -> None:
        """Width of the kernels in `epoch`, of a module of one's own by each layer's longest delay."""
        if self.ours:
            self.network.set_sigma(kernel_width(train, self.model.max_delay, epoch))
            return
        for layer in self.delayed:
            if "_sigma" not in dict(layer.named_parameters(recurse=False)):
                layer.sigma = kernel_width(train, layer.max_delay, epoch)

    def clamp_(self) -> None:
        """Bring learned positions back into their windows."""
        if self.ours:
            self.network.clamp_()
            return
        for layer in self.delayed:
            layer.clamp_()

    def metadata(self) -> dict[str, Any]:
        """What a Graph must be told of a module of one's own; a `SpikingClassifier` says so itself."""
        if isinstance(self.network, SpikingClassifier):
            return {}
        timing = Timing(steps_tail=self.tail, padding="tail")
        return Readout(kind=self.model.readout).to_metadata() | timing.to_metadata()

    def __call__(self, x: Tensor, lengths: Tensor, *, whole: bool = False, rates: bool = True) -> Output:
        """Scores, read-out and spikes for x [T, B, N], flat, and lengths [B].

        whole  as `SpikingClassifier.forward`
        rates  gather the spikes of hidden neurons of a module of one's own, which costs a hook a neuron

        Raises `ShapeError` saying which shape was expected and which was given.
        """
        if self.itself:
            more = {"whole": True} if whole and isinstance(self.network, SpikingClassifier) else {}
            with self._fitting(x):
                out = self.network(x, lengths, **more)
            if isinstance(out, Output):
                return out
            raise ShapeError(
                f"{self._name}.forward(x, lengths) should give a snnkit.training.network.Output, got "
                f"{_described(out)}; without the argument lengths it may give [T, B, C]."
            )
        x = F.pad(x, (0, 0, 0, 0, 0, self.tail))
        if len(self.shape) > 1:
            x = x.reshape(*x.shape[:2], *self.shape)
        with _hidden_spikes(self.network if rates else nn.Identity()) as spikes, self._fitting(x):
            out = self.network(x)
        if isinstance(out, Output):
            return out
        v = self._checked(out, x)
        mask = valid_steps(v.shape[0], lengths + self.tail)
        hidden = [s.flatten(2) if s.ndim > 2 else s[..., None] for s in spikes if s is not out]
        return Output(READOUTS[self.model.readout](v, mask), v, hidden, mask)

    @contextmanager
    def _fitting(self, x: Tensor) -> Iterator[None]:
        """Raises `ShapeError` naming the layer that can't take what comes of x, with its line."""
        try:
            yield
        except (RuntimeError, ValueError, IndexError) as error:
            if isinstance(error, SnnkitError | torch.OutOfMemoryError) or not _OF_SHAPES.search(str(error)):
                raise
            places = {id(module): name for name, module in self.network.named_modules()}
            owners = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
            inner = [one for one in owners if places.get(id(one))]
            layer = (
                f"{self._name}.{places[id(inner[-1])]}, {inner[-1]}," if inner else f"{self._name}.forward"
            )
            raise ShapeError(
                f"{layer} can't take what it is given ({first_line(error)}){line_of(error)}; the network is "
                f"given x {list(x.shape)}, [T, B, *shape]: a step of the data has the shape "
                f"{list(self.shape)}."
            ) from error

    @property
    def _name(self) -> str:
        return type(self.network).__name__

    def _checked(self, out: Any, x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        count = "C" if self.outputs is None else str(self.outputs)
        expected = (
            f"expected [T, B, C] = [{steps}, {batch}, {count}], potentials or spikes of each class's output "
            f"in each step, for x {list(x.shape)}"
        )
        if not isinstance(out, Tensor):
            raise ShapeError(f"{self._name} gave {_described(out)}; {expected}.")
        swapped = out.ndim == 3 and tuple(out.shape[:2]) == (batch, steps) != (steps, batch)
        fits = out.ndim == 3 and tuple(out.shape[:2]) == (steps, batch)
        if not fits or self.outputs not in (None, out.shape[2]):
            hint = "; time and batch are swapped" if swapped else ""
            raise ShapeError(f"{self._name} gave {_described(out)}; {expected}{hint}.")
        return out


_OF_SHAPES = re.compile(r"shape|size|dimension|channel|mat1|must match", re.IGNORECASE)
"""What torch says of tensors that do not fit."""


def module(network: Any) -> nn.Module:
    """`network`, if it is a module. Raises `ParameterError` for a class or anything else."""
    if isinstance(network, nn.Module):
        return network
    if isinstance(network, type) and issubclass(network, nn.Module):
        raise ParameterError(
            f"network = {network.__name__} is the class; give a module that it makes, {network.__name__}(…)."
        )
    hint = "; several are one torch.nn.Sequential(…)" if isinstance(network, list | tuple) else ""
    raise ParameterError(f"network should be a torch.nn.Module, got {_described(network)}{hint}.")


def layers_of(network: nn.Module) -> dict[str, str]:
    """What weights and buffers do not say of each neuron and layer with delays of snnkit, by its name."""
    found = {}
    for name, part in network.named_modules():
        if isinstance(part, DELAYED):
            found[name] = f"max_delay={part.max_delay}, version={part.version!r}"
        elif isinstance(part, NeuronModule):
            options = ", ".join(f"{key}={value!r}" for key, value in sorted(part.options.items()))
            gain = f", decay_input={part.decay_input}" if "decay_input" in vars(part) else ""
            found[name] = f"{part.neuron}, dt={part.dt:g}{', ' * bool(options)}{options}{gain}"
    return found


def runner(
    network: nn.Module, model: Model | None, shape: Sequence[int], outputs: int | None, made: bool = False
) -> Runner:
    """The `Runner` of a network.

    model  of its configuration; None only for one that reads itself out
    made   whether it keeps to `SpikingClassifier`'s convention in any case

    Raises `ParameterError` for what is no module, for one that torch compiled, and for one of one's own
    without `model`.
    """
    network = module(network)
    if any(name.startswith("_orig_mod.") for name in network.state_dict()):
        raise ParameterError(
            "the network was compiled by torch.compile, which hides its layers; hand over the module itself "
            "and compile parts inside it."
        )
    itself = made or isinstance(network, SpikingClassifier)
    itself = itself or "lengths" in inspect.signature(network.forward).parameters
    if model is None and not itself:
        raise ParameterError(
            f"{type(network).__name__} is a network of one's own: give model=config.model, whose readout and "
            "tail say how it is read."
        )
    return Runner(network, model or Model(), tuple(shape), outputs, itself)


@contextmanager
def _hidden_spikes(network: nn.Module) -> Iterator[list[Tensor]]:
    """Gathers what spiking neurons give while the network runs, each call once, in order of the calls."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, given: Any) -> None:
        found.append(given[0] if isinstance(module, Layer) else given)

    wholes = [m for m in network.modules() if isinstance(m, Layer | RecurrentDelayedLinear)]
    inside = {id(part) for whole in wholes for part in whole.modules() if part is not whole}
    listened = [
        m
        for m in network.modules()
        if id(m) not in inside
        and (isinstance(m, Layer | RecurrentDelayedLinear) or (isinstance(m, NeuronModule) and m.spiking))
    ]
    handles = [m.register_forward_hook(keep) for m in listened]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def imported(text: str, key: str) -> Any:
    """What ``"package.module:name"`` names; modules of the folder at hand are found too.

    key  the setting, for messages

    Raises `ConfigError` saying what is not there.
    """
    module, colon, name = text.partition(":")
    if not colon or not module or not name:
        raise ConfigError(f"{key} = {text!r} should read package.module:name.")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{key} = {text!r}: {module} can't be imported ({error}){nearest_module(module) or '.'}"
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(getattr(found, name, None)):
        raise ConfigError(
            f"{key} = {text!r}: {module} has no function {name!r}{nearest(name, dir(found)) or '.'}"
        )
    return getattr(found, name)


def build_named(text: str, shape: tuple[int, ...], classes: int, dt: float) -> nn.Module:
    """The module that ``model.network = "package.module:build"`` builds, see `NetworkBuilder`.

    Raises `ConfigError` where there is no such function, or it gives something else.
    """
    network = imported(text, "model.network")(shape, classes, dt)
    if not isinstance(network, nn.Module):
        raise ConfigError(
            f"model.network = {text!r}: build(shape, classes, dt) should give a torch.nn.Module, got "
            f"{_described(network)}."
        )
    return network


def scores(config: Config) -> dict[str, Any]:
    """The loss and metric of one's own that a configuration names, for `evaluate`; None: the targets' own.

    Raises `ConfigError` where there is no such function.
    """
    train = config.train
    return {
        "loss": None if train.loss is None else imported(train.loss, "train.loss"),
        "metric": None if train.metric is None else imported(train.metric, "train.metric"),
    }
