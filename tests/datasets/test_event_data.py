"""The Heidelberg layout, read as tonic reads it; what is wrong in a file is named."""

import pickle

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists, tuples

from snnkit.datasets import event_data, from_events, from_tonic, read_events, write_events
from snnkit.errors import DataError, ParameterError, ShapeError
from tests.helpers.made_files import heidelberg, random_clips


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_file_is_read_as_tonic_reads_it(tmp_path, dtype):
    datasets = pytest.importorskip("tonic.datasets")
    times, units, labels = random_clips(1)
    heidelberg(tmp_path / "SHD" / "shd_train.h5", times, units, labels, dtype=dtype)
    (tmp_path / "SHD" / "shd_train.h5.zip").touch()  # tonic asks for the archive beside it

    want = datasets.SHD(str(tmp_path), train=True)
    got = read_events(tmp_path / "SHD" / "shd_train.h5")

    assert len(got) == len(want) == 7
    assert got.sensor_size == want.sensor_size
    assert got.classes == [k.decode() for k in want.classes]
    np.testing.assert_array_equal(got.speakers, want.speaker)
    for i in range(len(want)):
        (events, label), (their_events, their_label) = got[i], want[i]
        assert label == their_label
        for field in ("t", "x", "p"):
            np.testing.assert_array_equal(events[field], their_events[field])
    assert max(got[i][0]["t"].max() for i in range(7)) > 65_504, "beyond float16 in µs"


def test_tonics_transforms_apply(tmp_path):
    transforms = pytest.importorskip("tonic.transforms")
    times, units, labels = random_clips(2)
    path = heidelberg(tmp_path / "a.h5", times, units, labels)

    framed = read_events(path, transform=transforms.ToFrame(sensor_size=(700, 1, 1), n_time_bins=5))
    frames, _ = framed[3]
    assert frames.shape == (5, 1, 700)
    assert frames.sum() >= len(times[3]) - 1  # tonic leaves the last microsecond out

    cropped, label = read_events(
        path, transform=transforms.CropTime(max=300_000), target_transform=lambda k: k + 100
    )[3]
    want = np.asarray(times[3], np.float16).astype(float) * 1e6
    assert len(cropped) == (want.astype(int) <= 300_000).sum()
    assert label == labels[3] + 100


@settings(max_examples=30)
@given(
    clips=lists(
        lists(tuples(floats(0, 10), integers(0, 699)), min_size=1, max_size=30), min_size=1, max_size=5
    )
)
def test_writing_and_reading_moves_no_spike_by_more_than_a_microsecond_and_none_back(tmp_path_factory, clips):
    path = tmp_path_factory.mktemp("w") / "a.h5"
    times = [np.sort([t for t, _ in clip]) for clip in clips]
    units = [[u for _, u in clip] for clip in clips]
    labels = np.arange(len(clips)) % 2
    spikes = zip(times, units, strict=True)
    write_events(path, spikes, labels, labels + 5, ["a", "b"], attributes={"how": {"x": 1}})

    back = read_events(path)

    np.testing.assert_array_equal(back.labels, labels)
    np.testing.assert_array_equal(back.speakers, labels + 5)
    assert back.classes == ["a", "b"]
    for i in range(len(clips)):
        events, _ = back[i]
        moved = events["t"] - np.floor(times[i] * 1e6).astype(int)
        assert ((moved >= 0) & (moved <= 1)).all()
        np.testing.assert_array_equal(events["x"], units[i])
    with h5py.File(path) as file:
        assert file.attrs["how"] == '{"x": 1}'
        assert file["spikes/times"].dtype.metadata["vlen"] == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": [[1], [700], [2]]}, r"a\.h5, recording 1: unit 700 is outside 0\.\.699"),
        ({"times": [[0.1], [0.2], [np.nan]]}, r"recording 2: time nan s; times must be finite"),
        (
            {"times": [[0.1], [-0.25], [0.1]]},
            r"recording 1: time -0\.25 s; times must be finite and not neg",
        ),
        ({"times": [[np.inf], [0.2], [0.1]]}, r"recording 0: time inf s"),
        ({"times": [[0.1], [], [0.1]], "units": [[1], [], [1]]}, r"recording 1: it has no events"),
        ({"times": [[0.1], [0.1, 0.2], [0.1]]}, r"recording 1: 2 times and 1 units should be equal"),
    ],
)
def test_a_recording_that_cannot_be_is_named(tmp_path, change, message):
    content = {"times": [[0.1], [0.2], [0.3]], "units": [[1], [2], [3]], "labels": [0, 1, 2]} | change
    dataset = read_events(heidelberg(tmp_path / "a.h5", **content))
    with pytest.raises(DataError, match=message):
        dataset.read(np.arange(3))
    with pytest.raises(DataError, match=message):  # one by one the same
        list(dataset)


def test_a_label_without_a_class_is_named(tmp_path):
    path = heidelberg(tmp_path / "a.h5", [[0.1]] * 3, [[1]] * 3, [0, 3, 1])
    with pytest.raises(DataError, match=r"recording 1: label 3 is outside 0\.\.2 \(3 classes\)"):
        read_events(path)


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.h5 does not exist"):
        read_events(tmp_path / "none.h5")

    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DataError, match=r"text\.h5 is no readable HDF5 file; it may be truncated"):
        read_events(tmp_path / "text.h5")

    whole = heidelberg(tmp_path / "a.h5", *random_clips(3)).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.h5 is no readable HDF5 file; it may be truncated"):
        read_events(tmp_path / "cut.h5")

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["labels"] = [1, 2]
    with pytest.raises(
        DataError, match=r"other\.h5 has no dataset 'spikes/times'; expected the layout of SHD"
    ):
        read_events(tmp_path / "other.h5")

    with h5py.File(heidelberg(tmp_path / "odd.h5", *random_clips(4)), "a") as file:
        del file["labels"]
        file["labels"] = np.zeros(5, int)
    with pytest.raises(DataError, match=r"odd\.h5: datasets of different length: .*'labels': 5"):
        read_events(tmp_path / "odd.h5")


def test_damage_in_the_middle_of_a_file_is_an_error_not_a_number(tmp_path):
    """Overwrite the heap that holds the spikes; h5py sees it only when it reads them."""
    path = heidelberg(tmp_path / "a.h5", *random_clips(5, clips=40))
    raw = bytearray(path.read_bytes())
    at = raw.index(b"GCOL")
    raw[at : at + 64] = b"\xff" * 64
    path.write_bytes(raw)
    dataset = read_events(path)
    with pytest.raises(DataError, match=r"a\.h5: recordings 0 to 39 can't be read, the file is damaged"):
        dataset.read(np.arange(40))


def test_what_was_there_stays_when_writing_fails(tmp_path):
    path = heidelberg(tmp_path / "a.h5", *random_clips(6))
    before = path.read_bytes()
    with pytest.raises(DataError, match="recording 1: times must be finite"):
        write_events(path, [([0.1], [1]), ([np.nan], [2])], np.zeros(2), np.zeros(2), ["a"])
    with pytest.raises(DataError, match=r"recording 0: units 700\.\.700 exceed 0\.\.699"):
        write_events(path, [([0.1], [700])], np.zeros(1), np.zeros(1), ["a"])
    for count in (1, 3):
        with pytest.raises(ShapeError, match=f"spikes of {count} recordings and 2 labels"):
            write_events(path, [([0.1], [7])] * count, np.zeros(2), np.zeros(2), ["a"])
    with pytest.raises(ShapeError, match="2 labels and 1 speakers"):
        write_events(path, [([0.1], [7])] * 2, np.zeros(2), np.zeros(1), ["a"])
    with pytest.raises(DataError, match=r"labels run from 0 to 2, expected 0\.\.1"):
        write_events(path, [([0.1], [7])] * 2, np.array([0, 2]), np.zeros(2), ["a", "b"])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_subset_is_the_same_recordings_in_that_order(tmp_path):
    whole = read_events(heidelberg(tmp_path / "a.h5", *random_clips(7)))
    part = whole.subset(np.array([5, 0, 2])).subset(np.array([2, 0]))
    assert len(part) == 2
    for i, j in enumerate((2, 5)):
        assert (part[i][0] == whole[j][0]).all()
        assert part[i][1] == whole[j][1]
        assert part.speakers[i] == whole.speakers[j]
    times, neurons, counts = part.read(np.arange(2))
    np.testing.assert_array_equal(times, np.concatenate([whole[2][0]["t"], whole[5][0]["t"]]))
    np.testing.assert_array_equal(neurons, np.concatenate([whole[2][0]["x"], whole[5][0]["x"]]))
    np.testing.assert_array_equal(counts, [len(whole[2][0]), len(whole[5][0])])
    with pytest.raises(IndexError, match="has 2 recordings, no number 2"):
        part[2]
    assert (part[-1][0] == part[1][0]).all()


def test_a_dataset_travels_to_other_processes(tmp_path):
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(8)))
    first = dataset[0]  # the file is open now
    again = pickle.loads(pickle.dumps(dataset))
    assert (again[0][0] == first[0]).all()


class Camera:
    """A tonic dataset of a 4×3 event camera."""

    sensor_size = (4, 3, 2)

    def __init__(self, labels, classes=None):
        self.labels = labels
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        kind = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
        return np.array([(3, 0, 5, False), (0, 2, 1000 + i, True)], kind), self.labels[i]


def test_pixels_and_polarities_become_channels():
    dataset = from_tonic(Camera([1, 0, 1], classes=["fall", "wave"]))
    assert dataset.channels == 24
    assert dataset.classes == ["fall", "wave"]
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset[2][0].tolist() == [(5, 3, 1), (1002, (1 * 3 + 2) * 4 + 0, 1)]
    assert (dataset.speakers == -1).all()


def test_labels_in_words_are_numbered():
    dataset = from_tonic(Camera(["wave", "fall", "wave"]), limit=2)
    assert dataset.classes == ["fall", "wave"]
    assert dataset.labels.tolist() == [1, 0]


def test_tonics_own_shd_is_ours(tmp_path):
    datasets = pytest.importorskip("tonic.datasets")
    path = heidelberg(tmp_path / "SHD" / "shd_test.h5", *random_clips(9))
    (tmp_path / "SHD" / "shd_test.h5.zip").touch()
    theirs = from_tonic(datasets.SHD(str(tmp_path), train=False))
    ours = read_events(path)
    assert theirs.classes == ours.classes
    np.testing.assert_array_equal(theirs.speakers, ours.speakers)
    for (a, k), (b, l) in zip(theirs, ours, strict=True):
        assert (a == b).all()
        assert k == l


def test_frames_are_no_events():
    class Frames(Camera):
        def __getitem__(self, i):
            return np.zeros((5, 2, 3, 4)), 0

    with pytest.raises(
        DataError, match=r"Frames, recording 0: expected a structured array .* leave out trans"
    ):
        from_tonic(Frames([0]))
    with pytest.raises(ParameterError, match="has no recordings"):
        from_tonic(Camera([]))


def test_events_in_memory_are_checked_as_those_in_files():
    kind = event_data.EVENT_DTYPE
    with pytest.raises(DataError, match=r"mine, recording 1: time -3 µs; times must not be negative"):
        from_events([np.array([(1, 1, 1)], kind), np.array([(-3, 1, 1)], kind)], [0, 0], 4, name="mine").read(
            np.arange(2)
        )
    with pytest.raises(DataError, match=r"mine, recording 0: unit 4 is outside 0\.\.3"):
        from_events([np.array([(1, 4, 1)], kind)], [0], 4, name="mine")[0]
    with pytest.raises(DataError, match=r"recording 0: label 2 is outside"):
        from_events([np.array([(1, 3, 1)], kind)], [2], 4, classes=["a"])
