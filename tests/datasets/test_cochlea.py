"""The cochlea's stages against integrals done numerically, plain trials and the `lauscher` package."""

import math
import sys
import types

import h5py
import numpy as np
import pytest
from scipy import integrate, signal, stats

from snnkit.datasets import cochlea
from snnkit.datasets.cochlea import Cochlea, basilar, clip_seed, encode, encode_many, write_shd
from snnkit.errors import DataError, ParameterError, ShapeError

AS_LAUSCHER = {"sample_rate": None, "flank_ms": None, "pad_ms": None, "precision": "double"}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    """Tables of these tests lie in a folder of this run."""
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path_factory.getbasetemp() / "cochlea-cache"))


@pytest.fixture
def lauscher(monkeypatch):
    """The package's stages in one process; its reader of sound files is not needed."""
    pytest.importorskip("lauscher")
    if "soundfile" not in sys.modules:
        monkeypatch.setitem(sys.modules, "soundfile", types.ModuleType("soundfile"))
    from lauscher import audiowaves, firing_probability, transformations
    from lauscher.helpers import CommandLineArguments

    CommandLineArguments().num_concurrent_jobs = 1
    return types.SimpleNamespace(
        wave=audiowaves.MonoAudioWave,
        probability=firing_probability.FiringProbability,
        normalise=transformations.RmsNormalizer(0.3),
        window=transformations.HanningWindow,
        membrane=transformations.BasilarMembrane,
        cell=transformations.HairCell(),
        bushy=transformations.BushyCell(),
    )


def sound(rate, seconds, seed=0):
    """Two tones that fade in and out, a click and some noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(rate * seconds)) / rate
    x = np.sin(2 * np.pi * 440 * t) * t + np.sin(2 * np.pi * 0.17 * rate * t) * t[::-1]
    x[len(x) // 3] += 0.3
    return x + 0.02 * rng.standard_normal(len(x))


# ---------------------------------------------------------------------------------- the membrane


@pytest.mark.parametrize("frequency", [1.0, 40.0, 700.0, 5000.0, 24000.0])
def test_phase_is_the_integral_of_the_wave_number(frequency):
    s = Cochlea()
    omega = 2 * np.pi * frequency

    def number(c):
        damping = s.damping * math.sqrt(s.stiffness * s.mass) * math.exp(-s.stiffness_slope * c / 2)
        elastic = s.stiffness * math.exp(-s.stiffness_slope * c) - s.stiffness_drop
        return omega * np.sqrt(s.density / (s.height * (elastic - s.mass * omega**2 - 1j * omega * damping)))

    places = np.array([0.0, 0.3, 1.7, 3.5])
    got = cochlea.phase(np.array([[omega]]), places[None], s)[0]

    for place, phase in zip(places, got, strict=True):
        want = 2 * number(0) / s.stiffness_slope
        want += integrate.quad(number, 0, place, complex_func=True, limit=400, epsabs=0, epsrel=1e-11)[0]
        assert phase == pytest.approx(want, rel=1e-8)


def test_high_tones_move_the_base_and_low_tones_the_apex():
    s = Cochlea(channels=100)
    frequencies = np.array([100.0, 300.0, 1000.0, 3000.0, 9000.0])
    best = np.abs(cochlea.transfer(frequencies, s)).argmax(axis=1)
    assert (np.diff(best) < -5).all()
    assert best[0] > 75
    assert best[-1] < 30


@pytest.mark.parametrize(
    ("rate", "samples", "channels"), [(16000, 800, 64), (8000, 401, 7), (48000, 1203, 33), (11025, 500, 1)]
)
def test_stages_without_chance_are_lauschers(lauscher, rate, samples, channels):
    x = sound(rate, samples / rate)
    s = Cochlea(channels=channels, **AS_LAUSCHER)

    wave = lauscher.wave(x.copy(), rate).transform(lauscher.normalise).transform(lauscher.window())
    velocity = wave.transform(lauscher.membrane(channels=channels))
    probability = velocity.transform(lauscher.cell)

    prepared = cochlea.prepare(x, rate, s)
    got = cochlea.membrane(prepared, rate, s)
    np.testing.assert_allclose(prepared, wave.samples, rtol=0, atol=1e-12)
    largest = np.abs(velocity.channels).max()
    assert largest > 1
    np.testing.assert_allclose(got, velocity.channels.T, rtol=0, atol=1e-9 * largest)
    released = cochlea.release(got, rate // 2, s)
    np.testing.assert_allclose(released, probability.channels.T, rtol=1e-6, atol=1e-12)


def test_flanks_are_lauschers_when_they_have_a_length(lauscher):
    x, rate = sound(16000, 0.1), 16000
    wave = lauscher.wave(x.copy(), rate).transform(lauscher.normalise).transform(lauscher.window(0.03, 0.03))
    got = cochlea.prepare(x, rate, Cochlea(sample_rate=None))
    np.testing.assert_allclose(got, wave.samples, rtol=0, atol=1e-12)


def test_single_precision_differs_by_rounding_only():
    x = cochlea.prepare(sound(8000, 0.2), 8000, Cochlea())
    double, single = (
        cochlea.membrane(x, 48000, Cochlea(channels=40, precision=precision), 8000)
        for precision in ("double", "single")
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=0, atol=3e-6 * np.abs(double).max())
    released = [cochlea.release(v, 24000, Cochlea(precision="double")) for v in (double, single)]
    np.testing.assert_allclose(released[1], released[0], rtol=2e-4)


def test_the_end_of_a_clip_does_not_ring_into_its_beginning():
    """Spectra are of periodic sounds; the silence that is appended keeps one period from the next."""
    x = np.zeros(9600)
    x[-5] = 1
    largest = {}
    for pad in (25.0, None):
        v = np.abs(cochlea.membrane(x, 48000, Cochlea(channels=50, pad_ms=pad, precision="double")))
        largest[pad] = (v[:240].max(axis=0) / v.max(axis=0)).max()
    assert largest[None] > 0.1, "without silence the example must ring"
    assert largest[25.0] < 0.002


def test_upsampled_sound_moves_the_membrane_as_the_sound_does():
    """A tone at 8 kHz brought to 48 kHz, against the same tone sampled at 48 kHz."""
    s = Cochlea(channels=50, precision="double")
    low, high = (np.sin(2 * np.pi * 600 * np.arange(rate // 4) / rate) for rate in (8000, 48000))
    moved = [
        cochlea.membrane(cochlea.prepare(x, rate, s), 48000, s, rate)
        for x, rate in ((low, 8000), (high, 48000))
    ]
    assert np.abs(moved[0] - moved[1]).max() < 0.01 * np.abs(moved[1]).max()


# ---------------------------------------------------------------------------------- hair cells


@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_cell_at_rest_stays_at_its_spontaneous_rate(precision):
    """Meddis (1986): c = M y k / (l k + y (l + r)) with k = g A/(A + B)."""
    s = Cochlea(precision=precision)
    k = 2000 * 5 / 305
    spontaneous = 50_000 * 5.05 * k / (2500 * k + 5.05 * 9080)
    got = cochlea.release(np.zeros((5000, 3)), 24000, s)
    np.testing.assert_allclose(got * 24000, spontaneous, rtol=1e-3 if precision == "single" else 1e-9)


def test_a_lasting_push_releases_much_and_then_less():
    """Adaptation: the store of free transmitter runs down."""
    push = np.zeros((24000, 1))
    push[4800:] = 50.0
    got = cochlea.release(push, 24000, Cochlea(precision="double"))[:, 0]
    onset, later = got[4800:5040].max(), got[-1]
    assert onset > 3 * later > 3 * got[0] > 0
    assert cochlea.release(np.full((2400, 1), -20.0), 24000, Cochlea())[-1, 0] < 1e-3 * got[0]


# ---------------------------------------------------------------------------------- bushy cells


def trials(p, rate, rng, draws, afferents=40, tau_mem=1e-3, tau_syn=5e-4, refractory=1e-3, weight=13e3):
    """Every afferent on its own, one random number a step, `draws` cells at a time: spikes ``[T, draws]``."""
    wait = math.ceil(refractory * rate - 1e-9)
    blocked = np.zeros((draws, afferents), int)
    current, v, resting = np.zeros(draws), np.zeros(draws), np.zeros(draws, int)
    spikes = np.zeros((len(p), draws), bool)
    for t in range(len(p)):
        fired = (rng.random((draws, afferents)) < p[t]) & (blocked <= 0)
        blocked = np.where(fired, wait - 1, blocked - 1)
        current = current * math.exp(-1 / (rate * tau_syn)) + fired.sum(1)
        v = np.where(
            resting > 0, 0.0, v * math.exp(-1 / (rate * tau_mem)) + current * weight / afferents / rate
        )
        resting -= 1
        spikes[t] = v >= 1
        resting[spikes[t]] = wait
        v[spikes[t]] = 0
    return spikes


def ours(p, rate, draws, seed, s):
    """The same from the kernel: one channel a draw."""
    times, units = cochlea.bushy_spikes(np.repeat(p[:, None], draws, axis=1), rate, seed, s)
    spikes = np.zeros((len(p), draws), bool)
    spikes[times, units] = True
    return spikes


@pytest.mark.parametrize("rate", [24000, 8000, 4000])
@pytest.mark.parametrize("loudness", [120.0, 1000.0, 9000.0], ids=["soft", "loud", "saturated"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_fire_as_if_every_afferent_were_drawn(rate, loudness, dtype):
    draws = 1500
    t = np.arange(rate // 40) / rate
    p = np.minimum((loudness * (1.1 + np.sin(2 * np.pi * 90 * t)) / rate), 1).astype(dtype)
    want = trials(p, rate, np.random.default_rng(rate), draws)
    got = ours(p, rate, draws, 1, Cochlea())

    assert want.sum() > draws / 2, "the example must fire"
    counts = want.sum(0), got.sum(0)
    error = math.sqrt(sum(np.var(c) for c in counts) / draws)
    assert abs(counts[0].mean() - counts[1].mean()) < 4 * error + 1e-9
    assert stats.ks_2samp(*counts, method="asymp").pvalue > 1e-3
    # when they fire, not only how often
    moments = [np.nonzero(spikes.T)[1] for spikes in (want, got)]
    assert stats.ks_2samp(*moments, method="asymp").pvalue > 1e-3
    # refractory: no two spikes within a millisecond
    at, channel = np.nonzero(got.T)[::-1]
    assert (np.diff(at)[np.diff(channel) == 0] > math.ceil(rate / 1000 - 1e-9)).all()


def test_certain_release_leaves_nothing_to_chance():
    p = np.ones(200)
    want = trials(p, 8000, np.random.default_rng(0), 2)
    got = ours(p, 8000, 2, 0, Cochlea())
    assert want.sum() > 10
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("refractory", [0.0, 0.3, 2.0])
def test_other_constants_of_the_cell(refractory):
    s = Cochlea(afferents=7, tau_mem=2.0, tau_syn=1.5, refractory=refractory, weight=4000.0)
    p = np.full(400, 0.03)
    want = trials(p, 8000, np.random.default_rng(3), 1500, 7, 2e-3, 1.5e-3, refractory / 1000, 4000.0)
    got = ours(p, 8000, 1500, 4, s)
    counts = want.sum(0), got.sum(0)
    assert counts[0].mean() > 2
    assert abs(counts[0].mean() - counts[1].mean()) < 4 * math.sqrt(sum(np.var(c) for c in counts) / 1500)
    assert stats.ks_2samp(*counts, method="asymp").pvalue > 1e-3


def test_nothing_released_means_no_spike():
    times, units = cochlea.bushy_spikes(np.zeros((500, 5)), 24000, 0, Cochlea())
    assert len(times) == len(units) == 0


def test_spikes_are_distributed_as_lauschers(lauscher):
    """Counts per channel over repeated draws, for places along the membrane moved by a real chain."""
    rate = 16000
    s = Cochlea(channels=30, **AS_LAUSCHER)
    velocity = cochlea.membrane(cochlea.prepare(sound(rate, 0.08, seed=2), rate, s), rate, s)
    probability = cochlea.release(velocity, rate // 2, s)
    places = np.argsort(probability.mean(0))[[-1, -3, -8, -15]]
    repeats, calls = 20, 6
    copies = np.repeat(probability[:, places], repeats, axis=1)

    np.random.seed(5)  # noqa: NPY002 - the generator that lauscher draws from
    theirs = []
    for _ in range(calls):
        train = lauscher.probability(copies.T.copy(), rate // 2).transform(lauscher.bushy)
        theirs.append(np.bincount(train.spike_labels.astype(int), minlength=copies.shape[1]))
    theirs = np.concatenate([row.reshape(len(places), repeats) for row in theirs], axis=1)
    mine = [ours(probability[:, place], rate // 2, 1200, 7, s).sum(0) for place in places]

    assert theirs.mean() > 0.5
    for a, b in zip(theirs, mine, strict=True):
        assert stats.ks_2samp(a, b, method="asymp").pvalue > 1e-3
        assert abs(a.mean() - b.mean()) < 4 * math.sqrt(a.var() / len(a) + b.var() / len(b)) + 1e-9


@pytest.mark.slow
def test_all_channels_of_a_word_are_distributed_as_lauschers(lauscher, recordings):
    """The whole chain on 100 ms of a recording brought to 48 kHz: 700 channels, repeated draws."""
    with h5py.File(recordings / "asc" / "asc_words.h5") as file:
        clip = file["samples"][file["offset"][7] : file["offset"][8]]
    start = np.abs(clip).argmax()
    x = signal.resample_poly(clip[max(0, start - 400) :][:800].astype(float), 6, 1)
    wave = lauscher.wave(x.copy(), 48000).transform(lauscher.normalise).transform(lauscher.window())
    velocity = wave.transform(lauscher.membrane(channels=700))
    probability = velocity.transform(lauscher.cell)

    draws = 8
    np.random.seed(11)  # noqa: NPY002
    theirs = np.array(
        [
            np.bincount(probability.transform(lauscher.bushy).spike_labels.astype(int), minlength=700)
            for _ in range(draws)
        ]
    )
    mine = np.array(
        [
            np.bincount(encode(x, 48000, seed, Cochlea(sample_rate=None, flank_ms=None, pad_ms=None))[1],
                        minlength=700)
            for seed in range(200)
        ]
    )  # fmt: skip
    p = [stats.ks_2samp(theirs[:, c], mine[:, c], method="asymp").pvalue for c in range(700)]
    assert min(p) > 0.01 / 700
    totals = theirs.sum(1), mine.sum(1)
    assert stats.ks_2samp(*totals).pvalue > 1e-3
    assert np.corrcoef(theirs.mean(0), mine.mean(0))[0, 1] > 0.97


# ---------------------------------------------------------------------------------- whole clips


def test_same_seed_same_spikes_however_they_are_computed(monkeypatch):
    x = sound(8000, 0.3)
    times, units = encode(x, 8000, seed=3)
    assert times.dtype == np.float64
    assert units.dtype == np.int32
    assert len(times) > 300
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert times[-1] < 0.3
    assert 0 <= units.min() <= units.max() < 700

    monkeypatch.setattr(basilar, "BLOCK", 190)
    basilar._stored_table.cache_clear()
    again = encode(x, 8000, seed=3)
    basilar._stored_table.cache_clear()
    np.testing.assert_array_equal(times, again[0])
    np.testing.assert_array_equal(units, again[1])
    other = encode(x, 8000, seed=4)
    assert len(other[0]) != len(times) or (other[1] != units).any()


def test_level_and_type_of_the_samples_do_not_matter():
    x = np.rint(sound(8000, 0.2) * 8000).astype(np.int16)
    want = encode(x, 8000, channels=50)
    for same in (x.astype(np.float32), x / 32768, x.astype(np.int32) * 16):
        got = encode(same, 8000, channels=50)
        # scaled in another order the last bit differs, and with it perhaps a spike in a thousand
        assert abs(len(got[0]) - len(want[0])) <= 1 + 0.01 * len(want[0])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_many_clips_are_each_clip_with_its_own_seed(workers):
    clips = [sound(8000, 0.1 + 0.05 * i, seed=i) for i in range(4)]
    got = encode_many(clips, 8000, seed=9, workers=workers, progress=False, channels=60)
    assert len({clip_seed(9, i) for i in range(4)} | {clip_seed(8, i) for i in range(4)}) == 8
    for i, (clip, (times, units)) in enumerate(zip(clips, got, strict=True)):
        want = encode(clip, 8000, clip_seed(9, i), channels=60)
        np.testing.assert_array_equal(times, want[0])
        np.testing.assert_array_equal(units, want[1])
    assert encode_many([], 8000) == []


def test_a_tone_excites_its_place():
    t = np.arange(2400) / 8000
    low, high = (
        np.bincount(encode(np.sin(2 * np.pi * f * t), 8000, channels=70)[1], minlength=70)
        for f in (200, 3000)
    )
    places = np.arange(70)
    assert (low * places).sum() / low.sum() > 20 + (high * places).sum() / high.sum()


def test_tables_are_kept_on_disk_and_a_damaged_one_is_made_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path))
    x = sound(8000, 0.1)
    basilar._stored_table.cache_clear()
    want = encode(x, 8000, channels=20)
    (table,) = (tmp_path / "cochlea").iterdir()
    for content in (table.read_bytes(), b"no table"):
        table.write_bytes(content)
        basilar._stored_table.cache_clear()
        np.testing.assert_array_equal(encode(x, 8000, channels=20)[1], want[1])
    basilar._stored_table.cache_clear()


# ---------------------------------------------------------------------------------- files


def test_the_file_is_laid_out_as_shd_and_records_how_it_was_made(tmp_path):
    s = Cochlea(channels=60, flank_ms=None)
    clips = [sound(8000, 0.15, seed=i) for i in range(3)]
    spikes = encode_many(clips, 8000, seed=2, progress=False, settings=s)
    path = tmp_path / "words.h5"
    write_shd(path, spikes, [1, 0, 1], [4, 5, 4], ["null", "fünf"], s, rate=8000, seed=2)

    with h5py.File(path) as file:
        for i, (times, units) in enumerate(spikes):
            np.testing.assert_allclose(file["spikes/times"][i], times, rtol=2e-7)
            np.testing.assert_array_equal(file["spikes/units"][i], units)
        assert file["labels"][:].tolist() == [1, 0, 1]
        assert file["extra/speaker"][:].tolist() == [4, 5, 4]
        assert [key.decode() for key in file["extra/keys"]] == ["null", "fünf"]
        assert "meta_info" in file["extra"]
        assert (file.attrs["sound_rate"], file.attrs["cell_rate"], file.attrs["seed"]) == (8000, 24000, 2)
        assert file.attrs["cochlea_flank_ms"] == "none"
        recorded = {
            name.removeprefix("cochlea_"): value
            for name, value in file.attrs.items()
            if name.startswith("cochlea_")
        }
        recorded["flank_ms"] = None
        assert Cochlea(**{k: v.item() if hasattr(v, "item") else v for k, v in recorded.items()}) == s


# ---------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (np.zeros(800), DataError, "silent"),
        (np.zeros(0), DataError, "0 samples"),
        (np.array([0.0, np.nan] * 100), DataError, "infinity at sample 1"),
        (np.ones((100, 2)), ShapeError, r"shape \(100, 2\)"),
        (np.array(["a"]), ShapeError, "float or integer"),
    ],
    ids=["silent", "empty", "nan", "stereo", "text"],
)
def test_a_sound_that_cannot_be_encoded_is_refused(audio, error, message):
    with pytest.raises(error, match=message):
        encode(audio, 8000)
    with pytest.raises(error, match="Clip 1: "):
        encode_many([sound(8000, 0.05), audio], 8000, progress=False, channels=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel": 5}, "no setting 'channel'"),
        ({"channels": 0}, "channels = 0, expected a whole number above 0"),
        ({"channels": 2.5}, "channels = 2.5"),
        ({"tau_mem": -1.0}, "tau_mem = -1.0, expected a number above 0"),
        ({"flank_ms": -3}, "flank_ms = -3, expected a number of at least 0"),
        ({"rms": math.nan}, "rms = nan"),
        ({"precision": "half"}, "precision"),
        ({"length": 9.0}, "stiffness falls below 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        encode(sound(8000, 0.05), 8000, **change)


def test_rates_workers_and_lengths_out_of_range_are_refused():
    with pytest.raises(ParameterError, match="rate is the sound's samples per second"):
        encode(sound(8000, 0.05), 0)
    with pytest.raises(ParameterError, match="workers is at least 1"):
        encode_many([sound(8000, 0.05)], 8000, workers=0)
    with pytest.raises(ParameterError, match="Cut it into clips"):
        encode(np.ones(8000 * 120), 8000)
