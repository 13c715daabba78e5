"""Counting spikes per step and channel equals counting them one by one, and is kept on disk."""

import json
import math
import tracemalloc
from decimal import Decimal

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, data, integers, lists, none, sampled_from, tuples

from snnkit import memory
from snnkit.datasets import (
    Binned,
    EventDataset,
    Frames,
    bin_events,
    binning,
    from_events,
    packed,
    read_events,
)
from snnkit.datasets.packed import Packed
from snnkit.errors import ParameterError
from snnkit.events import EVENT_DTYPE, EventBatch
from tests.helpers.made_files import heidelberg, random_clips


def as_events(clips):
    return [np.array([(t, x, 1) for t, x in clip], EVENT_DTYPE) for clip in clips]


def counted(clips, dt, pool, binary, steps):
    """A dictionary of counts per recording, the plain way."""
    counts, lengths, dropped = [], [], 0
    for clip in clips:
        cells = {}
        last = 0
        for t, x in clip:
            step = math.floor(t / (dt * 1000))
            if steps is not None and step >= steps:
                dropped += 1
                continue
            last = max(last, step)
            cells[step, x // pool] = 1 if binary else cells.get((step, x // pool), 0) + 1
        counts.append(cells)
        lengths.append(last + 1)
    return counts, lengths, dropped


spike = tuples(integers(0, 60_000), integers(0, 11))
recordings_of = lists(lists(spike, min_size=1, max_size=40), min_size=1, max_size=5)


@settings(max_examples=60)
@given(
    clips=recordings_of,
    dt=sampled_from([10.0, 5, 1.0, 0.5, 3.7]),
    channels=sampled_from([12, 4, 1]),
    binary=booleans(),
    steps=none() | integers(1, 8),
)
def test_binned_spikes_are_those_counted_one_by_one(clips, dt, channels, binary, steps):
    labels = [0] * len(clips)
    binned = bin_events(from_events(as_events(clips), labels, 12), dt, channels, binary=binary, steps=steps)
    want, lengths, dropped = counted(clips, dt, 12 // channels, binary, steps)

    binned.events.validate()
    assert binned.lengths.tolist() == lengths
    assert binned.dropped == dropped
    assert (binned.events.values is None) == binary
    for one, cells in zip(binned.events, want, strict=True):
        values = np.ones(len(one.times)) if binary else one.values
        got = {(t, n): v for t, n, v in zip(one.times, one.neurons, values, strict=True)}
        assert got == cells


@settings(max_examples=30)
@given(clips=recordings_of, draw=data())
def test_a_batch_is_the_dense_form_of_its_recordings(clips, draw):
    binned = bin_events(from_events(as_events(clips), np.arange(len(clips)), 12), 5.0, 6)
    chosen = draw.draw(lists(integers(0, len(clips) - 1), min_size=1, max_size=6))

    x, lengths, labels = binned.batch(chosen)

    whole = binned.events.to_dense()
    assert x.dtype == np.float32
    assert len(x) == max(binned.lengths[chosen])
    np.testing.assert_array_equal(x, whole[: len(x), chosen])
    np.testing.assert_array_equal(lengths, binned.lengths[chosen])
    np.testing.assert_array_equal(labels, chosen)
    padded, _, _ = binned.batch(chosen, steps=len(x) + 3)
    np.testing.assert_array_equal(padded[: len(x)], x)
    assert not padded[len(x) :].any()

    part = binned.subset(chosen)
    part.events.validate()
    np.testing.assert_array_equal(part.batch(range(len(part)))[0], x)
    np.testing.assert_array_equal(part.labels, chosen)


def test_a_mask_chooses_too():
    binned = bin_events(from_events(as_events([[(1, 0)], [(2, 1)], [(3, 2)]]), [0, 1, 2], 12), 1.0)
    assert binned.batch(np.array([True, False, True]))[2].tolist() == [0, 2]
    assert binned.subset(np.array([False, True, False])).labels.tolist() == [1]


def test_half_precision_seconds_do_not_overflow(tmp_path):
    """1.3 s in float16 times 10⁶ is infinite; float64 has to come first."""
    dataset = read_events(heidelberg(tmp_path / "a.h5", [[0.1, 1.3]], [[0, 699]], [1]))
    binned = bin_events(dataset, 10.0, 140, cache=False)
    assert binned.events.times.tolist() == [9, 129]  # float16 has 0.09998 and 1.2998
    assert binned.events.neurons.tolist() == [0, 139]


@pytest.mark.parametrize("cells", [64, 1 << 24])
def test_the_size_of_chunks_changes_nothing(tmp_path, monkeypatch, cells):
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(3, clips=90)))
    want = bin_events(dataset, 10.0, 140, cache=False)
    monkeypatch.setattr(binning, "_CELLS", cells)
    got = bin_events(dataset, 10.0, 140, cache=False)
    for name in ("times", "neurons", "offsets", "lengths", "values"):
        np.testing.assert_array_equal(getattr(got.events, name), getattr(want.events, name))


def test_the_second_time_comes_from_the_disk_and_is_the_same(tmp_path, cache, monkeypatch):
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(4)))
    first = bin_events(dataset, 10.0, 140)
    other = bin_events(dataset, 20.0, 140)
    binary = bin_events(dataset, 10.0, 140, binary=True)
    assert len(list((cache / "binned").iterdir())) == 3
    assert other.events.times.max() < first.events.times.max()

    monkeypatch.setattr(type(dataset.store), "read", None)  # any reading would fail
    for again, want in ((bin_events(dataset, 10.0, 140), first), (bin_events(dataset, 20, 140), other)):
        for name in ("times", "neurons", "offsets", "lengths", "values"):
            np.testing.assert_array_equal(getattr(again.events, name), getattr(want.events, name))
        np.testing.assert_array_equal(again.labels, want.labels)
        np.testing.assert_array_equal(again.batch([2, 0])[0], want.batch([2, 0])[0])
    assert bin_events(dataset, 10.0, 140, binary=True).events.values is None
    assert (binary.events.times == first.events.times).all()


def test_a_changed_file_is_binned_anew(tmp_path, cache):
    path = tmp_path / "a.h5"
    first = bin_events(read_events(heidelberg(path, [[0.1]], [[5]], [0])), 10.0)
    second = bin_events(read_events(heidelberg(path, [[0.1, 0.3]], [[5, 5]], [0])), 10.0)
    assert (first.lengths[0], second.lengths[0]) == (10, 31)


def test_parts_of_a_file_do_not_share_a_cache(tmp_path, cache):
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(5)))
    whole = bin_events(dataset, 10.0, 140)
    for rows in ([1, 4], [4, 1], [0, 1, 2]):
        part = bin_events(dataset.subset(np.array(rows)), 10.0, 140)
        np.testing.assert_array_equal(
            part.batch(range(len(rows)), steps=130)[0], whole.batch(rows, steps=130)[0]
        )


@pytest.mark.parametrize("damage", [b"", b"not HDF5", None])
def test_a_damaged_cache_is_made_anew(tmp_path, cache, caplog, damage):
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(6)))
    want = bin_events(dataset, 10.0, 140, cache=False)  # not a map of the file that is damaged
    bin_events(dataset, 10.0, 140)
    (kept,) = (cache / "binned").iterdir()
    kept.write_bytes(kept.read_bytes()[:3000] if damage is None else damage)

    got = bin_events(dataset, 10.0, 140)

    np.testing.assert_array_equal(got.batch([0, 1])[0], want.batch([0, 1])[0])
    assert "is made anew" in caplog.text
    bin_events(dataset, 10.0, 140)
    assert caplog.text.count("is made anew") == 1


@pytest.mark.parametrize("binary", [False, True])
def test_a_cache_written_in_pieces_is_the_file_that_is_written_at_once(tmp_path, cache, monkeypatch, binary):
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(3, clips=90)))
    whole = bin_events(dataset, 10.0, 140, binary=binary, steps=100, cache=False)
    monkeypatch.setattr(binning, "_CELLS", 64)
    bin_events(dataset, 10.0, 140, binary=binary, steps=100)
    (kept,) = (cache / "binned").iterdir()
    want = {k: getattr(whole.spikes, k) for k in ("times", "neurons", "offsets", "lengths", "values")}
    want |= {"labels": whole.labels, "speakers": whole.speakers}
    want = {k: v for k, v in want.items() if v is not None}
    with h5py.File(kept) as file:
        assert set(file) == set(want)
        assert (file.attrs["channels"], file.attrs["dropped"]) == (140, whole.dropped)
        assert whole.dropped > 0
        for name, array in want.items():
            assert file[name].dtype == array.dtype
            assert file[name].chunks is None
            assert file[name][()].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("step", "channel", "count", "bytes_each"), [(255, 255, 255, 3), (256, 256, 256, 6), (65_536, 699, 1, 7)]
)
def test_a_spike_takes_the_bytes_its_numbers_need(tmp_path, cache, step, channel, count, bytes_each):
    """The widest of all recordings: the first is one spike at the beginning, in a chunk of its own or not."""
    times = [[0.0], [step / 1000 + 0.0005] * count]
    dataset = read_events(heidelberg(tmp_path / "a.h5", times, [[0], [channel] * count], [0, 1], dtype="f8"))
    for binned in (bin_events(dataset, 1.0), bin_events(dataset, 1.0, cache=False)):
        spikes = binned.spikes
        assert sum(getattr(spikes, k).itemsize for k in ("times", "neurons", "values")) == bytes_each
        (first, last) = binned.events
        assert (first.times.tolist(), first.neurons.tolist(), first.values.tolist()) == ([0], [0], [1])
        assert (last.times.tolist(), last.neurons.tolist()) == ([step], [channel])
        assert last.values.tolist() == [count]
        x, _, _ = binned.batch([1, 0])
        assert (x[step, 0, channel], x[0, 1, 0], x.sum()) == (count, 1, count + 1)


class Endless:
    """A store of made recordings of 200 spikes each that holds none of them."""

    def __init__(self, count):
        self.count, self.largest = count, 0

    def __len__(self):
        return self.count

    def where(self, row):
        return f"recording {row}"

    def read(self, rows):
        self.largest = max(self.largest, len(rows))
        times = np.tile(np.arange(200) * 100, len(rows))
        return times, (times // 100 * 7 + np.repeat(rows, 200)) % 140, np.full(len(rows), 200)


def made(count):
    return EventDataset(
        store=Endless(count), rows=np.arange(count), labels=np.arange(count) % 2, speakers=np.full(count, -1),
        classes=["a", "b"], channels=140, name="made", key=f"made {count}",
    )  # fmt: skip


def test_the_first_binning_holds_a_chunk_of_the_recordings(cache, monkeypatch):
    """Ten times the recordings take no more memory than what is kept of each: labels, speakers, offsets, …"""
    monkeypatch.setattr(binning, "_CELLS", 20 * 140 * 50)  # 50 recordings of 20 steps
    bin_events(made(50), 1.0)  # what is loaded at first use
    peaks = []
    for count in (400, 4000):
        dataset = made(count)
        tracemalloc.start()
        binned = bin_events(dataset, 1.0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peaks.append(peak)
        assert dataset.store.largest <= 64
        assert binned.filled == 200 * count
        assert isinstance(binned.spikes.times.base, np.memmap)
    of_each = 8 * 8  # rows, labels, speakers, lengths, counts, offsets, and copies while they are joined
    assert peaks[1] - peaks[0] < 3600 * of_each, peaks
    assert peaks[1] < 3 * 200 * 4000, "the spikes, at 3 bytes each"


def test_parts_and_their_batches_share_the_map(cache):
    binned = bin_events(made(300), 1.0)
    rng = np.random.default_rng(0)
    part = binned.subset(rng.permutation(300)[:200]).subset(np.arange(199, 0, -2))
    for name in ("times", "neurons", "values"):
        assert getattr(part.spikes, name) is getattr(binned.spikes, name)
        assert isinstance(getattr(part.spikes, name).base, np.memmap)
    tracemalloc.start()
    binned.subset(np.arange(299))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 * 64, "rows, labels and speakers; the spikes are 60,000"


def test_pages_of_the_map_are_let_go_while_batches_are_read(cache, monkeypatch):
    binned = bin_events(made(300), 1.0)
    want, gone = binned.batch(range(300))[0], []
    monkeypatch.setattr(memory, "RESIDENT", 10 * (200 + memory._FAULT))  # ten recordings, a byte a number
    visited = memory.visited
    monkeypatch.setattr(packed, "visited", lambda *read: gone.append(visited(*read)))
    for k in range(300):
        np.testing.assert_array_equal(binned.batch([k], steps=20)[0][:, 0], want[:, k])
    assert sum(gone) == 3 * 300 // 10
    gone.clear()
    assert len(binned.subset(range(20)).events.times) == 20 * 200
    assert gone == [True] * 3


@given(data())
def test_a_part_of_a_part_is_what_its_events_are(data):
    """Law: batch, events, filled and total of a part are those of its recordings made a set of their own."""
    rng = np.random.default_rng(data.draw(integers(0, 99)))
    x = rng.poisson(data.draw(sampled_from([0.0, 0.2, 300.0])), (6, 5, 4)).astype(np.float32)
    facts = {"speakers": np.arange(5), "classes": list("abcde"), "dt": 1.0, "channels": 4}
    events = EventBatch.from_dense(x, rng.integers(1, 7, 5))
    kind = data.draw(sampled_from([lambda e: e, Packed.of]))
    whole = Binned(spikes=kind(events), labels=np.arange(5), **facts)
    outer = data.draw(lists(integers(0, 4), max_size=6))
    inner = data.draw(lists(integers(0, len(outer) - 1), max_size=6)) if outer else []
    part = whole.subset(outer).subset(inner)
    rows = np.array(outer, int)[inner]
    got, lengths, labels = part.batch(range(len(part)), steps=6)
    inside = np.arange(6)[:, None] < events.lengths[rows]
    np.testing.assert_array_equal(got, x[:, rows] * inside[:, :, None])
    np.testing.assert_array_equal(labels, rows)
    np.testing.assert_array_equal(lengths, events.lengths[rows])
    np.testing.assert_array_equal(part.lengths, lengths)
    np.testing.assert_array_equal(part.events.validate().to_dense(6), got)
    assert (part.events.times.dtype, part.events.neurons.dtype) == (np.int64, np.int32)
    assert part.filled == np.count_nonzero(got)
    assert part.total == got.sum(dtype=np.float64)
    if lengths.sum():
        assert part.occupancy == part.filled / (lengths.sum() * 4)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, cache, caplog):
    cache.write_text("a file where the folder should be")
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(7)))
    assert len(bin_events(dataset, 10.0, 140)) == 7
    assert "not kept" in caplog.text


def test_transformed_events_are_binned_and_never_cached(tmp_path, cache):
    def late(events):
        events["t"] += 50_000
        return events

    path = heidelberg(tmp_path / "a.h5", *random_clips(8))
    plain = bin_events(read_events(path), 10.0, 140, cache=False)
    moved = bin_events(read_events(path, transform=late), 10.0, 140)
    np.testing.assert_array_equal(moved.events.times, plain.events.times + 5)
    assert not cache.exists()
    with pytest.raises(ParameterError, match="recording 0: the transform gave ndarray, not events"):
        bin_events(read_events(path, transform=lambda e: np.zeros((3, 700))), 10.0, 140)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 141}, r"700 channels can't be summed to 141: take one of \[.*140.*\]"),
        ({"dt": 0}, "dt = 0 ms; it must be a number of at least 0.001 ms"),
        ({"dt": float("nan")}, "dt = nan ms"),
        ({"steps": 0}, "steps = 0; it must be at least 1"),
    ],
)
def test_settings_without_meaning_are_refused(tmp_path, options, message):
    dataset = read_events(heidelberg(tmp_path / "a.h5", *random_clips(9)))
    with pytest.raises(ParameterError, match=message):
        bin_events(dataset, **options)


def test_batches_say_what_is_wrong_with_their_arguments():
    binned = bin_events(from_events(as_events([[(9000, 0)], [(2, 1)]]), [0, 1], 12, name="mine"), 1.0)
    with pytest.raises(ParameterError, match=r"mine: indices 0\.\.2 exceed its 2 recordings"):
        binned.batch([0, 2])
    with pytest.raises(ParameterError, match=r"mine: indices -1\.\.0 exceed"):
        binned.subset([-1, 0])
    with pytest.raises(ParameterError, match="steps = 9, but a recording of it has 10 steps"):
        binned.batch([0, 1], steps=9)


def test_occupancy_counts_cells_within_the_lengths():
    binned = bin_events(from_events(as_events([[(0, 0), (1, 0), (1500, 11)], [(0, 3)]]), [0, 0], 12), 1.0, 6)
    assert binned.occupancy == 3 / ((2 + 1) * 6)


def test_an_augmentation_sees_the_batch_before_it_is_dense():
    binned = bin_events(from_events(as_events([[(0, 0)], [(0, 3), (900, 3)]]), [0, 1], 12), 1.0)
    seen = []

    def double(events):
        seen.append(len(events))
        events.values = events.values * 2
        return events

    x, _, labels = binned.batch([1, 0], augment=double)
    assert seen == [2]
    np.testing.assert_array_equal(x, 2 * binned.batch([1, 0])[0])
    assert labels.tolist() == [1, 0]
    assert binned.events.values.tolist() == [1, 2], "the data itself stays"


def test_frames_give_batches_like_binned_events():
    frames = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float16)
    lengths = np.array([5, 2, 4])
    data_set = Frames(frames, lengths, np.array([0, 1, 1]), np.array([7, 8, 9]), ["a", "b"], 10.0, 4)
    x, n, labels = data_set.batch([2, 1])
    assert x.shape == (4, 2, 4)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[:, 0], frames[2, :4])
    np.testing.assert_array_equal(x[:2, 1], frames[1, :2])
    assert not x[2:, 1].any(), "what lies after the end is silent"
    assert (n.tolist(), labels.tolist()) == ([4, 2], [1, 1])
    np.testing.assert_array_equal(data_set.subset([2, 1]).events.to_dense(), x)
    with pytest.raises(ParameterError, match="steps = 4, but a recording of it has 5"):
        data_set.batch([0], steps=4)


def test_spikes_without_values_count_one_each():
    events = EventBatch([0, 0, 2], [1, 1, 0], [0, 3], [3], 2)
    x, _, _ = Binned(events, np.zeros(1, int), np.zeros(1, int), ["a"], 1.0, 2).batch([0])
    assert x[:, 0].tolist() == [[0, 2], [0, 0], [1, 0]]


def test_frames_are_standardised_and_parts_of_parts_stay_in_order():
    frames = np.arange(60, dtype=np.float32).reshape(5, 4, 3)
    whole = Frames(
        frames, np.full(5, 4), np.arange(5), np.arange(5), list("abcde"), 10.0, 3, mean=2.0, scale=4.0
    )
    part = whole.subset([4, 1, 3]).subset([2, 0])
    assert part.labels.tolist() == [3, 4]
    np.testing.assert_array_equal(part.batch([1, 0])[0], (frames[[4, 3]].transpose(1, 0, 2) - 2) / 4)
    assert part.frames is whole.frames

    def cut(events):
        return EventBatch.from_dense(events.to_dense()[:2])

    x, lengths, _ = part.batch([1, 0], augment=cut)
    np.testing.assert_array_equal(x, (frames[[4, 3], :2].transpose(1, 0, 2) - 2) / 4)
    assert lengths.tolist() == [2, 2]


@pytest.mark.parametrize("dt", [16.1, 1.1, 0.7, 8.2, 4.35, 2.3])
def test_a_spike_on_the_border_of_a_step_begins_it(dt):
    """Whole microseconds, counted exactly: 16.1 · 1000 is a little more than 16,100 in floating point."""
    width = int((Decimal(str(dt)) * 1000).to_integral_exact())
    times = [k * width + d for k in range(1, 400, 7) for d in (-1, 0, 1)]
    binned = bin_events(from_events(as_events([[(t, 0) for t in times]]), [0], 1), dt)
    (events,) = binned.events
    want = np.bincount([t // width for t in times])
    np.testing.assert_array_equal(events.to_dense()[:, 0, 0], want)


def test_only_widths_that_were_binned_otherwise_have_a_new_key(tmp_path, cache):
    """Caches of whole milliseconds, of which there are many, are found again."""
    settings_of = {}
    for dt in (10.0, 4.0, 0.5, 3.7, 1 / 3, 16.1):
        bin_events(read_events(heidelberg(tmp_path / f"{dt}.h5", [[0.1, 0.2]], [[5, 6]], [0])), dt)
        (path,) = (cache / "binned").glob(f"{dt}-*.h5")
        with h5py.File(path) as file:
            settings_of[dt] = json.loads(file.attrs["settings"])
    assert {dt: one["version"] for dt, one in settings_of.items()} == {
        10.0: 1, 4.0: 1, 0.5: 1, 3.7: 1, 1 / 3: 1, 16.1: 2,
    }  # fmt: skip
    assert set(settings_of[10.0]) == {"version", "source", "dt", "channels", "binary", "steps", "rows"}


def test_a_duration_makes_recordings_equally_long(tmp_path, cache):
    times, units, labels = random_clips(3)
    dataset = read_events(heidelberg(tmp_path / "clips.h5", times, units, labels))
    whole = bin_events(dataset, 10.0, 140)
    for again in range(2):
        for duration, steps in ((505.0, 51), (2000.0, 200)):
            fixed = bin_events(dataset, 10.0, 140, duration=duration)
            assert (fixed.lengths == steps).all(), again
            x, want = fixed.batch(range(7))[0], whole.batch(range(7), steps=200)[0]
            np.testing.assert_array_equal(x, want[:steps])
