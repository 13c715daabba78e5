"""NetX files: the HDF5 network description that lava-dl's ``netx.hdf5.Network`` reads.

`write` puts an integer Graph (`snnkit.hardware.loihi`) into such a file and refuses what the reader
would compute differently; `read` gives the Graph that lava-dl's reader would build, with its bit
packing. One weight unit is 64 units of u; bias and threshold are in the same unit.

Layout and traps: docs/loihi.md. Source: lava-dl 0.6.0.
"""

from .packing import MESSAGE_BITS, packed_weights
from .reading import read
from .writing import write

__all__ = ["MESSAGE_BITS", "packed_weights", "read", "write"]
