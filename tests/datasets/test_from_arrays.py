"""Data as people have them, samples first, become parts with time first; what can't be is named."""

import re
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkit.datasets import Binned, Frames, Splits
from snnkit.datasets.labels import whole_numbers
from snnkit.datasets.rules import SplitRule
from snnkit.errors import DataError, ParameterError, ShapeError

PARTS = ("train", "valid", "test")


def counts(samples=30, steps=5, shape=(4,), seed=0):
    return np.random.default_rng(seed).integers(0, 3, (samples, steps, *shape))


def three(x, y, **options):
    a, b = len(x) // 2, 3 * len(x) // 4
    cut = {"train": slice(0, a), "valid": slice(a, b), "test": slice(b, None)}
    options = {"dt": 2.0, **options}
    return Splits.from_arrays(**{part: (x[rows], y[rows]) for part, rows in cut.items()}, **options), cut


@pytest.mark.parametrize("shape", [(4,), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("kind", ["counts", "reals", "bool"])
@pytest.mark.parametrize("torched", [False, True], ids=["numpy", "torch"])
def test_a_batch_is_the_samples_with_time_first(shape, kind, torched):
    x, y = counts(shape=shape), np.arange(30) % 3
    x = {"counts": x, "reals": x + 0.25, "bool": x > 1}[kind]
    x[:, -1, ..., -1] = x.max()
    given = (torch.as_tensor(x), torch.as_tensor(y)) if torched else (x, y)
    splits, cut = three(*given)
    assert (splits.channels, splits.shape, splits.dt) == (int(np.prod(shape)), shape, 2.0)
    for part, rows in cut.items():
        data = getattr(splits, part)
        assert isinstance(data, Frames if kind == "reals" else Binned)
        assert data.shape == shape
        got, lengths, labels = data.batch(range(len(data)))
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got.reshape(5, -1, *shape), np.moveaxis(x[rows], 0, 1))
        assert labels.tolist() == y[rows].tolist()
        assert (lengths == 5).all()
        events = data.events
        np.testing.assert_array_equal(events.to_dense(), got)


def test_splits_and_their_parts_are_printed_in_one_line():
    x = np.zeros((60, 20, 2, 3, 4))
    x[:, 4, 0, 0, 0] = 1
    splits = Splits.from_arrays(all=(x, list("abcdef") * 10), dt=2.5, name="mine")
    about = "6 classes (a, b, c, d, e, …), steps of 2.5 ms, each of shape [2, 3, 4]"
    assert repr(splits) == str(splits) == f"mine: train 48, valid 6, test 6; {about}"
    assert repr(splits.valid) == f"mine: 6 recordings; {about}"
    assert repr(splits.valid.events) == "6 samples of 20 to 20 steps: 6 spikes of 24 neurons"
    dense = Splits.from_arrays(train=(x + 0.5, list("abcdef") * 10), dt=2.5, name="mine")
    assert repr(dense.train) == f"mine: 60 recordings; {about}"
    assert str(dense) == f"mine: train 60; {about}"


def test_lists_of_different_lengths_and_given_lengths_end_in_silence():
    x = [np.full((n, 2), 1.5) for n in (3, 1, 4)]
    splits = Splits.from_arrays(train=(x, [0, 1, 1]), dt=1.0)
    got, lengths, _ = splits.train.batch([0, 1, 2])
    assert lengths.tolist() == [3, 1, 4]
    assert (got.sum((0, 2)) == [9, 3, 12]).all()
    x = np.ones((3, 4, 2))
    for values in (x, x * 0.5):
        limited = Splits.from_arrays(train=(values, [0, 1, 1]), dt=1.0, lengths={"train": [1, 4, 2]})
        got, lengths, _ = limited.train.batch([0, 1, 2])
        assert lengths.tolist() == [1, 4, 2]
        assert (got.sum((0, 2)) == 2 * values[0, 0, 0] * np.array([1, 4, 2])).all()


def test_frames_stay_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 3, 4)).astype(np.float16))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    splits = Splits.from_arrays(train=(x, np.arange(20) % 2), dt=1.0)
    base = splits.train.frames
    assert isinstance(base, np.memmap)
    assert base.dtype == np.float16


def test_names_are_numbered_once_over_all_parts():
    x = counts(6)
    parts = {"train": (x[:3], ["b", "d", "b"]), "valid": (x[3:5], ["d", "a"]), "test": (x[5:], ["c"])}
    splits = Splits.from_arrays(**parts, dt=1.0)
    assert splits.classes == ["a", "b", "c", "d"]
    named = {p: [splits.classes[k] for k in getattr(splits, p).labels] for p in PARTS}
    assert named == {part: y for part, (_, y) in parts.items()}
    fixed = Splits.from_arrays(**parts, dt=1.0, classes=["d", "c", "b", "a", "e"])
    assert fixed.train.labels.tolist() == [2, 0, 2]
    assert fixed.train.classes == fixed.test.classes == ["d", "c", "b", "a", "e"]
    with pytest.raises(DataError, match="valid, sample 1: label 'a' is none of the classes b, c, d"):
        Splits.from_arrays(**parts, dt=1.0, classes=["b", "c", "d"])


def test_zero_dimensional_arrays_and_tensors_are_numbers():
    y = [np.array(1), torch.tensor(0), 1, np.int8(0)]
    splits = Splits.from_arrays(train=(counts(4), y), dt=torch.tensor(4.0))
    assert splits.train.labels.tolist() == [1, 0, 1, 0]
    assert splits.dt == 4.0
    assert isinstance(splits.dt, float)


@pytest.mark.parametrize(
    ("y", "outputs"),
    [(np.linspace(0, 1, 8), 1), (np.zeros((8, 5)), 5), (np.zeros((8, 5, 3)), 3)],
    ids=["B", "BC", "BTC"],
)
def test_other_targets_are_left_as_they_are(y, outputs):
    splits = Splits.from_arrays(train=(counts(8), y), dt=1.0)
    _, _, labels = splits.train.batch([3, 1])
    np.testing.assert_array_equal(labels, y[[3, 1]].astype(np.float32))
    assert len(splits.classes) == outputs


def test_a_class_in_every_step_has_the_classes_that_there_are():
    y = np.random.default_rng(0).integers(-1, 3, (8, 5))
    y[0, 0], y[:4, 1] = 2, 0
    for one in (y, y.tolist(), torch.as_tensor(y)):
        splits = Splits.from_arrays(all=(counts(8), one), dt=1.0)
        assert splits.classes == ["0", "1", "2"]
    parts = {"train": (counts(4), y[:4] * 0), "test": (counts(4), y[4:] * 0 + 6)}
    assert len(Splits.from_arrays(**parts, dt=1.0).classes) == 7  # over all parts
    assert Splits.from_arrays(all=(counts(8), y), dt=1.0, classes=list("abcd")).classes == list("abcd")
    one_hot = np.eye(4, dtype=int)[[0, 1, 2, 3] * 2]  # fewer than steps: of each output, as before
    assert len(Splits.from_arrays(train=(counts(8), one_hot), dt=1.0).classes) == 4
    clips = camera(8)
    steps = np.zeros((8, 9), int)
    steps[3, 4] = 5
    splits = Splits.from_events(train=(clips, steps), dt=1.0)
    assert len(splits.classes) == 6
    assert splits.train.labels.shape == (8, 9)


def test_real_targets_of_events_are_not_rounded():
    splits = Splits.from_events(train=(camera(4), [0.5, 1.5, -0.25, 2.0]), dt=1.0)
    assert splits.train.labels.tolist() == [0.5, 1.5, -0.25, 2.0]
    assert splits.train.labels.dtype == np.float32


@pytest.mark.parametrize("call", [Splits.from_arrays, Splits.from_events])
def test_arrays_without_a_name_are_told_the_right_call(call):
    with pytest.raises(ParameterError, match=r"give all=\(x, y\), dt=….*got 2 arguments without a name"):
        call(counts(6), [0, 1] * 3)
    with pytest.raises(ParameterError, match=r"give all=\(x, y\), dt=….*got no dt"):
        call(all=(counts(6), [0, 1] * 3))


@pytest.mark.parametrize("x", [[0.5, np.nan, 1.0], ["1", "2", "3"], [np.inf, 1, 2]])
def test_numbers_that_are_not_whole_are_never_rounded(x):
    with pytest.raises(DataError, match=r"mine: .*whole numbers are expected"):
        whole_numbers(x, "mine")


def test_whole_reals_are_whole_numbers():
    assert whole_numbers([1.0, -2.0], "mine").tolist() == [1, -2]
    assert whole_numbers([], "mine").dtype == np.int64


def broken(place, value):
    x = counts(6) + 0.5
    x[place] = value
    return x


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"train": (counts(6), [0, 1])}, ShapeError, r"train: 2 labels for 6 samples, x \[6, 5, 4\]\."),
        (
            {"train": (counts(6), [0, 1, 0, 1, 1])},
            ShapeError,
            r"5 labels for 6 samples.*its second axis is 5 long: is time first\? x is \[B, T, …\] here",
        ),
        ({"train": (counts(3), [0, -1, 1])}, DataError, r"train, sample 1: label -1 is outside 0\.\.1"),
        (
            {"train": (counts(3), [0, 1, 2]), "classes": ["a", "b"]},
            DataError,
            r"sample 2: label 2 is outside 0\.\.1 \(2 classes\)",
        ),
        ({"train": (counts(3), [1, 1, 1])}, DataError, "all 3 samples of train are of one class, '1'"),
        ({"train": (counts(0), [])}, DataError, "train has no samples"),
        ({"train": ([], [])}, DataError, "train has no samples"),
        ({"train": (counts(4), [0, 1, 1, 0]), "test": (counts(0), [])}, DataError, "test has no samples"),
        ({"train": (broken((4, 2, 1), np.nan), [0, 1] * 3)}, DataError, "train, sample 4, step 2: x is nan"),
        ({"train": (broken((5, 0, 3), np.inf), [0, 1] * 3)}, DataError, "train, sample 5, step 0: x is inf"),
        ({"train": (np.zeros((6, 4)), [0, 1] * 3)}, ShapeError, r"shape \[6, 4\]; expected samples first"),
        (
            {"train": (counts(4), [0, 1, 1, 0]), "test": (counts(2, shape=(3,)), [0, 1])},
            ShapeError,
            r"different shape in the parts: train \[4\], test \[3\]",
        ),
        (
            {"train": (counts(2), [0, 1]), "test": (counts(2), ["a", "b"])},
            ParameterError,
            "different labels: train has numbers, test has names",
        ),
        ({"train": (counts(2), [0, 1]), "all": (counts(2), [0, 1])}, ParameterError, "got train, all"),
        ({}, ParameterError, "got nothing"),
        ({"train": counts(2)}, ParameterError, "train should be a pair"),
        ({"train": (counts(2), [0, 1]), "groups": [0, 1]}, ParameterError, "groups divide all"),
        ({"train": (counts(2), [0, 1]), "classes": ["a", "a"]}, ParameterError, "names 'a' twice"),
        ({"train": (counts(2), [0, 1]), "dt": 0}, ParameterError, "dt = 0.0 ms"),
        ({"train": (counts(2), [0, 1]), "dt": "soon"}, ParameterError, "dt = 'soon'"),
        (
            {"train": (counts(2), [0, 1]), "lengths": [5, 5]},
            ParameterError,
            "lengths has 'all', the samples are in train",
        ),
        (
            {"train": (counts(2), [0, 1]), "lengths": {"train": [5, 6]}},
            ShapeError,
            r"2 whole numbers in 1\.\.5",
        ),
        (
            {"train": ([np.zeros((3, 2)), np.zeros((3, 4))], [0, 1])},
            ShapeError,
            r"sample 1 has shape \[3, 4\]",
        ),
        ({"train": (np.array([["a"]] * 2)[:, :, None], [0, 1])}, ShapeError, "x is of <U1"),
        (
            {"train": (counts(2), [0, 1]), "lengths": {"train": [2.0, 2.7]}},
            DataError,
            r"arrays: train, lengths: value 1 is 2\.7, where whole numbers are expected",
        ),
        (
            {"train": (counts(2), [[0, 1], [1]])},
            ShapeError,
            r"arrays: train, labels: element 1 has shape \[1\], element 0 \[2\]; all must be of one shape",
        ),
        (
            {"train": ([np.zeros((3, 2)), [[1, 2], [3]]], [0, 1])},
            ShapeError,
            r"train, sample 1: element 1 has shape \[1\], element 0 \[2\]",
        ),
        ({"train": (counts(2), [0.5, np.nan])}, DataError, "sample 1: its target is not finite"),
        (
            {"train": (counts(2), np.array([[0, 1, 2, 0]] * 2))},
            ShapeError,
            r"train: labels \[2, 4\] are whole numbers, and recordings have up to 5 steps",
        ),
        (
            {"train": (counts(2), np.array([["a", "b"]] * 2))},
            ShapeError,
            r"train: labels \[2, 2\] are names; names are one a sample",
        ),
        ({"train": (counts(2), [0, 1]), "clases": ["a"]}, ParameterError, "did you mean 'classes'"),
        (
            {"all": (counts(2), [0, 1]), "folds": 4},
            ParameterError,
            r"from_arrays has no argument 'folds'; it belongs to the rule: split = SplitRule\('kfold', fold",
        ),
    ],
)
def test_what_cannot_be_is_named(given, error, message):
    with pytest.raises(error, match=message):
        Splits.from_arrays(**{"dt": 1.0, **given})


def test_a_part_that_was_not_given_is_named():
    splits = Splits.from_arrays(train=(counts(2), [0, 1]), dt=1.0)
    with pytest.raises(ParameterError, match=r"arrays has no valid part; it has train\. Give valid=\(x, y\)"):
        _ = splits.valid


@settings(max_examples=40)
@given(
    labels=st.lists(st.integers(0, 3), min_size=30, max_size=80),
    by=st.sampled_from(["random", "kfold", "speakers"]),
    seed=st.integers(0, 5),
)
def test_a_rule_puts_every_recording_in_one_part(labels, by, seed):
    labels = np.array(labels)
    groups = np.arange(len(labels)) % 7 if by == "speakers" else None
    try:
        rows = SplitRule(by, seed=seed).rows(labels, groups, "mine")
    except ParameterError as error:  # of a class that only the two other parts could have
        lost = labels == int(re.search(r"of class (\d)", str(error)).group(1))
        assert by != "random"
        assert len(set(np.flatnonzero(lost) if groups is None else groups[lost])) <= 2
        return
    assert set(labels[rows["train"]]) == set(labels)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(labels)))
    assert all(len(some) for some in rows.values())
    if groups is not None:
        found = [set(groups[some]) for some in rows.values()]
        assert sum(len(some) for some in found) == 7


def test_a_random_split_is_stratified_and_seeded():
    labels = np.repeat([0, 1], [200, 40])
    rows = SplitRule().rows(labels, None, "mine")
    assert [np.bincount(labels[rows[part]]).tolist() for part in PARTS] == [[160, 32], [20, 4], [20, 4]]
    again, other = (SplitRule(seed=seed).rows(labels, None, "mine") for seed in (0, 1))
    assert (rows["test"] == again["test"]).all()
    assert (rows["test"] != other["test"]).any()


@pytest.mark.parametrize("share", [None, 0.1, 0.3, 0.49])
@pytest.mark.parametrize("few", [1, 2, 3, 4])
def test_a_small_class_is_trained_on_first(few, share):
    labels = np.repeat([0, 1], [40, few])
    rows = SplitRule(share=share).rows(labels, None, "mine")
    found = {part: int((labels[rows[part]] == 1).sum()) for part in PARTS}
    assert sum(found.values()) == few
    assert found["train"] >= 1
    assert found["test"] == {1: 0, 2: 1, 3: 1}.get(few, found["test"]) >= found["valid"]
    assert found["valid"] >= (few > 2)


def test_folds_and_groups_that_leave_a_class_out_of_train_name_it():
    labels, groups = np.repeat([0, 1], [20, 4]), np.repeat(np.arange(6), 4)
    said = []
    for fold in range(6):
        try:
            rows = SplitRule("kfold", folds=6, fold=fold).rows(labels, groups, "mine")
        except ParameterError as error:
            said.append(str(error))
        else:
            assert 1 in labels[rows["train"]]
    assert len(said) == 2  # where its one group is in test, and in valid
    assert all("leaves none of the 4 recordings of class 1 for train" in text for text in said)


@pytest.mark.parametrize(("share", "of_each"), [(None, 3), (0.05, 1), (0.1, 2), (0.3, 6)])
def test_a_share_of_the_groups_is_what_was_asked(share, of_each):
    labels, groups = np.arange(80) % 2, np.arange(80) // 4
    rows = SplitRule("speakers", share=share).rows(labels, groups, "mine")
    assert [len(set(groups[rows[part]])) for part in PARTS] == [20 - 2 * of_each, of_each, of_each]


@pytest.mark.parametrize(
    "blank", ["", "  ", None, float("nan"), np.float64("nan"), np.datetime64("NaT")], ids=repr
)
@pytest.mark.parametrize("kind", [list, lambda x: np.array(x, object)], ids=["list", "array"])
@pytest.mark.parametrize("by", ["speakers", "kfold"])
def test_blank_groups_are_no_group(blank, kind, by):
    who = ["ann", "bob", "cy", "dee", "eve"] * 4
    who[7] = who[11] = blank
    some = {"all": (counts(20), np.arange(20) % 2), "dt": 1.0, "groups": kind(who)}
    with pytest.raises(ParameterError, match="recording 7 has no group, and 18 of 20 have one"):
        Splits.from_arrays(**some, split=by)
    splits = Splits.from_arrays(**some)
    assert sorted(splits.speaker_names.values()) == ["ann", "bob", "cy", "dee", "eve"]
    with pytest.raises(ParameterError, match="groups: all 20 are blank"):
        Splits.from_arrays(**{**some, "groups": kind([blank] * 20)}, split=by)


def test_blank_numbers_are_no_group():
    who = np.arange(20.0) % 5
    who[3] = np.nan
    with pytest.raises(ParameterError, match="recording 3 has no group"):
        Splits.from_arrays(all=(counts(20), np.arange(20) % 2), dt=1.0, groups=who, split="speakers")


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_test_every_recording_once(grouped):
    labels, groups = np.arange(60) % 3, (np.arange(60) // 4 if grouped else None)
    folds = [SplitRule("kfold", folds=5, fold=k).rows(labels, groups, "mine") for k in range(5)]
    for part in ("valid", "test"):
        every = np.concatenate([fold[part] for fold in folds])
        np.testing.assert_array_equal(np.sort(every), np.arange(60))
    for fold in folds:
        assert not set(fold["valid"]) & set(fold["test"])
        if not grouped:
            assert np.bincount(labels[fold["test"]]).tolist() == [4, 4, 4]
        else:
            assert not set(groups[fold["train"]]) & set(groups[fold["test"]])


def test_groups_are_speakers_by_name():
    who = np.array(["ann", "bob", "cy", "dee"])[np.arange(24) % 4]
    splits = Splits.from_arrays(
        all=(counts(24), np.arange(24) // 4 % 2), split="speakers", groups=who, dt=1.0
    )
    assert splits.speaker_names == {0: "ann", 1: "bob", 2: "cy", 3: "dee"}
    assert sorted(s for some in splits.speakers.values() for s in some) == [0, 1, 2, 3]
    for part in PARTS:
        assert sorted(set(getattr(splits, part).speakers)) == splits.speakers[part]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "speekers"}, r"unknown split 'speekers', did you mean 'speakers'\?"),
        ({"split": "speakers"}, "needs to know the group of every recording"),
        (
            {"split": "speakers", "groups": [0, 1] * 4},
            "at least 3 groups, one a part, there are 2; say which.*"
            "'random' would put recordings of one group into several",
        ),
        ({"split": "kfold", "groups": [0, 1] * 4}, "5 folds of 2 groups; say which is which: train="),
        ({"split": {"by": "kfold", "folds": 2}}, "folds = 2; train, valid and test need at least 3"),
        ({"split": {"by": "kfold", "fold": 5}}, r"fold = 5; it is one of 0\.\.4"),
        (
            {"split": SplitRule("kfold", folds=5), "groups": [0, 1, 2, 0] * 2},
            "5 folds of 3 groups; take 3 at most",
        ),
        ({"split": SplitRule(share=0.1), "groups": [0, 1]}, "2 groups for 8 samples"),
    ],
)
def test_a_split_that_cannot_be_is_named(options, message):
    with pytest.raises((ParameterError, ShapeError), match=message):
        Splits.from_arrays(all=(counts(8), [0, 1] * 4), dt=1.0, **options)


def test_too_few_samples_to_divide_are_named():
    with pytest.raises(ParameterError, match="of 2 recordings leaves none for valid"):
        Splits.from_arrays(all=(counts(2), [0, 1]), dt=1.0)


class Items(torch.utils.data.Dataset):
    def __init__(self, samples, labels):
        self.samples, self.labels = samples, labels

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i], self.labels[i]


def test_a_torch_data_set_of_dense_samples():
    x, y = torch.as_tensor(counts(20)), torch.arange(20) % 2
    want = Splits.from_arrays(all=(x, y), dt=3.0)
    got = Splits.from_dataset(Items(x, y), dt=3.0)
    assert got.name == "Items"
    for part in PARTS:
        a, b = (getattr(s, part) for s in (want, got))
        np.testing.assert_array_equal(a.batch(range(len(a)))[0], b.batch(range(len(b)))[0])
        assert a.labels.tolist() == b.labels.tolist()
    given = Splits.from_dataset(train=Items(x[:10], y[:10]), test=Items(x[10:], y[10:]), dt=3.0)
    assert given.sizes == {"train": 10, "test": 10}

    class Wrong(Items):
        def __getitem__(self, i):
            return self.samples[i]

    with pytest.raises(DataError, match=r"Wrong: all, item 0: expected \(sample, label\), got a Tensor"):
        Splits.from_dataset(Wrong(x, y), dt=3.0)


DVS = [("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")]


def camera(recordings=12, events=50, seed=0, start=0):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(recordings):
        one = np.zeros(events, DVS)
        one["t"] = start + np.sort(rng.integers(0, 9000, events))
        one["x"], one["y"], one["p"] = (rng.integers(0, n, events) for n in (6, 4, 2))
        made.append(one)
    return made


@pytest.mark.parametrize("polarities", [1, 2])
def test_events_of_a_camera_are_counted_by_polarity_row_and_column(polarities):
    clips, y = camera(), np.arange(12) % 2
    splits = Splits.from_events(train=(clips, y), dt=3.0, shape=(polarities, 4, 6), duration=9.0)
    x, lengths, _ = splits.train.batch(range(12))
    x = x.reshape(3, 12, *splits.shape)
    want = np.zeros_like(x)
    for b, clip in enumerate(clips):
        for t, col, row, p in clip:
            want[t // 3000, b, int(p) if polarities == 2 else 0, row, col] += 1
    np.testing.assert_array_equal(x, want)
    assert (lengths == 3).all()


def test_the_sensor_is_as_large_as_the_events_of_all_parts():
    few, more = camera(4, seed=1), camera(4, seed=2)
    more[0]["x"][0] = 9
    splits = Splits.from_events(train=(few, [0, 1] * 2), test=(more, [0, 1] * 2), dt=1.0)
    assert splits.shape == splits.test.shape == (2, 4, 10)
    line = [np.array([(0, 3), (5, 7)], [("t", "<i8"), ("x", "<i4")])] * 4
    assert Splits.from_events(train=(line, [0, 1] * 2), dt=1.0).shape == (8,)


class OnDisk(Sequence):
    """Recordings made when they are asked for; how many of them there ever were at once."""

    def __init__(self, clips):
        self.clips, self.alive, self.most = clips, 0, 0

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, i):
        one = self.clips[i].copy()
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(one, self.gone)
        return one

    def gone(self):
        self.alive -= 1


@pytest.mark.parametrize("shape", [(2, 4, 6), None], ids=["said", "measured"])
def test_events_may_lie_on_disk_whole_and_are_let_go(shape):
    clips = camera(1000)
    lazy, y = OnDisk(clips), np.arange(1000) % 2
    got = Splits.from_events(all=(lazy, y), dt=3.0, shape=shape)
    want = Splits.from_events(all=(clips, y), dt=3.0, shape=shape)
    np.testing.assert_array_equal(got.train.batch(range(800))[0], want.train.batch(range(800))[0])
    assert lazy.most <= 64
    spikes = got.train.spikes
    assert spikes is got.valid.spikes
    assert [getattr(spikes, k).itemsize for k in ("times", "neurons", "values")] == [1, 1, 1]


def test_a_recording_without_events_is_silent():
    clips = camera(4)
    clips[2] = clips[2][:0]
    data = Splits.from_events(train=(clips, [0, 1] * 2), dt=3.0, shape=(2, 4, 6)).train
    x, lengths, _ = data.batch([2])
    assert lengths.tolist() == [1]
    assert not x.any()
    data = Splits.from_events(train=(clips, [0, 1] * 2), dt=3.0, shape=(2, 4, 6), duration=20.0).train
    assert data.lengths.tolist() == [7] * 4


def test_absolute_timestamps_need_an_origin():
    clips, y = camera(start=1_700_000_000_000_000), [0, 1] * 6
    with pytest.raises(DataError, match=r"recording 0: it starts at 17\d+ µs .* Take origin = 'first'"):
        Splits.from_events(train=(clips, y), dt=3.0)
    got = Splits.from_events(train=(clips, y), dt=3.0, origin="first").train
    for clip in clips:
        clip["t"] -= clip["t"][0]
    want = Splits.from_events(train=(clips, y), dt=3.0).train
    np.testing.assert_array_equal(got.batch(range(12))[0], want.batch(range(12))[0])


def test_unsorted_events_and_a_torch_data_set_of_events():
    clips, y = camera(), np.arange(12) % 3
    want = Splits.from_events(all=(clips, y), dt=1.0)
    shuffled = [np.random.default_rng(0).permutation(clip) for clip in clips]
    got = Splits.from_dataset(Items(shuffled, y), dt=1.0)
    np.testing.assert_array_equal(got.train.batch([0, 1])[0], want.train.batch([0, 1])[0])


def change(field, value):
    clips = camera(4)
    clips[3][field][7] = value
    return clips


def halves():
    clips = [c.astype([("t", "<i8"), ("x", "<f8"), ("y", "<i2"), ("p", "?")]) for c in camera(4)]
    clips[1]["x"][2] = 1.5
    return clips


@pytest.mark.parametrize(
    ("clips", "options", "message"),
    [
        (change("x", 6), {}, r"recording 3: event 7 has x = 6, outside 0\.\.5"),
        (halves(), {}, r"recording 1, x: value 2 is 1\.5, where whole numbers are expected"),
        (change("y", -1), {}, r"event 7 has y = -1, outside 0\.\.3"),
        (change("t", -5), {}, "recording 3: time -5 µs; times must not be negative"),
        (camera(4), {"shape": (3,)}, "outside 0..2"),
        ([c[["t", "x"]] for c in camera(4)], {}, r"fields t, x, y, got ndarray \('t', 'x'\) without y"),
        ([c[["t", "x", "y"]] for c in camera(4)], {}, "2 polarities, but its events have no p"),
        (camera(4), {"origin": "last"}, "origin = 'last'; it is one of zero, first"),
        (camera(4), {"duration": 0.5}, "duration = 0.5 ms; it must be at least one step of 1.0 ms"),
        (camera(3), {}, "train: 4 labels for 3 recordings"),
        (camera(4), {"shape": (4, 6)}, r"shape = \[4, 6\]; a sensor is \(N,\), or"),
        (camera(4), {"shape": (2, 0, 6)}, r"shape = \[2, 0, 6\]; no axis may be empty"),
        (camera(4), {"fold": 1}, "from_events has no argument 'fold'; it belongs to the rule"),
        (camera(4), {"orign": "first"}, "no argument 'orign', did you mean 'origin'"),
    ],
)
def test_events_that_cannot_be_are_named(clips, options, message):
    with pytest.raises((DataError, ParameterError, ShapeError), match=message):
        Splits.from_events(**{"train": (clips, [0, 1] * 2), "dt": 1.0, "shape": (2, 4, 6), **options})


def test_samples_of_several_dtypes_keep_their_values():
    x = [np.zeros((5, 4), int), np.full((5, 4), 0.5), np.full((5, 4), 300.0), np.ones((5, 4), np.uint8)] * 3
    splits = Splits.from_arrays(train=(x, np.arange(12) % 2), dt=1.0)
    assert splits.train.batch([1, 2])[0].sum() == 20 * 300.5


@pytest.mark.parametrize("scale", [1.0, 500.0], ids=["seconds", "milliseconds"])
def test_times_that_are_no_microseconds_are_named(scale):
    events = np.zeros(50, [("t", "f8"), ("x", "i4")])
    events["t"] = scale * np.random.default_rng(0).random(50)
    with pytest.raises(DataError, match=r"recording 0.*seconds or milliseconds"):
        Splits.from_events(train=([events] * 4, [0, 1, 0, 1]), dt=1.0)


def test_a_sensor_in_a_row_may_be_a_number():
    clips = [c[["t", "x"]] for c in camera(4)]
    splits = Splits.from_events(train=(clips, [0, 1, 0, 1]), dt=1.0, shape=6)
    assert splits.shape == (6,)


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        (np.arange(8) % 2 + 1, None, "of train is of class 0, .*; labels count from 0: give labels - 1 if"),
        (np.arange(8) % 2 * 2, None, "of train is of class 1, for which the network has an output[.]"),
        (
            np.arange(8) % 2 + 1,
            ["a", "b", "c"],
            "of train is of class a, for which the network has an output[.]",
        ),
        (np.arange(8) % 2, None, None),
    ],
)
def test_a_class_that_no_label_of_train_has_is_said(labels, classes, said, caplog):
    Splits.from_arrays(train=(counts(8), labels), dt=1.0, classes=classes)
    assert re.search(said, caplog.text) if said else not caplog.text


def test_a_one_hot_target_nearly_as_wide_as_long_is_a_target():
    splits = Splits.from_arrays(train=(counts(8), np.eye(4, dtype=int)[np.arange(8) % 4]), dt=1.0)
    assert len(splits.classes) == 4


def test_a_loader_is_no_data_set():
    mine = torch.utils.data.TensorDataset(torch.zeros(4, 5, 3), torch.arange(4), torch.arange(4))
    with pytest.raises(DataError, match=r"a DataLoader can't be asked .*loader\.dataset"):
        Splits.from_dataset(torch.utils.data.DataLoader(mine), dt=1.0)
    with pytest.raises(DataError, match=r"item 0: expected \(sample, label\), got a tuple of 3"):
        Splits.from_dataset(mine, dt=1.0)
