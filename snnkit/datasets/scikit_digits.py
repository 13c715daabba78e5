"""The handwritten digits that scikit-learn brings along."""

from __future__ import annotations

import numpy as np

from ..errors import require
from .images import Images


def scikit_digits() -> Images:
    """scikit-learn's 1,797 handwritten digits of 8×8, float32 0..1; every fifth is the test part."""
    bunch = require("sklearn.datasets", "dev").load_digits()
    x = (bunch.images / 16).astype(np.float32)[:, None]
    y = bunch.target.astype(np.int64)
    test = np.arange(len(y)) % 5 == 4
    return Images(
        train=(x[~test], y[~test]), test=(x[test], y[test]), classes=[str(digit) for digit in range(10)]
    )
