"""Augmentations: each does what it says, to events and dense arrays alike, and only that."""

from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import floats, integers, sampled_from

from snnkit.datasets import augment
from snnkit.datasets.augment import (
    channel_shift,
    compose,
    cutmix,
    drop_event,
    jitter,
    mirror,
    neuron_mask,
    rotate,
    shift,
    time_mask,
    time_stretch,
)
from snnkit.errors import ParameterError, ShapeError
from snnkit.events import EventBatch

T, B, N = 23, 17, 11
SHAPE = (2, 5, 6)
ALL = [
    partial(time_mask, probability=0.7, width=9),
    partial(neuron_mask, probability=0.7, width=6),
    partial(channel_shift, amount=4),
    partial(time_stretch, low=0.6, high=1.0),
    partial(drop_event, probability=0.3),
]
NAMES = ["time_mask", "neuron_mask", "channel_shift", "time_stretch", "drop_event"]


def spikes(seed, binary=False, density=0.3):
    """Dense counts, silent after each sample's length, and the lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, T + 1, B)
    x = rng.poisson(density, (T, B, N)).astype(np.float32)
    if binary:
        x = np.minimum(x, 1)
    x[np.arange(T)[:, None] >= lengths] = 0
    return x, lengths


@pytest.mark.parametrize("binary", [False, True], ids=["counts", "binary"])
@pytest.mark.parametrize("change", ALL, ids=NAMES)
def test_events_and_dense_arrays_change_alike(change, binary):
    x, lengths = spikes(1, binary)
    events = EventBatch.from_dense(x, lengths)
    kept = EventBatch.from_dense(x, lengths)

    by_events = change(events, np.random.default_rng(5)).validate()
    by_dense = change(x, np.random.default_rng(5), lengths=lengths)

    np.testing.assert_array_equal(by_events.to_dense(T), by_dense)
    assert (by_dense != x).any()
    assert by_dense.dtype == x.dtype
    assert (by_events.values is None) == binary
    np.testing.assert_array_equal(events.to_dense(T), kept.to_dense(T))  # the input is untouched
    again = change(events, np.random.default_rng(5))
    np.testing.assert_array_equal(again.to_dense(T), by_dense)
    other = change(events, np.random.default_rng(6))
    assert (other.to_dense(T) != by_dense).any()


@pytest.mark.parametrize(
    "change",
    [
        partial(time_mask, probability=0, width=9),
        partial(time_mask, probability=1, width=0),
        partial(neuron_mask, probability=0, width=9),
        partial(channel_shift, amount=0),
        partial(time_stretch, low=1, high=1),
        partial(drop_event, probability=0),
    ],
)
def test_without_strength_nothing_changes(change):
    x, lengths = spikes(2)
    np.testing.assert_array_equal(change(x, np.random.default_rng(0), lengths=lengths), x)


@pytest.mark.parametrize(("mask", "axis"), [(time_mask, 0), (neuron_mask, 1)])
@given(seed=integers(0, 10_000), width=integers(1, 30))
@settings(max_examples=40)
def test_a_mask_silences_one_run_and_leaves_the_rest(mask, axis, seed, width):
    x, lengths = spikes(seed, density=3)  # hardly a silent step
    got = mask(x, np.random.default_rng(seed), probability=1, width=width, lengths=lengths)
    for b in range(B):
        before, after = x[: lengths[b], b], got[: lengths[b], b]
        gone = np.flatnonzero((before != after).any(axis=1 - axis))
        assert len(gone) <= width
        if len(gone):
            run = slice(gone[0], gone[-1] + 1)
            assert not after.take(range(run.start, run.stop), axis).any()
        rest = np.setdiff1d(
            np.arange(before.shape[axis]), np.arange(gone.min(initial=0), gone.max(initial=-1) + 1)
        )
        np.testing.assert_array_equal(before.take(rest, axis), after.take(rest, axis))


def test_masks_hit_their_share_with_every_width():
    """Widths 0..4 equally often: of 40,000 samples each about 8,000 (5 deviations: 400)."""
    count = 40_000
    x = np.ones((4, count, 4), np.float32)
    for mask, axis in ((time_mask, 0), (neuron_mask, 2)):
        got = mask(x, np.random.default_rng(0), probability=0.5, width=4)
        width = (got.sum(axis=2 - axis) == 0).sum(axis=0 if axis == 0 else 1)
        found = np.bincount(width, minlength=5)
        want = np.array([0.6, 0.1, 0.1, 0.1, 0.1]) * count
        assert (np.abs(found - want) < 5 * np.sqrt(want)).all()


@given(seed=integers(0, 10_000), amount=integers(0, 12))
@settings(max_examples=40)
def test_a_shift_moves_the_whole_sample(seed, amount):
    x, lengths = spikes(seed, density=2)
    got = channel_shift(x, np.random.default_rng(seed), amount=amount, lengths=lengths)
    for b in range(B):
        matches = []
        for by in range(-amount, amount + 1):
            want = np.zeros_like(x[:, b])
            lo, hi = max(0, by), min(N, N + by)
            if lo < hi:
                want[:, lo:hi] = x[:, b, lo - by : hi - by]
            matches.append((got[:, b] == want).all())
        assert any(matches)


@pytest.mark.parametrize("cells", [0, 1 << 24], ids=["sorted", "dense"])
@given(seed=integers(0, 10_000), factor=floats(0.3, 3))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stretch_keeps_every_count_and_their_order(monkeypatch, cells, seed, factor):
    monkeypatch.setattr(augment, "_DENSE_CELLS", cells)
    x, lengths = spikes(seed)
    events = EventBatch.from_dense(x, lengths)
    got = time_stretch(events, np.random.default_rng(0), low=factor, high=factor).validate()
    np.testing.assert_array_equal(got.lengths, np.ceil(lengths * factor))
    for before, after in zip(events, got, strict=True):
        values = np.ones(len(before.times)) if before.values is None else before.values
        want = {}
        for t, n, v in zip(before.times, before.neurons, values, strict=True):
            cell = int((t + 0.5) * factor), n
            want[cell] = want.get(cell, 0) + v
        found = np.ones(len(after.times)) if after.values is None else after.values
        assert dict(zip(zip(after.times, after.neurons, strict=True), found, strict=True)) == want


def test_binary_spikes_that_meet_stay_one():
    events = EventBatch([0, 1, 2, 3], [0, 0, 0, 1], [0, 4], [4], 2)
    got = time_stretch(events, np.random.default_rng(0), low=0.5, high=0.5)
    assert got.times.tolist() == [0, 1, 1]
    assert got.neurons.tolist() == [0, 0, 1]
    assert got.values is None
    assert got.lengths.tolist() == [2]


@pytest.mark.parametrize("binary", [False, True])
def test_every_spike_is_lost_with_the_same_probability(binary):
    """Of about 10⁵ spikes 0.3 ± 5 deviations, and a count of 3 leaves a binomial."""
    x = np.full((100, 40, 25), 1 if binary else 3, np.float32)
    got = drop_event(x, np.random.default_rng(0), probability=0.3)
    trials = x.sum()
    assert abs(got.sum() / trials - 0.7) < 5 * np.sqrt(0.21 / trials)
    if not binary:
        want = np.array([0.027, 0.189, 0.441, 0.343]) * got.size
        assert (np.abs(np.bincount(got.astype(int).ravel()) - want) < 5 * np.sqrt(want)).all()


def test_analogue_values_are_kept_whole_or_lost():
    x = np.random.default_rng(0).normal(size=(50, 20, 9)).astype(np.float32)
    got = drop_event(x, np.random.default_rng(1), probability=0.5)
    assert np.isin(got, np.append(x, 0)).all()
    assert 0.45 < (got == 0).mean() < 0.55


@pytest.mark.parametrize("binary", [False, True])
def test_cutmix_labels_are_the_shares_of_the_steps(binary):
    """Every sample carries its own class as channel, so the spikes say where they come from."""
    lengths = np.full(B, T)
    x = np.zeros((T, B, B), np.float32)
    x[:, np.arange(B), np.arange(B)] = 1 if binary else 2
    labels = np.arange(B)
    events = EventBatch.from_dense(x, lengths)

    mixed, soft = cutmix(events, labels, B, np.random.default_rng(3), probability=1)
    dense, soft_too = cutmix(x, labels, B, np.random.default_rng(3), probability=1, lengths=lengths)

    mixed.validate()
    np.testing.assert_array_equal(mixed.to_dense(T), dense)
    np.testing.assert_array_equal(soft, soft_too)
    share = (dense > 0).sum(axis=0) / T  # [B, class]
    np.testing.assert_allclose(soft, share, atol=1e-6)
    assert ((soft > 0).sum(axis=1) == 2).sum() > B / 2
    for b in range(B):  # one run, of one other sample
        foreign = np.flatnonzero(dense[:, b, b] == 0)
        assert len(foreign) == 0 or foreign[-1] - foreign[0] + 1 == len(foreign)


def test_cutmix_without_probability_gives_plain_labels():
    x, lengths = spikes(4)
    got, soft = cutmix(x, np.arange(B) % 3, 3, np.random.default_rng(0), probability=0, lengths=lengths)
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(soft, np.eye(3, dtype=np.float32)[np.arange(B) % 3])
    with pytest.raises(ShapeError, match=r"labels of shape \(3,\), expected \[17\]"):
        cutmix(x, np.zeros(3), 3, np.random.default_rng(0))


def images(seed, binary=False, shape=SHAPE, count=B):
    """Dense counts [T, B, C·H·W], silent after each sample's length, and the lengths."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, T + 1, count)
    x = rng.poisson(0.4, (T, count, np.prod(shape))).astype(np.float32)
    x[np.arange(T)[:, None] >= lengths] = 0
    return (np.minimum(x, 1) if binary else x), lengths


PLANE = [
    partial(shift, shape=SHAPE, amount=2),
    partial(mirror, shape=SHAPE),
    partial(rotate, shape=SHAPE, degrees=50),
    partial(jitter, steps=3),
]
PLANE_NAMES = ["shift", "mirror", "rotate", "jitter"]


@pytest.mark.parametrize("binary", [False, True], ids=["counts", "binary"])
@pytest.mark.parametrize("change", PLANE, ids=PLANE_NAMES)
def test_events_and_dense_images_change_alike(change, binary):
    x, lengths = images(1, binary)
    events, kept = EventBatch.from_dense(x, lengths), EventBatch.from_dense(x, lengths)
    by_events = change(events, np.random.default_rng(5)).validate()
    by_dense = change(x, np.random.default_rng(5), lengths=lengths)
    np.testing.assert_array_equal(by_events.to_dense(T), by_dense)
    np.testing.assert_array_equal(by_events.lengths, lengths)
    assert (by_dense != x).any()
    assert by_dense.dtype == x.dtype
    assert (by_events.values is None) == binary
    np.testing.assert_array_equal(events.to_dense(T), kept.to_dense(T))  # the input is untouched
    again = change(events, np.random.default_rng(5)).to_dense(T)
    np.testing.assert_array_equal(again, by_dense)
    assert (change(events, np.random.default_rng(6)).to_dense(T) != by_dense).any()
    silent = EventBatch.from_dense(np.zeros((T, 3, 60), np.float32))
    assert len(change(silent, np.random.default_rng(0)).validate().times) == 0


@pytest.mark.parametrize(
    "change",
    [
        partial(shift, shape=SHAPE, amount=0),
        partial(mirror, shape=SHAPE, probability=0),
        partial(rotate, shape=SHAPE, degrees=0),
        partial(jitter, steps=0),
    ],
    ids=PLANE_NAMES,
)
def test_without_strength_images_do_not_change(change):
    x, lengths = images(2)
    np.testing.assert_array_equal(change(x, np.random.default_rng(0), lengths=lengths), x)


def rolled(image, down, right):
    """[T, C, H, W] moved, by np.roll and zeros where it came round."""
    image = np.roll(image, (down, right), (2, 3))
    height, width = image.shape[2:]
    image[:, :, : max(down, 0)] = 0
    image[:, :, max(height + min(down, 0), 0) :] = 0
    image[..., : max(right, 0)] = 0
    image[..., max(width + min(right, 0), 0) :] = 0
    return image


def test_a_shift_in_the_plane_is_a_roll_with_zeros_and_every_pair_comes_equally_often():
    count, amount = 5000, 2
    x = np.random.default_rng(0).poisson(1.0, (1, count, *SHAPE)).astype(np.float32)
    flat = shift(x.reshape(1, count, -1), np.random.default_rng(1), shape=SHAPE, amount=amount)
    got = flat.reshape(x.shape)
    found = {}
    for down in range(-amount, amount + 1):
        for right in range(-amount, amount + 1):
            want = rolled(x[0].copy(), down, right)
            found[down, right] = (got[0] == want).all(axis=(1, 2, 3))
    which = np.stack(list(found.values()))
    assert (which.sum(axis=0) == 1).all()
    assert (np.abs(which.sum(axis=1) - count / 25) < 5 * np.sqrt(count / 25)).all()


def test_a_shift_beyond_the_sensor_leaves_nothing():
    x = np.ones((2, 200, 4), np.float32)
    got = shift(x, np.random.default_rng(0), shape=(1, 2, 2), amount=3)
    np.testing.assert_array_equal(np.unique(got.sum(axis=(0, 2))), [0, 2, 4, 8])


def test_a_mirror_flips_half_of_the_samples_left_to_right():
    count = 4000
    x, lengths = images(3, count=count)
    got = mirror(x, np.random.default_rng(1), shape=SHAPE, lengths=lengths)
    flipped = np.flip(x.reshape(T, count, *SHAPE), -1).reshape(x.shape)
    same = (got == x).all(axis=(0, 2))
    turned = (got == flipped).all(axis=(0, 2))
    assert (same ^ turned).all()
    assert abs(turned.sum() - count / 2) < 5 * np.sqrt(count / 4)


@pytest.mark.parametrize("shape", [(2, 5, 6), (1, 7, 7), (3, 8, 4)])
def test_a_rotation_is_scipys_of_the_nearest_pixel(shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    x, lengths = images(4, shape=shape)
    got = rotate(x, np.random.default_rng(9), shape=shape, degrees=70, lengths=lengths)
    angles = np.deg2rad(np.random.default_rng(9).uniform(-70, 70, B))
    middle = (np.array(shape[1:]) - 1) / 2
    for b, angle in enumerate(angles):
        back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = middle - back @ middle
        for t in range(T):
            for before, after in zip(x[t, b].reshape(shape), got[t, b].reshape(shape), strict=True):
                wide = np.pad(before, 9)  # scipy drops what lies within half a pixel outside the border
                moved = ndimage.affine_transform(wide, back, offset + 9 - back @ [9, 9], order=0)
                np.testing.assert_array_equal(after, moved[9:-9, 9:-9])


class Angle:
    """A generator whose every draw is one angle."""

    def __init__(self, angle):
        self.angle = angle

    def uniform(self, low, high, size):
        return np.full(size, self.angle)


@pytest.mark.parametrize(("angle", "turns"), [(90, -1), (-90, 1), (180, 2), (-180, 2)])
@pytest.mark.parametrize("side", [4, 5])
def test_a_quarter_turn_of_a_square_loses_nothing(angle, turns, side):
    x, lengths = images(5, shape=(2, side, side))
    got = rotate(x, Angle(angle), shape=(2, side, side), degrees=180, lengths=lengths)
    want = np.rot90(x.reshape(T, B, 2, side, side), turns, axes=(3, 4))
    np.testing.assert_array_equal(got.reshape(want.shape), want)


@given(seed=integers(0, 10_000), steps=integers(0, 30))
@settings(max_examples=40)
def test_jitter_keeps_every_count_within_reach_and_length(seed, steps):
    x, lengths = spikes(seed, density=0.5)
    got = jitter(EventBatch.from_dense(x, lengths), np.random.default_rng(seed), steps=steps).validate()
    dense = got.to_dense(T)
    np.testing.assert_array_equal(dense.sum(axis=0), x.sum(axis=0))
    # sorted spikes of a channel can be paired in order, none further than `steps` from its own
    for b, n in np.ndindex(B, N):
        before = np.repeat(np.arange(T), x[:, b, n].astype(int))
        after = np.repeat(np.arange(T), dense[:, b, n].astype(int))
        assert (np.abs(before - after) <= steps).all()


def test_jitter_is_uniform_over_the_steps_that_there_are():
    """Spikes at steps 0, 4 and 8 of 9 reach 3, 5 and 3 steps; a count of 2 moves as two spikes."""
    count = 20_000
    x = np.zeros((9, count, 3), np.float32)
    x[[0, 4, 8], :, [0, 1, 2]] = 2
    got = jitter(x, np.random.default_rng(0), steps=2)
    for n, reach in enumerate((range(3), range(2, 7), range(6, 9))):
        found = got[:, :, n].sum(axis=1)
        want = 2 * count / len(reach)
        assert found[list(reach)].sum() == 2 * count
        assert (np.abs(found[list(reach)] - want) < 5 * np.sqrt(want)).all()
        share = (got[:, :, n] == 2).any(axis=0).mean()
        assert abs(share - 1 / len(reach)) < 0.02


def test_binary_spikes_and_analogue_values_jitter():
    binary = EventBatch(np.arange(50), np.zeros(50), [0, 50], [50], 1)
    moved = jitter(binary, np.random.default_rng(0), steps=5).validate()
    assert moved.values is None
    assert len(moved.times) < 50
    assert moved.to_dense().max() == 1
    analogue = EventBatch([10, 20], [0, 0], [0, 2], [30], 1, np.array([0.5, -2.25], np.float32))
    moved = jitter(analogue, np.random.default_rng(0), steps=3).validate()
    assert moved.values.tolist() == [0.5, -2.25]


@given(seed=integers(0, 1000), change=sampled_from(ALL))
@settings(max_examples=40)
def test_nothing_appears_beyond_the_length(seed, change):
    x, lengths = spikes(seed)
    got = change(EventBatch.from_dense(x, lengths), np.random.default_rng(seed))
    got.validate()
    assert (got.lengths <= lengths).all()


def test_compose_applies_one_after_another():
    x, lengths = spikes(6)
    events = EventBatch.from_dense(x, lengths)
    both = compose(ALL[0], ALL[4])(events, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    want = ALL[4](ALL[0](events, rng), rng)
    np.testing.assert_array_equal(both.to_dense(T), want.to_dense(T))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, r: time_mask(x, r, probability=1.5), "time_mask: probability = 1.5; it must lie in 0..1"),
        (lambda x, r: neuron_mask(x, r, width=-1), "neuron_mask: width = -1; it must be at least 0"),
        (lambda x, r: channel_shift(x, r, amount=-2), "channel_shift: amount = -2"),
        (lambda x, r: time_stretch(x, r, low=0), "low = 0 and high = 1.2; expected 0 < low ≤ high"),
        (lambda x, r: jitter(x, r, steps=-1), "jitter: steps = -1; it must be at least 0"),
        (lambda x, r: shift(x, r, shape=(1, 1, 11), amount=-1), "shift: amount = -1"),
        (lambda x, r: mirror(x, r, shape=(1, 1, 11), probability=2), "mirror: probability = 2"),
        (lambda x, r: rotate(x, r, shape=(1, 1, 11), degrees=200), r"degrees = 200; it must lie in 0\.\.180"),
        (
            lambda x, r: shift(x, r, shape=(11,)),
            r"shift: steps of shape \[11\] for 11 neurons; .*\[C, H, W\]",
        ),
        (lambda x, r: mirror(x, r, shape=(2, 2, 3)), r"mirror: steps of shape \[2, 2, 3\] for 11 neurons"),
        (lambda x, r: rotate(x, r, shape=(1, -1, -11)), r"rotate: steps of shape \[1, -1, -11\]"),
        (lambda x, r: drop_event(x[0], r), r"array of shape \[17, 11\], expected \[T, B, N\]"),
    ],
)
def test_strengths_without_meaning_are_refused(call, message):
    with pytest.raises((ParameterError, ShapeError), match=message):
        call(spikes(0)[0], np.random.default_rng(0))
