"""Sound → spikes of 700 bushy cells, the encoding of the Spiking Heidelberg Digits.

The chain is that of Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg Spiking Data Sets for the
systematic evaluation of spiking neural networks", IEEE TNNLS 33(7), 2022 (arXiv:1910.07407):

    sound  →  48 kHz, root mean square 0.3, Hann flanks           `prepare`
           →  velocity of the basilar membrane in 700 places      `membrane`
           →  release of transmitter by the inner hair cells      `release`
           →  40 refractory afferents per place, one LIF cell     `bushy_spikes`

*Membrane* (Sieroka, Dosch and Rupp, JASA 120(1), 2006). Shallow water between rigid walls, at distance
c from the stapes and angular frequency ω; stiffness and damping of the membrane fall along the cochlea:

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

*Hair cell* (Meddis, JASA 79(3), 1986 and 83(3), 1988). Transmitter is free (q), in the cleft (c) or being
reprocessed (w); s is the velocity of the membrane, clamped so that nothing is negative:

    dq/dt = y (M − q) + x w − k q,   dc/dt = k q − (l + r) c,   dw/dt = r c − x w
    k = g (s + A)/(s + A + B) where s + A > 0, else 0;   probability of a release per step = h c dt

*Bushy cell*. Each of 40 afferents fires with that probability unless it fired within the last ms; a LIF
cell (τ_mem 1 ms, τ_syn 0.5 ms, refractory for 1 ms) with threshold 1 adds them up.

The number of spikes depends on the rate the cells run at, and at the 8 kHz of old corpora their Euler step
is unstable. So every sound is brought to one rate first, and `write_shd` records it with all constants.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from scipy import fft, signal, special

from ..errors import DataError, ParameterError, ShapeError
from ..files import PathLike, atomic, cache_folder
from .event_data import write_events

Spikes = tuple[np.ndarray, np.ndarray]
"""Times (seconds as float64, or steps as int64; sorted) and channels (int32) of the spikes of one clip."""

BLOCK = 32
"""Channels that go through the chain together: their state stays in the processor's nearest cache."""


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


LARGEST_TABLE = 2 << 30
"""Bytes that the membrane's response to one length of sound may take."""

MEMBRANE = (
    *("channels", "f_min", "length", "stiffness", "stiffness_slope", "stiffness_drop", "density", "damping"),
    *("height", "mass"),
)
"""The constants its response depends on."""


@dataclass(frozen=True)
class Cochlea:
    """Constants of the chain; the defaults are those of the SHD paper. CGS units as in its sources.

    channels        places along the membrane, evenly spaced, the stapes (high pitch) first
    sample_rate     Hz that every sound is brought to; None keeps the sound's own
    rms             root mean square the sound is scaled to
    flank_ms        length of the Hann flanks at both ends, ms; None: half the clip each
    pad_ms          least silence appended so that the end does not ring into the beginning, ms; None: none
    f_min           lowest frequency of the membrane's spectrum, Hz
    length          of the cochlea, cm
    stiffness       C0, g s⁻² cm⁻²
    stiffness_slope α, cm⁻¹
    stiffness_drop  a, g s⁻² cm⁻²
    density         ρ of the fluid, g cm⁻³
    damping         δ
    height          h of the fluid, cm
    mass            m of the membrane, g cm⁻²
    cell_y … cell_m the rates (1/s) and amounts of the hair cell: y, g, l, r, x, A, B, h, M
    afferents       fibres per bushy cell
    tau_mem         membrane time constant of the bushy cell, ms
    tau_syn         synaptic time constant, ms
    refractory      of afferents and bushy cells, ms
    weight          of all afferents of a cell together, thresholds per second
    precision       "single" (float32, fast) or "double" (float64, to check stages by)
    """

    channels: int = 700
    sample_rate: int | None = 48_000
    rms: float = 0.3
    flank_ms: float | None = 30.0
    pad_ms: float | None = 25.0
    f_min: float = 1.0
    length: float = 3.5
    stiffness: float = 1e9
    stiffness_slope: float = 3.0
    stiffness_drop: float = 3500.0
    density: float = 1.0
    damping: float = 0.15
    height: float = 0.1
    mass: float = 0.05
    cell_y: float = 5.05
    cell_g: float = 2000.0
    cell_l: float = 2500.0
    cell_r: float = 6580.0
    cell_x: float = 66.3
    cell_a: float = 5.0
    cell_b: float = 300.0
    cell_h: float = 50_000.0
    cell_m: float = 1.0
    afferents: int = 40
    tau_mem: float = 1.0
    tau_syn: float = 0.5
    refractory: float = 1.0
    weight: float = 13_000.0
    precision: str = "single"

    def __post_init__(self) -> None:
        if self.precision not in ("single", "double"):
            raise ParameterError(f'Cochlea: precision is "single" or "double", got {self.precision!r}.')
        may_be_none = {"sample_rate", "flank_ms", "pad_ms"}
        may_be_zero = {"flank_ms", "pad_ms", "stiffness_drop", "refractory"}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name == "precision" or (value is None and entry.name in may_be_none):
                continue
            whole = entry.name in ("channels", "sample_rate", "afferents")
            if (
                not isinstance(value, int | np.integer if whole else int | float | np.number)
                or not math.isfinite(value)
                or value < 0
                or (value == 0 and entry.name not in may_be_zero)
            ):
                kind = "a whole number above 0" if whole else "a number above 0"
                if entry.name in may_be_zero:
                    kind = "a number of at least 0"
                raise ParameterError(f"Cochlea: {entry.name} = {value!r}, expected {kind}.")
        if self.stiffness * math.exp(-self.stiffness_slope * self.length) <= self.stiffness_drop:
            raise ParameterError(
                "Cochlea: the membrane's stiffness falls below 0 within its length; lower stiffness_slope, "
                "length or stiffness_drop."
            )

    @property
    def dtype(self) -> type:
        """Floating-point type of the stages."""
        return np.float32 if self.precision == "single" else np.float64


def _settings(settings: Cochlea | None, changes: dict[str, Any]) -> Cochlea:
    known = {entry.name for entry in fields(Cochlea)}
    if unknown := sorted(set(changes) - known):
        raise ParameterError(f"Cochlea has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    return replace(settings or Cochlea(), **changes)


# ---------------------------------------------------------------------------------------- sound


def prepare(audio: np.ndarray, rate: int, settings: Cochlea) -> np.ndarray:
    """Sound at the working rate, scaled to `rms`, with Hann flanks. ``[n]`` → float64 ``[m]``."""
    sound = np.asarray(audio)
    if sound.ndim != 1 or sound.dtype.kind not in "fiu":
        raise ShapeError(
            f"A sound is one-dimensional, float or integer, got shape {sound.shape} of {sound.dtype}; "
            "choose or average the channels of a stereo recording first."
        )
    if isinstance(rate, bool) or rate != int(rate) or rate < 100:
        raise ParameterError(f"rate is the sound's samples per second, a whole number, got {rate!r}.")
    sound = sound.astype(np.float64)
    if not np.isfinite(sound).all():
        raise DataError(f"The sound has a NaN or an infinity at sample {int(np.argmin(np.isfinite(sound)))}.")
    target = settings.sample_rate or int(rate)
    if len(sound) and target != rate:
        divisor = math.gcd(target, int(rate))
        sound = signal.resample_poly(sound, target // divisor, int(rate) // divisor)
    if len(sound) < 4:
        raise DataError(f"The sound has {len(audio)} samples at {rate} Hz: too short to encode.")
    level = math.sqrt(np.mean(sound**2))
    if level == 0:
        raise DataError("The sound is silent (every sample is 0): it has no level to normalise to.")
    sound = sound * (settings.rms / level)
    half = len(sound) // 2
    flank = half if settings.flank_ms is None else min(half, round(settings.flank_ms * target / 1000))
    if flank:
        ramp = np.hanning(2 * flank)[:flank]
        sound[:flank] *= ramp
        sound[len(sound) - flank :] *= ramp[::-1]
    return sound


# ------------------------------------------------------------------------------------- membrane


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

    with ThreadPoolExecutor(processors()) as pool:
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


def membrane(sound: np.ndarray, rate: int, settings: Cochlea, source_rate: int | None = None) -> np.ndarray:
    """Velocity of the membrane, ``[T, C]`` at half the sound's `rate`; `sound` as `prepare` gives it."""
    length, bins = _grid(len(sound), rate, source_rate or rate, settings)
    table = _transfer_table(settings, rate, length, bins)
    spectrum = _spectrum(sound, length, bins, settings)
    steps = _steps(len(sound), length, settings)
    blocks = [_block(part, spectrum, length)[:steps] for part in table]
    return np.concatenate(blocks, axis=1)[:, : settings.channels]


def _membrane_only(settings: Cochlea) -> Cochlea:
    """The same membrane with every other constant at its default, so that tables are shared."""
    return Cochlea(**{name: getattr(settings, name) for name in (*MEMBRANE, "precision")})


def _steps(samples: int, length: int, settings: Cochlea) -> int:
    return length if settings.pad_ms is None else (samples + 1) // 2


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


# ------------------------------------------------------------------------------- hair cells


def release(velocity: np.ndarray, rate: float, settings: Cochlea) -> np.ndarray:
    """Probability that an afferent is excited, per step of 1/`rate` s. Velocity ``[T, C]`` → ``[T, C]``."""
    out: np.ndarray = np.array(velocity, settings.dtype, order="C")
    _release(out, _cell_constants(rate, settings))
    return out


def _cell_constants(rate: float, s: Cochlea) -> np.ndarray:
    k = s.cell_g * s.cell_a / (s.cell_a + s.cell_b)
    cleft = s.cell_m * s.cell_y * k / (s.cell_l * k + s.cell_y * (s.cell_l + s.cell_r))
    free = cleft * (s.cell_l + s.cell_r) / k
    store = cleft * s.cell_r / s.cell_x
    per_step = np.array([s.cell_y, s.cell_g, s.cell_l + s.cell_r, s.cell_r, s.cell_x, s.cell_h]) / rate
    return np.array([*per_step, s.cell_a, s.cell_b, s.cell_m, free, cleft, store], s.dtype)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _release(x, constants):  # type: ignore[no-untyped-def]
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


# ------------------------------------------------------------------------------- bushy cells


def bushy_spikes(probability: np.ndarray, rate: float, seed: int, settings: Cochlea) -> Spikes:
    """Steps and channels of the bushy cells' spikes, sorted. `probability` ``[T, C]``, per step."""
    p = np.ascontiguousarray(probability)
    keys = _channel_keys(seed, p.shape[1])
    return _bushy(p, keys, *_bushy_constants(rate, settings))


def _bushy_constants(rate: float, s: Cochlea) -> tuple[int, int, np.ndarray]:
    wait = math.ceil(s.refractory * rate / 1000 - 1e-9)
    values = [
        math.exp(-1000 / (rate * s.tau_mem)),
        math.exp(-1000 / (rate * s.tau_syn)),
        s.weight / s.afferents / rate,
    ]
    return s.afferents, wait, np.array(values, np.float32)


def _channel_keys(seed: int, channels: int) -> np.ndarray:
    """One random stream per channel: how the work is split over blocks changes nothing."""
    return np.random.SeedSequence(seed).generate_state(channels, np.uint64)


@numba.njit(nogil=True, inline="always")
def _uniform(state, j):  # type: ignore[no-untyped-def]
    """Next number in (0, 1] of stream j: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    state[j] += np.uint64(0x9E3779B97F4A7C15)
    z = state[j]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (np.float64(z >> np.uint64(11)) + 1.0) * (1.0 / 9007199254740992.0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _bushy(p: Any, keys: Any, afferents: Any, wait: Any, constants: Any) -> Any:
    """Afferents and LIF cells of a block of channels.

    The afferents of a channel that are free are alike, so only their number is kept, and how many fired
    in each of the last `wait` steps. Every free afferent is one trial with probability p; instead of one
    random number a trial there is one a success: a trial uses up −ln(1 − p) of an exponentially
    distributed supply, and the trial that exhausts it succeeds. By the exponential's lack of memory that
    is the same as independent trials.
    """
    steps, channels = p.shape
    decay_mem, decay_syn, weight = constants
    one = np.float32(1)
    state = keys.copy()
    supply = np.empty(channels, np.float32)
    for j in range(channels):
        supply[j] = -np.log(_uniform(state, j))
    free = np.full(channels, afferents, np.float32)
    fired = np.zeros((max(1, wait), channels), np.float32)
    hazard = np.empty(channels, np.float32)
    current = np.zeros(channels, np.float32)
    v = np.zeros(channels, np.float32)
    resting = np.zeros(channels, np.int32)
    at = np.empty(256, np.int64)
    who = np.empty(256, np.int32)
    count = 0
    slot = 0
    for t in range(steps):
        ring = fired[slot]
        slot = slot + 1 if slot + 1 < wait else 0
        high = 0
        for j in range(channels):
            x = np.float32(p[t, j])
            # −ln(1 − x) to float32's last bit below 0.05
            series = np.float32(1 / 3) + x * (np.float32(1 / 4) + x * np.float32(1 / 5))
            hazard[j] = x * (one + x * (np.float32(1 / 2) + x * series))
            high += 1 if x > np.float32(0.05) else 0
        if high:
            for j in range(channels):
                if p[t, j] > 0.05:
                    hazard[j] = -np.log1p(-min(np.float64(p[t, j]), 0.9999999))
        due = 0
        for j in range(channels):
            free[j] += ring[j]
            ring[j] = np.float32(0)
            supply[j] -= free[j] * hazard[j]
            due += supply[j] < np.float32(0)
        if due:
            for j in range(channels):
                while supply[j] < np.float32(0):
                    ring[j] += one
                    # whole trials after the one that succeeded; no more than there are, whatever the rounding
                    left = np.minimum(np.floor(-supply[j] / hazard[j]), free[j] - ring[j])
                    supply[j] = -np.log(_uniform(state, j)) - left * hazard[j]
        crossing = 0
        for j in range(channels):
            free[j] -= ring[j]
            current[j] = current[j] * decay_syn + ring[j]
            h = v[j] * decay_mem + current[j] * weight
            v[j] = h if resting[j] <= 0 else np.float32(0)
            resting[j] -= 1
            crossing += v[j] >= one
        if crossing:
            for j in range(channels):
                if v[j] >= one:
                    v[j] = np.float32(0)
                    resting[j] = wait
                    if count == len(at):
                        at = np.concatenate((at, np.empty_like(at)))
                        who = np.concatenate((who, np.empty_like(who)))
                    at[count] = t
                    who[count] = j
                    count += 1
    return at[:count].copy(), who[:count].copy()


# ------------------------------------------------------------------------------- whole clips


def encode(
    audio: np.ndarray, rate: int, seed: int = 0, settings: Cochlea | None = None, **changes: Any
) -> Spikes:
    """Spikes of one clip: times in seconds (float64, sorted) and channels (int32).

    audio     float or integer ``[n]``; its level does not matter
    rate      samples per second of `audio`
    seed      of the afferents; the same seed gives the same spikes
    settings  a `Cochlea`; `changes` replace some of its fields, as in ``encode(x, 8000, channels=128)``
    """
    s = _settings(settings, changes)
    sound = prepare(audio, rate, s)
    work_rate = s.sample_rate or int(rate)
    cell_rate = work_rate // 2
    length, bins = _grid(len(sound), work_rate, int(rate), s)
    table = _transfer_table(s, work_rate, length, bins)
    spectrum = _spectrum(sound, length, bins, s)
    steps = _steps(len(sound), length, s)
    cells = _cell_constants(cell_rate, s)
    bushy = _bushy_constants(cell_rate, s)
    keys = _channel_keys(seed, s.channels)
    at, who = [], []
    for number, part in enumerate(table):
        lo = number * part.shape[1]
        width = min(part.shape[1], s.channels - lo)
        block = np.ascontiguousarray(_block(part, spectrum, length)[:steps, :width])
        _release(block, cells)
        t, c = _bushy(block, keys[lo : lo + width], *bushy)
        at.append(t)
        who.append(c + np.int32(lo))
    times, units = np.concatenate(at), np.concatenate(who)
    order = np.lexsort((units, times))
    return times[order] / cell_rate, units[order]


def clip_seed(seed: int, index: int) -> int:
    """The seed that `encode_many` gives to the clip at `index`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def encode_many(
    clips: Sequence[np.ndarray],
    rate: int,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    settings: Cochlea | None = None,
    **changes: Any,
) -> list[Spikes]:
    """`encode` of every clip, several at once. Clip i uses ``clip_seed(seed, i)``, whatever `workers` is.

    workers   clips at a time; None takes as many as there are processors
    progress  show a bar
    """
    s = _settings(settings, changes)
    workers = processors() if workers is None else workers
    if workers < 1:
        raise ParameterError(f"workers is at least 1, got {workers}.")

    def one(index: int) -> Spikes:
        try:
            return encode(clips[index], rate, clip_seed(seed, index), s)
        except (DataError, ShapeError) as error:
            raise type(error)(f"Clip {index}: {error}") from error

    with ThreadPoolExecutor(workers) as pool:
        results: Iterable[Spikes] = pool.map(one, range(len(clips)))
        if progress:
            from rich.progress import track

            results = track(results, "cochlea", total=len(clips))
        return list(results)


def write_shd(
    path: PathLike,
    spikes: Iterable[Spikes],
    labels: Sequence[int] | np.ndarray,
    speakers: Sequence[int] | np.ndarray,
    keys: Sequence[str],
    settings: Cochlea,
    *,
    rate: int | None = None,
    seed: int | None = None,
) -> None:
    """`write_events` with the constants of the encoding in the attributes of the file.

    labels    class of each clip, an index into `keys`
    keys      names of the classes
    settings  what encoded them; `rate` of the sound and `seed` are recorded if given
    """
    attributes: dict[str, Any] = {
        f"cochlea_{name}": "none" if value is None else value for name, value in asdict(settings).items()
    }
    if rate is not None:
        attributes |= {"sound_rate": int(rate), "cell_rate": (settings.sample_rate or int(rate)) // 2}
    if seed is not None:
        attributes["seed"] = int(seed)
    write_events(
        path, spikes, np.asarray(labels), np.asarray(speakers), keys,
        channels=settings.channels, attributes=attributes,
    )  # fmt: skip
