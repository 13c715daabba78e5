"""What a module's `forward` does to the spikes that it is given, found by `torch.fx`.

`Tracer.run` follows the operations of a module and keeps, for every tensor that depends on the input, its
`Value`: a sum of linear maps of populations' spikes. What does not depend on the input is computed as it
stands. `LAYERS` and `OPERATIONS` are the tables of what is understood; a new layer is one row.
"""

from . import layers, operations  # noqa: F401  they enter their rows
from .tracer import (
    ALONE,
    BASES,
    BATCH,
    FACTORIES,
    FRAMEWORKS,
    LAYERS,
    LEADS,
    OPERATIONS,
    STEPS,
    Met,
    Tracer,
    handler_of,
    hooked,
    layer,
    lead_of,
    operation,
    placed,
)

__all__ = [
    "ALONE",
    "BASES",
    "BATCH",
    "FACTORIES",
    "FRAMEWORKS",
    "LAYERS",
    "LEADS",
    "OPERATIONS",
    "STEPS",
    "Met",
    "Tracer",
    "handler_of",
    "hooked",
    "layer",
    "lead_of",
    "operation",
    "placed",
]
