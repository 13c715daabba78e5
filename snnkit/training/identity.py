"""Which function a run was made with: what a checkpoint keeps of a loss or metric that was handed over."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch

PYTHON = ".".join(platform.python_version_tuple()[:2])
DEEP = 6
"""Levels of containers and objects that a digest goes down."""


@dataclass(frozen=True)
class Identity:
    """A function as it is recognised again.

    name    ``module:qualname``; of an object that is called, its class's
    code    digest of what the name does not say: bytecode, defaults and captured values of a lambda or a
            function within another; arguments of a partial; attributes of an object. Of a function that can
            be imported "": its name is enough
    python  the version whose bytecode that is
    """

    name: str
    code: str = ""
    python: str = PYTHON

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Identity:
        """Of any callable."""
        if isinstance(function, functools.partial):
            inner = cls.of(function.func)
            return cls(inner.name, _digest([inner.code, function.args, function.keywords]))
        if isinstance(function, MethodType):
            return cls(_name(function.__func__), _digest(function.__self__))
        if isinstance(function, FunctionType | BuiltinFunctionType):
            return cls(_name(function), "" if _importable(function) else _digest(function))
        return cls(_name(type(function)), _digest(function))

    def __str__(self) -> str:
        return f"{self.name} (code {self.code})" if self.code else self.name

    def to_json(self) -> dict[str, str]:
        """As plain data."""
        return dict(vars(self))

    def comparable(self, other: Identity) -> bool:
        """Whether `differs` can tell: bytecode of another Python is another."""
        return self.python == other.python or not (self.code or other.code)

    def differs(self, other: Identity) -> bool:
        """Whether they are known to be two; a script's module is called ``__main__`` where it is run."""
        (mine, last), (its, other_last) = (one.name.split(":", 1) for one in (self, other))
        named_apart = last != other_last or (mine != its and "__main__" not in (mine, its))
        return named_apart or (self.comparable(other) and self.code != other.code)


def _name(function: Any) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _importable(function: Any) -> bool:
    """Whether its name leads to it: it is no lambda and stands in no other function."""
    return "<" not in function.__qualname__


def _digest(value: Any) -> str:
    found = hashlib.sha256()

    def add(one: Any, deep: int) -> None:
        tag, inside = _taken_apart(one)
        found.update(tag + b"\0%d\0" % len(inside))
        for part in inside if deep else ():
            add(part, deep - 1)

    add(value, DEEP)
    return found.hexdigest()[:12]


def _taken_apart(value: Any) -> tuple[bytes, Sequence[Any]]:
    """What is told of a value itself, and the values in it."""
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | np.generic():
            return repr(value).encode(), ()
        case torch.Tensor():
            plain = value.detach().cpu()
            return _taken_apart((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())
        case np.ndarray() if value.dtype != object:
            return repr((value.dtype.str, value.shape)).encode() + value.tobytes(), ()
        case np.ndarray() | list() | tuple():
            return b"list", list(value)
        case set() | frozenset():
            return b"set", sorted(value, key=repr)
        case Mapping():
            return b"mapping", list(value.items())
        case CodeType():
            return b"code", (value.co_code, value.co_names, value.co_varnames, value.co_consts)
        case type():
            return _name(value).encode(), ()
        case FunctionType() | BuiltinFunctionType() if _importable(value):
            return _name(value).encode(), ()
        case FunctionType():
            cells = [_content(cell) for cell in value.__closure__ or ()]
            return b"function", (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
        case _:  # without attributes its class alone
            return _name(type(value)).encode(), list(getattr(value, "__dict__", {}).items())


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
