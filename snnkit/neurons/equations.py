"""Equations as source: one function with options in it → plain functions without them.

A neuron's `step` is written once, with its options as ordinary ``if``s. A kernel wants straight
code, and `snnkit.jit` wants source text. `specialise` evaluates the options away; `bind` gives the
same source another meaning for its comparisons, so that one text serves kernels, arrays and torch.
"""

import ast
import functools
import inspect
import linecache
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import ParameterError


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
    for argument in definition.args.args:
        argument.annotation = None
    if isinstance(definition.body[0], ast.Expr) and isinstance(definition.body[0].value, ast.Constant):
        definition.body = definition.body[1:]
    return definition


def _compiled(definition: ast.FunctionDef, file: str, names: dict[str, Any]) -> Callable[..., Any]:
    source = ast.unparse(ast.fix_missing_locations(definition)) + "\n"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)
    function: Callable[..., Any] = names[definition.name]
    return function


def specialise(
    function: Callable[..., Any], without: Iterable[str] = (), **options: Any
) -> Callable[..., Any]:
    """The function with its trailing arguments `options` fixed and their ``if``s taken.

    without  arguments that this choice of options has no use for
    """
    definition = _definition(function)
    drop = {*options, *without}
    definition.args.args = [a for a in definition.args.args if a.arg not in drop]
    body = [line for old in definition.body for line in _listed(_Options(options), old)]
    returns = [k for k, line in enumerate(body) if isinstance(line, ast.Return)]
    definition.body = body[: returns[0] + 1]
    label = ", ".join(f"{k}={v}" for k, v in options.items())
    file = f"<{function.__module__}.{function.__name__} {label} -{','.join(sorted(without))}>"
    return _compiled(definition, file, {"__name__": function.__module__})


class _Torch(ast.NodeTransformer):
    """``h >= v_th`` → spike(h, v_th); ``v_th <= h`` → reset(h, v_th); ``h < v_th`` → 1 − reset(h, v_th)."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        left, right, operator = node.left, node.comparators[0], node.ops[0]

        def call(name: str, *arguments: ast.expr) -> ast.Call:
            return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])

        if isinstance(operator, ast.GtE):
            return call("spike", left, right)
        if isinstance(operator, ast.LtE):
            return call("reset", right, left)
        if isinstance(operator, ast.Lt):
            return ast.BinOp(ast.Constant(1), ast.Sub(), call("reset", left, right))
        return node


@functools.lru_cache(maxsize=256)
def differentiable(step: Callable[..., Any]) -> Callable[[Callable, Callable], Callable[..., Any]]:
    """A neuron's `step` for autograd: ``differentiable(step)(spike, reset)``.

    `spike(h, v_th)` and `reset(h, v_th)` give 0 or 1 with a derivative of their own; the step's
    ``>=`` becomes the first, ``<=`` and ``<`` the second. Other comparisons carry no gradient.
    """
    definition = _Torch().visit(_definition(step))
    file = f"<differentiable {step.__code__.co_filename}:{step.__name__}>"

    def bind(spike: Callable[..., Any], reset: Callable[..., Any]) -> Callable[..., Any]:
        return _compiled(definition, file, {"spike": spike, "reset": reset})

    return bind


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


def kernel_source(function: Callable[..., Any], name: str) -> str:
    """Source of `function` for a kernel, renamed to `name`, all of its arithmetic in the type ``real``.

    The module that holds it must define ``real`` (say ``real = np.float32``).
    """
    definition = _Real().visit(_definition(function))
    definition.name = name
    return ast.unparse(ast.fix_missing_locations(definition)) + "\n"
