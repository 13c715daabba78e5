"""Inner hair cells: velocity of the membrane → release of transmitter.

Meddis, JASA 79(3), 1986 and 83(3), 1988. Transmitter is free (q), in the cleft (c) or being reprocessed
(w); s is the velocity of the membrane, clamped so that nothing is negative:

    dq/dt = y (M − q) + x w − k q,   dc/dt = k q − (l + r) c,   dw/dt = r c − x w
    k = g (s + A)/(s + A + B) where s + A > 0, else 0;   probability of a release per step = h c dt
"""

from __future__ import annotations

import numba
import numpy as np

from .settings import Cochlea


def release(velocity: np.ndarray, rate: float, settings: Cochlea) -> np.ndarray:
    """Probability that an afferent is excited, per step of 1/`rate` s. Velocity ``[T, C]`` → ``[T, C]``."""
    out: np.ndarray = np.array(velocity, settings.dtype, order="C")
    release_in_place(out, constants_at(rate, settings))
    return out


def constants_at(rate: float, s: Cochlea) -> np.ndarray:
    """What `release_in_place` takes at `rate` steps a second, [12].

    y, g, l + r, r, x and h per step, then A, B, M, and q, c and w at rest.
    """
    k = s.cell_g * s.cell_a / (s.cell_a + s.cell_b)
    cleft = s.cell_m * s.cell_y * k / (s.cell_l * k + s.cell_y * (s.cell_l + s.cell_r))
    free = cleft * (s.cell_l + s.cell_r) / k
    store = cleft * s.cell_r / s.cell_x
    per_step = np.array([s.cell_y, s.cell_g, s.cell_l + s.cell_r, s.cell_r, s.cell_x, s.cell_h]) / rate
    return np.array([*per_step, s.cell_a, s.cell_b, s.cell_m, free, cleft, store], s.dtype)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def release_in_place(x, constants):  # type: ignore[no-untyped-def]
    """Euler steps of the hair cells, from rest; velocities in `x` become probabilities."""
    steps, channels = x.shape
    y, g, lr, r, reprocess, h, a, b, m, q0, c0, w0 = constants
    zero = x.dtype.type(0)
    q = np.full(channels, q0)
    c = np.full(channels, c0)
    w = np.full(channels, w0)
    for t in range(steps):
        for j in range(channels):
            drive = max(x[t, j] + a, zero)
            ejected = g * drive / (drive + b) * q[j]
            made = y * max(m - q[j], zero)
            lost = lr * c[j]
            taken = r * c[j]
            returned = reprocess * w[j]
            q[j] = max(q[j] + made - ejected + returned, zero)
            c[j] = max(c[j] + ejected - lost, zero)
            w[j] = max(w[j] + taken - returned, zero)
            x[t, j] = h * c[j]
