"""Cost models: which operations are charged, and by which constants.

Each turns `Counts` into rows (layer, part, operation, count, price). The constants come from a profile;
nothing here is a number of some technology.

    ops        additions and multiplications only (Horowitz 2014 is the usual source of constants)
    lemaire    operations, addressing and every memory access (Lemaire et al. 2022)
    yan        operations, weight fetches and potential movement (Yan et al. 2024)
    loihi      synaptic operations, active and inactive neurons, hops (Davies et al. 2018)
    sanafe     soma access, update, spike; messages per target core; hops (SANA-FE, 2025)
    processor  so much per operation, dense or event-driven (KerasSpiking's convention)

Another is one file with a `Model` and one row here.
"""

from __future__ import annotations

from . import lemaire, loihi, ops, processor, sanafe, yan
from .model import Model, Tariff

MODELS: dict[str, Model] = {
    "ops": ops.MODEL,
    "lemaire": lemaire.MODEL,
    "yan": yan.MODEL,
    "loihi": loihi.MODEL,
    "sanafe": sanafe.MODEL,
    "processor": processor.MODEL,
}

__all__ = ["MODELS", "Model", "Tariff"]
