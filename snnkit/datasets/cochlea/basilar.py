"""Basilar membrane: sound → velocity in every place (Sieroka, Dosch and Rupp, JASA 120(1), 2006).

Shallow water between rigid walls, at distance c from the stapes and angular frequency ω; stiffness and
damping of the membrane fall along the cochlea:

    ξ(c) = S(c) − m ω² − iω R(c),   S = C0 e^(−α c) − a,   R = δ √(C0 m) e^(−α c/2)     impedance · iω
    g(c) = ω √(ρ / (h ξ(c)))                                                           local wave number
    G(c) = 2 g(0)/α + ∫₀ᶜ g                                                                 its phase
    p(c) = √(G/g) · H₀⁽¹⁾(G)                              pressure, a wave that only travels outwards
    v(c) = 2ω/ξ(c) · p(c)/p(0) · Z,   Z = i √(2 C0/h) · H₀⁽²⁾(k)/H₁⁽²⁾(k),   k = (2ω/α) √(2/(h C0))

With u = e^(−αc/2) the impedance is a quadratic in u, ξ = C0 u² − iωδ√(C0 m) u − A with A = a + mω², so
the integral is elementary: ∫₀ᶜ g = (2ω/α)√(ρ/h) ∫ᵤ¹ du/(u √ξ), see `phase`.

The spectrum that meets v has n//2 + 1 bins, from f_min to half the sound's rate. Its inverse transform of
the same length is the analytic signal at half the sound's rate, which is the time step of the cells. (Half
of n samples are spread over n//2 + 1: by its end a clip is one step late, as in the SHD data.)

What the membrane does to one length of sound is a table of v(ω, c), made once and kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np
from scipy import fft, special

from ...errors import DataError, ParameterError
from ...files import atomic, cache_folder
from ...machine import cores
from .settings import Cochlea

BLOCK = 32
"""Channels that go through the chain together: their state stays in the processor's nearest cache."""

LARGEST_TABLE = 2 << 30
"""Bytes that the membrane's response to one length of sound may take."""

MEMBRANE = (
    *("channels", "f_min", "length", "stiffness", "stiffness_slope", "stiffness_drop", "density", "damping"),
    *("height", "mass"),
)
"""The constants its response depends on."""


def membrane(sound: np.ndarray, rate: int, settings: Cochlea, source_rate: int | None = None) -> np.ndarray:
    """Velocity of the membrane, ``[T, C]`` at half the sound's `rate`.

    sound        ``[m]`` at `rate`, as `prepare` gives it
    source_rate  samples per second that it was recorded at; None: `rate`

    Raises `ParameterError` for a sound that is too long for `LARGEST_TABLE`.
    """
    return np.concatenate(list(velocities(sound, rate, settings, source_rate or rate)), axis=1)


def velocities(sound: np.ndarray, rate: int, settings: Cochlea, source_rate: int) -> Iterator[np.ndarray]:
    """`membrane` in blocks of at most `BLOCK` channels, in their order: ``[T, block]`` each."""
    length, bins = _grid(len(sound), rate, source_rate, settings)
    table = _transfer_table(settings, rate, length, bins)
    spectrum = _spectrum(sound, length, bins, settings)
    steps = length if settings.pad_ms is None else (len(sound) + 1) // 2
    for number, part in enumerate(table):
        width = min(part.shape[1], settings.channels - number * part.shape[1])
        yield _block(part, spectrum, length)[:steps, :width]


def phase(omega: np.ndarray, place: np.ndarray, settings: Cochlea) -> np.ndarray:
    """G(c), the phase of the travelling wave. `omega` ``[F, 1]`` and `place` ``[1, C]`` → ``[F, C]``.

    With γ = i√A an antiderivative of 1/(u √ξ(u)) is −1/γ · ln(E(u)/u) where E(u) = γ √ξ − A − iωR₀u/2
    (times any constant). Between the borders the logarithm is taken of the ratio, which stays away
    from its cut for all u in (0, 1].
    """
    s = settings
    damping = s.damping * math.sqrt(s.stiffness * s.mass)
    root_a = np.sqrt(s.stiffness_drop + s.mass * omega**2)

    def edge(u: np.ndarray) -> np.ndarray:
        xi = s.stiffness * u**2 - 1j * omega * damping * u - root_a**2
        return (1j * root_a * np.sqrt(xi) + root_a**2 + 0.5j * omega * damping * u) / u

    one = np.ones((1, 1))
    xi_0 = s.stiffness - 1j * omega * damping - root_a**2
    scale = 2 * omega * math.sqrt(s.density / s.height) / s.stiffness_slope
    logarithm = np.log(edge(one) / edge(np.exp(-s.stiffness_slope * place / 2)))
    return scale * (1 / np.sqrt(xi_0) - 1j * logarithm / root_a)


def transfer(frequencies: np.ndarray, settings: Cochlea) -> np.ndarray:
    """v(ω, c), the membrane's velocity per pressure, complex128 ``[F, C]``. `frequencies` in Hz ``[F]``."""
    s = settings
    omega = 2 * np.pi * np.asarray(frequencies, np.float64)[:, None]
    place = np.linspace(0, s.length, s.channels)[None]
    damping = s.damping * math.sqrt(s.stiffness * s.mass)

    def impedance(c: np.ndarray) -> np.ndarray:
        elastic = s.stiffness * np.exp(-s.stiffness_slope * c) - s.stiffness_drop - s.mass * omega**2
        return elastic - 1j * omega * damping * np.exp(-s.stiffness_slope * c / 2)

    def pressure(c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle = phase(omega, c, s)
        number = omega * np.sqrt(s.density / (s.height * impedance(c)))
        # hankel1e is hankel1 · exp(−i·angle): the exponentials meet as a difference and cannot overflow
        return np.sqrt(angle / number) * special.hankel1e(0, angle), angle

    stapes = np.zeros((1, 1))
    p, angle = pressure(place)
    p_0, angle_0 = pressure(stapes)
    k = 2 * omega / s.stiffness_slope * math.sqrt(2 / (s.height * s.stiffness))
    z = 1j * math.sqrt(2 * s.stiffness / s.height) * special.hankel2(0, k) / special.hankel2(1, k)
    return 2 * omega * z / impedance(place) * (p / p_0) * np.exp(1j * (angle - angle_0))


_table_lock = threading.Lock()


def _transfer_table(settings: Cochlea, rate: int, length: int, bins: int) -> np.ndarray:
    """The first `bins` of `length` rows of `transfer`, ``[blocks, bins, BLOCK]``, the last one filled with 0.

    Several threads that want the same table wait for one to make it.
    """
    with _table_lock:
        return _stored_table(_membrane_only(settings), rate, length, bins)


@lru_cache(maxsize=16)
def _stored_table(settings: Cochlea, rate: int, length: int, bins: int) -> np.ndarray:
    """From memory, from disk, or computed and kept."""
    constants = {name: getattr(settings, name) for name in MEMBRANE}
    kind = np.dtype(np.complex64 if settings.precision == "single" else np.complex128)
    if bins * settings.channels * kind.itemsize > LARGEST_TABLE:
        raise ParameterError(
            f"A sound of {2 * length / rate:.1f} s at {rate} Hz is too long for {settings.channels} places: "
            f"the membrane's table would take more than {LARGEST_TABLE >> 20} MiB. Cut it into clips."
        )
    source = inspect.getsource(phase) + inspect.getsource(transfer)
    key = json.dumps([constants, rate, length, bins, BLOCK, kind.name, source], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:20]
    path = cache_folder() / "cochlea" / f"transfer_{digest}.npy"
    if path.is_file():
        try:
            return np.load(path, mmap_mode="r")
        except (OSError, ValueError):  # a damaged cache file: make it anew
            pass
    frequencies = np.linspace(settings.f_min, rate // 2, length)[:bins]
    blocks = math.ceil(settings.channels / BLOCK)
    table: np.ndarray = np.zeros((blocks, bins, BLOCK), kind)

    def rows(lo: int) -> None:
        response = transfer(frequencies[lo : lo + 128], settings)
        for block in range(blocks):
            part = response[:, block * BLOCK : (block + 1) * BLOCK]
            table[block, lo : lo + 128, : part.shape[1]] = part

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(rows, range(0, bins, 128)))
    if not np.isfinite(table).all():
        raise ParameterError(f"Cochlea: the membrane's response is not finite with {constants}.")
    try:
        with atomic(path) as temporary, open(temporary, "wb") as out:
            np.save(out, table)
    except DataError:  # nowhere to keep it: the next process computes it again
        return table
    return np.load(path, mmap_mode="r")  # the system may drop its pages when memory is short


def _grid(samples: int, rate: int, source_rate: int, settings: Cochlea) -> tuple[int, int]:
    """Bins of the spectrum, and how many of them hold sound.

    With padding the bins are 4, 5, 6, 8, 10, 12, then 16, 21, 25, 32, 42, 50 … times 50 ms: clips of all
    lengths share few tables, whole seconds fit, and the numbers are products of small primes. Above the
    original's Nyquist frequency there is nothing but images.
    """
    if settings.pad_ms is None:
        length = samples // 2 + 1
    else:
        step = max(1, rate // 40)
        units = math.ceil((samples + settings.pad_ms * rate / 1000 + 2) / 2 / step)
        doubled = (base << k for k in range(40) for base in (16, 21, 25))
        length = next(size for size in (4, 5, 6, 8, 10, 12, *doubled) if size >= units) * step
    bins = length if source_rate >= rate else math.ceil(length * source_rate / rate)
    return length, bins


def _membrane_only(settings: Cochlea) -> Cochlea:
    """The same membrane with every other constant at its default, so that tables are shared."""
    return Cochlea(**{name: getattr(settings, name) for name in (*MEMBRANE, "precision")})


def _spectrum(sound: np.ndarray, length: int, bins: int, settings: Cochlea) -> np.ndarray:
    padded = sound if settings.pad_ms is None else np.pad(sound, (0, 2 * (length - 1) - len(sound)))
    kind = np.complex64 if settings.precision == "single" else np.complex128
    return fft.rfft(padded)[:bins].astype(kind)


def _block(table: np.ndarray, spectrum: np.ndarray, length: int) -> np.ndarray:
    """Real part of the inverse transform of table · spectrum (zero beyond `bins`), ``[length, block]``."""
    folded: np.ndarray = np.zeros((length // 2 + 1, table.shape[1]), table.dtype)
    _fold(table, spectrum, length, folded)
    return fft.irfft(folded, length, axis=0, overwrite_x=True)


@numba.njit(nogil=True, cache=True)
def _fold(table, spectrum, length, folded):  # type: ignore[no-untyped-def]
    """Hermitian part of the one-sided spectrum: its real inverse transform is the real part sought."""
    bins, channels = table.shape
    half = length // 2 + 1
    factor = spectrum.dtype.type(0.5)
    for k in range(bins):
        mirror = (length - k) % length
        weight = spectrum[k] * factor
        if k < half:
            for c in range(channels):
                folded[k, c] += table[k, c] * weight
        if mirror < half:
            for c in range(channels):
                folded[mirror, c] += (table[k, c] * weight).conjugate()
