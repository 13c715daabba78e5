"""Synapses with delays as one value."""

from typing import NamedTuple

from torch import Tensor


class Synapses(NamedTuple):
    """What the functions of this folder know of synapses.

    weight    ``[O, I, K]``: K taps for each of O outputs and I inputs; ``[N, K]`` for N channels
    position  in the shape of the weights, steps, in 0 … window − 1
    sigma     width of the kernel, steps: a scalar tensor, or in the shape of the weights
    window    number of delays, max_delay + 1
    version   name of the kernel in `snnkit.delays.kernel.VERSIONS`
    """

    weight: Tensor
    position: Tensor
    sigma: Tensor
    window: int
    version: str = "gauss"
