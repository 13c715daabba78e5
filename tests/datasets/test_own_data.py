"""Data sets of one's own by name: files of events, folders of sound, tonic's classes, a function."""

import json
import os
import re
import sys
import types
from urllib.error import URLError

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from snnkit import cli
from snnkit.datasets import Splits, images, load, table, write_splits
from snnkit.datasets.encoding import encoded
from snnkit.datasets.mel import mel_frames
from snnkit.datasets.own_events import read as read_source
from snnkit.datasets.own_events import read_bin
from snnkit.datasets.recordings import Recordings
from snnkit.datasets.table import DATASETS, Dataset, lookup
from snnkit.datasets.unlabelled import read_unlabelled, sound_of
from snnkit.errors import ConfigError, DataError, MissingExtraError, ParameterError, SnnkitError
from snnkit.report.samples import samples_picture
from snnkit.training.config import parse_config
from snnkit.training.run import load_data
from tests.helpers.made_files import bin_file, heidelberg, nmnist, own_audio, own_events, write_wav

PARTS = ("train", "valid", "test")


def same(a, b, parts=PARTS):
    for part in parts:
        one, other = getattr(a, part), getattr(b, part)
        assert one.labels.tolist() == other.labels.tolist()
        np.testing.assert_array_equal(one.batch(range(len(one)))[0], other.batch(range(len(other)))[0])


def camera(count=20, seed=0, events=40):
    """Columns of an .npz, and the recordings as dictionaries."""
    rng = np.random.default_rng(seed)
    clips = [
        {
            "t": np.sort(rng.integers(0, 20_000, events)),
            "x": rng.integers(0, 6, events),
            "y": rng.integers(0, 4, events),
            "p": rng.integers(0, 2, events),
        }
        for _ in range(count)
    ]
    columns = {key: np.concatenate([clip[key] for clip in clips]) for key in "txyp"}
    return columns | {"offsets": np.arange(count + 1) * events, "labels": np.arange(count) % 2}, clips


def dense(clips, dt, shape, place):
    """The counts, the plain way: `place` gives channel, row and column of an event."""
    steps = 1 + max(int(clip["t"].max() // dt) for clip in clips)
    x = np.zeros((steps, len(clips), *shape))
    for b, clip in enumerate(clips):
        for t, col, row, p in zip(*(clip[key] for key in "txyp"), strict=True):
            x[(int(t // dt), b, *place(col, row, p))] += 1
    return x


@pytest.mark.parametrize(
    ("options", "shape", "place"),
    [
        ({}, (2, 4, 6), lambda x, y, p: (p, y, x)),
        ({"downsample": 2}, (2, 2, 3), lambda x, y, p: (p, y // 2, x // 2)),
        ({"downsample": 4, "polarity": False}, (1, 1, 2), lambda x, y, p: (0, y // 4, x // 4)),
    ],
)
def test_a_camera_is_seen_as_it_was_asked_for(tmp_path, cache, options, shape, place):
    columns, clips = camera()
    np.savez(tmp_path / "a.npz", **columns)
    splits = load("events", root=tmp_path, train="a.npz", valid="a.npz", test="a.npz", dt=5.0, **options)
    assert (splits.shape, splits.channels) == (shape, int(np.prod(shape)))
    x = splits.test.batch(range(20))[0].reshape(-1, 20, *shape)
    np.testing.assert_array_equal(x, dense(clips, 5000, shape, place))


def test_steps_of_equally_many_events(tmp_path, cache):
    columns, clips = camera(events=45)
    np.savez(tmp_path / "a.npz", **columns)
    splits = load("events", root=tmp_path, train="a.npz", test="a.npz", dt=3.3, events_per_step=10)
    x, lengths, _ = splits.test.batch(range(20))
    assert (lengths == 5).all()
    assert (x.sum(2).T == [10, 10, 10, 10, 5]).all()
    first = np.zeros(48)
    for col, row, p in zip(*(clips[0][key][:10] for key in "xyp"), strict=True):
        first[(p * 4 + row) * 6 + col] += 1
    np.testing.assert_array_equal(x[0, 0], first)


def test_one_file_is_divided_by_its_column_or_a_rule(tmp_path, cache):
    columns, _ = camera(30)
    part = np.array(["train", "valid", "test"])[np.arange(30) // 10]
    np.savez(tmp_path / "a.npz", **columns, part=part, session=np.arange(30) // 3, speaker=np.arange(30) % 5)
    some = {"root": tmp_path, "file": "a.npz"}
    assert load("events", **some).sizes == {"train": 10, "valid": 10, "test": 10}
    assert load("events", **some, split="official").test.labels.tolist() == [0, 1] * 5
    assert load("events", **some, split="random").sizes == {"train": 22, "valid": 4, "test": 4}
    whole = load("events", **some, split="speakers")
    assert all(len(who) >= 1 for who in whole.speakers.values())
    assert sum(len(who) for who in whole.speakers.values()) == 5
    folds = [load("events", **some, split="kfold", folds=5, fold=k, groups="session") for k in range(5)]
    tested = sorted(s for fold in folds for s in fold.speakers["test"])
    assert tested == list(range(10))
    assert load("events", **some, split="speakers", seed=1).speakers != whole.speakers
    held = load("events", **some, held_out="3")
    assert held.speakers["test"] == [3]
    with pytest.raises(DataError, match=r"no column 'sesion' for groups, did you mean 'session'\?"):
        load("events", **some, groups="sesion")
    with pytest.raises(ParameterError, match=r"unknown split 'kfolds', did you mean 'kfold'\?"):
        load("events", **some, split="kfolds")


def test_a_blank_speaker_of_a_file_is_no_speaker(tmp_path, cache):
    columns, _ = camera(30)
    who = np.array(["ann", "bob", "", "cy", "dee"])[np.arange(30) % 5]
    np.savez(tmp_path / "a.npz", **columns, speaker=who)
    for split in ("auto", "speakers", "kfold"):
        with pytest.raises(ParameterError, match="events: recording 2 has no group, and 24 of 30 have one"):
            load("events", root=tmp_path, file="a.npz", split=split)
    assert load("events", root=tmp_path, file="a.npz", split="random").sizes["train"] == 22


def test_classes_fix_the_numbering_and_a_subset(tmp_path, cache):
    own_events(tmp_path)
    files = {"root": tmp_path, "train": "train.h5", "test": "test.h5"}
    whole = load("events", **files)
    assert whole.classes == ["null", "eins", "zwei"]
    some = load("events", **files, classes=("zwei", "null"))
    assert some.classes == ["zwei", "null"]
    names = [whole.classes[k] for k in whole.test.labels]
    assert [some.classes[k] for k in some.test.labels] == [n for n in names if n != "eins"]
    keep = [i for i, n in enumerate(names) if n != "eins"]
    np.testing.assert_array_equal(
        some.test.batch(range(len(keep)))[0], whole.test.subset(keep).batch(range(len(keep)))[0]
    )
    with pytest.raises(ParameterError, match=r"classes names 'null1', .*did you mean 'null'\?"):
        load("events", **files, classes=("eins", "null1"))
    with pytest.raises(DataError, match="are of one class, 'eins'"):
        load("events", **files, classes=("eins",))


def test_parts_that_number_their_classes_differently_are_numbered_once(tmp_path, cache):
    for part, names in (("train", ("a", "b", "c")), ("test", ("c", "d", "a"))):
        heidelberg(tmp_path / f"{part}.h5", [[0.1]] * 30, [[5]] * 30, [0, 1, 2] * 10, keys=names)
    splits = load("events", root=tmp_path, train="train.h5", test="test.h5")
    assert splits.classes == ["a", "b", "c", "d"]
    assert [splits.classes[k] for k in splits.test.labels[:3]] == ["c", "d", "a"]


def test_any_number_of_channels_and_recordings_without_events(tmp_path, cache):
    heidelberg(
        tmp_path / "a.h5", [[0.1], [], [0.2]] * 10, [[2], [], [11]] * 10, [0, 1, 1] * 10, dtype="float64"
    )
    splits = load("events", root=tmp_path, train="a.h5", test="a.h5")
    assert splits.shape == (12,)
    assert splits.test.lengths[:3].tolist() == [11, 1, 21]
    wider = load("events", root=tmp_path, train="a.h5", test="a.h5", shape=(20,), channels=10)
    assert (wider.channels, wider.test.batch([0])[0][10, 0, 1]) == (10, 1)


def test_absolute_times_count_from_the_first_event(tmp_path, cache):
    columns, _ = camera()
    np.savez(tmp_path / "a.npz", **columns)
    np.savez(tmp_path / "late.npz", **{**columns, "t": columns["t"] + 10**15})
    with pytest.raises(DataError, match="Take origin = 'first'"):
        load("events", root=tmp_path, train="late.npz", test="late.npz")
    some = {"root": tmp_path, "origin": "first"}
    same(
        load("events", train="late.npz", test="late.npz", **some),
        load("events", train="a.npz", test="a.npz", **some),
    )
    times = [[1000.1, 1000.25], [], [2000.5]] * 10
    heidelberg(tmp_path / "a.h5", times, [[1, 1], [], [2]] * 10, [0, 1, 1] * 10, dtype="float64")
    got = load("events", train="a.h5", test="a.h5", dt=100.0, **some)
    assert got.test.lengths[:3].tolist() == [2, 1, 1]


def test_a_folder_of_files_a_recording_each(tmp_path, cache):
    columns, clips = camera()
    kind = [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")]
    for k, clip in enumerate(clips):
        one = np.zeros(40, kind)
        for key in "txyp":
            one[key] = clip[key]
        path = tmp_path / "own" / "ab"[k % 2] / f"{k:02d}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, one)
        bin_file(tmp_path / "bins" / "ab"[k % 2] / f"{k:02d}.bin", *(clip[key] for key in "txyp"))
    order = [k for c in (0, 1) for k in range(20) if k % 2 == c]
    kept = {key: np.concatenate([clips[k][key] for k in order]) for key in "txyp"}
    np.savez(tmp_path / "a.npz", **{**columns, **kept, "labels": np.array(list("ab"))[np.arange(20) // 10]})
    want = load("events", root=tmp_path, file="a.npz")
    same(load("events", root=tmp_path, file="own"), want)
    same(load("events", root=tmp_path, file="bins", shape=(2, 4, 6)), want)


def test_a_bin_file_of_many_overflows(tmp_path):
    """tonic's reader, which follows the authors' own."""
    io = pytest.importorskip("tonic.io")
    rng = np.random.default_rng(0)
    t, x, y, p = (rng.integers(0, n, 300) for n in (1 << 23, 34, 34, 2))
    y[rng.choice(300, 20)] = 240
    bin_file(tmp_path / "a.bin", t, x, y, p)
    want = io.read_mnist_file(
        str(tmp_path / "a.bin"), np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    )
    got = read_bin(tmp_path / "a.bin")
    for key in "txyp":
        np.testing.assert_array_equal(got[key], want[key])
    (tmp_path / "b.bin").write_bytes(b"1234567")
    with pytest.raises(DataError, match=r"has 7 bytes; a \.bin file is made of records of 5"):
        read_bin(tmp_path / "b.bin")


@pytest.mark.parametrize(("suffix", "module"), [("aedat4", "aedat"), ("dat", "expelliarmus")])
def test_a_format_of_another_package_names_the_extra(tmp_path, cache, monkeypatch, suffix, module):
    (tmp_path / "own" / "a").mkdir(parents=True)
    (tmp_path / "own" / "a" / f"1.{suffix}").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"'{module}' is needed .* pip install 'snnkit\[events\]'"):
        load("events", root=tmp_path, file="own")


def test_a_dat_file_is_what_expelliarmus_reads(tmp_path, cache, monkeypatch):
    columns, clips = camera()
    kind = [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")]

    class Wizard:
        def __init__(self, encoding):
            assert encoding == "dat"

        def read(self, path):
            clip = clips[int(path[-6:-4])]
            one = np.zeros(40, kind)
            for key in "txyp":
                one[key] = clip[key]
            return one

    monkeypatch.setitem(sys.modules, "expelliarmus", types.SimpleNamespace(Wizard=Wizard))
    for k in range(20):
        path = tmp_path / "own" / "ab"[k // 10] / f"{k:02d}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    np.savez(tmp_path / "a.npz", **{**columns, "labels": np.arange(20) // 10})
    same(load("events", root=tmp_path, file="own"), load("events", root=tmp_path, file="a.npz"))


def npz(path, **changes):
    columns = {**camera(4)[0], **changes}
    np.savez(path, **{key: value for key, value in columns.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": None}, "has no 'offsets'; expected t, x, offsets, labels"),
        (
            {"labels": np.array([0, 1, 0])},
            r"a.npz: 3 labels for 4 recordings \(5 offsets\); give a",
        ),
        ({"offsets": np.arange(5) * 40 + 0.5}, r"offsets: value 0 is 0\.5, where whole numbers are expected"),
        ({"labels": np.array([0, 0.5, 1, 1])}, r"labels: value 1 is 0\.5, where whole numbers are expected"),
        ({"x": np.zeros(3, int)}, "offsets that rise from 0"),
        ({"labels": np.array([0, 1, {}, 1], object)}, "holds arrays of objects .* may run code"),
        ({"t": -camera(4)[0]["t"]}, "recording 0: time -.* must not be negative"),
        ({"shape": [2, 4, 5]}, r"has x = 5, outside 0\.\.4"),
        ({"part": np.array(["train", "tset", "test", "test"])}, "part 'tset' is none of train, valid, test"),
        ({"speaker": np.arange(3)}, "the column 'speaker' has 3 values for 4 recordings"),
        ({"classes": ["a"]}, r"label 1 is outside 0\.\.0"),
    ],
)
def test_an_npz_that_cannot_be_is_named(tmp_path, cache, changes, message):
    npz(tmp_path / "a.npz", **changes)
    with pytest.raises(DataError, match=message):
        load("events", root=tmp_path, file="a.npz")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ParameterError, "events needs train = .* got neither"),
        ({"test": "a.npz"}, ParameterError, "got test"),
        ({"train": "a.npz", "file": "a.npz"}, ParameterError, "got train, file"),
        ({"file": "b.npz"}, DataError, "b.npz does not exist; set root"),
        ({"file": "a.txt"}, DataError, r"a.txt: expected .h5 \(SHD's layout\), .npz, or a folder"),
        ({"file": "empty"}, DataError, "empty has no files for events"),
        ({"file": "a.npz", "downsample": 0}, ParameterError, "downsample = 0; it must be at least 1"),
        (
            {"file": "a.npz", "channels": 12},
            ParameterError,
            r"channels = 12, but .* has the shape \[2, 4, 6\]",
        ),
        ({"file": "a.npz", "split": "official"}, ParameterError, "nothing says which recording is in which"),
        (
            {"file": "line.h5", "downsample": 2},
            ParameterError,
            "6 channels in a row; downsample and polarity",
        ),
        ({"train": "a.npz", "test": "line.h5"}, ParameterError, r"say shape = \[…\]"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, cache, options, error, message):
    npz(tmp_path / "a.npz", **camera(40)[0])
    heidelberg(tmp_path / "line.h5", [[0.1]] * 40, [[5]] * 40, [0, 1] * 20)
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        _ = load("events", root=tmp_path, **options).train


# sound


def test_a_csv_is_the_folder_that_it_lists(tmp_path, cache, quick_cochlea):
    own_audio(tmp_path)
    lines = ["path, label, who"]
    for path in sorted(tmp_path.glob("*/*.wav")):
        lines.append(f"{path.relative_to(tmp_path)},{path.parent.name},{path.stem.split('_')[1]}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    folder = load("audio", root=tmp_path, groups=r"_(\w+)_", progress=False)
    listed = load("audio", root=tmp_path, table="list.csv", groups="who", progress=False)
    same(folder, listed)
    assert folder.classes == ["left", "right"]
    assert sorted(folder.speaker_names.values()) == ["ann", "bob", "cy", "dee", "eve", "fay", "gus", "hal"]
    assert folder.speakers == listed.speakers
    assert not set(folder.speakers["test"]) & set(folder.speakers["train"])
    at_random = load("audio", root=tmp_path, progress=False)
    assert at_random.speakers["train"] == []
    assert at_random.sizes == {"train": 24, "valid": 4, "test": 4}
    held = load("audio", root=tmp_path, groups=r"_(\w+)_", held_out="cy", progress=False)
    assert [held.speaker_names[s] for s in held.speakers["test"]] == ["cy"]


def test_parts_in_folders_or_in_the_csv_are_kept(tmp_path, cache, quick_cochlea):
    for seed, part in enumerate(PARTS):
        own_audio(tmp_path / part, seed)
    splits = load("audio", root=tmp_path, groups=r"_(\w+)_", progress=False)
    assert splits.sizes == dict.fromkeys(PARTS, 32)
    assert splits.classes == ["left", "right"]
    lines = ["path,label,part"]
    lines += [f"{p.relative_to(tmp_path)},{p.parent.name},{p.parts[-3]}" for p in tmp_path.rglob("*.wav")]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    assert load("audio", root=tmp_path, table="list.csv", progress=False).sizes == splits.sizes


def test_sound_as_mel_frames(tmp_path, cache):
    own_audio(tmp_path)
    splits = load("audio", root=tmp_path, features="mel", channels=20, progress=False)
    assert splits.train.batch([0])[0].shape[2] == 20


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"root": None}, ParameterError, 'audio needs root = "FOLDER"'),
        ({"root": "nowhere"}, DataError, "nowhere does not exist"),
        ({"groups": "("}, ParameterError, r"groups = '\(' is no pattern"),
        ({"groups": "_x_"}, ParameterError, "has no group; put the speaker in brackets"),
        ({"groups": r"_(\d\d\d)_"}, DataError, "0_ann_.wav: groups = .* finds no speaker in its name"),
        ({"classes": ("left", "rihgt")}, ParameterError, r"classes names 'rihgt'.*did you mean 'right'\?"),
        ({"split": "speakers"}, ParameterError, "needs to know the group of every recording"),
        ({"table": "head.csv"}, DataError, "has no column 'label'; its head is path, word"),
        ({"table": "empty.csv"}, DataError, "lists no clips"),
        ({"table": "hole.csv"}, DataError, "hole.csv, line 3: path 'left/0_ann_.wav', label ''"),
        (
            {"table": "rate.csv"},
            DataError,
            r"fast.wav has 16000 Hz; of 2 files there are 1 of 8000 Hz, 1 of 16",
        ),
        ({"table": "part.csv"}, DataError, "0_ann_.wav has no part, and 1 of 2 clips have one"),
        ({"table": "who.csv"}, DataError, "0_ann_.wav has no speaker, and 1 of 2 clips have one"),
        ({"table": "good.csv", "groups": "who"}, DataError, "has no column 'who'"),
    ],
)
def test_sound_that_cannot_be_is_named(tmp_path, cache, quick_cochlea, options, error, message):
    own_audio(tmp_path)
    write_wav(tmp_path / "fast.wav", np.arange(99), 16000)
    (tmp_path / "head.csv").write_text("path,word\n")
    (tmp_path / "empty.csv").write_text("path,label\n")
    (tmp_path / "hole.csv").write_text("path,label\nleft/0_ann_.wav,left\nleft/0_ann_.wav,\n")
    (tmp_path / "rate.csv").write_text("path,label\nleft/0_ann_.wav,left\nfast.wav,left\n")
    two = "left/1_ann_.wav,left,{}\nleft/0_ann_.wav,left,\n"
    (tmp_path / "part.csv").write_text("path,label,part\n" + two.format("test"))
    (tmp_path / "who.csv").write_text("path,label,speaker\n" + two.format("ann"))
    (tmp_path / "good.csv").write_text("path,label\nleft/0_ann_.wav,left\n")
    with pytest.raises(error, match=message):
        load("audio", **{"root": tmp_path, "progress": False, **options})


def test_the_file_of_another_rate_is_blamed_wherever_it_stands(tmp_path, cache):
    own_audio(tmp_path)
    write_wav(tmp_path / "left" / "00_first.wav", np.arange(999), 44100)
    message = r"00_first\.wav has 44100 Hz; of 33 files there are 32 of 8000 Hz, 1 of .* Bring all to 8000"
    with pytest.raises(DataError, match=message):
        load("audio", root=tmp_path)


def test_sound_of_several_channels_is_not_mixed(tmp_path, cache, quick_cochlea):
    rng = np.random.default_rng(0)
    clips = {
        f"{word}/{k}_{who}_.wav": rng.integers(-3000, 3000, (900, 2))
        for word in ("left", "right") for who in ("ann", "bob", "cy", "dee") for k in range(3)
    }  # fmt: skip
    for name, samples in clips.items():
        write_wav(tmp_path / "both" / name, samples, 8000, channels=2)
        for channel in (0, 1):
            write_wav(tmp_path / f"only{channel}" / name, samples[:, channel], 8000)
    options = {"groups": r"_(\w+)_", "progress": False}
    with pytest.raises(DataError, match=r"0_ann_.wav has 2 channels; they are not mixed: say channel = 0"):
        load("audio", root=tmp_path / "both", **options)
    with pytest.raises(DataError, match=r"has 2 channels, and channel = 2; they"):
        load("audio", root=tmp_path / "both", channel=2, **options)
    for channel in (0, 1):
        got = load("audio", root=tmp_path / "both", channel=channel, **options)
        same(got, load("audio", root=tmp_path / f"only{channel}", **options))
        samples = sound_of(tmp_path / "both" / "left" / "0_ann_.wav", channel).samples
        np.testing.assert_array_equal(samples, clips["left/0_ann_.wav"][:, channel])
    with pytest.raises(DataError, match="has 2 channels"):
        sound_of(tmp_path / "both" / "left" / "0_ann_.wav")


def test_recordings_that_a_csv_does_not_list_are_told(tmp_path, cache, quick_cochlea, caplog):
    own_audio(tmp_path)
    files = sorted(tmp_path.glob("*/*.wav"))
    lines = [f"{p.relative_to(tmp_path)},{p.parent.name}" for p in files]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *lines]))
    load("audio", root=tmp_path, table="all.csv", progress=False)
    assert not caplog.records
    (tmp_path / "some.csv").write_text("\n".join(["path,label", *lines[2:-1]]))
    write_wav(tmp_path / "up" / "extra.WAV", np.arange(999), 8000)  # a folder that no row names
    load("audio", root=tmp_path, table="some.csv", progress=False)
    assert "some.csv lists 29 clips; 4 WAVs beside them are not in it and are left out" in caplog.text
    assert all(str(p) in caplog.text for p in files[:2])


def test_other_sound_files_are_told(tmp_path, cache, quick_cochlea, caplog):
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "a.FLAC").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"has 1 sound files that are no WAVs and are not read, as .*a.FLAC; "
    ):
        load("audio", root=tmp_path)
    own_audio(tmp_path)
    load("audio", root=tmp_path, progress=False)
    assert "a.FLAC" in caplog.text


@pytest.mark.parametrize("ending", [".WAV", ".Wav", ".wave"])
def test_endings_in_capitals_are_the_same_sound(tmp_path, cache, quick_cochlea, ending):
    own_audio(tmp_path / "a")
    own_audio(tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.wav"):
        path.rename(path.with_suffix(ending))
    options = {"groups": r"_(\w+)_", "progress": False}
    same(load("audio", root=tmp_path / "a", **options), load("audio", root=tmp_path / "b", **options))


def test_endings_in_capitals_are_the_same_events(tmp_path, cache):
    columns, clips = camera()
    np.savez(tmp_path / "a.npz", **columns)
    want = load("events", root=tmp_path, file="a.npz")
    (tmp_path / "a.npz").rename(tmp_path / "a.NPZ")
    same(load("events", root=tmp_path, file="a.NPZ"), want)
    assert len(read_unlabelled(tmp_path / "a.NPZ", (2, 4, 6))) == 20
    write_splits(tmp_path / "b.H5", want)
    again = load("events", root=tmp_path, file="b.H5")
    assert again.sizes == want.sizes
    alone = read_unlabelled(tmp_path / "b.H5", (2, 4, 6))
    assert (len(alone), alone.shape) == (20, (2, 4, 6))
    rows = np.arange(len(want.train))  # train comes first in the file
    assert np.bincount(alone.read(rows)[1], minlength=48).tolist() == (
        np.bincount(want.train.events.neurons, want.train.events.values, 48).tolist()
    )
    for k, clip in enumerate(clips):
        path = tmp_path / "bins" / "ab"[k % 2] / f"{k:02d}.BIN"
        bin_file(path, *(clip[key] for key in "txyp"))
    assert sum(load("events", root=tmp_path, file="bins").sizes.values()) == 20
    assert len(read_unlabelled(path, (2, 4, 6))) == 1
    nmnist(tmp_path / "NMNIST")
    want = load("nmnist", root=tmp_path)
    assert len(want.train) + len(want.valid) + len(want.test) == 130  # read before the files are renamed
    for path in (tmp_path / "NMNIST").rglob("*.bin"):
        path.rename(path.with_suffix(".BIN"))
    same(load("nmnist", root=tmp_path), want)


@pytest.mark.parametrize("later", [10**9, -(10**9)], ids=["newer", "older"])
@pytest.mark.parametrize("way", ["nmnist", "bins", "tonic"])
def test_recordings_replaced_by_others_of_their_size_are_binned_anew(tmp_path, cache, way, later):
    if way == "tonic":
        pytest.importorskip("tonic")
    nmnist(tmp_path / "NMNIST", train=4)
    name, options = {
        "nmnist": ("nmnist", {}),
        "bins": ("events", {"train": "NMNIST/Train", "test": "NMNIST/Test", "shape": (2, 34, 34)}),
        "tonic": ("tonic:NMNIST", {"complete": False}),
    }[way]
    load(name, root=tmp_path, **options).test  # noqa: B018  (fills the cache)
    path = min((tmp_path / "NMNIST" / "Test" / "0").iterdir())
    before = path.stat()
    t, x, y, p = (read_bin(path)[key] for key in "txyp")
    bin_file(path, t, 33 - x, y, p)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))
    row = 0
    got = load(name, root=tmp_path, **options).test.batch([row])[0].reshape(-1, 2, 34, 34)
    want = np.zeros_like(got)
    np.add.at(want, (t // 10_000, p, y, 33 - x), 1)
    np.testing.assert_array_equal(got, want)


def test_a_cut_between_clips_that_moved_is_encoded_anew(cache, quick_cochlea):
    samples = np.random.default_rng(0).integers(-3000, 3000, 4000).astype(np.int16)

    def clips(cut):
        return Recordings(
            name="audio", samples=samples, offsets=np.array([0, cut, 4000]), labels=np.array([0, 1]),
            speakers=np.full(2, -1), part=np.zeros(2), clips=["a", "b"], classes=["a", "b"],
            speaker_names={}, rate=8000, where="memory", attribution="",
        )  # fmt: skip

    for cut in (1000, 2500):
        made = encoded(clips(cut), progress=False)
        times, _, counts = made.read(np.array([0]))
        assert counts[0] > 0
        assert abs(times.max() / 1000 - cut / 8) < 60  # ms: it lasts as long as the clip
        assert mel_frames(clips(cut), 10.0, 20).lengths.tolist() == [-(-cut // 80), -(-(4000 - cut) // 80)]


def test_a_folder_without_sound_is_named(tmp_path, cache):
    with pytest.raises(DataError, match=r"has no sound; expected .*/WORD/\*\.wav"):
        load("audio", root=tmp_path)


# N-MNIST and tonic


NOWHERE = {
    "audio": {"root": "nowhere"},
    "events": {"file": "nowhere"},
    "nmnist": {"root": "nowhere"},
    "mnist": {"root": "nowhere"},
    "cifar10_subset": {"root": "nowhere"},
    "spoken_digits": {"root": "nowhere", "fetch": False},
    "shd": {"root": "nowhere", "fetch": False},
    "tonic:NMNIST": {"save_to": "nowhere", "complete": False},
}


@pytest.mark.parametrize("name", NOWHERE)
@pytest.mark.parametrize("anywhere", [False, True], ids=["here", "SNNKIT_DATA"])
def test_a_relative_path_that_is_not_there_is_named_from_the_root(
    name, anywhere, tmp_path, cache, monkeypatch
):
    """A path counts from the folder at hand, and the error says which that was."""
    if name.startswith("tonic:"):
        pytest.importorskip("tonic")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNNKIT_DATA", raising=False)
    if anywhere:
        monkeypatch.setenv("SNNKIT_DATA", "data")
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "nowhere"))):
        load(name, progress=False, **NOWHERE[name])


def test_nmnist_from_its_folders_from_one_file_and_through_tonic_are_the_same(tmp_path, cache):
    pytest.importorskip("tonic")
    nmnist(tmp_path / "NMNIST")
    folders = load("nmnist", root=tmp_path)
    assert (folders.shape, folders.sizes) == ((2, 34, 34), {"train": 90, "valid": 10, "test": 30})
    assert np.bincount(folders.valid.labels).tolist() == [1] * 10

    through = load("tonic:NMNIST", root=tmp_path, complete=False)
    same(folders, through)
    assert through.shape == (2, 34, 34)
    assert through.classes[3] == "3 - three"
    saccade = load("tonic:NMNIST", save_to=str(tmp_path), complete=False, first_saccade_only=True)
    assert saccade.sizes == folders.sizes

    files = [(part, p) for part in ("Train", "Test") for p in sorted(tmp_path.rglob(f"{part}/*/*.bin"))]
    events = [read_bin(p) for _, p in files]
    with h5py.File(tmp_path / "nmnist_small.h5", "w") as file:
        for name, key in (("times", "t"), ("x", "x"), ("y", "y"), ("p", "p")):
            file[name] = np.concatenate([e[key] for e in events])
        file["offset"] = np.cumsum([0, *map(len, events)])
        file["label"] = [int(p.parent.name) for _, p in files]
        file["part"] = [int(part == "Test") for part, _ in files]
    (tmp_path / "packed").mkdir()
    (tmp_path / "nmnist_small.h5").rename(tmp_path / "packed" / "nmnist_small.h5")
    same(load("nmnist", root=tmp_path / "packed"), folders)


@pytest.fixture
def stand_in(monkeypatch):
    """tonic with one class, which records how it was made."""
    tonic = pytest.importorskip("tonic")
    made = []

    class Waves:
        sensor_size = (6, 4, 2)
        classes = ("up", "down")

        def __init__(self, save_to, train=True, slow=False, transform=None):
            made.append((save_to, train, slow))
            self.targets = [k % 2 for k in range(20)]
            self.events = camera(20, seed=int(train))[1]

        def __len__(self):
            return 20

        def __getitem__(self, i):
            one = np.zeros(40, [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
            for key in "txyp":
                one[key] = self.events[i][key]
            return one, self.targets[i]

    monkeypatch.setattr(tonic.datasets, "Waves", Waves, raising=False)
    return made


@pytest.mark.parametrize("error", [URLError("no name"), RuntimeError("File not found or corrupted.")])
def test_what_tonic_cannot_fetch_is_named_with_its_folder(tmp_path, cache, monkeypatch, error):
    tonic = pytest.importorskip("tonic")

    def fails(self, save_to, train=True):
        raise error

    name = f"Out{type(error).__name__}"
    monkeypatch.setattr(tonic.datasets, name, type(name, (), {"__init__": fails}), raising=False)
    monkeypatch.chdir(tmp_path)
    where = re.escape(str(tmp_path / "waves"))
    with pytest.raises(DataError, match=rf"{name} is not whole in {where}, and tonic could not fetch it"):
        load(f"tonic:{name}", save_to="waves")


def test_a_class_of_tonic_with_its_arguments(stand_in, tmp_path, cache):
    splits = load("tonic:Waves", save_to=str(tmp_path), slow=True, downsample=2, dt=5.0)
    assert stand_in == [(str(tmp_path), True, True), (str(tmp_path), False, True)]
    assert (splits.classes, splits.shape) == (["up", "down"], (2, 2, 3))
    assert splits.sizes == {"train": 18, "valid": 2, "test": 20}
    x = splits.test.batch(range(20))[0].reshape(-1, 20, 2, 2, 3)
    want = dense(camera(20, seed=0)[1], 5000, (2, 2, 3), lambda x, y, p: (p, y // 2, x // 2))
    np.testing.assert_array_equal(x, want)
    config = parse_config({"data": {"name": "tonic:Waves", "slow": True, "save_to": str(tmp_path)}})
    assert config.data.channels is None
    assert parse_config(config.model_dump(mode="json")) == config
    assert load_data(config).shape == (2, 4, 6)
    with pytest.raises(ConfigError, match=r"unknown key 'slwo', did you mean 'slow'\?"):
        parse_config({"data": {"name": "tonic:Waves", "slwo": True}})
    with pytest.raises(ParameterError, match=r"tonic has no data set 'Wavse', did you mean 'Waves'\?"):
        load("tonic:Wavse")


def test_without_tonic_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'snnkit\[tonic\]'"):
        load("tonic:Nothing")
    config = parse_config({"data": {"name": "tonic:Nothing", "save_to": "here"}})
    assert config.data.model_dump()["save_to"] == "here"


# a function


SOURCE = """
import numpy as np
from snnkit.datasets import Images, Splits

def mine(kind="splits", samples: int = 40, seed=0, dt=10.0):
    x = np.random.default_rng(seed).integers(0, 2, (samples, 6, 5))
    y = np.arange(samples) % 2
    if kind == "images":
        return Images(train=(x[:, None], y), test=(x[:, None], y), classes=["a", "b"])
    if kind == "nothing":
        return None
    return Splits.from_arrays(all=(x, y), dt=dt)

value = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module `own_of_mine` in the folder where one works."""
    (tmp_path / "own_of_mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    yield "own_of_mine"
    sys.modules.pop("own_of_mine", None)
    table._by_path.cache_clear()


def test_a_function_gives_splits(module):
    name = f"{module}:mine"
    splits = load(name, samples=60, dt=4.0)
    assert isinstance(splits, Splits)
    assert (splits.sizes["train"], splits.dt, splits.channels) == (48, 4.0, 5)
    config = parse_config({"data": {"name": name, "samples": 20, "dt": 2.0}})
    assert load_data(config).sizes == {"train": 16, "valid": 2, "test": 2}
    assert parse_config(config.model_dump(mode="json")) == config
    with pytest.raises(ConfigError, match=r"unknown key 'smaples', did you mean 'samples'\?"):
        parse_config({"data": {"name": name, "smaples": 20}})
    for given in ({"binary": True}, {"held_out": "ann", "limit": 3}, {"channels": 5}):
        said = " and ".join(given)
        with pytest.raises(ParameterError, match=f"{name}: {said} would have no effect; the function makes"):
            load(name, **given)
    assert load(name, kind="images").shape == (1, 6, 5)
    with pytest.raises(DataError, match="own_of_mine:mine gave NoneType; expected Splits"):
        load(name, kind="nothing")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_of_mine:mnie", r"has no function 'mnie', did you mean 'mine'\?"),
        ("own_of_mine:value", "has no function 'value'"),
        ("nowhere_of_mine:f", r"nowhere_of_mine could not be imported .* PYTHONPATH(\.$|, did you mean)"),
        ("own_of_mien:f", r"own_of_mien could not be imported .*, did you mean 'own_of_mine'\?"),
    ],
)
def test_a_function_that_is_not_there_is_named(module, name, message):
    with pytest.raises(ParameterError, match=message):
        load(name)
    assert parse_config({"data": {"name": name, "anything": 3}}).data.model_dump()["anything"] == 3


def test_a_row_may_keep_all_channels(monkeypatch):
    def mine():
        return Splits.from_arrays(all=(np.eye(40)[None] + np.zeros((40, 1, 1)), [0, 1] * 20), dt=1.0)

    row = Dataset(name="mine", title="Mine", kind="any", read=mine, channels=None)
    monkeypatch.setitem(DATASETS, "mine", row)
    assert load("mine").channels == 40
    assert lookup("mine") is row
    with pytest.raises(SnnkitError, match="mine has any, where images are needed"):
        images.load("mine")


# one file of it


def everything(splits):
    """What a network can see of a data set."""
    facts = [splits.classes, splits.shape, splits.dt, splits.speaker_names, splits.speakers, splits.sizes]
    for part in splits.sizes:
        data = getattr(splits, part)
        x, lengths, labels = data.batch(range(len(data)))
        who = [splits.speaker_names.get(int(s), -1) for s in data.speakers]
        facts += [x.tolist(), lengths.tolist(), labels.tolist(), who]
    return facts


def written(kind, root):
    if kind == "sound":
        own_audio(root)
        return load("audio", root=root, groups=r"_(\w+)_", channels=70, dt=16.1, progress=False)
    if kind == "camera":
        np.savez(root / "a.npz", **camera()[0])
        return load("events", root=root, file="a.npz", dt=1 / 3, polarity=False)
    if kind == "late":
        x = np.random.default_rng(0).integers(0, 3, (20, 40, 5))
        x[:, :30], x[3] = 0, 0
        return Splits.from_arrays(all=(x, np.array(list("ba"))[np.arange(20) % 2]), dt=1000.0)
    x = np.random.default_rng(0).random((20, 7, 2, 3, 3)) < 0.2
    return Splits.from_arrays(all=(x, np.arange(20) % 2), split="speakers", groups=np.arange(20) // 4, dt=2.5)


@pytest.mark.parametrize("kind", ["sound", "camera", "late", "arrays"])
def test_what_was_written_reads_back_equal(tmp_path, cache, quick_cochlea, kind):
    splits = written(kind, tmp_path)
    write_splits(tmp_path / "mine.h5", splits)
    again = load("events", file=str(tmp_path / "mine.h5"), dt=splits.dt)
    for want, got in zip(everything(splits), everything(again), strict=True):
        assert want == got
    with h5py.File(tmp_path / "mine.h5") as file:
        assert len(file["spikes/times"]) == len(file["labels"]) == sum(splits.sizes.values())


def test_frames_cannot_be_written(tmp_path, cache):
    x, y = np.random.default_rng(0).normal(size=(20, 7, 3)), np.arange(20) % 2
    with pytest.raises(DataError, match="train holds values that are no counts of spikes"):
        write_splits(tmp_path / "mine.h5", Splits.from_arrays(all=(x, y), dt=1.0))
    with pytest.raises(DataError, match="the targets of train are no classes"):
        write_splits(tmp_path / "mine.h5", Splits.from_arrays(train=(x > 1, x), dt=1.0))
    assert not (tmp_path / "mine.h5").exists()


def test_the_command_describes_draws_and_writes(tmp_path, cache, quick_cochlea):
    np.savez(tmp_path / "a.npz", **camera(30)[0])
    root, picture, file = str(tmp_path), tmp_path / "a.png", tmp_path / "b.h5"
    given = ["data", "events", "--root", root, "-s", "file=a.npz", "-s", "dt=5.0", "--json"]
    done = CliRunner().invoke(cli.app, [*given, "--write", str(file), "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    about = json.loads(done.output)
    assert about["shape"] == [2, 4, 6]
    assert about["train"]["clips"] == 22
    assert about["train"]["of_each_class"] == {"0": 11, "1": 11}
    assert about["spikes_per_recording"] == 40
    splits = load("events", root=tmp_path, file="a.npz", dt=5.0)
    seconds = splits.train.lengths.sum() * 0.005
    assert about["rate_hz"] == pytest.approx(22 * 40 / (48 * seconds), abs=1e-3)
    assert picture.read_bytes().startswith(b"\x89PNG")
    same(load("events", file=str(file), dt=5.0), splits)


def test_a_picture_shows_three_samples_of_every_class(tmp_path):
    x, y = np.random.default_rng(0).integers(0, 2, (20, 9, 5)), np.array([0, 1, 1, 1, 1] * 4)
    data = Splits.from_arrays(train=(x, y), dt=1.0, classes=["a", "b", "none"]).train
    assert samples_picture(data, tmp_path / "a.svg") == [0, 5, 10, 1, 2, 3]
    text = (tmp_path / "a.svg").read_text()
    assert text.count("PathCollection") == 6


@pytest.mark.parametrize("damage", ["truncated", "no offsets"])
def test_a_damaged_npz_without_labels_is_named(tmp_path, damage):
    path = tmp_path / "a.npz"
    offsets = {"offsets": np.zeros(0, int)} if damage == "no offsets" else {}
    np.savez(path, t=np.arange(99), x=np.zeros(99, int), **offsets)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"is no readable \.npz|offsets is empty"):
        read_unlabelled(path, (5,))


def test_a_single_note_beside_the_columns_of_a_file_is_left_alone(tmp_path):
    path = tmp_path / "a.h5"
    heidelberg(path, [[0.1]] * 4, [[2]] * 4, [0, 1] * 2)
    with h5py.File(path, "a") as file:
        file["extra/note"] = "recorded in June"
    assert len(read_source(path, (5,), "speaker", "zero").data) == 4
