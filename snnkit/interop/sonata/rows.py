"""Nodes or edges of a SONATA population, and their attributes: each row's own over those of its type."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ...errors import DataError, ExportError, SnnkitError
from ...files import PathLike, open_h5
from .circuit import Types, read_json

DAMAGED = (KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError)
"""What h5py raises of a file whose bytes are not what they should be."""


@contextlib.contextmanager
def opened(path: PathLike) -> Iterator[h5py.File]:
    """``with opened(path) as file``: as `open_h5`; what goes wrong inside is the file's `DataError`."""
    with open_h5(path) as file:
        try:
            yield file
        except SnnkitError:
            raise
        except DAMAGED as error:
            raise DataError(f"{path} is damaged ({error}).") from error


def column(group: h5py.Group, name: str, where: str, kinds: str, size: int | None = None) -> np.ndarray:
    """Dataset `name` of `group`, ``[size]``.

    kinds  of NumPy dtypes that it may have, "iu" for integers

    Raises `DataError` naming file and place for one that is missing, unreadable, or of another shape or type.
    """
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{where}/{name} is missing, or no dataset.")
    text = h5py.check_string_dtype(found.dtype)
    if found.ndim != 1 or ("S" if text else found.dtype.kind) not in kinds:
        wanted = "texts" if kinds == "S" else "integers" if kinds == "iu" else "numbers"
        raise DataError(
            f"{where}/{name} is {found.dtype} of shape {found.shape}, expected one axis of {wanted}."
        )
    if size is not None and len(found) != size:
        raise DataError(f"{where}/{name} has {len(found)} rows, expected {size}.")
    try:
        values: np.ndarray = found.asstr()[()] if text else found[()]
    except DAMAGED as error:
        raise DataError(f"{where}/{name} can't be read ({error}).") from error
    return values


def integers(group: h5py.Group, name: str, where: str, size: int | None = None) -> np.ndarray:
    """As `column`, of integers from 0: int64 ``[size]``."""
    values = column(group, name, where, "iu", size)
    wrong = (values < 0) | (values > np.iinfo(np.int64).max)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{where}/{name}[{row}] is {values[row]}, expected an integer from 0.")
    return values.astype(np.int64)


@dataclass(frozen=True)
class Rows:
    """The rows of a population, N of them.

    kind      "node" or "edge"
    where     file and place in it, for messages
    group     the population in the open file
    size      N
    types     type id → its attributes
    type_ids  the types that occur, [K]
    type_of   row → place in `type_ids`, int64 [N]
    members   group → (its rows, the place of each in the group), int64 [M] both
    """

    kind: str
    where: str
    group: h5py.Group
    size: int
    types: Types
    type_ids: np.ndarray
    type_of: np.ndarray
    members: Mapping[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, group: h5py.Group, path: Path, kind: str, types: Types | None) -> Rows:
        """The population `group` of a file; types None: without a table, any type id will do.

        Raises `DataError` for what is missing, of unequal length, or points to a type, group or row that is
        not there.
        """
        where = f"{path}: {group.name}"
        type_id = integers(group, f"{kind}_type_id", where)
        type_ids, type_of = np.unique(type_id, return_inverse=True)
        for k, number in enumerate(type_ids.tolist() if types is not None else ()):
            if types is not None and number not in types:
                row = int(np.argmax(type_of == k))
                raise DataError(
                    f"{where}/{kind}_type_id[{row}] is {number}, which the table of types does not have."
                )
        made = cls(kind, where, group, len(type_id), types or {}, type_ids, type_of.reshape(-1))
        return cls(**{**vars(made), "members": made._members()})

    def _members(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        names = (f"{self.kind}_group_id", f"{self.kind}_group_index")
        numbered = [name for name in self.group if name.isdigit()]
        if not numbered and not any(name in self.group for name in names):
            return {}
        of, index = (integers(self.group, name, self.where, self.size) for name in names)
        found = {}
        for number in np.unique(of).tolist():
            if not isinstance(self.group.get(str(number)), h5py.Group):
                row = int(np.argmax(of == number))
                raise DataError(f"{self.where}/{names[0]}[{row}] is {number}, and there is no such group.")
            rows = np.flatnonzero(of == number)
            if not np.array_equal(np.sort(index[rows]), np.arange(len(rows))):
                raise DataError(
                    f"{self.where}/{names[1]}: the {len(rows)} rows of group {number} must hold 0 to "
                    f"{len(rows) - 1}, each once."
                )
            found[number] = (rows, index[rows])
        return found

    def type_name(self, row: int) -> str:
        """What a row is called in messages."""
        return f"{self.kind} {row} (type {self.type_ids[self.type_of[row]]})"

    def numbers(self, name: str) -> np.ndarray:
        """Attribute `name`, the row's own over its type's: float64 ``[N]``, NaN where not given.

        Raises `DataError` for what is no finite number.
        """
        own = self.numbers_of_rows(name)
        return np.where(np.isnan(own), self.numbers_of_types(name), own)

    def numbers_of_types(self, name: str) -> np.ndarray:
        """As `numbers`, of the types' table alone."""
        texts = [self._of_type(k, name) for k in range(len(self.type_ids))]
        of_type = np.array([self._number(k, name, text) for k, text in enumerate(texts)], float)
        return of_type[self.type_of] if self.size else np.zeros(0)

    def numbers_of_rows(self, name: str) -> np.ndarray:
        """As `numbers`, of the HDF5 file alone."""
        values = np.full(self.size, np.nan)
        self._own(values, name, lambda group, where, m: column(group, name, where, "iuf", m))
        return values

    def texts(self, name: str) -> np.ndarray:
        """Attribute `name`, texts or None ``[N]``; numbers of HDF5 stand for the texts of ``@library``."""
        of_type = np.array([self._of_type(k, name) for k in range(len(self.type_ids))], object)
        values = of_type[self.type_of] if self.size else np.zeros(0, object)

        def own(group: h5py.Group, where: str, m: int) -> np.ndarray:
            library = group.get("@library")
            if not isinstance(library, h5py.Group) or name not in library:
                return column(group, name, where, "S", m)
            known, chosen = column(library, name, f"{where}/@library", "S"), integers(group, name, where, m)
            if chosen.max(initial=-1) >= len(known):
                raise DataError(f"{where}/{name}: {chosen.max()} is beyond the {len(known)} of @library.")
            return known[chosen]

        self._own(values, name, own)
        return values

    def without(self, name: str, known: Container[str | None]) -> np.ndarray:
        """Rows whose attribute `name` (None: not given) is none of `known`; each type is compared once."""
        of_type = np.array([self._of_type(k, name) not in known for k in range(len(self.type_ids))], bool)
        wrong = of_type[self.type_of] if self.size else np.zeros(0, bool)
        if any(name in self.group[str(number)] for number in self.members):
            wrong = np.array([text not in known for text in self.texts(name)], bool)
        return np.flatnonzero(wrong)

    def parameters(self, folder: Path | None) -> dict[str, np.ndarray]:
        """Parameters of the models, name → float64 ``[N]`` with NaN where not given: JSON, HDF5 over it.

        folder  where the JSON files of ``dynamics_params`` lie

        Raises `DataError` naming file and key for what is missing or no number, `ExportError` for a file that
        is given row by row.
        """
        found: dict[str, np.ndarray] = {}
        for k in range(len(self.type_ids)):
            file = self._of_type(k, "dynamics_params")
            if file is None:
                continue
            path = Path(file) if folder is None else folder / file
            for name, value in read_json(path).items():
                if not isinstance(value, int | float) or not np.isfinite(value):
                    raise DataError(f"{path}: {name} is {value!r}, expected a number.")
                found.setdefault(name, np.full(self.size, np.nan))[self.type_of == k] = value
        for number, (rows, index) in self.members.items():
            own = self.group[str(number)].get("dynamics_params")
            if own is None:
                continue
            where = f"{self.where}/{number}/dynamics_params"
            if not isinstance(own, h5py.Group):
                raise ExportError(f"{where}: a file for each {self.kind}; give each file a type of its own.")
            for name in own:
                values = self._finite(column(own, name, where, "iuf", len(rows)), f"{where}/{name}")
                found.setdefault(name, np.full(self.size, np.nan))[rows] = values[index]
        return found

    def _of_type(self, k: int, name: str) -> str | None:
        return self.types.get(int(self.type_ids[k]), {}).get(name)

    def _number(self, k: int, name: str, text: str | None) -> float:
        try:
            value = np.nan if text is None else float(text)
        except ValueError:
            value = np.inf
        if text is not None and not np.isfinite(value):
            raise DataError(
                f"{self.where}: {self.kind} type {self.type_ids[k]} has {name} = {text!r}, expected a number."
            )
        return value

    def _own(self, values: np.ndarray, name: str, read: Any) -> None:
        """Write the rows' own values over those of their types."""
        for number, (rows, index) in self.members.items():
            group = self.group[str(number)]
            if name in group:
                where = f"{self.where}/{number}"
                own = read(group, where, len(rows))
                values[rows] = (self._finite(own, f"{where}/{name}") if values.dtype == float else own)[index]

    @staticmethod
    def _finite(values: np.ndarray, where: str) -> np.ndarray:
        if not np.isfinite(values).all():
            row = int(np.argmax(~np.isfinite(values)))
            raise DataError(f"{where}[{row}] is {values[row]}, expected a finite number.")
        return values
