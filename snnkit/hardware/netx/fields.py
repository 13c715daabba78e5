"""Numbers and texts of a NetX file's groups, checked; errors name the file and the path in it."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import h5py
import numpy as np

from ...errors import DataError, TooLargeError

LARGEST = 1 << 28
"""Entries of an array, and neurons of a layer, beyond which a file is not read."""


def where(group: h5py.Group, name: str = "") -> str:
    """The file and the path in it, for a message."""
    return f"{group.file.filename}: {group.name}" + (f"/{name}" if name else "")


def damaged(group: h5py.Group, name: str, words: str) -> NoReturn:
    """Raise `DataError` that says `words` of a member of `group`."""
    raise DataError(f"{where(group, name)} {words}.")


def _member(group: h5py.Group, name: str) -> Any:
    """What `group` holds under `name`; None where there is nothing, or a link to nothing."""
    try:
        return group.get(name)
    except (KeyError, OSError, RuntimeError) as error:
        raise DataError(f"{where(group, name)} can't be read ({error}).") from error


def has(group: h5py.Group, name: str) -> bool:
    """Whether there is something under `name`."""
    return _member(group, name) is not None


def member(group: h5py.Group, name: str) -> h5py.Group:
    """The group under `name`. Raises `DataError` where there is none."""
    found = _member(group, name)
    if not isinstance(found, h5py.Group):
        damaged(group, name, "is missing" if found is None else "holds an array, no group")
    return found


def _array(group: h5py.Group, name: str) -> np.ndarray:
    found = _member(group, name)
    if not isinstance(found, h5py.Dataset):
        damaged(group, name, "is missing" if found is None else "is a group, no array")
    if found.shape is None or found.size == 0:
        damaged(group, name, "is empty")
    if found.size > LARGEST:
        raise TooLargeError(f"{where(group, name)} has shape {found.shape}; at most {LARGEST} entries.")
    try:
        return np.asarray(found[()])
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{where(group, name)} can't be read ({error}).") from error


def numbers(group: h5py.Group, name: str) -> np.ndarray:
    """An array of finite numbers within 32 bits, of any shape.

    Raises `DataError` naming what is missing, of another type, not finite or out of range; `TooLargeError`
    for more than `LARGEST` entries.
    """
    value = _array(group, name)
    if value.dtype.kind not in "iuf":
        damaged(group, name, f"is {value.dtype}, no number")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        damaged(group, name, "holds NaN or infinity")
    reach = max(abs(float(value.min())), abs(float(value.max())))
    if reach >= 1 << 31:
        damaged(group, name, f"reaches {reach:g}, beyond 32 bits")
    return value


def cut(group: h5py.Group, name: str) -> np.ndarray:
    """As `numbers`, int64: fractions are cut off, as lava-dl's reader does."""
    return numbers(group, name).astype(np.int64)


def integers(group: h5py.Group, name: str) -> np.ndarray:
    """As `numbers`, of an integer type, int64. Raises `DataError` for another type."""
    value = numbers(group, name)
    if value.dtype.kind == "f":
        damaged(group, name, f"is {value.tolist()} ({value.dtype}); lava-dl needs integers")
    return value.astype(np.int64)


def flag(group: h5py.Group, name: str) -> bool:
    """Whether something other than 0 or False stands there; False where nothing does."""
    if not has(group, name):
        return False
    value = _array(group, name)
    if value.dtype.kind not in "iufb":
        damaged(group, name, f"is {value.dtype}, no number")
    return bool(value.any())


def text(group: h5py.Group, name: str) -> str:
    """The first text of an array. Raises `DataError` where there is none."""
    value = _array(group, name).reshape(-1)[0]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def shape_of(group: h5py.Group) -> tuple[int, ...]:
    """A layer's shape, of one to three positive integers.

    Raises `DataError` for another one, `TooLargeError` for more than `LARGEST` neurons.
    """
    shape = np.atleast_1d(numbers(group, "shape"))
    if shape.dtype.kind == "f" or shape.ndim != 1 or len(shape) > 3 or shape.min() < 1:
        damaged(group, "shape", f"is {shape.tolist()}, must be one to three positive integers")
    if math.prod(found := tuple(int(n) for n in shape)) > LARGEST:
        raise TooLargeError(f"{where(group, 'shape')} is {list(found)}; at most {LARGEST} neurons.")
    return found
