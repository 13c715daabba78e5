"""Mel bands: triangles that cover the spectrum once, up to half the rate and no further."""

import numpy as np
import pytest

from snnkit.datasets import load, sound
from snnkit.datasets.mel import filter_bank, hz_to_mel, log_mel, mel_frames, mel_to_hz
from snnkit.errors import DataError, ParameterError
from tests.helpers.made_files import write_wav


def test_mel_and_hertz_are_inverse_and_fixed_at_1000():
    hz = np.array([0.0, 50, 1000, 7999])
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)
    assert hz_to_mel(1000) == pytest.approx(1000, abs=0.02)  # by which the scale was made


@pytest.mark.parametrize(("bands", "bins", "rate"), [(140, 2049, 16000), (40, 257, 16000), (64, 513, 8000)])
def test_neighbouring_triangles_add_up_to_one(bands, bins, rate):
    bank = filter_bank(bands, bins, rate, 50.0)
    at = np.linspace(0, rate / 2, bins)
    tops = mel_to_hz(np.linspace(hz_to_mel(50), hz_to_mel(rate / 2), bands + 2))[1:-1]
    covered = (at >= tops[0]) & (at <= tops[-1])
    np.testing.assert_allclose(bank[:, covered].sum(axis=0), 1, atol=1e-12)
    assert not bank[:, at < 50].any()
    assert bank.shape == (bands, bins)
    # the top of each band by its own definition: half a bin off at most
    assert (np.abs(at[bank.argmax(axis=1)] - tops) <= at[1] / 2 + 1e-9).all()


def test_bands_above_half_the_rate_are_refused():
    with pytest.raises(ParameterError, match=r"expected 0 ≤ f_min < f_max ≤ 8000 Hz, half the sampling rate"):
        filter_bank(140, 2049, 16000, 50.0, 14000.0)
    with pytest.raises(ParameterError, match=r"mel band \d+ of 140 holds no frequency bin"):
        filter_bank(140, 129, 16000)


@pytest.mark.parametrize("hz", [200, 1000, 5000])
def test_a_tone_is_in_the_band_of_its_frequency_at_its_level(hz):
    t = np.arange(16000) / 16000
    spectrum = log_mel((0.5 * 32768 * np.sin(2 * np.pi * hz * t)).astype(np.int16), 16000)
    assert spectrum.shape == (100, 140)
    tops = mel_to_hz(np.linspace(hz_to_mel(50), hz_to_mel(8000), 142))[1:-1]
    band = np.abs(tops - hz).argmin()
    middle = spectrum[10:-10]
    assert (np.abs(middle.argmax(axis=1) - band) <= 1).all()
    # |FFT / Σw| at the tone is half its amplitude; a triangle adds at most all bins of the main lobe,
    # whose squares sum to 2048·Σw² / (Σw)² = 7.7 times that of the tone's own bin
    assert np.log(0.25**2) < middle.max() < np.log(0.25**2 * 7.7)
    assert middle[:, np.abs(np.arange(140) - band) > 40].max() < np.log(0.25**2) - 7


def test_a_click_is_in_the_frame_of_its_time():
    sound = np.zeros(16000)
    sound[int(0.305 * 16000)] = 1
    spectrum = log_mel(sound, 16000, bands=40)
    assert spectrum.mean(axis=1).argmax() == 30
    loud = np.flatnonzero(spectrum.mean(axis=1) > np.log(1e-6) + 1e-3)
    assert loud.tolist() == [29, 30, 31]  # 25 ms wide


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (159, 1), (160, 1), (161, 2), (16000, 100)])
def test_every_sample_has_a_frame(samples, frames):
    assert len(log_mel(np.ones(samples, np.int16), 16000, 40)) == frames


def test_steps_of_any_whole_number_of_samples():
    assert log_mel(np.zeros(8000), 8000, 40, dt=50.0).shape == (20, 40)
    assert (log_mel(np.zeros(8000), 8000, 40) == np.float32(np.log(1e-6))).all()
    with pytest.raises(ParameterError, match=r"dt = 0\.33 ms is 5\.28 samples at 16000 Hz"):
        log_mel(np.zeros(100), 16000, dt=0.33)
    with pytest.raises(DataError, match="without samples"):
        log_mel(np.zeros(0), 16000)


def test_frames_are_standardised_over_train_and_come_back_from_disk(tmp_path, cache, monkeypatch):
    rng = np.random.default_rng(0)
    for who, loud in (("aa", 90), ("bb", 9000), ("cc", 900)):
        for word in ("bed", "yes"):
            write_wav(tmp_path / word / f"{who}_nohash_0.wav", rng.normal(0, loud, 3200 + loud), 16000)
    (tmp_path / "validation_list.txt").write_text("bed/bb_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("bed/cc_nohash_0.wav\n")
    clips = sound("gsc", root=tmp_path)
    made = mel_frames(clips, 10.0, 40)
    train = clips.rows("train")
    x, lengths, _ = made.batch(train)
    values = np.concatenate([x[:n, b].ravel() for b, n in enumerate(lengths)]).astype(float)
    assert abs(values.mean()) < 1e-3
    assert abs(values.std() - 1) < 1e-3
    for b, i in enumerate(train):
        want = (log_mel(clips[i][0], 16000, 40) - made.mean) / made.scale
        assert np.abs(x[: lengths[b], b] - want).max() < 0.01 / made.scale  # float16
    plain = mel_frames(clips, 10.0, 40, cache=False)
    np.testing.assert_array_equal(plain.batch(range(6))[0], made.batch(range(6))[0])
    assert made.lengths.tolist() == [-(-(clips.offsets[i + 1] - clips.offsets[i]) // 160) for i in range(6)]

    import snnkit.datasets.mel as module

    monkeypatch.setattr(module, "log_mel", None)
    again = mel_frames(clips, 10.0, 40)
    np.testing.assert_array_equal(again.frames, made.frames)
    np.testing.assert_array_equal(again.batch([3, 1])[0], made.batch([3, 1])[0])
    assert load("gsc", root=tmp_path, features="mel", channels=40).train.labels.tolist() == [
        clips.labels[i] for i in train
    ]
    with pytest.raises(ParameterError, match="gsc: binary and steps would have no effect; mel bands"):
        _ = load("gsc", root=tmp_path, features="mel", channels=40, binary=True, steps=30).train
