"""Spiking neural networks with learned delays, from training to a neuromorphic chip."""

import os

__version__ = "0.1.0"

# OpenMP's idle threads wait in a busy loop of milliseconds, on the cores that the next kernel wants: PyTorch
# and Numba bring a pool each, and a training step goes back and forth between them. Read when the libraries
# are loaded, so that it helps where snnkit is imported before torch; what the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
