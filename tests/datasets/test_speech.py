"""Corpora of sound: packed or as WAV files they are the same; spikes are made once."""

import hashlib
import io
import zipfile

import numpy as np
import pytest

from snnkit.datasets import (
    GSC,
    SpokenDigits,
    SpokenWords,
    SyntheticDigits,
    load,
    resolve,
    sound,
)
from snnkit.datasets import spoken_digits as fsdd
from snnkit.datasets import spoken_words as asc
from snnkit.datasets.download import Remote, Unreachable
from snnkit.datasets.encoding import encoded
from snnkit.datasets.recordings import Recordings
from snnkit.datasets.sound_files import DIGITS, join, read_packed, write_packed
from snnkit.datasets.synthetic_digits import synthetic_digits
from snnkit.errors import ChecksumError, DataError, ParameterError
from tests.helpers.made_files import gsc, synthesise_digits, write_wav


def some_digits(seed=0, speakers=("ann", "bob", "cy"), takes=(0, 4, 5, 9)):
    """Recordings in FSDD's order: speaker, digit, take."""
    rng = np.random.default_rng(seed)
    plan = [(s, d, t) for s in range(len(speakers)) for d in range(10) for t in takes]
    clips = [rng.integers(-3000, 3000, rng.integers(200, 700)).astype(np.int16) for _ in plan]
    samples, offsets = join(clips)
    return Recordings(
        name="spoken_digits",
        samples=samples,
        offsets=offsets,
        labels=[d for _, d, _ in plan],
        speakers=[s for s, _, _ in plan],
        part=[2 if t < 5 else 0 for *_, t in plan],
        clips=[f"{d}_{speakers[s]}_{t}" for s, d, t in plan],
        classes=list(DIGITS),
        speaker_names=dict(enumerate(speakers)),
        rate=8000,
        where="here",
        attribution="",
    )


def as_wavs(recordings, folder):
    for i, clip in enumerate(recordings.clips):
        write_wav(folder / f"{clip}.wav", recordings[i][0], recordings.rate)
    return folder


@pytest.fixture
def digits(monkeypatch):
    """A corpus that counts as FSDD."""
    made = some_digits()
    monkeypatch.setattr(fsdd, "SAMPLES", made.digest)
    return made


def equal(a, b):
    for name in ("samples", "offsets", "labels", "speakers", "part"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.clips, a.classes, a.speaker_names, a.rate) == (b.clips, b.classes, b.speaker_names, b.rate)


def test_packed_and_wav_are_the_same_corpus(tmp_path, cache, no_network, digits):
    write_packed(tmp_path / "packed" / "fsdd" / "fsdd.h5", digits)
    as_wavs(digits, tmp_path / "wav" / "recordings")
    equal(fsdd.spoken_digits(tmp_path / "packed"), digits)
    equal(fsdd.spoken_digits(tmp_path / "wav"), digits)
    equal(fsdd.spoken_digits(tmp_path / "wav" / "recordings"), digits)


def test_the_real_corpora_have_their_published_shape(recordings, cache, no_network):
    digits = fsdd.spoken_digits(recordings)
    assert len(digits) == 3000
    assert len(digits.rows("test")) == 300
    assert len(digits.rows("train")) == 2700
    assert digits.speaker_names[4] == "theo"
    assert (np.bincount(digits.labels) == 300).all()

    words = asc.spoken_words(recordings)
    parts = {part: set(words.speakers[words.rows(part)]) for part in ("train", "valid", "test")}
    assert {part: len(who) for part, who in parts.items()} == {"train": 18, "valid": 6, "test": 6}
    assert len(set.union(*parts.values())) == 30
    assert parts["test"] == {3, 4, 10, 14, 26, 28}
    for part, each in (("train", 90), ("valid", 30), ("test", 30)):
        assert (np.bincount(words.labels[words.rows(part)]) == each).all()
    assert words.classes == list(asc.WORDS)
    assert all(
        clip == f"{words.classes[label]}/{speaker:08d}_NO_{clip[-2:]}"
        for clip, label, speaker in zip(words.clips, words.labels, words.speakers, strict=True)
    )


def test_another_version_of_a_corpus_is_refused(tmp_path, cache, no_network):
    write_packed(tmp_path / "fsdd.h5", some_digits(1))
    with pytest.raises(ChecksumError, match=r"fsdd\.h5: sha256 of the samples is .*, expected 4e0317650d"):
        fsdd.spoken_digits(tmp_path)


def test_arabic_words_from_wav_are_halved_and_sorted(tmp_path, cache, no_network, monkeypatch):
    """A tone of 1 kHz stays one, at half the samples; takes after the fifth and other words are left out."""
    t = np.arange(1600) / 16000
    for word in (*asc.WORDS, "zero"):
        for speaker in (1, 2, 3):
            for take in (1, 6):
                write_wav(
                    tmp_path / "dataset" / word / f"{speaker:08d}_NO_{take:02d}.wav",
                    8000 * np.sin(2 * np.pi * 1000 * t),
                    16000,
                )
    with pytest.raises(ChecksumError, match="sha256 of the samples"):
        asc.spoken_words(tmp_path)
    monkeypatch.setattr(asc, "check_samples", lambda r, _: r)
    words = asc.spoken_words(tmp_path)
    assert len(words) == 60
    assert words.clips[:4] == [*(f"backward/0000000{s}_NO_01" for s in (1, 2, 3)), "cancel/00000001_NO_01"]
    assert words.part[:3].tolist() == [0, 1, 2]
    want = 8000 * np.sin(2 * np.pi * 1000 * np.arange(800) / 8000)
    assert np.abs(words[7][0] - want)[50:-50].max() < 20


def test_a_download_is_unpacked_checked_and_attributed(tmp_path, cache, server, digits, monkeypatch, capsys):
    as_wavs(digits, tmp_path / "recordings")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in (tmp_path / "recordings").iterdir():
            archive.write(path, f"free-spoken-digit-dataset-{fsdd.REVISION}/recordings/{path.name}")
        archive.writestr(f"free-spoken-digit-dataset-{fsdd.REVISION}/README.md", "x")
    server.files["/fsdd.zip"] = packed.getvalue()
    monkeypatch.setattr(fsdd, "ARCHIVE", Remote(server.url("/fsdd.zip")))

    equal(fsdd.spoken_digits(progress=False), digits)
    assert "CC BY-SA 4.0" in capsys.readouterr().err
    equal(fsdd.spoken_digits(progress=False), digits)
    assert server.asked == ["/fsdd.zip"]
    assert fsdd.REVISION in fsdd.spoken_digits().where


def test_recordings_are_preferred_and_synthetic_voices_said_aloud(
    tmp_path, cache, no_network, digits, monkeypatch
):
    found = resolve("spoken_digits", tmp_path)
    assert (found.name, found.synthetic) == ("synthetic_digits", True)
    assert "can't be reached" in found.where
    write_packed(tmp_path / "fsdd.h5", digits)
    found = resolve("spoken_digits", tmp_path)
    assert (found.name, found.synthetic) == ("spoken_digits", False)
    assert str(tmp_path) in found.where
    (tmp_path / "fsdd.h5").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"fsdd\.h5 is no readable HDF5"):
        resolve("spoken_digits", tmp_path)


def test_spikes_are_made_once_and_again_for_another_seed(tmp_path, cache, digits, quick_cochlea):
    first = encoded(digits, progress=False)
    again = encoded(digits, progress=False)
    assert quick_cochlea == [120]
    assert all((a[0] == b[0]).all() and a[1] == b[1] for a, b in zip(first, again, strict=True))
    other = encoded(digits, seed=1, progress=False)
    assert quick_cochlea == [120, 120]
    assert (other[0][0]["x"] != first[0][0]["x"]).all()
    assert first.store.attributes["samples_sha256"] == digits.digest
    assert first.store.attributes["sound_rate"] == 8000
    assert '"afferents": 40' in first.store.attributes["cochlea"]


def test_two_that_want_the_same_spikes_at_once_encode_once(cache, digits, quick_cochlea, monkeypatch):
    """As two training runs started together do: the second waits for the first."""
    import threading
    import time

    from snnkit.datasets import cochlea

    quick = cochlea.encode_many

    def slow(*args, **options):
        time.sleep(0.5)
        return quick(*args, **options)

    monkeypatch.setattr(cochlea, "encode_many", slow)
    sizes = []
    both = [
        threading.Thread(target=lambda: sizes.append(len(encoded(digits, progress=False)))) for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sizes == [120, 120]
    assert quick_cochlea == [120]


def test_other_cochlea_constants_are_another_file(cache, digits, quick_cochlea, monkeypatch):
    import dataclasses

    from snnkit.datasets import cochlea

    encoded(digits, progress=False)
    changed = dataclasses.replace(cochlea.Cochlea(), afferents=20)
    monkeypatch.setattr(cochlea, "Cochlea", lambda: changed)
    encoded(digits, progress=False)
    assert quick_cochlea == [120, 120]


def test_the_real_cochlea_is_what_fills_the_file(cache):
    from snnkit.datasets import cochlea

    few = some_digits().subset(np.array([0, 7]))
    events = encoded(few, seed=3, workers=1, progress=False)
    for i in range(2):
        times, units = cochlea.encode(few[i][0], 8000, cochlea.clip_seed(3, i))
        np.testing.assert_array_equal(events[i][0]["x"], units)
        assert np.abs(events[i][0]["t"] - times * 1e6).max() <= 1


def test_parts_of_a_corpus(tmp_path, cache, no_network, digits, quick_cochlea):
    write_packed(tmp_path / "fsdd.h5", digits)
    train, test = (SpokenDigits(tmp_path, part, progress=False) for part in ("train", "test"))
    assert (len(train), len(test), len(SpokenDigits(tmp_path, "all"))) == (60, 60, 120)
    assert quick_cochlea == [120]
    with pytest.raises(ParameterError, match="no official valid part"):
        SpokenDigits(tmp_path, "valid")
    with pytest.raises(ParameterError, match="split is one of all, train, valid, test; got 'dev'"):
        SpokenDigits(tmp_path, "dev")


def test_spoken_words_parts(recordings, cache, no_network, quick_cochlea):
    valid = SpokenWords(recordings, "valid", progress=False)
    assert set(valid.speakers) == {2, 7, 8, 12, 21, 25}
    assert len(valid) == 600


def test_speech_commands_follow_their_two_lists(tmp_path, cache, no_network, quick_cochlea):
    folder = gsc(tmp_path / "speech_commands_v0.02")
    all_of_it = sound("gsc", root=tmp_path)
    assert all_of_it.classes == ["bed", "yes"]
    assert len(all_of_it) == 12
    assert [all_of_it.clips[i] for i in all_of_it.rows("test")] == ["yes/c2d4_nohash_0.wav"]
    assert {all_of_it.speaker_names[s] for s in all_of_it.speakers[all_of_it.rows("valid")]} == {"b3f1"}
    assert [len(GSC(tmp_path, part, progress=False)) for part in ("train", "valid", "test")] == [7, 4, 1]

    (folder / "bed" / "b3f1_nohash_1.wav").unlink()
    with pytest.raises(
        DataError, match=r"1 clips of the valid list are missing, the first bed/b3f1_nohash_1"
    ):
        sound("gsc", root=tmp_path)
    (folder / "testing_list.txt").unlink()
    with pytest.raises(DataError, match=r"has no testing_list\.txt"):
        sound("gsc", root=tmp_path)


def test_a_clip_that_is_wrong_is_named(tmp_path, cache, no_network, monkeypatch):
    folder = gsc(tmp_path)
    wrong = folder / "bed" / "0a7c_nohash_0.wav"
    for change, message in (
        (lambda: write_wav(wrong, [], 16000), r"0a7c_nohash_0\.wav has no samples"),
        (lambda: write_wav(wrong, [1, 2], 8000), r"0a7c_nohash_0\.wav has 8000 Hz, expected 16000"),
        (lambda: write_wav(wrong, [1, 2], 16000, width=1), r"has 8 bits a sample, expected 16"),
        (lambda: wrong.write_bytes(b"RIFF no"), r"is no readable WAV file"),
        (lambda: wrong.write_bytes((folder / "yes/0a7c_nohash_0.wav").read_bytes()[:900]), r"is cut off"),
    ):
        change()
        with pytest.raises(DataError, match=message):
            sound("gsc", root=folder)


def test_a_packed_corpus_that_is_wrong_is_named(tmp_path):
    import h5py

    def broken(change):
        path = tmp_path / "a.h5"
        write_packed(path, some_digits())
        with h5py.File(path, "a") as file:
            change(file)
        return path

    def replaced(name, change):
        def apply(file):
            values = file[name][()]
            del file[name]
            file[name] = change(values)

        return apply

    def empty(offsets):
        offsets[8] = offsets[7]
        return offsets

    def outside(labels):
        labels[5] = 77
        return labels

    for change, message in (
        (replaced("offset", empty), r"a\.h5, clip '1_ann_9': it has no samples; a clip needs at least one"),
        (replaced("label", outside), r"a\.h5, clip '1_ann_4': its label 77 is outside 0\.\.9"),
        (replaced("offset", lambda o: o[:-1]), r"120 clips, 120 offsets"),
        (replaced("offset", lambda o: o + 1), r"offsets run from 1 to \d+, expected 0 to"),
        (replaced("samples", lambda s: s.astype(float)), r"samples are float64, expected int16"),
        (replaced("speaker", lambda s: s + 9), r"speaker 11 has no name"),
        (replaced("split", lambda s: s + 9), r"split 11 has no name"),
        (lambda f: f.__delitem__("clip"), r"a\.h5 lacks clip; expected a packed corpus"),
    ):
        with pytest.raises(DataError, match=message):
            read_packed(broken(change), "spoken_digits", "")
    path = broken(lambda f: None)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"a\.h5 is no readable HDF5 file; it may be truncated"):
        read_packed(path, "spoken_digits", "")


def test_limit_takes_the_first_of_every_class_speaker_and_part():
    whole = some_digits()
    few = whole.limited(1)
    assert len(few) == 3 * 10 * 2
    assert few.clips[:4] == ["0_ann_0", "0_ann_5", "1_ann_0", "1_ann_5"]
    np.testing.assert_array_equal(few[3][0], whole[whole.clips.index("1_ann_5")][0])
    assert few.digest != whole.digest
    assert whole.limited(None) is whole
    assert whole.limited(99).digest == whole.digest


def test_synthetic_digits_are_kept_and_split_by_voice(cache, monkeypatch):
    from snnkit.datasets import voices

    calls = []

    def counted(speakers, takes, seed, workers=None):
        calls.append(speakers)
        return synthesise_digits(speakers, takes, seed)

    monkeypatch.setattr(voices, "synthesise_digits", counted)
    first = synthetic_digits(10, 2)
    again = synthetic_digits(10, 2)
    assert len(calls) == 1
    equal(first, again)
    assert first.synthetic
    assert len(first) == 10 * 20 * 2
    assert first.classes[10] == "null"
    assert set(first.speaker_names.values()) == {voices.VARIANTS[i] for i in calls[0]}
    test, train = (set(first.speakers[first.rows(p)]) for p in ("test", "train"))
    assert (len(test), len(train), test & train) == (2, 8, set())
    assert synthetic_digits(10, 2, seed=1).digest != first.digest
    with pytest.raises(ParameterError, match="voices = 4: expected 5 to 75"):
        synthetic_digits(4)


@pytest.mark.slow
def test_synthetic_voices_reach_the_network_as_spikes(cache):
    pytest.importorskip("espeakng_loader")
    events = SyntheticDigits("test", voices=5, takes=1, progress=False)
    assert len(events) == 20
    assert len(np.unique(events.labels)) == 20
    splits = load("synthetic_digits", voices=5, limit=1, progress=False)
    assert splits.synthetic
    assert "no recordings" in splits.attribution
    assert splits.test.lengths.min() > 20


def test_a_corpus_that_may_not_be_fetched_says_where_it_belongs(tmp_path, cache):
    for name in ("spoken_digits", "spoken_words", "gsc"):
        with pytest.raises(Unreachable, match=r"fetch is False\. Fetch http") as caught:
            sound(name, root=tmp_path, fetch=False)
        assert str(tmp_path) in str(caught.value)
    with pytest.raises(ParameterError, match="no sound for 'shd'"):
        sound("shd")


def test_digest_is_that_of_the_little_endian_samples():
    made = some_digits()
    assert made.digest == hashlib.sha256(made.samples.astype("<i2").tobytes()).hexdigest()
    with pytest.raises(IndexError, match="has 120 clips, no number 120"):
        made[120]
    assert (made[-1][0] == made[119][0]).all()


def test_a_cache_that_cannot_be_written_is_said_before_anything_is_encoded(cache, digits, quick_cochlea):
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"spoken_digits-.*\.h5 could not be written"):
        encoded(digits, progress=False)
    assert quick_cochlea == []
