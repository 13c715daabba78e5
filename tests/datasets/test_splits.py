"""Who is in train, valid and test: nobody in two of them, and test only when asked for."""

import numpy as np
import pytest

from snnkit.datasets import leave_one_speaker_out, load
from snnkit.datasets import loading as module
from snnkit.datasets.division import carve, share_of_each
from snnkit.errors import ParameterError
from tests.helpers.made_files import heidelberg, random_clips, write_wav


def rows_of(data):
    """What identifies a recording here: its length, label, speaker and spikes."""
    return [
        (int(k), int(s), one.times.tobytes(), one.neurons.tobytes())
        for one, k, s in zip(data.events, data.labels, data.speakers, strict=True)
    ]


@pytest.fixture
def words(recordings, cache, no_network, quick_cochlea, monkeypatch):
    """SpokenWords and SpokenDigits from the recordings, with a quick cochlea."""
    monkeypatch.setenv("SNNKIT_DATA", str(recordings))
    return quick_cochlea


def test_spoken_words_have_their_authors_split(words):
    data = load("spoken_words", progress=False)
    assert data.sizes == {"train": 1800, "valid": 600, "test": 600}
    assert words == [], "nothing is encoded before it is asked for"
    assert set(data.valid.speakers) == {2, 7, 8, 12, 21, 25} == set(data.speakers["valid"])
    assert set(data.test.speakers) == {3, 4, 10, 14, 26, 28}
    assert set(data.train.speakers) == set(range(1, 31)) - set(data.valid.speakers) - set(data.test.speakers)
    assert words == [3000], "and only once for all parts"
    assert data.train is data.train
    assert (data.channels, data.dt, len(data.classes)) == (140, 10.0, 20)
    x, lengths, labels = data.valid.batch(range(8))
    assert x.shape == (100, 8, 140)
    assert (lengths == 100).all()
    assert len(labels) == 8
    everything = rows_of(data.train) + rows_of(data.valid) + rows_of(data.test)
    assert len(everything) == 3000


def test_the_same_call_gives_the_same_parts(words):
    a, b = (load("spoken_digits", validation="speakers", limit=1, progress=False) for _ in range(2))
    for part in ("train", "valid", "test"):
        assert rows_of(getattr(a, part)) == rows_of(getattr(b, part))
    assert words == [120]


def test_spoken_digits_validate_on_a_speaker_of_their_own(words):
    data = load("spoken_digits", limit=2, progress=False)
    assert len(data.speakers["valid"]) == 1
    assert not set(data.speakers["valid"]) & set(data.speakers["train"])
    assert data.sizes == {"train": 5 * 20, "valid": 20, "test": 6 * 20}
    assert set(data.valid.speakers) == set(data.speakers["valid"])
    assert not set(rows_of(data.test)) & (set(rows_of(data.train)) | set(rows_of(data.valid)))


def test_a_held_out_speaker_is_the_test_part_and_nowhere_else(words):
    data = load("spoken_digits", held_out="theo", progress=False)
    assert data.sizes == {"train": 2000, "valid": 500, "test": 500}
    assert data.speakers["test"] == [4]
    assert not {4} & (set(data.speakers["train"]) | set(data.speakers["valid"]))
    two = load("spoken_digits", held_out=("theo", 0), valid_speakers=["lucas"], validation="speakers")
    assert two.speakers == {"train": [1, 3, 5], "valid": [2], "test": [0, 4]}


def test_every_speaker_is_left_out_once(words):
    folds = list(leave_one_speaker_out("spoken_digits", limit=1, progress=False))
    assert [name for name, _ in folds] == ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    assert [fold.speakers["test"] for _, fold in folds] == [[k] for k in range(6)]
    for _, fold in folds:
        assert fold.sizes["train"] + fold.sizes["valid"] + fold.sizes["test"] == 120


def test_a_held_out_speaker_of_the_words_leaves_nobody_out_of_train(words):
    """With an official valid part but a speaker held out, valid is carved anew from all others."""
    data = load("spoken_words", held_out=3, limit=1, progress=False)
    who = {part: set(speakers) for part, speakers in data.speakers.items()}
    assert who["test"] == {3}
    assert len(who["valid"]) == 4
    assert who["train"] | who["valid"] == set(range(1, 31)) - {3}
    assert not who["train"] & who["valid"]


def test_speakers_validation_uses_the_official_valid_part_to_train_on(words):
    data = load("spoken_words", validation="speakers", limit=1, progress=False)
    assert data.sizes["train"] + data.sizes["valid"] == 24 * 20
    assert data.speakers["test"] == [3, 4, 10, 14, 26, 28]


def test_random_validation_takes_a_tenth_of_every_class(words):
    data = load("spoken_digits", validation="random", limit=10, progress=False)
    assert (np.bincount(data.valid.labels) == 6).all()
    assert data.sizes == {"train": 540, "valid": 60, "test": 300}
    assert not set(rows_of(data.valid)) & set(rows_of(data.train))
    other = load("spoken_digits", validation="random", limit=10, seed=1, progress=False)
    assert other.sizes == data.sizes


def test_no_validation_is_an_error_only_when_asked_for(words):
    data = load("spoken_digits", validation="none", limit=1, progress=False)
    assert data.sizes == {"train": 60, "test": 60}
    with pytest.raises(ParameterError, match="loaded with validation = 'none'; it has no valid part"):
        _ = data.valid


def test_validation_on_the_test_part_is_warned_of(words, caplog):
    data = load("spoken_digits", validation="test", limit=1, progress=False)
    assert "validation on the test part" in caplog.text
    assert rows_of(data.valid) == rows_of(data.test)
    assert data.sizes["train"] == 60


def test_shd_has_whole_speakers_for_validation_and_test_is_read_when_asked(
    tmp_path, cache, no_network, monkeypatch
):
    times, units, labels = random_clips(1, clips=60)
    speakers = np.arange(60) % 10
    heidelberg(tmp_path / "shd_train.h5", times, units, labels, speakers)
    heidelberg(tmp_path / "shd_test.h5", *random_clips(2, clips=9))
    binned = []
    real = module.bin_events
    monkeypatch.setattr(module, "bin_events", lambda d, *a, **k: binned.append(d.name) or real(d, *a, **k))

    data = load("shd", root=tmp_path)
    assert data.sizes == {"train": 48, "valid": 12, "test": 9}
    who = set(data.valid.speakers)
    assert len(who) == 2
    assert not who & set(data.train.speakers)
    data.describe()
    assert binned == ["shd_train"]
    assert len(data.test) == 9
    assert binned == ["shd_train", "shd_test"]

    again = load("shd", root=tmp_path, valid_speakers=[3, 7], validation="speakers")
    assert again.speakers["valid"] == [3, 7]
    np.testing.assert_array_equal(again.train.labels, labels[~np.isin(speakers, [3, 7])])
    assert load("shd", root=tmp_path, validation="test").valid.labels.tolist() == data.test.labels.tolist()


def test_ssc_has_three_official_parts(tmp_path, cache, no_network):
    for i, part in enumerate(("train", "valid", "test")):
        heidelberg(tmp_path / f"ssc_{part}.h5", *random_clips(i, clips=5 + i))
    data = load("ssc", root=tmp_path, dt=20.0, channels=70, binary=True, steps=30)
    assert [len(getattr(data, p)) for p in ("train", "valid", "test")] == [5, 6, 7]
    assert data.train.lengths.max() <= 30
    assert data.train.dropped > 0
    assert data.train.batch([0])[0].max() == 1
    assert load("ssc", root=tmp_path, validation="none").sizes == {"train": 5, "test": 7}


def test_speech_commands_as_mel_frames_or_spikes(tmp_path, cache, no_network, quick_cochlea):
    rng = np.random.default_rng(0)
    for word in ("bed", "yes"):
        for who in ("aa", "bb", "cc"):
            write_wav(tmp_path / word / f"{who}_nohash_0.wav", rng.integers(-99, 99, 3200), 16000)
    (tmp_path / "validation_list.txt").write_text("bed/bb_nohash_0.wav\nyes/bb_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("bed/cc_nohash_0.wav\nyes/cc_nohash_0.wav\n")
    mel = load("gsc", root=tmp_path, features="mel", channels=40)
    assert quick_cochlea == []
    x, lengths, labels = mel.valid.batch([0, 1])
    assert (x.shape, lengths.tolist(), labels.tolist()) == ((20, 2, 40), [20, 20], [0, 1])
    assert mel.describe()["steps"] == {"median": 20.0, "longest": 20}
    spikes = load("gsc", root=tmp_path)
    assert spikes.sizes == {"train": 2, "valid": 2, "test": 2}
    assert len(spikes.train) == 2
    assert quick_cochlea == [6]


def test_a_description_counts_the_test_part_without_making_it(words):
    data = load("spoken_digits", held_out="theo", limit=1, progress=False)
    data.make["test"] = None
    told = data.describe()
    assert told["recordings"]["test"] == 20
    assert told["speakers"]["test"] == ["theo"]
    assert told["steps"]["longest"] == data.train.lengths.max()
    assert told["occupancy"] == data.train.occupancy
    assert "CC BY-SA" in told["attribution"]
    assert told["synthetic"] is False


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("spoken_word", {}, r"unknown dataset 'spoken_word'; known are shd.*, did you mean 'spoken_words'\?"),
        ("spoken_digits", {"validation": "dev"}, "validation = 'dev'; it is one of auto, official"),
        ("spoken_digits", {"validation": "official"}, "no official valid part; take validation = 'speakers'"),
        ("spoken_digits", {"features": "mel"}, "features = 'mel' for spoken_digits"),
        ("spoken_digits", {"limit": 0}, "limit = 0; it must be at least 1"),
        ("spoken_digits", {"held_out": "thea"}, "held_out: no speaker 'thea'; there are george, jackson"),
        ("spoken_digits", {"held_out": range(6)}, "held_out names every speaker"),
        ("spoken_words", {"held_out": 3, "validation": "official"}, "does not go with held_out"),
        ("spoken_digits", {"valid_speakers": 2, "validation": "none"}, "valid_speakers has no meaning with"),
        ("spoken_digits", {"valid_speakers": 6}, "valid_speakers takes 6 of 6 speakers"),
        ("spoken_digits", {"valid_speakers": 0}, "valid_speakers = 0; it must be at least 1"),
        ("spoken_digits", {"valid_speakers": ["me"]}, "valid_speakers: no speaker 'me'"),
    ],
)
def test_what_cannot_be_loaded_is_explained(words, name, options, message):
    with pytest.raises(ParameterError, match=message):
        load(name, **options)
    assert words == []


def test_speakers_cannot_be_held_out_across_files(tmp_path, cache):
    heidelberg(tmp_path / "shd_train.h5", *random_clips(1))
    heidelberg(tmp_path / "shd_test.h5", *random_clips(2))
    with pytest.raises(ParameterError, match="shd has its test part in a file of its own"):
        load("shd", root=tmp_path, held_out=1)


def test_carving_is_by_seed_and_needs_two_speakers():
    speakers = np.repeat(np.arange(20), 3)
    assert len(carve(speakers)) == 3
    with pytest.raises(ParameterError, match="the speaker of every recording; 2 of"):
        carve(np.concatenate([speakers, [-1, -1]]))
    assert len(carve(speakers, 5)) == 5
    assert (carve(speakers, seed=1) == carve(speakers, seed=1)).all()
    assert len({tuple(carve(speakers, seed=s)) for s in range(10)}) > 5
    with pytest.raises(ParameterError, match="needs at least 2 speakers, there is 1; take"):
        carve(np.zeros(9))


def test_a_class_of_one_recording_is_left_to_train_on():
    labels = np.repeat([0, 1, 2], [30, 1, 2])
    taken = share_of_each(labels, 0.1)
    assert np.bincount(labels[taken], minlength=3).tolist() == [3, 0, 1]
