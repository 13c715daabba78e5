"""What a cost model is: a function from counts to priced rows, and the constants that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...chips import Chip
from ...errors import nearest
from ..counts import Counts, NeuronCounts, SynapseCounts
from ..rows import Row

FLAG = (True, False)


@dataclass(frozen=True)
class Tariff:
    """What a cost model prices by.

    constants  name → number, in the unit that the model gives it; all at low, value or high
    settings   every setting of the model
    chip       the chip that a model with `on_chip` prices
    """

    constants: Mapping[str, float]
    settings: Mapping[str, Any]
    chip: Chip | None = None


@dataclass(frozen=True)
class Model:
    """A cost model.

    constants  constant → unit; a name ending in * stands for a family (barrier_1, barrier_2, …), of which
               the first must be there
    rows       every operation of a network with its price
    dense      those of one pass of a dense network of equal size in so many bits; None: not priced
    latency    time of each sample ``[B]``, ns, or None where the counts do not say; None: no latency
    optional   those of `constants` that a profile may leave out
    switched   setting → those of `optional` that it needs when it is on
    settings   setting → default
    choices    setting → what it may be; one that is not here is a whole number ≥ 1
    on_chip    True where messages and hops are priced, so that a chip and a mapping are needed
    """

    constants: dict[str, str]
    rows: Callable[[Counts, Tariff], list[Row]]
    dense: Callable[[Counts, Tariff, int], list[Row]] | None = None
    latency: Callable[[Counts, Tariff], np.ndarray | None] | None = None
    optional: frozenset[str] = frozenset()
    switched: dict[str, tuple[str, ...]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    on_chip: bool = False

    def needs(self, settings: Mapping[str, Any]) -> list[str]:
        """Constants that a profile with these settings must have."""
        families = [n for n in self.constants if n.endswith("_*")]
        names = [n for n in self.constants if n not in self.optional and n not in families]
        for setting, constants in self.switched.items():
            names += constants if settings.get(setting) else ()
        return names + [f"{family[:-2]}_1" for family in families if family not in self.optional]

    def unit(self, constant: str) -> str | None:
        """Unit that a constant must be in, or None if the model knows no such constant."""
        if constant in self.constants:
            return self.constants[constant]
        stem, _, number = constant.rpartition("_")
        return self.constants.get(f"{stem}_*") if number.isdigit() else None

    def wrong_settings(self, settings: Mapping[str, Any]) -> list[str]:
        """What is wrong with these settings, one text each."""
        wrong = []
        for name, value in settings.items():
            if name not in self.settings:
                wrong.append(f"unknown setting {name!r}{nearest(name, self.settings)}")
            elif name in self.choices and value not in self.choices[name]:
                wrong.append(
                    f"setting {name} = {value!r} is none of {', '.join(map(str, self.choices[name]))}"
                )
            elif name not in self.choices and (not isinstance(value, int) or value < 1):
                wrong.append(f"setting {name} = {value!r} must be a whole number ≥ 1")
        return wrong


def layers(counts: Counts) -> list[tuple[NeuronCounts, list[SynapseCounts]]]:
    """Every population that is no input, with the projections into it."""
    return [(n, counts.into(n.name)) for n in counts.neurons if not n.is_input]


def scaled(add: float, mul: float, from_bits: int, bits: int) -> tuple[float, float]:
    """Integer add and multiply at `bits`, from those at `from_bits`: linear and square in the width.

    From Horowitz's int8 (0.03, 0.2 pJ) this gives 0.12 and 3.2 pJ at 32 bits, where he has 0.1 and 3.1.
    """
    return add * bits / from_bits, mul * (bits / from_bits) ** 2
