"""Every error snnkit raises on purpose, each also the builtin it refines.

A message says what was wrong, where, and what would be right.
"""

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from types import ModuleType


class SnnkitError(Exception):
    """What `except SnnkitError` catches: a mistake in what was given, never a bug inside."""


class ParameterError(SnnkitError, ValueError):
    """An argument outside its range."""


class ShapeError(SnnkitError, ValueError):
    """An array or tensor of the wrong shape or dtype."""


class DataError(SnnkitError, ValueError):
    """A data file or recording that is missing, damaged or not what it should be."""


class ChecksumError(DataError):
    """A file whose checksum is not the published one."""


class GraphError(SnnkitError, ValueError):
    """A network that is not well formed."""


class ConfigError(SnnkitError, ValueError):
    """A configuration file with unknown keys or wrong values; lists all of them."""


class CheckpointError(SnnkitError, ValueError):
    """A checkpoint that is damaged or of another architecture."""


class ExportError(SnnkitError, ValueError):
    """A network that the target format or chip cannot hold."""


class NonFiniteError(SnnkitError, FloatingPointError):
    """A loss or weight that became NaN or infinite in training."""


class BackendError(SnnkitError, RuntimeError):
    """No kernel for what was asked on this machine."""


class TooLargeError(SnnkitError, MemoryError):
    """A network or run that does not fit the memory; raised before anything is allocated."""


class MissingExtraError(SnnkitError, ImportError):
    """An optional package is needed and absent."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``, did you mean 'x'?`` with the known name that is most like `name`; empty if none is."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f", did you mean {near[0]!r}?" if near else ""


def nearest_module(path: str) -> str:
    """As `nearest`, for the dotted path of a module; empty where it is there, or nothing is like it."""
    parts = path.split(".")
    inside: Iterable[str] | None = None
    for i, part in enumerate(parts):
        try:
            spec = importlib.util.find_spec(".".join(parts[: i + 1]))
        except (ImportError, ValueError):  # what is above it can't be imported, or is no package
            return ""
        if spec is None:
            near = difflib.get_close_matches(part, {m.name for m in pkgutil.iter_modules(inside)}, 1)
            return f", did you mean {'.'.join([*parts[:i], *near, *parts[i + 1 :]])!r}?" if near else ""
        inside = spec.submodule_search_locations
    return ""


def choices(name: str, known: Iterable[str]) -> str:
    """The end of a sentence, its mark included: as `nearest`, or all known names where none is like it."""
    known = list(known)
    return nearest(name, known) or f", known are {', '.join(known)}."


def sentences(problems: Iterable[str]) -> str:
    """Problems in a row, ``a; b?; c.``, with one mark at the end of each."""
    joined = "; ".join(problem.removesuffix(".") for problem in problems).replace("?; ", "? ")
    return joined if joined.endswith("?") else f"{joined}."


def listed(names: Iterable[str]) -> str:
    """``a, b and c``"""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra of snnkit brings it.

    Raises `MissingExtraError` where it can't be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module!r} is needed for this and could not be imported ({error}); "
            f"install it with: pip install 'snnkit[{extra}]'"
        ) from error
