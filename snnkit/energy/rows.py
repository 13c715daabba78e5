"""One priced operation of one layer: what every cost model gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Row:
    """One priced operation of one layer.

    layer, part   population, and the projection or population that does it
    operation     in words
    count         how often, of each sample ``[B]``
    pj            price of one, pJ
    scales        True where the count is proportional to the number of spikes
    """

    layer: str
    part: str
    operation: str
    count: np.ndarray
    pj: float
    scales: bool = field(default=True, kw_only=True)

    @property
    def mean(self) -> float:
        """How often, mean a sample."""
        return mean(self.count)

    @property
    def energy_pj(self) -> float:
        """Energy of all of them, mean a sample, pJ."""
        return self.mean * self.pj


def total_pj(rows: Iterable[Row]) -> float:
    """Energy of all rows, mean a sample, pJ."""
    return float(sum(row.energy_pj for row in rows))


def mean(x: np.ndarray) -> float:
    """Mean over samples ``[B]``; 0 where there are none."""
    return float(np.asarray(x, float).mean()) if len(x) else 0.0
