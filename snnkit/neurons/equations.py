"""Equations as source: functions written once, as plain code for kernels, arrays and torch.

A neuron's `step` has its options as ordinary ``if``s and reads constants and helpers of its module. A
kernel wants straight code, and `snnkit.jit` wants source text that stands alone. `specialise`
evaluates the options away; `step_source` writes functions out together with all that they read;
`on_tensors` and `differentiable` give the same source its meaning for torch.
"""

import ast
import builtins
import functools
import hashlib
import inspect
import linecache
import math
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import ParameterError

LIBRARIES = {"math": math, "numpy": np}
"""Modules whose functions every kernel knows, and torch by the same names."""

NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
BUILTINS = vars(builtins)


class _Options(ast.NodeTransformer):
    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id in self.options and isinstance(node.ctx, ast.Load):
            return ast.Constant(self.options[node.id])
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if all(isinstance(side, ast.Constant) for side in (node.left, *node.comparators)):
            return ast.Constant(eval(ast.unparse(node)))
        return node

    def visit_If(self, node: ast.If) -> Any:
        test = self.visit(node.test)
        if isinstance(test, ast.Constant):
            return [line for old in (node.body if test.value else node.orelse) for line in _listed(self, old)]
        self.generic_visit(node)
        return node


def _listed(visitor: ast.NodeTransformer, node: ast.stmt) -> list[ast.stmt]:
    new = visitor.visit(node)
    return new if isinstance(new, list) else [new]


class _Plain(ast.NodeTransformer):
    """Without annotations."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        return ast.Assign([node.target], node.value) if node.value is not None else ast.Pass()


def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError) as error:
        raise ParameterError(
            f"{function!r} has no source to work on ({error}); define it in a file or a notebook cell."
        ) from error
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise ParameterError(f"{function!r} must be written with def, at the top level of its module.")
    definition.decorator_list = []
    definition.returns = None
    definition = _Plain().visit(definition)
    if isinstance(definition.body[0], ast.Expr) and isinstance(definition.body[0].value, ast.Constant):
        definition.body = definition.body[1:]
    return definition


def _text(*definitions: ast.FunctionDef) -> str:
    return "\n\n\n".join(ast.unparse(ast.fix_missing_locations(d)) for d in definitions) + "\n"


def _compiled(definitions: Iterable[ast.FunctionDef], file: str, names: dict[str, Any]) -> dict[str, Any]:
    """`names` with the definitions among them; `inspect` finds their source under `file` and its hash."""
    source = _text(*definitions)
    file = f"<{file} {hashlib.sha256(source.encode()).hexdigest()[:8]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)
    return names


def specialise(
    function: Callable[..., Any], without: Iterable[str] = (), **options: Any
) -> Callable[..., Any]:
    """The function with its arguments `options` fixed and their ``if``s taken.

    without  arguments that this choice of options has no use for

    An option that is a function is called where the function says so.
    """
    return _specialised(function, tuple(without), tuple(sorted(options.items())))


@functools.lru_cache(maxsize=256)
def _specialised(
    function: Callable[..., Any], without: tuple[str, ...], options: tuple[tuple[str, Any], ...]
) -> Callable[..., Any]:
    definition = _definition(function)
    called = {k: v for k, v in options if callable(v)}
    fixed = {k: v for k, v in options if k not in called}
    drop = {*called, *fixed, *without}
    definition.args.args = [a for a in definition.args.args if a.arg not in drop]
    body = [line for old in definition.body for line in _listed(_Options(fixed), old)]
    returns = [k for k, line in enumerate(body) if isinstance(line, ast.Return)]
    definition.body = body[: returns[0] + 1]
    names = {**function.__globals__, **_closure(function), **called}
    specialised: Callable[..., Any] = _compiled(
        [definition], f"{function.__module__}.{function.__name__}", names
    )[definition.name]
    return specialised


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function reads of the functions around it."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


class _Written:
    """Functions, and all that they read outside themselves under names of its own.

    definitions  name → definition, those that it calls before it
    numbers      name → value of a constant
    libraries    names of the `LIBRARIES` that are used
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]], taken: Iterable[str] = ()) -> None:
        self.definitions: dict[str, ast.FunctionDef] = {}
        self.numbers: dict[str, Any] = {}
        self.libraries: dict[str, types.ModuleType] = {}
        self._names: dict[str, Any] = dict.fromkeys(taken)
        self._names.update(functions)
        for name, function in functions.items():
            self._write(name, function)

    def _write(self, name: str, function: Callable[..., Any]) -> None:
        function = getattr(function, "py_func", function)
        self.definitions[name] = _Reads(self, function).definition(name)

    def number(self, name: str, value: Any, local: set[str]) -> str:
        """The name of a constant."""
        value = value.item() if isinstance(value, np.generic) else value
        label = self._label(name, value, local)
        self.numbers[label] = value
        return label

    def function(self, name: str, value: Any, local: set[str]) -> str:
        """The name of a function, which is written out too."""
        known = len(self._names)
        label = self._label(name, value, local)
        if len(self._names) > known:
            self._write(label, value)
        return label

    def _label(self, name: str, value: Any, local: set[str]) -> str:
        for k in range(1, 1000):
            label = f"_{name}" if k == 1 else f"_{name}_{k}"
            if label in local:
                continue
            known = self._names.setdefault(label, value)
            if known is value or (isinstance(value, NUMBERS) and _same(known, value)):
                return label
        raise ParameterError(f"too many things are named {name!r}.")


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and repr(a) == repr(b)


class _Reads(ast.NodeTransformer):
    """One function's definition, its reads of what is outside under the names of `written`."""

    def __init__(self, written: _Written, function: Callable[..., Any]) -> None:
        self.written, self.reader = written, function
        self.outside = {**BUILTINS, **function.__globals__, **_closure(function)}
        self.local: set[str] = set()

    def definition(self, name: str) -> ast.FunctionDef:
        """The definition, renamed."""
        found = _definition(self.reader)
        for node in ast.walk(found):
            if isinstance(node, ast.arg):
                self.local.add(node.arg)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self.local.add(node.id)
        if "real" in self.local:
            raise ParameterError(
                f"{self.reader.__name__!r} has a variable 'real', which is a kernel's number type; call it "
                "something else."
            )
        found = self.visit(found)
        found.name = name
        return found

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not isinstance(node.ctx, ast.Load) or node.id in self.local:
            return node
        return self._brought(node.id, self._outside(node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        value = self._value(node)
        if value is None:
            self.generic_visit(node)
            return node
        return self._brought(ast.unparse(node), value)

    def _outside(self, name: str) -> Any:
        if name not in self.outside:
            raise ParameterError(f"{self.reader.__name__!r} uses {name!r}, which its module does not define.")
        return self.outside[name]

    def _value(self, node: ast.expr) -> Any:
        """What ``module.name`` is, or None where it is no such thing."""
        if isinstance(node, ast.Name):
            module = None if node.id in self.local else self._outside(node.id)
            return module if isinstance(module, types.ModuleType) else None
        if not isinstance(node, ast.Attribute):
            return None
        module = self._value(node.value)
        if not isinstance(module, types.ModuleType):
            return None
        if not hasattr(module, node.attr):
            raise ParameterError(
                f"{self.reader.__name__!r} uses {ast.unparse(node)!r}, which {module.__name__} does not "
                "define."
            )
        return getattr(module, node.attr)

    def _brought(self, name: str, value: Any) -> ast.expr:
        short = name.rsplit(".", 1)[-1]
        if isinstance(value, NUMBERS):
            return ast.Name(self.written.number(short, value, self.local), ast.Load())
        if BUILTINS.get(name) is value:
            return ast.Name(name, ast.Load())
        called = getattr(value, "__name__", "")
        for library, module in LIBRARIES.items():
            if getattr(module, called, None) is value:
                self.written.libraries[library] = module
                return ast.Attribute(ast.Name(library, ast.Load()), called, ast.Load())
        if isinstance(getattr(value, "py_func", value), types.FunctionType):
            try:
                return ast.Name(self.written.function(short, value, self.local), ast.Load())
            except ParameterError as error:
                raise ParameterError(f"{self.reader.__name__!r} calls {name!r}: {error}") from error
        raise ParameterError(
            f"{self.reader.__name__!r} uses {name!r}, a {type(value).__name__}; outside itself it may read "
            "numbers, functions written like it, and functions of math and NumPy. Make an array a parameter "
            "of the neuron, and write out what another library's function does."
        )


class _Differentiable(ast.NodeTransformer):
    """``h >= v_th`` → spike(h, v_th); ``v_th <= h`` → reset(h, v_th); ``h < v_th`` → 1 − reset(h, v_th)."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        sides = [node.left, *node.comparators]
        parts = [self._one(a, op, b) for a, op, b in zip(sides, node.ops, sides[1:], strict=False)]
        return functools.reduce(lambda a, b: ast.BinOp(a, ast.Mult(), b), parts)

    @staticmethod
    def _one(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.expr:
        def call(name: str, *arguments: ast.expr) -> ast.Call:
            return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])

        if isinstance(operator, ast.GtE):
            return call("_spike", left, right)
        if isinstance(operator, ast.LtE):
            return call("_reset", right, left)
        if isinstance(operator, ast.Lt):
            return ast.BinOp(ast.Constant(1), ast.Sub(), call("_reset", left, right))
        return ast.Compare(left, [operator], [right])


def on_tensors(function: Callable[..., Any]) -> Callable[..., Callable[..., Any]]:
    """A function of plain arithmetic for torch: ``on_tensors(function)(math=..., numpy=...)``.

    What is bound stands for the `LIBRARIES`. Raises `ParameterError` as `step_source` does.
    """
    written = _Written({"_function": function})
    return functools.partial(_bound, written, f"{function.__module__}.{function.__name__} on tensors")


@functools.lru_cache(maxsize=256)
def differentiable(step: Callable[..., Any]) -> Callable[..., Callable[..., Any]]:
    """A neuron's `step` for autograd: ``differentiable(step)(_spike=..., _reset=..., math=..., numpy=...)``.

    ``_spike(h, v_th)`` and ``_reset(h, v_th)`` give 0 or 1 with a derivative of their own; ``>=`` of the step
    and of its helpers becomes the first, ``<=`` and ``<`` the second. Other comparisons carry no gradient.
    Raises `ParameterError` as `step_source` does.
    """
    written = _Written({"_function": step}, ("_spike", "_reset"))
    for name, definition in written.definitions.items():
        written.definitions[name] = _Differentiable().visit(definition)
    return functools.partial(_bound, written, f"differentiable {step.__module__}.{step.__name__}")


def _bound(written: _Written, file: str, **names: Any) -> Callable[..., Any]:
    names.update(written.numbers)
    function: Callable[..., Any] = _compiled(written.definitions.values(), file, names)["_function"]
    return function


class _Real(ast.NodeTransformer):
    """Wrap literals and comparisons in ``real(...)``, the kernel's floating-point type.

    Numba computes ``1 - x`` and ``(x > 0) * y`` in float64 whatever the type of x: half the speed,
    and other rounding than NumPy's and torch's float32.
    """

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return node
        return ast.Call(ast.Name("real", ast.Load()), [node], [])

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return ast.Call(ast.Name("real", ast.Load()), [node], [])


def step_source(
    decorator: str = "@numba.njit(error_model='numpy')", **functions: Callable[..., Any]
) -> tuple[str, str]:
    """(imports, source) with which `functions` stand alone in a kernel's module, all in the type ``real``.

    ``step=f`` is written as ``_step``. What a function reads outside itself is brought along, and what its
    helpers read: numbers by value, functions by their own source, those of math and NumPy by import. The
    module that holds the source must define ``real`` before it (say ``real = np.float32``). Raises
    `ParameterError` naming what cannot be brought (an array, another library's function) and who reads it.
    """
    written = _Written({f"_{name}": function for name, function in functions.items()})
    imports = [f"import {name}" for name in written.libraries]
    constants = [f"{name} = real({_literal(value)})" for name, value in written.numbers.items()]
    definitions = [f"{decorator}\n{_text(_Real().visit(d))}" for d in written.definitions.values()]
    return "\n".join(imports), "\n".join([*constants, *definitions])


def _literal(value: Any) -> str:
    return repr(value) if not isinstance(value, float) or math.isfinite(value) else f"float('{value}')"
