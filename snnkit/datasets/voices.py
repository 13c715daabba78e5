"""English and German digits spoken by eSpeak NG: data of the kind of SHD where no recordings can be had.

75 voices, each a variant of eSpeak NG with an accent, a pitch, a pace and a length of the vocal tract of its
own, speak twenty words in several takes. Every take differs a little and lies in the babble of other voices:
clean synthetic speech would be trivially easy. A clip depends on nothing but its speaker, word, take and the
seed, so asking for fewer speakers or takes, or with more processes, gives the same clips.

eSpeak NG (GPL-3, from the optional package espeakng-loader) runs in processes of its own, see `_espeak`.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import fft, signal

from ..errors import DataError, MissingExtraError, ParameterError, require
from .workers import worker_count

ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GERMAN = ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
WORDS = (*ENGLISH, *GERMAN)
"""The classes, in SHD's order."""

VARIANTS = (
    *("Alex", "Alicia", "Andrea", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Hugo"),
    *("Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Mr serious", "Nguyen", "Reed", "RicishayMax2"),
    *("Storm", "Tweaky", "adam", "anika", "announcer", "antonio", "aunty", "belinda", "boris", "caleb"),
    *("croak", "david", "ed", "edward", "f1", "f2", "f3", "f4", "f5", "grandma", "gustave", "ian", "iven"),
    *("iven4", "john", "kaukovalta", "klatt", "klatt3", "linda", "m1", "m2", "m3", "m4", "m5", "m6", "m7"),
    *("m8", "marcelo", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro"),
    *("shelby", "steph", "travis", "victor", "whisper", "whisperf", "zac"),
)
"""Variants that differ: of those whose mean spectra correlate above 0.96 one is kept, and no robots."""

ACCENTS = (*("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"),)
RATE = 16_000
BABBLE = (
    "the kettle was already warm when somebody opened the window above the yard and called down twice",
    "most of the boats had left before noon because nobody trusted the colour of the sky any longer",
    "gestern lag noch Schnee auf dem Dach, doch heute tropft es und die Kinder suchen ihre Gummistiefel",
    "her brother keeps a drawer full of keys though not one of them fits a door in this house",
)
BABBLE_VOICES = 12
BABBLE_AT_ONCE = 5


class Digits(NamedTuple):
    """What `synthesise_digits` gives.

    clips     list of int16 ``[n]``, about a second each
    labels    int64 ``[B]``, indices into `WORDS`
    speakers  int64 ``[B]``, indices into `VARIANTS`
    rate      samples per second
    """

    clips: list[np.ndarray]
    labels: np.ndarray
    speakers: np.ndarray
    rate: int


class Speaker(NamedTuple):
    """A voice: variant and accent; pitch and its range (0–99); words per minute; length of the tract."""

    variant: str
    accent: str
    pitch: float
    range: float
    pace: float
    tract: float


def speaker(index: int) -> Speaker:
    """The speaker at `index`, the same for every seed of the takes."""
    rng = np.random.default_rng([0x5BEA, index])
    return Speaker(
        variant=VARIANTS[index],
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        pitch=rng.uniform(25, 75),
        range=rng.uniform(30, 70),
        pace=rng.uniform(125, 205),
        tract=rng.uniform(0.88, 1.14),
    )


def synthesise_digits(
    speakers: int | Sequence[int] = len(VARIANTS),
    takes: int = 1,
    seed: int = 0,
    snr_db: tuple[float, float] | None = (5.0, 10.0),
    workers: int | None = None,
) -> Digits:
    """Spoken digits: every speaker says every word `takes` times. Clips are ordered by speaker, word, take.

    speakers  how many of the 75, or their indices
    takes     of each word by each speaker
    seed      of what differs from take to take and of the babble
    snr_db    range of the level of the word over the babble, dB; None leaves the babble out
    workers   processes that speak at a time; None takes as many as there are processors

    Raises `ParameterError` for an argument out of its range, `MissingExtraError` without eSpeak NG, and
    `DataError` where it gives no sound.
    """
    who = list(range(speakers)) if isinstance(speakers, int | np.integer) else [int(i) for i in speakers]
    if not who or min(who) < 0 or max(who) >= len(VARIANTS):
        raise ParameterError(
            f"speakers = {speakers!r}: give how many, 1 to {len(VARIANTS)}, or indices below {len(VARIANTS)}."
        )
    if takes < 1:
        raise ParameterError(f"takes = {takes}, expected at least 1.")
    if snr_db is not None and not (len(snr_db) == 2 and snr_db[0] <= snr_db[1]):
        raise ParameterError(f"snr_db = {snr_db!r}, expected (lowest, highest) or None.")
    workers = worker_count(workers)

    plan = [(s, word, take) for s in who for word in range(len(WORDS)) for take in range(takes)]
    rngs = [np.random.default_rng([seed, *clip]) for clip in plan]
    tracts, requests = [], []
    for (s, word, _), rng in zip(plan, rngs, strict=True):
        request, tract = _request(speaker(s), WORDS[word], rng)
        requests.append(request)
        tracts.append(tract)
    spoken = speak(requests, workers)
    babble = None if snr_db is None else _babble()

    def finish(index: int) -> np.ndarray:
        wave, rate = spoken[index]
        return _finish(wave, rate, tracts[index], babble, snr_db, rngs[index])

    with ThreadPoolExecutor(workers) as pool:
        clips = list(pool.map(finish, range(len(plan))))
    return Digits(
        clips=clips,
        labels=np.array([word for _, word, _ in plan], np.int64),
        speakers=np.array([s for s, _, _ in plan], np.int64),
        rate=RATE,
    )


def _request(voice: Speaker, word: str, rng: np.random.Generator) -> tuple[dict[str, str | int], float]:
    """What eSpeak NG is asked for one take, and the length of the vocal tract in it."""
    accent = voice.accent if word in ENGLISH else "de"
    tract = voice.tract * rng.uniform(0.97, 1.03)
    request: dict[str, str | int] = {
        "voice": f"{accent}+{voice.variant}",
        "text": word,
        "rate": round(
            voice.pace * rng.uniform(0.88, 1.12) * tract
        ),  # a longer tract must not slow the speech
        "pitch": round(float(np.clip(voice.pitch + rng.uniform(-12, 12), 0, 99))),
        "range": round(float(np.clip(voice.range + rng.uniform(-15, 15), 0, 99))),
        "seed": int(rng.integers(1, 2**31 - 1)),
    }
    return request, tract


def speak(requests: Sequence[dict[str, Any]], workers: int = 1) -> list[tuple[np.ndarray, int]]:
    """Samples (int16 [n]) and rate of each request, see `_espeak`.

    Raises `ParameterError` for a voice that eSpeak NG does not have, `MissingExtraError` where it is not
    installed as it should be, `DataError` where it gives no sound.
    """
    loader = require("espeakng_loader", "voices")
    library, data = str(loader.get_library_path()), Path(loader.get_data_path())
    if not Path(library).is_file() or not data.is_dir():
        raise MissingExtraError(
            f"espeakng_loader is installed but {library} or {data} is not there; install it again with: "
            "pip install --force-reinstall 'snnkit[voices]'"
        )
    # eSpeak NG itself takes an unknown variant for the plain voice and says nothing
    known = {file.name for file in (data / "voices" / "!v").iterdir()}
    for request in requests:
        variant = str(request["voice"]).partition("+")[2]
        if variant and variant not in known:
            raise ParameterError(f"eSpeak NG has no variant {variant!r}; it has {', '.join(sorted(known))}.")
    parts = [requests[i::workers] for i in range(min(workers, len(requests)))]
    with ThreadPoolExecutor(max(1, len(parts))) as pool:
        answers = list(pool.map(lambda part: _process(library, str(data), part), parts))
    return [answers[i % len(parts)][i // len(parts)] for i in range(len(requests))]


def _process(library: str, data: str, requests: Sequence[dict[str, Any]]) -> list[tuple[np.ndarray, int]]:
    script = str(Path(__file__).with_name("_espeak.py"))
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(
        [sys.executable, "-I", script, library, data], input=lines.encode(), capture_output=True, check=False
    )
    answers: list[tuple[np.ndarray, int]] = []
    position, head = 0, struct.calcsize("<3q")
    for request in requests:
        what = f"eSpeak NG, asked for {request['text']!r} with voice {request['voice']!r},"
        if len(done.stdout) < position + head:
            reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "no reason given"
            raise DataError(f"{what} ended with status {done.returncode} and no answer: {reason}")
        status, rate, count = struct.unpack_from("<3q", done.stdout, position)
        position += head
        if status == 1:
            raise ParameterError(f"{what} does not know that voice.")
        if status or not count:
            raise DataError(f"{what} gave no sound.")
        answers.append((np.frombuffer(done.stdout, "<i2", count, position), rate))
        position += 2 * count
    return answers


@lru_cache(maxsize=1)
def _babble() -> np.ndarray:
    """Voices to mix babble from, float64 ``[BABBLE_VOICES, n]`` at `RATE`, each of root mean square 1."""
    requests = []
    for i in range(BABBLE_VOICES):
        voice = speaker(i * len(VARIANTS) // BABBLE_VOICES)
        text = BABBLE[i % len(BABBLE)]
        accent = "de" if i % len(BABBLE) == 2 else voice.accent
        made: dict[str, Any] = {"voice": f"{accent}+{voice.variant}", "text": text, "rate": round(voice.pace)}
        requests.append({**made, "pitch": round(voice.pitch), "range": round(voice.range), "seed": 1 + i})
    waves = [_resample(wave, rate, 1.0) for wave, rate in speak(requests)]
    length = min(len(wave) for wave in waves)
    voices = np.stack([wave[:length] for wave in waves])
    return voices / np.sqrt(np.mean(voices**2, axis=1, keepdims=True))


def _resample(wave: np.ndarray, rate: int, tract: float) -> np.ndarray:
    """At `RATE`, with a vocal tract `tract` times as long: the sound is stretched, formants fall."""
    count = max(1, round(len(wave) * RATE / rate * tract))
    padded = fft.next_fast_len(len(wave), real=True)
    target = round(count * padded / len(wave))
    return signal.resample(np.pad(wave.astype(np.float64), (0, padded - len(wave))), target)[:count]


def _finish(
    wave: np.ndarray,
    rate: int,
    tract: float,
    babble: np.ndarray | None,
    snr_db: tuple[float, float] | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """The word between silences, in babble, as int16."""
    word = _resample(wave, rate, tract)
    loud = np.flatnonzero(np.abs(word) > 0.01 * np.abs(word).max())
    word = word[loud[0] : loud[-1] + 1]
    level = np.sqrt(np.mean(word**2))
    before, after = rng.integers(RATE // 20, RATE // 5, 2)
    clip = np.pad(word / level, (int(before), int(after)))
    if babble is not None and snr_db is not None:
        noise = np.zeros(len(clip))
        for voice in rng.choice(len(babble), BABBLE_AT_ONCE, replace=False):
            noise += np.take(babble[voice], np.arange(len(clip)) + rng.integers(babble.shape[1]), mode="wrap")
        noise /= np.sqrt(np.mean(noise**2))
        clip = clip + noise * 10 ** (-rng.uniform(*snr_db) / 20)
    clip *= min(3000.0, 32_000 / np.abs(clip).max())
    return np.rint(clip).astype(np.int16)
