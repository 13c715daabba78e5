"""The files of a SONATA circuit: configurations, tables of types, parameters of models."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import PathLike

VARIABLE = re.compile(r"\$\{?(\w+)\}?")
NOTHING = ("", "null", "none", "nan", "na")
"""What stands in a table for no value, in small letters."""

DEPTH = 16
"""Variables within variables of a manifest."""

Types = dict[int, dict[str, str]]
"""Type id → column → text; columns without a value are left out."""


@dataclass(frozen=True)
class Pair:
    """An HDF5 file of nodes or edges and the table of their types, which may be absent."""

    data: Path
    types: Path | None
    kinds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Circuit:
    """What the configurations of a circuit and its simulation say.

    where       name for messages
    nodes, edges the files, in their order
    components  name of a folder → folder
    dt          step, ms; None: not said
    v_init      potential at which a simulation starts, mV; None: not said
    """

    where: str
    nodes: list[Pair]
    edges: list[Pair]
    components: dict[str, Path]
    dt: float | None
    v_init: float | None


def circuit(config: PathLike | Mapping[str, Any], simulation: PathLike | Mapping[str, Any] | None) -> Circuit:
    """The circuit of a configuration: of a circuit, a simulation ("network"), or both in one.

    Raises `DataError` naming the file for one that is missing, is no JSON object, or lacks "networks".
    """
    found = [_Config.of(config)]
    if "networks" not in found[0].tree and "network" in found[0].tree:
        found += [found[0].other(key) for key in ("network", "simulation") if key in found[0].tree]
    if simulation is not None:
        found.append(_Config.of(simulation))
    base = next((c for c in found if "networks" in c.tree), None)
    if base is None:
        raise DataError(f"{found[0].where} is no SONATA circuit: it has neither 'networks' nor 'network'.")
    networks = base.part(base.tree, "networks")
    numbers = {"dt": ("run", "dt"), "v_init": ("conditions", "v_init")}
    said: dict[str, float | None] = dict.fromkeys(numbers)
    for one in found:
        for name, (part, key) in numbers.items():
            value = one.part(one.tree, part).get(key)
            if value is not None:
                said[name] = one.number(value, f"{part}.{key}")
    components = base.part(base.tree, "components")
    return Circuit(
        where=base.where,
        nodes=base.pairs(networks, "nodes", "node_types_file"),
        edges=base.pairs(networks, "edges", "edge_types_file"),
        components={k: base.path(v, f"components.{k}") for k, v in components.items() if isinstance(v, str)},
        dt=said["dt"],
        v_init=said["v_init"],
    )


@dataclass(frozen=True)
class _Config:
    """One configuration with the variables of its manifest put in; its paths are relative to `folder`."""

    tree: Mapping[str, Any]
    where: str
    folder: Path

    @classmethod
    def of(cls, config: PathLike | Mapping[str, Any]) -> _Config:
        if isinstance(config, Mapping):
            tree, where, folder = config, "the SONATA configuration", Path()
        else:
            tree, where, folder = read_json(Path(config)), str(config), Path(config).parent
        manifest = tree.get("manifest", {})
        if not isinstance(manifest, Mapping):
            raise DataError(f"{where}: manifest is a {type(manifest).__name__}, expected an object.")
        variables = {key.strip("${}"): str(value) for key, value in manifest.items()}
        variables["configdir"] = str(folder)
        return cls(_filled(tree, variables), where, folder)

    def other(self, key: str) -> _Config:
        return _Config.of(self.path(self.tree[key], key))

    def part(self, tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        found = tree.get(key) or {}
        if not isinstance(found, Mapping):
            raise DataError(f"{self.where}: {key} is a {type(found).__name__}, expected an object.")
        return found

    def number(self, value: Any, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{self.where}: {key} is {value!r}, expected a number.")
        return float(value)

    def path(self, value: Any, key: str) -> Path:
        if not isinstance(value, str):
            raise DataError(f"{self.where}: {key} is {value!r}, expected a path.")
        left = VARIABLE.search(value)
        if left:
            raise DataError(
                f"{self.where}: {key} is {value!r}, and the manifest does not define {left[0]!r}."
            )
        return self.folder / value

    def pairs(self, networks: Mapping[str, Any], kind: str, types: str) -> list[Pair]:
        listed = networks.get(kind) or []
        data = f"{kind}_file"
        if not isinstance(listed, list) or not all(isinstance(e, Mapping) and data in e for e in listed):
            raise DataError(f"{self.where}: networks.{kind} must be a list of objects with {data!r}.")
        return [
            Pair(
                data=self.path(entry[data], f"networks.{kind}[{i}].{data}"),
                types=None
                if str(entry.get(types) or "").lower() in NOTHING
                else self.path(entry[types], f"networks.{kind}[{i}].{types}"),
                kinds=self.part(entry, "populations"),
            )
            for i, entry in enumerate(listed)
            if entry.get("enabled", True)
        ]


def _filled(tree: Any, variables: Mapping[str, str]) -> Any:
    """The tree with the variables that are known put into its texts."""
    if isinstance(tree, Mapping):
        return {key: _filled(value, variables) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_filled(value, variables) for value in tree]
    if isinstance(tree, str):
        for _ in range(DEPTH):
            if "$" in tree:
                tree = VARIABLE.sub(lambda found: variables.get(found[1], found[0]), tree)
    return tree


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file. Raises `DataError` naming the file for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is no readable JSON ({error}).") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a JSON {type(found).__name__}, expected an object.")
    return found


def read_types(path: Path, key: str, population: str) -> Types:
    """The rows of a table of types by column `key`; of several populations in one table, those of this one.

    Columns are separated by spaces, texts with spaces are quoted. Raises `DataError` naming file and row.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable table of types ({error}).") from error
    table = [(n, line.strip().replace("\t", " ")) for n, line in enumerate(lines, 1) if line.strip()]
    try:
        rows = list(
            csv.reader((line for _, line in table), delimiter=" ", skipinitialspace=True, strict=True)
        )
    except csv.Error as error:
        raise DataError(f"{path} is no readable table of types ({error}).") from error
    if not rows or len(rows) != len(table) or key not in rows[0]:
        raise DataError(f"{path} is no table of types: its first line must name columns, {key!r} among them.")
    header, types = rows[0], Types()
    for (line, _), row in zip(table[1:], rows[1:], strict=True):
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} values for the {len(header)} columns of line 1."
            )
        said = {name: text for name, text in zip(header, row, strict=True) if text.lower() not in NOTHING}
        if said.get("population", population) != population:
            continue
        try:
            number = int(said[key])
        except (KeyError, ValueError):
            raise DataError(
                f"{path}, line {line}: {key} is {said.get(key)!r}, expected an integer."
            ) from None
        if number in types:
            raise DataError(f"{path}, line {line}: {key} {number} is there a second time.")
        types[number] = said
    return types
