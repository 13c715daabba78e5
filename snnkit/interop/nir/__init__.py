"""NIR, the exchange format of neuromorphic software: Graph ↔ NIR's own nodes.

NIR is in continuous time; `convention.CONVENTIONS` says how a framework steps through it, so that its
files mean here what they mean there. A synapse's delay becomes Delay nodes: one group Delay → Linear for
each delay of a projection, merged again when read. A connection that leads back takes one step by itself,
as in all frameworks, so its Delay holds one less.

Pedersen et al., Nature Communications 15, 8122, 2024 (NIR 1.0).
"""

from .reading import from_nir, read
from .writing import to_nir, write

__all__ = ["from_nir", "read", "to_nir", "write"]
