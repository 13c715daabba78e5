"""Sound → spikes of 700 bushy cells, the encoding of the Spiking Heidelberg Digits.

The chain is that of Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg Spiking Data Sets for the
systematic evaluation of spiking neural networks", IEEE TNNLS 33(7), 2022 (arXiv:1910.07407), a file a stage:

    sound  →  48 kHz, root mean square 0.3, Hann flanks           `prepare`, waveform.py
           →  velocity of the basilar membrane in 700 places      `membrane`, basilar.py
           →  release of transmitter by the inner hair cells      `release`, hair_cells.py
           →  40 refractory afferents per place, one LIF cell     `bushy_spikes`, bushy_cells.py

The number of spikes depends on the rate the cells run at, and at the 8 kHz of old corpora their Euler step
is unstable. So every sound is brought to one rate first, and `write_shd` records it with all constants.
"""

from .basilar import membrane, phase, transfer
from .bushy_cells import Spikes, bushy_spikes
from .clips import clip_seed, encode, encode_many, write_shd
from .hair_cells import release
from .settings import Cochlea
from .waveform import prepare

__all__ = [
    "Cochlea",
    "Spikes",
    "bushy_spikes",
    "clip_seed",
    "encode",
    "encode_many",
    "membrane",
    "phase",
    "prepare",
    "release",
    "transfer",
    "write_shd",
]
