"""Synthetic digits: the same audio every time, voices that differ, every class from every speaker."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from snnkit.datasets import voices
from snnkit.datasets.voices import VARIANTS, WORDS, speak, synthesise_digits
from snnkit.errors import DataError, MissingExtraError, ParameterError

needs_espeak = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import espeakng_loader"], capture_output=True).returncode != 0,
    reason="espeakng_loader is not installed",
)


def ask(voice, text="seven", seed=1):
    return {"voice": voice, "text": text, "rate": 160, "pitch": 50, "range": 50, "seed": seed}


def digest(wave):
    return hashlib.sha256(np.ascontiguousarray(wave).tobytes()).hexdigest()


@needs_espeak
@pytest.mark.parametrize("variant", ["whisper", "caleb", "Reed", "f2", "sandro", "adam"])
def test_noisy_voices_depend_on_the_request_only(variant):
    """Breath and roughness are random; neither what was spoken before nor another process may matter."""
    request, other = ask(f"en-us+{variant}"), ask("de+victor", "neun", seed=5)
    first = speak([request, other, request, request])
    second = speak([other, request])
    assert {digest(wave) for wave, _ in (first[0], first[2], first[3], second[1])} == {digest(first[0][0])}
    assert digest(first[1][0]) == digest(second[0][0])


@needs_espeak
def test_the_seed_reaches_the_noise_of_both_synthesisers():
    for variant in ("whisper", "caleb"):  # wave generator and Klatt
        one, two = (speak([ask(f"en-us+{variant}", seed=seed)])[0][0] for seed in (1, 2))
        assert digest(one) != digest(two)


@needs_espeak
def test_every_voice_exists_and_none_is_another():
    plain = digest(speak([ask("en-us")])[0][0])
    spoken = speak([ask(f"en-us+{variant}") for variant in VARIANTS], workers=2)
    digests = {digest(wave) for wave, _ in spoken}
    assert len(VARIANTS) == 75
    assert len(digests | {plain}) == 76
    accents = {digest(speak([ask(accent)])[0][0]) for accent in (*voices.ACCENTS, "de")}
    assert len(accents) == len(voices.ACCENTS) + 1


@needs_espeak
def test_equal_requests_give_equal_clips_in_any_company():
    few = synthesise_digits(speakers=[2, 40], takes=2, seed=4, workers=2)
    again = synthesise_digits(speakers=[2, 40], takes=2, seed=4, workers=2)
    for a, b in zip(few.clips, again.clips, strict=True):
        np.testing.assert_array_equal(a, b)

    alone = synthesise_digits(speakers=[40], takes=1, seed=4, workers=1)
    for word in range(20):
        np.testing.assert_array_equal(alone.clips[word], few.clips[40 + 2 * word])
    assert len({digest(clip) for clip in few.clips}) == len(few.clips) == 80
    reseeded = synthesise_digits(speakers=[40], seed=5)
    assert all(digest(a) != digest(b) for a, b in zip(alone.clips, reseeded.clips, strict=True))


@needs_espeak
def test_every_speaker_says_every_word():
    digits = synthesise_digits(speakers=3, takes=2, seed=1)
    assert len(digits.clips) == 3 * 20 * 2
    assert digits.labels.dtype == digits.speakers.dtype == np.int64
    pairs = list(zip(digits.speakers.tolist(), digits.labels.tolist(), strict=True))
    assert all(pairs.count((s, word)) == 2 for s in range(3) for word in range(20))
    assert len(WORDS) == 20
    assert WORDS[0] == "zero"
    assert WORDS[15] == "fünf"
    for clip in digits.clips:
        assert clip.dtype == np.int16
        assert 0.3 * digits.rate < len(clip) < 2 * digits.rate
        assert 500 < np.abs(clip).max() <= 32_000


@needs_espeak
def test_babble_has_the_level_asked_for():
    clean, noisy = (synthesise_digits(speakers=[7, 30], seed=2, snr_db=snr) for snr in (None, (7.0, 7.0)))
    levels = []
    for a, b in zip(clean.clips, noisy.clips, strict=True):
        quiet = a[: int(0.04 * clean.rate)]
        assert not quiet.any(), "before a clean word there is silence"
        word = np.flatnonzero(a)
        a, b = a / 1.0, b / 1.0
        scale = (a @ b) / (a @ a)
        noise = b - scale * a
        power = np.mean((scale * a[word[0] : word[-1] + 1]) ** 2)
        levels.append(10 * np.log10(power / np.mean(noise**2)))
    # word and babble are not quite uncorrelated in any one clip
    assert np.mean(levels) == pytest.approx(7, abs=0.2)
    assert np.ptp(levels) < 2


@needs_espeak
def test_a_longer_vocal_tract_lowers_the_formants():
    def centre(wave, rate):
        power = np.abs(np.fft.rfft(wave)) ** 2
        return (power * np.arange(len(power))).sum() / power.sum() * rate / len(wave)

    wave, rate = speak([ask("en-us+m1", "nine")])[0]
    centres = [centre(voices._resample(wave, rate, tract), voices.RATE) for tract in (1.0, 1.2)]
    assert centres[1] == pytest.approx(centres[0] / 1.2, rel=0.02)


@needs_espeak
def test_unknown_voices_are_refused_though_espeak_takes_them_for_the_plain_one():
    with pytest.raises(ParameterError, match=r"no variant 'nobody'; it has .*whisper"):
        speak([ask("en-us+nobody")])
    with pytest.raises(ParameterError, match=r"'xx\+m1', does not know that voice"):
        speak([ask("xx+m1")])


@needs_espeak
def test_a_process_that_dies_is_reported():
    with pytest.raises(DataError, match=r"'seven' with voice 'en-us\+m1', ended with status 1 .*nowhere"):
        voices._process("/nowhere/libespeak-ng.so", "/nowhere", [ask("en-us+m1")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speakers": 0}, "speakers = 0: give how many, 1 to 75"),
        ({"speakers": [3, 75]}, "indices below 75"),
        ({"takes": 0}, "takes = 0"),
        ({"snr_db": (10, 5)}, "snr_db"),
        ({"workers": 0}, "workers"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        synthesise_digits(**arguments)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingExtraError, match=r"snnkit\[voices\]"):
        synthesise_digits(speakers=1)
