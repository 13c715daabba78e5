"""What lava-dl's reader makes of a layer's weights, and the limits of a NetX file."""

from __future__ import annotations

import numpy as np

from ...errors import ExportError
from .. import loihi

MAX_DELAY = 62
MAX_BIAS = 4095
MESSAGE_BITS = 16
MAX_VTH = (1 << 17) - 1
NO_NEURONS = {"iDecay": 0, "vDecay": 4096, "vThMant": 1 << 17}
"""What lava-dl's reader gives a dense layer that says nothing of neurons: v = u, which adds up for ever."""


def packed_weights(weight: np.ndarray, *parts: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """What lava-dl's bit packing makes of integer matrices that share it: ``[(acting, shift), …]``.

    The reader shifts the weights left by q so that they fill 8 bits, tells the synapse that it uses
    b bits, and undoes the shift with a weight exponent −q. The effect is the weights themselves for
    mixed signs within −128..127 and for 0..255; outside, some come out wrong, and this says how.

    Matrices are int, of any shapes; each comes back as int64 in its own. Raises `ExportError` for weights
    that are all 0 or need more than 8 bits.
    """
    matrices = [np.asarray(m).astype(np.int64) for m in (weight, *parts)]
    both = np.concatenate([m.reshape(-1) for m in matrices])
    low, high = int(both.min(initial=0)), int(both.max(initial=0))
    if low == high == 0:
        raise ExportError("all weights are 0, which lava-dl's reader cannot pack; leave the layer out.")
    if both.size and both.max() < 0:
        high, mixed = int(both.max()), False
        scale = -256 / low
    elif both.min() >= 0:
        mixed, scale = False, 255 / high
    else:
        mixed = True
        if high > 254 or low < -256:
            matrices = [m.clip(-256, 254) for m in matrices]
            both = both.clip(-256, 254)
            low, high = int(both.min()), int(both.max())
        scale = min(127 / high if high else np.inf, -128 / low)
    q = int(np.floor(np.log2(scale))) + mixed
    zeros = max(n for n in range(9) if (both % (1 << n) == 0).all())
    bits = 8 - q - (zeros - mixed)
    if q < 0:
        raise ExportError(f"weights reach {low}..{high}; a NetX layer takes −128..127, or 0..255.")
    result = []
    for m in matrices:
        if bits > 8 + (loihi.sign_mode(m << q) == "mixed"):
            acting = np.zeros_like(m)  # a shift by −1, which gives 0
        else:
            acting = loihi.effective_weights(m << q, bits)
        if (acting % (1 << q) == 0).all():
            result.append((acting >> q, 0))
        else:
            result.append((acting, q))
    return result


def packed_in(where: str, matrices: list[np.ndarray]) -> list[tuple[np.ndarray, int]]:
    """`packed_weights`; raises its `ExportError` with `where` before it."""
    try:
        return packed_weights(*matrices)
    except ExportError as error:
        raise ExportError(f"{where}: {error}") from error
