"""What one operation costs: a profile.

A profile names its cost model (`snnkit.energy.models.MODELS`) and gives every constant that
model needs, each with low and high where sources differ, its source, year and how far it can be
trusted. `library` reads profiles and checks them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..chips import CHIPS, Chip
from ..errors import ConfigError, nearest
from ..files import PathLike, atomic

Unit = Literal["pJ", "pJ/bit", "ns", "us", "mW"]
Quality = Literal["measured", "fitted", "published", "simulated", "second-hand", "derived", "estimate"]


class Constant(BaseModel):
    """One price: ``low ≤ value ≤ high`` in `unit`, with where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float = Field(ge=0, allow_inf_nan=False)
    low: float | None = Field(None, ge=0, allow_inf_nan=False)
    high: float | None = Field(None, ge=0, allow_inf_nan=False)
    unit: Unit
    source: str = Field(min_length=3)
    year: int = Field(ge=1950, le=2100)
    quality: Quality

    @model_validator(mode="after")
    def _ordered(self) -> Constant:
        if not self.at("low") <= self.value <= self.at("high"):
            raise ValueError(f"low ≤ value ≤ high does not hold: {self.low}, {self.value}, {self.high}")
        return self

    def at(self, which: str) -> float:
        """The constant at "low", "value" or "high"."""
        given = getattr(self, which)
        return self.value if given is None else float(given)


class Mesh(BaseModel):
    """The chip that a profile prices: one of `snnkit.chips.CHIPS` by name, or how the cores of another lie.

    chip           its name in `CHIPS`: what is not given below is that chip's
    column_major   tiles are numbered down a column, else along a row
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    chip: str | None = None
    tiles_x: int = Field(ge=1)
    tiles_y: int = Field(ge=1)
    cores_per_tile: int = Field(ge=1)
    neurons_per_core: int = Field(ge=1)
    column_major: bool = True

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """What is given, with the rest from the chip that it names."""
        if not isinstance(given, dict) or given.get("chip") is None:
            return given
        if given["chip"] not in CHIPS:
            raise ValueError(f"there is no {unknown('chip', str(given['chip']), CHIPS)}")
        chip = CHIPS[given["chip"]]
        layout = {
            "tiles_x": chip.mesh[0],
            "tiles_y": chip.mesh[1],
            "cores_per_tile": chip.cores_per_tile,
            "neurons_per_core": chip.neurons,
            "column_major": chip.column_major,
        }
        return {**layout, **given}

    def as_chip(self, name: str) -> Chip:
        """The chip; of one that `CHIPS` does not have no other limits are known, and it is called `name`."""
        layout: dict[str, Any] = {
            "cores": self.tiles_x * self.tiles_y * self.cores_per_tile,
            "cores_per_tile": self.cores_per_tile,
            "mesh": (self.tiles_x, self.tiles_y),
            "neurons": self.neurons_per_core,
            "column_major": self.column_major,
        }
        return Chip(name=name, **layout) if self.chip is None else replace(CHIPS[self.chip], **layout)


class Profile(BaseModel):
    """A priced machine or model; see the module.

    model     cost model, a key of `models.MODELS`
    quality   in words: how far the whole can be trusted
    settings  the model's choices, e.g. {"precision": "fp32"}
    mesh      the chip, where messages and hops are priced
    error     published relative error of the model, {"energy": 0.117}; widens low and high
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")
    title: str
    model: str
    quality: str
    note: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    error: dict[Literal["energy", "latency"], float] = Field(default_factory=dict)
    mesh: Mesh | None = None
    constants: dict[str, Constant]

    @property
    def chip(self) -> Chip | None:
        """The chip that is priced, or None for a model that prices no chip."""
        return None if self.mesh is None else self.mesh.as_chip(self.name)

    def values(self, which: str = "value") -> dict[str, float]:
        """Constant name → number, all at "low", "value" or "high"."""
        return {name: c.at(which) for name, c in self.constants.items()}

    def with_constants(self, **numbers: float) -> Profile:
        """A copy in which these constants have other values (and no low and high).

        Raises `ConfigError` naming a constant that the profile has not.
        """
        changed = dict(self.constants)
        for name, number in numbers.items():
            if name not in changed:
                raise ConfigError(f"profile {self.name!r} has no {unknown('constant', name, changed)}")
            changed[name] = changed[name].model_copy(update={"value": number, "low": None, "high": None})
        return self.model_copy(update={"constants": changed})

    def with_settings(self, **settings: Any) -> Profile:
        """A copy with these settings in place of its own."""
        return self.model_copy(update={"settings": {**self.settings, **settings}})

    def save(self, path: PathLike) -> None:
        """Write as TOML; `load_profile` reads it back."""
        with atomic(path) as temporary:
            temporary.write_text(_toml(self), encoding="utf-8")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """``chip 'loihi', did you mean 'loihi1'? Known are ….``: the end of a sentence, its mark included."""
    known = list(known)
    near = nearest(name, known)
    return f"{kind} {name!r}{near}{' Known' if near else '; known'} are {', '.join(sorted(known))}."


def _toml(profile: Profile) -> str:
    def value(x: Any) -> str:
        if isinstance(x, bool):
            return str(x).lower()
        if isinstance(x, str):
            return json.dumps(x, ensure_ascii=False)
        if isinstance(x, list | tuple):
            return "[" + ", ".join(value(v) for v in x) + "]"
        return repr(x)

    data = profile.model_dump(exclude_none=True, exclude_defaults=False)
    lines = [f"{key} = {value(data[key])}" for key in ("name", "title", "model", "quality", "note")]
    named = None if profile.mesh is None else profile.mesh.chip
    if named is not None and profile.mesh == Mesh.model_validate({"chip": named}):
        data["mesh"] = {"chip": named}
    for table in ("settings", "error", "mesh"):
        if data.get(table):
            lines += ["", f"[{table}]", *(f"{k} = {value(v)}" for k, v in data[table].items())]
    for name, constant in data["constants"].items():
        lines += ["", f"[constants.{name}]", *(f"{k} = {value(v)}" for k, v in constant.items())]
    return "\n".join(lines) + "\n"
