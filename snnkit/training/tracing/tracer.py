"""A `forward` that is run on signals: what it makes of the spikes that it is given, step by step."""

from __future__ import annotations

import functools
import importlib
import math
import operator
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import fx, nn
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from ...errors import GraphError, SnnkitError
from ...graph import INPUT, Population, Projection
from ...neurons import NeuronModule
from ..branches import Branch, Shape, Value
from ..lines import OURS, TORCH, first_line, line_in

STEPS, BATCH = 7919, 7907
"""Stand for the number of steps and of samples: primes that no layer's size has as a factor."""

CALL: Any = nn.Module._call_impl
"""What calling a module does: its `forward`, and hooks."""

FRAMEWORKS = {
    "spikingjelly": "snnkit.training.tracing.spikingjelly",
    "norse": "snnkit.training.tracing.norse",
    "snntorch": "snnkit.training.tracing.snntorch",
    "sinabs": "snnkit.training.tracing.sinabs",
}
"""Package of others → the module that enters its layers into `LAYERS`, read when one of them is first met."""


@dataclass(frozen=True)
class Met:
    """A layer: the name that its population gets, and its class; as text, how an error names it."""

    name: str
    kind: str

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.kind})"


ONE_STEP = (
    "Where forward loops over time, lower the module of one step, whose neurons keep their state themselves."
)

Handler = Callable[["Tracer", Met, Any, Value], Any]

LAYERS: dict[type[nn.Module], Handler] = {}
"""Module class → what it does: ``handler(tracer, where, module, value)``; a subclass with the same
`forward` has its parent's."""

LEADS: dict[type[nn.Module], Callable[[Any], Shape]] = {}
"""Class that computes in time → the axes before a step's own that its input has: ``axes(module)``, made of
`STEPS` and `BATCH`; a module that is called step by step has (BATCH,)."""

ALONE: set[type[nn.Module]] = set()
"""Classes of `LAYERS` whose row is not their subclasses': these compute something else elsewhere."""

BASES: set[type[nn.Module]] = set()
"""Classes of `LAYERS` whose row is that of every class below without its own, whatever `forward` it has."""

OPERATIONS: dict[Any, Callable[..., Any]] = {}
"""Function, or name of a tensor's method → ``operation(tracer, where, *arguments, **options)``. What is
named like torch's own in-place functions, ``add_``, writes over its first argument."""

FACTORIES: dict[Any, Callable[..., Value]] = {}
"""Function that makes a constant of a given size → ``factory(where, *arguments, **options)``."""


def layer(*kinds: type[nn.Module]) -> Callable[[Handler], Handler]:
    """Enter a handler into `LAYERS`."""

    def enter(handler: Handler) -> Handler:
        LAYERS.update(dict.fromkeys(kinds, handler))
        return handler

    return enter


def factory(*targets: Any) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Enter a function into `FACTORIES`."""

    def enter(handler: Callable[..., Value]) -> Callable[..., Value]:
        FACTORIES.update(dict.fromkeys(targets, handler))
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

    None for a class or a module with another `forward` than that one's, which is gone into or refused.
    """
    if "forward" in vars(module):
        return None
    kind = type(module)
    for package in {k.__module__.split(".")[0] for k in kind.__mro__} & FRAMEWORKS.keys():
        importlib.import_module(FRAMEWORKS[package])
    rows = [k for k in kind.__mro__ if k in LAYERS and (k is kind or k not in ALONE)]
    if not rows:
        return None
    computes = next(k for k in kind.__mro__ if "forward" in vars(k))
    same = (
        rows[0] in BASES
        or issubclass(rows[0], computes)
        or computes.__module__.startswith(("torch.nn.", "snnkit."))
    )
    return LAYERS[rows[0]] if same else None


def lead_of(module: nn.Module) -> Shape:
    """The axes before a step's own that the input of a module has, by the first layer that knows of time."""
    return _lead_of(module) or (STEPS, BATCH)


def _lead_of(module: nn.Module) -> Shape | None:
    known = handler_of(module) is not None
    rows = [k for k in type(module).__mro__ if k in LEADS and (k is type(module) or k not in ALONE)]
    if rows or known:
        return LEADS[rows[0]](module) if rows else None
    return next((lead for part in module.children() if (lead := _lead_of(part)) is not None), None)


def axes(lead: Shape) -> str:
    """Axes before a step's own, as an error names them."""
    names = {STEPS: "T", BATCH: "B", STEPS * BATCH: "T·B"}
    return f"[{', '.join(names[n] for n in lead)}, …]"


@dataclass(frozen=True)
class State:
    """What a neuron of others keeps from step to step, where its module hands it out.

    layer  whose it is
    """

    layer: str


def hooked(module: nn.Module) -> bool:
    """Whether calling a module calls more than its `forward`."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_forward_hooks
    )


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

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError(
            f"x[…] = y{_line()} writes over a part of a tensor, which can't be followed; join parts with "
            "torch.cat, or multiply by a mask and add."
        )

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


class _Sizes(TorchFunctionMode):
    """While a `forward` is followed: what torch makes in the size of all steps and samples stays small."""

    def __init__(self, follower: _Follower) -> None:
        super().__init__()
        self.follower = follower

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        parts = list(_parts((args, options)))
        if any(isinstance(p, fx.Proxy) for p in parts) or not any(_of_all(p) for p in parts):
            return func(*args, **options)
        where = f"operation {_named(func)!r}{_line()}"
        if func not in FACTORIES:
            raise GraphError(
                f"{where} computes with the number of steps or samples, which a Graph does not know "
                "beforehand; a constant of one step's shape broadcasts over both."
            )
        return self.follower.signal(FACTORIES[func](where, *args, **options))


def _of_all(size: Any) -> bool:
    """Whether a number is a size made from `STEPS` or `BATCH`."""
    return type(size) is int and size != 0 and (size % STEPS == 0 or size % BATCH == 0)


class _Follower(fx.Tracer):
    """Runs a `forward` on signals: every operation is looked up and done when it is met.

    Modules of `LAYERS` and of torch are done as a whole, others are gone into. What does not depend on a
    signal is computed by torch as it stands.
    """

    def __init__(self, tracer: Tracer, inputs: list[Any]) -> None:
        super().__init__()
        self.tracer, self.inputs = tracer, iter(inputs)
        self.values: dict[fx.Node, Value] = {}
        self.graph = fx.Graph()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if "forward" in vars(m):
            return False
        return handler_of(m) is not None or super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        _, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        return CALL, args  # with the module's hooks

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val  # parameters stand for themselves

    def create_arg(self, a: Any) -> Any:
        return None if isinstance(a, State) else super().create_arg(a)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, name: Any = None, type_expr: Any = None, *_: Any
    ) -> Any:
        return self.signal(self._done(kind, target, _plain(args), _plain(kwargs)))

    def passed(self, module: nn.Module, value: Value) -> Any:
        """What a part of the module that is followed makes of a value."""
        return _plain(module(self.signal(value)))

    def signal(self, result: Any) -> Any:
        """A value as what a `forward` holds; several in a tuple (what `split` gives) likewise."""
        if isinstance(result, tuple) and _has_value(result):
            return tuple(self.signal(part) for part in result)
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
                return CALL(called, *args, **options)
            value = one_of(Met(str(target), type(called).__name__), args, options)
            return self.tracer.apply(str(target), called, value)
        if not depends:
            method = getattr(args[0], target) if kind == "call_method" else None
            return target(*args, **options) if method is None else method(*args[1:], **options)
        where = f"operation {_named(target)!r}{_line()}"
        try:
            return self._operated(where, target, args, options)
        except GraphError as error:
            if (called_by := _refused_call(error)) is not None:
                raise GraphError(called_by) from error
            raise

    def _operated(self, where: str, target: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What an operation makes of values."""
        _refuse_changed(where, (args, options))
        if options.get("out") is not None:
            raise GraphError(f"{where} writes into out=, which can't be followed; use what it returns.")
        over = args[0] if _in_place(target) else None
        if over is not None and not isinstance(over, Value):
            raise GraphError(
                f"{where} writes what depends on the input over a tensor that does not; write x = x + y in "
                "place of x += y."
            )
        if target not in OPERATIONS:
            raise GraphError(
                f"{where} has no place in a Graph; sums, constant factors, joining, reshaping, padding, "
                "Linear, convolution and average pooling have."
            )
        try:
            made = OPERATIONS[target](self.tracer, where, *args, **options)
        except TypeError as error:
            raise GraphError(f"{where}: arguments that have no place in a Graph ({error}).") from error
        return made if over is None else over.written(where, made)

    def _input(self, argument: str, default: tuple[Any, ...]) -> Any:
        """What an argument of the outermost `forward` stands for."""
        name = next(self.inputs, None)
        if argument.startswith("*"):
            raise GraphError(f"forward takes {argument}, which can't be followed; name every input.")
        if name is not None:
            return self.tracer.value(name) if isinstance(name, str) else name
        if not default:
            raise GraphError(f"forward takes an input {argument!r} more; give one shape an input.")
        return default[0]


def _in_place(target: Any) -> bool:
    """Whether an operation writes over its first argument."""
    name = _named(target)
    if target in (operator.iadd, operator.isub, operator.imul, operator.itruediv):
        return True
    return name in ("__iadd__", "__isub__", "__imul__", "__itruediv__") or (
        name.endswith("_") and not name.endswith("__")
    )


def _refuse_changed(where: object, tree: Any) -> None:
    """Raise `GraphError` if a value is read whose tensor was written over under another name."""
    for value in _values(tree):
        if value.written_by is not None:
            raise GraphError(
                f"{where} reads what was changed in place by {value.written_by}; write x = x + y in place "
                "of x += y."
            )


def one_of(where: Met, args: tuple[Any, ...], options: dict[str, Any]) -> Value:
    """The tensor that a layer is called with. Raises `GraphError` for anything else."""
    _refuse_changed(f"{where}{_line()}", (args, options))
    args = tuple(a for a in args if a is not None)
    if len(args) != 1 or any(given is not None for given in options.values()):
        raise GraphError(
            f"{where}{_line()}: one tensor is expected; a state from outside or another argument has no "
            f"place in a Graph. {ONE_STEP}"
        )
    if not isinstance(args[0], Value):
        raise GraphError(
            f"{where} is given {type(args[0]).__name__}, not a tensor that depends on the input."
        )
    return args[0]


def _plain(tree: Any) -> Any:
    """Signals replaced by their values, in tuples, lists and dictionaries too."""
    if isinstance(tree, _Signal):
        return tree.value
    if isinstance(tree, fx.proxy.Attribute):
        raise GraphError(f"attribute {tree.attr!r} of a tensor{_line()} has no place in a Graph.")
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        return type(tree)(_plain(a) for a in tree)
    if isinstance(tree, dict):
        return {key: _plain(a) for key, a in tree.items()}
    return tree


def _parts(tree: Any) -> Iterator[Any]:
    """What is in tuples, lists and dictionaries."""
    if isinstance(tree, tuple | list | dict):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _parts(part)
    else:
        yield tree


def _values(tree: Any) -> Iterator[Value]:
    """The values in tuples, lists and dictionaries."""
    return (part for part in _parts(tree) if isinstance(part, Value))


def _has_value(tree: Any) -> bool:
    return next(_values(tree), None) is not None


class Made(Protocol):
    """What makes a population: a neuron's module, or what one of others is here."""

    def population(self, name: str, size: Shape) -> Population:
        """The population called `name`, of this shape."""


def _flat(tree: Any) -> list[Any]:
    """What a module gives in order, out of tuples and lists, without states."""
    if isinstance(tree, tuple | list):
        return [one for part in tree for one in _flat(part)]
    return [] if tree is None or isinstance(tree, State) else [tree]


@contextmanager
def _followable(module: nn.Module) -> Iterator[None]:
    """Whatever a user's `forward` raises on a tensor that has no numbers yet, as a `GraphError`."""
    try:
        yield
    except SnnkitError:
        raise
    except Exception as error:
        raise GraphError(
            f"{type(module).__name__}.forward can't be followed "
            f"({first_line(error)}){_place_of(error)}; what goes to a Graph must not loop or branch "
            f"on the values of its input. {ONE_STEP}"
        ) from error


class Tracer:
    """Gathers the populations and projections that modules and operations make.

    populations  by name; the inputs first
    projections  in the order in which they are made
    compose      whether synapses that follow synapses become one projection, or are refused
    lead         axes that the inputs have before a step's own
    """

    def __init__(
        self, inputs: Mapping[str, Shape], compose: bool = False, lead: Shape = (STEPS, BATCH)
    ) -> None:
        self.compose, self.lead = compose, lead
        self.populations: dict[str, Population] = {}
        self.projections: list[Projection] = []
        for name, shape in inputs.items():
            self.populations[name] = Population(name, INPUT, shape)
        self._follower = self._outside = _Follower(self, [])

    def value(self, name: str) -> Value:
        """The spikes of a population, in its own shape."""
        shape = self.populations[name].shape
        return Value(shape, (Branch(name, shape, shape, shape),), self.lead)

    def run(self, module: nn.Module) -> list[Value]:
        """Follow `module` from the inputs there are; the values it returns.

        Raises `GraphError` naming the first layer or operation that has no place in a Graph, with its line.
        """
        with _followable(module):
            if handler_of(module) is not None:
                return _flat(self.apply("", module, self._first()))
            return _flat(self._followed(module, list(self.populations)))

    def inside(self, name: str, module: nn.Module, value: Value) -> Any:
        """What a part of a layer's module makes of a value, whether it has a row or is gone into."""
        if self._follower is not self._outside:
            return self._follower.passed(module, value)
        if handler_of(module) is not None:
            return self.apply(name, module, value)
        with _followable(module):
            return self._followed(module, [value])

    def _followed(self, module: nn.Module, inputs: list[Any]) -> Any:
        """What `module.forward` makes of values, or of the inputs with these names."""
        self._follower = follower = _Follower(self, inputs)
        try:
            with _Sizes(follower):
                traced = follower.trace(module)
        finally:
            self._follower = self._outside
        if (left := next(follower.inputs, None)) is not None:
            raise GraphError(
                f"{type(module).__name__}.forward takes no input {left!r}; give one shape an input."
            )
        (found,) = next(n for n in traced.nodes if n.op == "output").args
        values: Any = follower.values
        return fx.node.map_arg(found, lambda node: values.get(node, node))

    def apply(self, name: str, module: nn.Module, value: Any) -> Any:
        """What a module makes of a value; `name` is what a population it makes is called.

        Hooks on the module are called as torch calls them: they set weights (pruning, older norms), or
        change what goes in or comes out, and are followed as a `forward` is.
        """
        where = Met(name, type(module).__name__)
        handler = handler_of(module)
        if handler is None:
            raise GraphError(
                f"{where} has no place in a Graph; known are Linear, Conv2d, average pooling, layers with "
                "delays, batch norms, neurons, Dropout and Flatten."
            )
        value = one_of(where, (value,), {})
        if not hooked(module):
            return handler(self, where, module, value)

        def forward(*args: Any, **options: Any) -> Any:
            given = one_of(where, _plain(args), _plain(options))
            return self._follower.signal(handler(self, where, module, given))

        vars(module)["forward"] = forward
        try:
            return _plain(CALL(module, self._follower.signal(value)))
        finally:
            del vars(module)["forward"]

    def close(self, where: Met, module: Made, value: Value, lead: Shape = (STEPS, BATCH)) -> Value:
        """The population of a neuron's module, fed by `value`; its output.

        lead  axes before a step's own that the module takes
        """
        self.expect(where, value, lead)
        name = self._free(where.name or "out")
        wanted = {b.places for b in value.branches} - {None}
        (shape,) = wanted if len(wanted) == 1 else (value.shape,)
        assert shape is not None
        bias = _compact(value.spread_bias.reshape(value.shape)) if value.bias.any() else np.zeros(())
        population = replace(module.population(name, value.shape), bias=bias)
        self.populations[name] = placed(population, shape)
        self.projections += value.projections(name, shape)
        return self.value(name).reshaped(value.shape, value.lead)

    def expect(self, where: Met, value: Value, lead: Shape = (STEPS, BATCH)) -> None:
        """Raise `GraphError` naming both if `value` has other axes before a step's own than `lead`."""
        if value.lead != lead:
            why = "; called step by step it would see a single step"
            raise GraphError(
                f"{where} takes {axes(lead)} and gets {axes(value.lead)}"
                f"{why if value.lead == (BATCH,) else ''}."
            )

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


def _refused_call(error: GraphError) -> str | None:
    """The error of an operation that stands inside a function of snnkit, as one of that function.

    None where a user's `forward` calls it itself, or in a `forward` of snnkit that is followed.
    """
    frame: FrameType | None = sys._getframe()
    inner = None
    while frame is not None and not (frame.f_code.co_filename == __file__ and frame.f_code.co_name == "run"):
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(OURS) and path != Path(__file__):
            inner = frame
        elif not path.is_relative_to(TORCH) and not path.is_relative_to(OURS):
            break
        frame = frame.f_back
    if inner is None:
        return None
    owner, name = inner.f_locals.get("self"), inner.f_code.co_name
    if isinstance(owner, NeuronModule):
        return (
            f"{type(owner).__name__}.{name}{_line()} has no place in a Graph, whose neurons start at rest "
            "and keep their state to themselves; call the module on all steps, neuron(x)."
        )
    called = name if owner is None else f"{type(owner).__name__}.{name}"
    return None if name == "forward" else f"{called}{_line()} has no place in a Graph: inside it, {error}"


def _place_of(error: BaseException) -> str:
    """Where in a user's `forward` an error came up."""
    return _last(traceback.extract_tb(error.__traceback__))


def _last(stack: traceback.StackSummary) -> str:
    """File, line and code of the innermost frame of a `forward`: a user's if there is one, else snnkit's."""
    frames = list(stack)
    begun = [k for k, f in enumerate(frames) if f.filename == __file__ and f.name == "run"]
    inner = frames[begun[-1] + 1 :] if begun else frames
    return line_in(f for f in inner if f.filename != __file__)


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
