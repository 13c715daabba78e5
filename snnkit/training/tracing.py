"""What a module's `forward` does to the spikes that it is given, found by `torch.fx`.

`Tracer.run` follows the operations of a module and keeps, for every tensor that depends on the input, its
`Value`: a sum of linear maps of populations' spikes. What does not depend on the input is computed as it
stands. `LAYERS` and `OPERATIONS` are the tables of what is understood; a new layer is one row.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from ..delays import (
    AxonalDelay,
    DelayedConv1d,
    DelayedConv2d,
    DelayedLinear,
    DendriticDelay,
    RecurrentDelayedLinear,
)
from ..errors import GraphError, SnnkitError
from ..graph import INPUT, Population, Projection, conv_output_shape
from ..neurons import NeuronModule
from .branches import Branch, Shape, Value
from .dropout import Dropout

STEPS, BATCH = 7919, 7907
"""Stand for the number of steps and of samples: primes that no layer's size has as a factor."""

IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv, "add_", "sub_", "mul_"}
"""Operations that write over their first argument."""

_TORCH, _OURS = Path(torch.__file__).parent, Path(__file__).parents[1]


@dataclass(frozen=True)
class Met:
    """A layer: the name that its population gets, and its class; as text, how an error names it."""

    name: str
    kind: str

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.kind})"


Handler = Callable[["Tracer", Met, Any, Value], Any]

LAYERS: dict[type[nn.Module], Handler] = {}
"""Module class → what it does: ``handler(tracer, where, module, value)``; a subclass with the same
`forward` has its parent's."""

OPERATIONS: dict[Any, Callable[..., Any]] = {}
"""Function, or name of a tensor's method → ``operation(tracer, where, *arguments, **options)``."""


def layer(*kinds: type[nn.Module]) -> Callable[[Handler], Handler]:
    """Enter a handler into `LAYERS`."""

    def enter(handler: Handler) -> Handler:
        LAYERS.update(dict.fromkeys(kinds, handler))
        return handler

    return enter


def operation(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into `OPERATIONS`."""

    def enter(handler: Callable[..., Any]) -> Callable[..., Any]:
        OPERATIONS.update(dict.fromkeys(targets, handler))
        return handler

    return enter


def handler_of(module: nn.Module) -> Handler | None:
    """What `LAYERS` has for a module's class or the nearest class above it.

    None for a class with another `forward` than that one's, which is gone into or refused.
    """
    kinds = type(module).__mro__
    known = next((kind for kind in kinds if kind in LAYERS), None)
    if known is None:
        return None
    computes = next(kind for kind in kinds if "forward" in vars(kind))
    same = issubclass(known, computes) or computes.__module__.startswith(("torch.nn.", "snnkit."))
    return LAYERS[known] if same else None


class _Signal(fx.Proxy):
    """A tensor that depends on the input, in a `forward` that is being followed."""

    value: Value

    def __init__(self, node: fx.Node, tracer: fx.Tracer, value: Value) -> None:
        super().__init__(node, tracer)
        object.__setattr__(self, "value", value)

    def _in_place(self, target: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    __iadd__ = functools.partialmethod(_in_place, operator.iadd)
    __isub__ = functools.partialmethod(_in_place, operator.isub)
    __imul__ = functools.partialmethod(_in_place, operator.imul)
    __itruediv__ = functools.partialmethod(_in_place, operator.itruediv)

    @property
    def shape(self) -> torch.Size:
        """[steps, batch, …] with `STEPS` and `BATCH` for the first two."""
        return torch.Size((*self.value.lead, *self.value.shape))

    @property
    def ndim(self) -> int:
        """Number of axes, time and batch included."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """What lowering computes in."""
        return torch.float64

    @property
    def device(self) -> torch.device:
        """Where lowering computes."""
        return torch.device("cpu")


class _Follower(fx.Tracer):
    """Runs a `forward` on signals: every operation is looked up and done when it is met.

    Modules of `LAYERS` and of torch are done as a whole, others are gone into. What does not depend on a
    signal is computed by torch as it stands.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer, self.inputs = tracer, iter(list(tracer.populations))
        self.values: dict[fx.Node, Value] = {}
        self.changed: dict[int, str] = {}  # id of a value → the operation that wrote over it

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return handler_of(m) is not None or super().is_leaf_module(m, module_qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val  # parameters stand for themselves

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, type_expr: Any = None, *_: Any
    ) -> Any:
        return self._signal(self._done(kind, target, _plain(args), _plain(kwargs)))

    def _signal(self, result: Any) -> Any:
        """A value as what a `forward` holds; several in a tuple (what `split` gives) likewise."""
        if isinstance(result, tuple) and _has_value(result):
            return tuple(self._signal(part) for part in result)
        if not isinstance(result, Value):
            return result
        node = self.create_node("placeholder", f"signal{len(self.values)}", (), {})
        self.values[node] = result
        return _Signal(node, self, result)

    def _done(self, kind: str, target: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if kind == "placeholder":
            return self._input(str(target), args)
        depends = _has_value((args, options))
        if kind == "call_module":
            called = self.root.get_submodule(str(target))
            if not depends:
                return called.forward(*args, **options)
            self._refuse_changed(f"layer {target!r} ({type(called).__name__}){_line()}", args)
            if len(args) != 1 or options:
                raise GraphError(
                    f"layer {target!r} ({type(called).__name__}){_line()}: one tensor is expected; a state "
                    "from outside or another argument has no place in a Graph."
                )
            return self.tracer.apply(str(target), called, args[0])
        if not depends:
            method = getattr(args[0], target) if kind == "call_method" else None
            return target(*args, **options) if method is None else method(*args[1:], **options)
        where = f"operation {_named(target)!r}{_line()}"
        self._refuse_changed(where, (args, options))
        if target in IN_PLACE and isinstance(args[0], Value):
            self.changed[id(args[0])] = where
        if target not in OPERATIONS:
            raise GraphError(
                f"{where} has no place in a Graph; sums, constant factors, joining, reshaping, padding, "
                "Linear, convolution and average pooling have."
            )
        try:
            return OPERATIONS[target](self.tracer, where, *args, **options)
        except TypeError as error:
            raise GraphError(f"{where}: arguments that have no place in a Graph ({error}).") from error

    def _input(self, argument: str, default: tuple[Any, ...]) -> Any:
        """What an argument of the outermost `forward` stands for."""
        name = next(self.inputs, None)
        if argument.startswith("*"):
            raise GraphError(f"forward takes {argument}, which can't be followed; name every input.")
        if name is not None:
            return self.tracer.value(name)
        if not default:
            raise GraphError(f"forward takes an input {argument!r} more; give one shape an input.")
        return default[0]

    def _refuse_changed(self, where: str, tree: Any) -> None:
        """Raise `GraphError` if a value is read that was written over: it may have other names."""
        for value in _values(tree):
            if id(value) in self.changed:
                raise GraphError(
                    f"{where} reads what was changed in place by {self.changed[id(value)]}; write x = x + y "
                    "in place of x += y."
                )


def _plain(tree: Any) -> Any:
    """Signals replaced by their values, in tuples, lists and dictionaries too."""
    if isinstance(tree, _Signal):
        return tree.value
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        return type(tree)(_plain(a) for a in tree)
    if isinstance(tree, dict):
        return {key: _plain(a) for key, a in tree.items()}
    return tree


def _values(tree: Any) -> Iterator[Value]:
    """The values in tuples, lists and dictionaries."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, tuple | list | dict):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _values(part)


def _has_value(tree: Any) -> bool:
    return next(_values(tree), None) is not None


class Tracer:
    """Gathers the populations and projections that modules and operations make.

    populations  by name; the inputs first
    projections  in the order in which they are made
    compose      whether synapses that follow synapses become one projection, or are refused
    """

    def __init__(self, inputs: Mapping[str, Shape], compose: bool = False) -> None:
        self.compose = compose
        self.populations: dict[str, Population] = {}
        self.projections: list[Projection] = []
        for name, shape in inputs.items():
            self.populations[name] = Population(name, INPUT, shape)

    def value(self, name: str) -> Value:
        """The spikes of a population, in its own shape."""
        shape = self.populations[name].shape
        return Value(shape, (Branch(name, shape, shape, shape),), (STEPS, BATCH))

    def run(self, module: nn.Module) -> list[Value]:
        """Follow `module` from the inputs there are; the values it returns.

        Raises `GraphError` naming the first layer or operation that has no place in a Graph, with its line.
        """
        if handler_of(module) is not None:
            return [self.apply("", module, self._first())]
        follower = _Follower(self)
        try:
            traced = follower.trace(module)
        except SnnkitError:
            raise
        except Exception as error:  # whatever a user's forward does with a tensor that has no numbers yet
            raise GraphError(
                f"{type(module).__name__}.forward can't be followed "
                f"({_first_line(error)}){_place_of(error)}; what goes to a Graph must not loop or branch "
                "on the values of its input."
            ) from error
        if (left := next(follower.inputs, None)) is not None:
            raise GraphError(
                f"{type(module).__name__}.forward takes no input {left!r}; give one shape an input."
            )
        (found,) = next(n for n in traced.nodes if n.op == "output").args
        every = list(found) if isinstance(found, tuple | list) else [found]
        return [follower.values[n] if isinstance(n, fx.Node) and n in follower.values else n for n in every]

    def apply(self, name: str, module: nn.Module, value: Any) -> Any:
        """What a module makes of a value; `name` is what a population it makes is called."""
        where = Met(name, type(module).__name__)
        handler = handler_of(module)
        if handler is None:
            raise GraphError(
                f"{where} has no place in a Graph; known are Linear, Conv2d, average pooling, layers with "
                "delays, batch norms, neurons, Dropout and Flatten."
            )
        if not isinstance(value, Value):
            raise GraphError(
                f"{where} is given {type(value).__name__}, not a tensor that depends on the input."
            )
        return handler(self, where, module, value)

    def close(self, where: Met, module: Any, value: Value) -> Value:
        """The population of a neuron's module, fed by `value`; its output."""
        if value.lead != (STEPS, BATCH):
            raise GraphError(f"{where} takes [T, B, …]; here time and batch are folded or swapped.")
        name = self._free(where.name or "out")
        wanted = {b.places for b in value.branches} - {None}
        (shape,) = wanted if len(wanted) == 1 else (value.shape,)
        assert shape is not None
        bias = _compact(value.spread_bias.reshape(value.shape)) if value.bias.any() else np.zeros(())
        population = replace(module.population(name, value.shape), bias=bias)
        self.populations[name] = placed(population, shape)
        self.projections += value.projections(name, shape)
        return self.value(name).reshaped(value.shape)

    def _free(self, name: str) -> str:
        """The name, with a number behind it if it is taken (a module that is used twice)."""
        if name not in self.populations:
            return name
        return next(n for n in (f"{name}@{k}" for k in range(2, 1 << 20)) if n not in self.populations)

    def _first(self) -> Value:
        return self.value(next(iter(self.populations)))


def _named(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def _line() -> str:
    """Where in a user's `forward` the operation at hand stands."""
    return _last(traceback.extract_stack())


def _place_of(error: BaseException) -> str:
    """Where in a user's `forward` an error came up."""
    return _last(traceback.extract_tb(error.__traceback__))


def _last(stack: traceback.StackSummary) -> str:
    """File, line and code of the innermost frame of a `forward`: a user's if there is one, else snnkit's."""
    frames = list(stack)
    begun = [k for k, f in enumerate(frames) if f.filename == __file__ and f.name == "run"]
    inner = frames[begun[-1] + 1 :] if begun else frames
    others = [f for f in inner if not Path(f.filename).is_relative_to(_TORCH) and f.filename != __file__]
    users = [f for f in others if not Path(f.filename).is_relative_to(_OURS)]
    found = (users or others)[-1:]
    return f" ({found[0].filename}, line {found[0].lineno}: {found[0].line})" if found else ""


def _first_line(error: BaseException) -> str:
    """The first sentence of an error's message."""
    return next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]


def _numbers(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().double().numpy()
    return np.asarray(value, np.float64)


def _shaped(value: np.ndarray, shape: Shape, places: Shape) -> np.ndarray:
    """A parameter of neurons of `shape` so that it broadcasts to `places`, the same neurons in order."""
    if value.size == 1:
        return value.reshape(())
    if value.size == math.prod(shape):
        return value.reshape(places)
    if shape == places:
        return value
    return _compact(np.broadcast_to(value, shape).reshape(places))


def placed(p: Population, shape: Shape) -> Population:
    """The same neurons, in the same order, in another shape."""
    return replace(
        p,
        shape=shape,
        params={k: _shaped(v, p.shape, shape) for k, v in p.params.items()},
        initial={k: _shaped(v, p.shape, shape) for k, v in p.initial.items()},
        bias=_shaped(p.bias, p.shape, shape),
    )


def _compact(bias: np.ndarray) -> np.ndarray:
    """[C, 1, 1] where a bias is the same over space."""
    if bias.ndim < 2:
        return bias
    first = bias[(slice(None), *[slice(0, 1)] * (bias.ndim - 1))]
    return first if (bias == first).all() else bias


# --- layers ---


@layer(Dropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
def _nothing(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Value:
    return value


@layer(nn.Flatten)
def _flatten(tracer: Tracer, where: Met, module: nn.Flatten, value: Value) -> Value:
    return value.reshaped((value.size,))


@layer(nn.Linear)
def _linear(tracer: Tracer, where: Met, module: nn.Linear, value: Value) -> Value:
    return _sent(tracer, where, value, module.weight, module.bias)


def _sent(tracer: Tracer, where: Met | str, value: Value, weight: Any, bias: Any) -> Value:
    weight = _numbers(weight)
    if len(value.shape) > 1 or value.size != weight.shape[1]:
        raise GraphError(
            f"{where} expects {weight.shape[1]} inputs along the last axis and gets shape "
            f"{list(value.shape)}; flatten first."
        )
    sent = value.through(where, [Projection("", "", "", weight)], (len(weight),), tracer.compose)
    return sent if bias is None else sent.shifted(_numbers(bias))


@layer(nn.Conv2d)
def _conv2d(tracer: Tracer, where: Met, module: nn.Conv2d, value: Value) -> Value:
    geometry = (module.stride, _zeros(where, module), module.dilation, module.groups)
    return _convolved(tracer, where, value, module.weight, module.bias, geometry)


def _zeros(where: Met, module: nn.Conv1d | nn.Conv2d) -> tuple[int, ...]:
    """A convolution's padding in numbers, for each axis; "same" where it is the same on both sides."""
    if isinstance(module.padding, str):
        wide = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        padding = [0] * len(wide) if module.padding == "valid" else wide
        if all(n % 2 == 0 for n in padding) and module.padding_mode == "zeros":
            return tuple(n // 2 for n in padding)
    elif module.padding_mode == "zeros":
        return tuple(module.padding)
    raise GraphError(f"{where}: only zero padding that is the same on both sides can be lowered.")


@layer(nn.Conv1d)
def _conv1d(tracer: Tracer, where: Met, module: nn.Conv1d, value: Value) -> Value:
    if len(value.shape) != 2:
        raise GraphError(f"{where} expects [C, L] and gets shape {list(value.shape)}.")
    geometry = ((1, *module.stride), (0, *_zeros(where, module)), (1, *module.dilation), module.groups)
    wide = value.reshaped((value.shape[0], 1, *value.shape[1:]))
    sent = _convolved(tracer, where, wide, module.weight[:, :, None], module.bias, geometry)
    return sent.reshaped((sent.shape[0], sent.shape[2]))


def _convolved(
    tracer: Tracer, where: Met | str, value: Value, weight: Any, bias: Any, geometry: Sequence[Any]
) -> Value:
    stride, padding, dilation, groups = geometry
    options = {
        "stride": [int(n) for n in _pair(stride)],
        "padding": [int(n) for n in _pair(padding)],
        "dilation": [int(n) for n in _pair(dilation)],
        "groups": int(groups),
    }
    projection = Projection("", "", "", _numbers(weight), kind="conv", options=options)
    sent = value.through(
        where, [projection], conv_output_shape(str(where), projection, value.shape), tracer.compose
    )
    return sent if bias is None else sent.shifted(_numbers(bias).reshape(-1, 1, 1))


@layer(DelayedLinear)
def _delayed_linear(tracer: Tracer, where: Met, module: DelayedLinear, value: Value) -> Value:
    return _delayed(where, module, value, (module.out_features,))


@layer(DelayedConv2d)
def _delayed_conv2d(tracer: Tracer, where: Met, module: DelayedConv2d, value: Value) -> Value:
    made = module.projections("", "", "")
    return _delayed(where, module, value, conv_output_shape(str(where), made[0], value.shape))


@layer(DelayedConv1d)
def _delayed_conv1d(tracer: Tracer, where: Met, module: DelayedConv1d, value: Value) -> Value:
    if len(value.shape) != 2:
        raise GraphError(f"{where} expects [C, L] and gets shape {list(value.shape)}.")
    wide = value.reshaped((value.shape[0], 1, value.shape[1]))
    made = module.projections("", "", "")
    sent = _delayed(where, module, wide, conv_output_shape(str(where), made[0], wide.shape))
    return sent.reshaped((sent.shape[0], sent.shape[2]))


def _delayed(where: Met, module: Any, value: Value, shape: Shape) -> Value:
    made = [replace(p, weight=p.weight.astype(np.float64)) for p in module.projections("", "", "")]
    if made[0].kind == "dense" and (len(value.shape) > 1 or value.size != made[0].weight.shape[1]):
        raise GraphError(
            f"{where} expects {made[0].weight.shape[1]} inputs and gets shape {list(value.shape)}; "
            "flatten first."
        )
    sent = value.through(where, made, shape)
    if module.bias is None:
        return sent
    return sent.shifted(_numbers(module.bias).reshape(-1, *[1] * (len(shape) - 1)))


@layer(AxonalDelay)
def _axonal(tracer: Tracer, where: Met, module: AxonalDelay, value: Value) -> Value:
    return value.late(where, _each_delay(where, module, value, "sources"), behind=False)


@layer(DendriticDelay)
def _dendritic(tracer: Tracer, where: Met, module: DendriticDelay, value: Value) -> Value:
    return value.late(where, _each_delay(where, module, value, "targets"), behind=True)


def _each_delay(where: Met, module: Any, value: Value, what: str) -> np.ndarray:
    delays: np.ndarray = module.delays().astype(np.int64)
    if value.shape != (len(delays),):
        raise GraphError(f"{where}: it has {value.size} {what}, and there are {len(delays)} delays.")
    return delays


@layer(nn.modules.batchnorm._BatchNorm)
def _norm(tracer: Tracer, where: Met, module: Any, value: Value) -> Value:
    if module.running_mean is None or module.running_var is None:
        raise GraphError(f"{where} keeps no running statistics; train with track_running_stats=True.")
    if value.shape[0] != module.num_features:
        raise GraphError(
            f"{where} normalises {module.num_features} features, the first axis of {list(value.shape)} has "
            f"{value.shape[0]}."
        )
    return _normalised(
        value, module.running_mean, module.running_var, module.weight, module.bias, module.eps
    )


def _normalised(value: Value, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Value:
    spread = (-1, *[1] * (len(value.shape) - 1))
    factor = 1 / np.sqrt(_numbers(variance) + eps)
    if weight is not None:
        factor = _numbers(weight) / np.sqrt(_numbers(variance) + eps)
    offset = -_numbers(mean) * factor
    if bias is not None:
        offset = offset + _numbers(bias)
    return value.scaled(factor.reshape(spread)).shifted(offset.reshape(spread))


@layer(NeuronModule)
def _neuron(tracer: Tracer, where: Met, module: Any, value: Value) -> Value:
    return tracer.close(where, module, value)


@layer(RecurrentDelayedLinear)
def _recurrent(tracer: Tracer, where: Met, module: RecurrentDelayedLinear, value: Value) -> Value:
    spikes = tracer.close(where, module.neuron, value)
    name = spikes.branches[0].source
    tracer.projections += [
        replace(p, weight=p.weight.astype(np.float64)) for p in module.projections(f"{name}→{name}", "", name)
    ]
    return spikes


@layer(nn.AvgPool2d)
def _average(tracer: Tracer, where: Met, module: nn.AvgPool2d, value: Value) -> Value:
    stride = module.kernel_size if module.stride is None else module.stride
    whole = not module.ceil_mode and module.divisor_override is None
    whole = whole and (module.count_include_pad or not any(_pair(module.padding)))
    return _pooled(tracer, where, value, module.kernel_size, stride, module.padding, whole)


@layer(nn.AdaptiveAvgPool2d)
def _adaptive(tracer: Tracer, where: Met, module: nn.AdaptiveAvgPool2d, value: Value) -> Value:
    return _adapted(tracer, where, value, module.output_size)


def _adapted(tracer: Tracer, where: Met | str, value: Value, size: Any) -> Value:
    if len(value.shape) != 3:
        raise GraphError(f"{where} pools [C, H, W] and gets shape {list(value.shape)}.")
    wanted = [n if w is None else int(w) for n, w in zip(value.shape[1:], _pair(size), strict=True)]
    if any(n % w for n, w in zip(value.shape[1:], wanted, strict=True)):
        raise GraphError(f"{where}: {list(value.shape[1:])} does not divide into {wanted} equal tiles.")
    tiles = tuple(n // w for n, w in zip(value.shape[1:], wanted, strict=True))
    return _pooled(tracer, where, value, tiles, tiles, 0, True)


def _pooled(
    tracer: Tracer, where: Met | str, value: Value, kernel: Any, stride: Any, padding: Any, plain: bool
) -> Value:
    """Average pooling: over tiles it is merged into what follows, else it is a convolution of its own.

    plain  every window is divided by its whole size
    """
    if len(value.shape) != 3 or not plain:
        raise GraphError(
            f"{where}: average pooling of [C, H, W] whose windows are all divided by their size can be "
            f"lowered; the shape is {list(value.shape)}."
        )
    tiles = _whole(_pair(kernel))
    channels, height, width = value.shape
    if _whole(_pair(stride)) != tiles or _whole(_pair(padding)) != (0, 0):
        weight = torch.full((channels, 1, *tiles), 1 / math.prod(tiles), dtype=torch.float64)
        return _convolved(tracer, where, value, weight, None, (stride, padding, 1, channels))
    rows, columns = height // tiles[0], width // tiles[1]
    c, y, x = np.indices(value.shape).reshape(3, -1)
    inside = (y < rows * tiles[0]) & (x < columns * tiles[1])
    row = np.where(inside, (c * rows + y // tiles[0]) * columns + x // tiles[1], -1)
    exact = (rows * tiles[0], columns * tiles[1]) == (height, width)
    gain = np.full(value.size, 1 / math.prod(tiles))
    return value.moved(where, row, (channels, rows, columns), gain, tiles if exact else None)


def _whole(pair: Any) -> tuple[int, int]:
    y, x = pair
    return int(y), int(x)


@layer(nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)
def _maximum(tracer: Tracer, where: Met, module: nn.Module, value: Value) -> Value:
    raise GraphError(
        f"{where} has no place in a Graph: it is not linear. Use average pooling, whose weights merge into "
        "the synapses."
    )


# --- operations ---


@operation(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
def _dropped(
    tracer: Tracer, where: str, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    if training and p:
        raise GraphError(f"{where} drops out in evaluation too; pass training=self.training.")
    return x


@operation("contiguous", "detach", "float", "double", "to", "type_as")
def _same(tracer: Tracer, where: str, x: Value, *_: Any, **__: Any) -> Value:
    return x


@operation("clone", torch.clone)
def _copied(tracer: Tracer, where: str, x: Value, *_: Any, **__: Any) -> Value:
    return replace(x)


@operation("size")
def _size(tracer: Tracer, where: str, x: Value, axis: int | None = None) -> Any:
    shape = (*x.lead, *x.shape)
    return shape if axis is None else shape[axis]


@operation("dim")
def _dim(tracer: Tracer, where: str, x: Value) -> int:
    return len(x.lead) + len(x.shape)


@operation(operator.add, operator.iadd, torch.add, "add", "add_")
def _added(tracer: Tracer, where: str, x: Any, y: Any, alpha: float = 1) -> Value:
    if isinstance(y, Value):
        y = y if alpha == 1 else y.scaled(np.asarray(float(alpha)))
        return x.plus(where, y) if isinstance(x, Value) else _shifted(where, y, x)
    return _shifted(where, x, _numbers(y) * alpha)


@operation(operator.sub, operator.isub, torch.sub, "sub", "sub_")
def _subtracted(tracer: Tracer, where: str, x: Any, y: Any, alpha: float = 1) -> Value:
    if isinstance(y, Value):
        y = y.scaled(np.asarray(-float(alpha)))
        return x.plus(where, y) if isinstance(x, Value) else _shifted(where, y, x)
    return _shifted(where, x, -_numbers(y) * alpha)


@operation(operator.neg, torch.neg, "neg")
def _negative(tracer: Tracer, where: str, x: Value) -> Value:
    return x.scaled(np.asarray(-1.0))


@operation(operator.mul, operator.imul, torch.mul, "mul", "mul_")
def _multiplied(tracer: Tracer, where: str, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        raise GraphError(f"{where} multiplies spikes with spikes, which no synapse does.")
    value, factor = (x, y) if isinstance(x, Value) else (y, x)
    return value.scaled(_of_a_step(where, value, factor))


@operation(operator.truediv, operator.itruediv, torch.div, "div", "div_")
def _divided(tracer: Tracer, where: str, x: Any, y: Any) -> Value:
    if isinstance(y, Value):
        raise GraphError(f"{where} divides by spikes, which no synapse does.")
    return x.scaled(1 / _of_a_step(where, x, y))


def _shifted(where: str, x: Value, constant: Any) -> Value:
    return x.shifted(_of_a_step(where, x, constant))


def _of_a_step(where: str, x: Value, constant: Any) -> np.ndarray:
    """A constant that is the same in every step and sample, so that it broadcasts to x.shape."""
    numbers = _numbers(constant)
    if numbers.ndim == 0 and _counted(float(numbers)):
        raise GraphError(
            f"{where} computes with the number of steps or samples, which a Graph does not know beforehand."
        )
    extra = numbers.ndim - len(x.shape)
    if extra > 0:
        if any(n != 1 for n in numbers.shape[:extra]):
            raise GraphError(
                f"{where}: a constant that differs between steps or samples has no place in a Graph."
            )
        numbers = numbers.reshape(numbers.shape[extra:])
    try:
        np.broadcast_to(numbers, x.shape)
    except ValueError:
        raise GraphError(f"{where}: {list(numbers.shape)} does not fit {list(x.shape)}.") from None
    return numbers


def _counted(number: float) -> bool:
    """Whether a factor is a multiple of `STEPS` or `BATCH`, or one over it: made from x.shape."""
    if not number or not math.isfinite(number):
        return False
    for n in (abs(number), abs(1 / number)):
        whole = round(n)
        if whole and abs(n - whole) <= 1e-12 * n and (whole % STEPS == 0 or whole % BATCH == 0):
            return True
    return False


@operation(torch.cat, torch.concat, torch.concatenate)
def _joined(tracer: Tracer, where: str, tensors: Sequence[Any], dim: int = 0) -> Value:
    parts = list(tensors)
    if not all(isinstance(p, Value) for p in parts):
        raise GraphError(f"{where} joins spikes with constants, which have no place in a Graph.")
    first = parts[0]
    axis = _axis(where, first, dim)
    sizes = [p.shape[axis] for p in parts]
    shape = (*first.shape[:axis], sum(sizes), *first.shape[axis + 1 :])
    places = np.arange(math.prod(shape)).reshape(shape)
    whole: Value | None = None
    for part, start in zip(parts, np.cumsum([0, *sizes[:-1]]), strict=True):
        if (
            part.lead != first.lead
            or part.shape[:axis] + part.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]
        ):
            raise GraphError(f"{where} joins shapes {[list(p.shape) for p in parts]}.")
        row = np.take(places, np.arange(start, start + part.shape[axis]), axis).reshape(-1)
        moved = part.moved(where, row, shape)
        whole = moved if whole is None else whole.plus(where, moved)
    assert whole is not None
    return whole


def _axis(where: str, x: Value, dim: int) -> int:
    """An axis of a step's shape, counted from its own first."""
    axis = (dim if dim >= 0 else dim + len(x.lead) + len(x.shape)) - len(x.lead)
    if not 0 <= axis < len(x.shape):
        raise GraphError(f"{where} acts along time or batch, which a Graph has no place for.")
    return axis


@operation(operator.getitem)
def _picked(tracer: Tracer, where: str, x: Any, index: Any) -> Any:
    if not isinstance(x, Value):
        return x[index]
    parts = index if isinstance(index, tuple) else (index,)
    at = next((k for k, p in enumerate(parts) if p is Ellipsis), None)
    if at is not None:
        others = (*parts[:at], *parts[at + 1 :])
        missing = len(x.lead) + len(x.shape) - sum(_axes(p) for p in others)
        parts = (*parts[:at], *[slice(None)] * missing, *parts[at + 1 :])
    if any(p != slice(None) for p in parts[: len(x.lead)]):
        raise GraphError(f"{where} picks steps or samples, which a Graph has no place for.")
    places = np.arange(x.size).reshape(x.shape)
    plain = tuple(p.numpy() if isinstance(p, torch.Tensor) else p for p in parts[len(x.lead) :])
    kept = places[plain]
    return _taken(where, x, kept)


def _axes(part: Any) -> int:
    """Axes that one part of an index stands for."""
    if part is None:
        return 0
    return part.ndim if isinstance(part, torch.Tensor) and part.dtype == torch.bool else 1


def _taken(where: str, x: Value, kept: np.ndarray) -> Value:
    """The neurons `kept` (flat indices in their new shape), each at most once."""
    row = np.full(x.size, -1)
    if len(np.unique(kept)) != kept.size:
        raise GraphError(f"{where} takes a neuron twice, which a Graph has no place for.")
    row[kept.reshape(-1)] = np.arange(kept.size)
    return x.moved(where, row, kept.shape)


@operation("view", "reshape", torch.reshape)
def _reshaped(tracer: Tracer, where: str, x: Value, *sizes: Any) -> Value:
    flat = [int(n) for n in (sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes)]
    total = math.prod(x.lead) * x.size
    if flat.count(-1) == 1:
        rest = -math.prod(flat)
        if rest and total % rest == 0:
            flat[flat.index(-1)] = total // rest
    if math.prod(flat) != total:
        raise GraphError(
            f"{where}: {list(sizes)} does not fit a tensor [T, B, {', '.join(map(str, x.shape))}]."
        )
    for k in range(1, len(flat) + 1):
        if math.prod(flat[:k]) == math.prod(x.lead):
            lead = tuple(flat[:k])
            if lead in ((STEPS, BATCH), (STEPS * BATCH,), x.lead):
                return x.reshaped(tuple(flat[k:]) or (1,), lead)
    raise GraphError(f"{where} mixes time or batch with neurons, which a Graph has no place for.")


@operation("flatten", torch.flatten)
def _flattened(tracer: Tracer, where: str, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    shape = [*x.lead, *x.shape]
    start, end = start_dim % len(shape), end_dim % len(shape)
    return _reshaped(tracer, where, x, *shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])


@operation("unflatten", torch.unflatten)
def _unflattened(tracer: Tracer, where: str, x: Value, dim: int, sizes: Sequence[int]) -> Value:
    shape = [*x.lead, *x.shape]
    at = dim % len(shape)
    whole = list(sizes)
    if whole.count(-1) == 1:
        whole[whole.index(-1)] = shape[at] // -math.prod(whole)
    return _reshaped(tracer, where, x, *shape[:at], *whole, *shape[at + 1 :])


@operation("squeeze", torch.squeeze)
def _squeezed(tracer: Tracer, where: str, x: Value, dim: int) -> Value:
    axis = _axis(where, x, dim)
    return x.reshaped((*x.shape[:axis], *x.shape[axis + 1 :])) if x.shape[axis] == 1 else x


@operation("unsqueeze", torch.unsqueeze)
def _unsqueezed(tracer: Tracer, where: str, x: Value, dim: int) -> Value:
    axis = (dim if dim >= 0 else dim + len(x.lead) + len(x.shape) + 1) - len(x.lead)
    if not 0 <= axis <= len(x.shape):
        raise GraphError(f"{where} puts an axis before time or batch, which a Graph has no place for.")
    return x.reshaped((*x.shape[:axis], 1, *x.shape[axis:]))


@operation(torch.stack)
def _stacked(tracer: Tracer, where: str, tensors: Sequence[Any], dim: int = 0) -> Value:
    parts = [_unsqueezed(tracer, where, p, dim) if isinstance(p, Value) else p for p in tensors]
    return _joined(tracer, where, parts, dim)


@operation("split", torch.split)
def _parted(
    tracer: Tracer, where: str, x: Value, size: int | Sequence[int], dim: int = 0
) -> tuple[Value, ...]:
    axis = _axis(where, x, dim)
    ends = range(size, x.shape[axis] + size, size) if isinstance(size, int) else np.cumsum(size)
    places = np.arange(x.size).reshape(x.shape)
    parts = np.split(places, [int(n) for n in ends][:-1], axis)
    return tuple(_taken(where, x, part) for part in parts)


@operation("chunk", torch.chunk)
def _chunked(tracer: Tracer, where: str, x: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    return _parted(tracer, where, x, -(-x.shape[_axis(where, x, dim)] // chunks), dim)


@operation("flip", torch.flip)
def _flipped(tracer: Tracer, where: str, x: Value, *dims: Any) -> Value:
    given = dims[0] if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    axes = tuple(_axis(where, x, d) for d in given)
    return _taken(where, x, np.flip(np.arange(x.size).reshape(x.shape), axes))


@operation("permute", torch.permute)
def _permuted(tracer: Tracer, where: str, x: Value, *dims: Any) -> Value:
    order = [int(d) % (len(x.lead) + len(x.shape)) for d in (dims[0] if len(dims) == 1 else dims)]
    if order[: len(x.lead)] != list(range(len(x.lead))):
        raise GraphError(f"{where} moves time or batch; layers here take [T, B, …].")
    axes = [d - len(x.lead) for d in order[len(x.lead) :]]
    return _taken(where, x, np.arange(x.size).reshape(x.shape).transpose(axes))


@operation("transpose", torch.transpose)
def _transposed(tracer: Tracer, where: str, x: Value, dim0: int, dim1: int) -> Value:
    order = list(range(len(x.lead) + len(x.shape)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permuted(tracer, where, x, *order)


@operation(F.pad)
def _padded(
    tracer: Tracer, where: str, x: Value, pad: Sequence[int], mode: str = "constant", value: float = 0
) -> Value:
    if mode != "constant" or value:
        raise GraphError(f"{where}: only padding with zeros can be lowered.")
    if any(n < 0 for n in pad):
        raise GraphError(f"{where}: negative padding; slice instead.")
    pairs = [(pad[k], pad[k + 1]) for k in range(0, len(pad), 2)][::-1]
    if len(pairs) > len(x.shape):
        raise GraphError(f"{where} pads along time or batch, which a Graph has no place for.")
    pairs = [(0, 0)] * (len(x.shape) - len(pairs)) + pairs
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True))
    places = np.arange(math.prod(shape)).reshape(shape)
    inner = places[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, pairs, strict=True))]
    return x.moved(where, inner.reshape(-1), shape)


@operation(F.linear)
def _linear_function(tracer: Tracer, where: str, x: Value, weight: Any, bias: Any = None) -> Value:
    return _sent(tracer, where, x, weight, bias)


@operation(operator.matmul, torch.matmul, "matmul")
def _product(tracer: Tracer, where: str, x: Any, y: Any) -> Value:
    if not isinstance(x, Value) or isinstance(y, Value):
        raise GraphError(f"{where}: spikes times a constant matrix, x @ w, is what a Graph has a place for.")
    return _sent(tracer, where, x, y.T, None)


@operation(F.conv2d)
def _conv_function(
    tracer: Tracer, where: str, x: Value, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Value:  # fmt: skip
    if isinstance(padding, str):
        raise GraphError(f"{where}: only zero padding given as numbers can be lowered.")
    return _convolved(tracer, where, x, weight, bias, (stride, padding, dilation, groups))


@operation(F.batch_norm)
def _norm_function(
    tracer: Tracer, where: str, x: Value, running_mean: Any, running_var: Any, weight: Any = None,
    bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    if training or running_mean is None or x.lead != (STEPS * BATCH,):
        raise GraphError(f"{where}: running statistics over [T·B, C, …] can be lowered, nothing else.")
    if x.shape[0] != _numbers(running_mean).size:
        raise GraphError(f"{where} normalises {_numbers(running_mean).size} of {x.shape[0]} features.")
    return _normalised(x, running_mean, running_var, weight, bias, eps)


@operation(F.avg_pool2d)
def _average_function(
    tracer: Tracer, where: str, x: Value, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> Value:  # fmt: skip
    whole = not ceil_mode and divisor_override is None
    whole = whole and (count_include_pad or not any(_pair(padding)))
    return _pooled(tracer, where, x, kernel_size, kernel_size if stride is None else stride, padding, whole)


@operation(F.adaptive_avg_pool2d)
def _adaptive_function(tracer: Tracer, where: str, x: Value, output_size: Any) -> Value:
    return _adapted(tracer, where, x, output_size)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode for a while, each part back in its own afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
