"""Flat events and dense spikes say the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.errors import DataError
from snnkit.events import EventBatch


@given(st.integers(0, 6), st.integers(0, 3), st.integers(1, 5), st.integers(0, 1000), st.booleans())
def test_dense_to_events_and_back_is_the_identity(steps, batch, size, seed, counts):
    rng = np.random.default_rng(seed)
    x = (rng.integers(0, 3, (steps, batch, size)) if counts else rng.random((steps, batch, size)) < 0.3) * 1.0
    events = EventBatch.from_dense(x).validate()
    np.testing.assert_array_equal(events.to_dense(steps, np.float64), x)
    assert (events.values is None) == bool((x[x != 0] == 1).all())


def test_a_sample_taken_out_is_the_same_sample():
    rng = np.random.default_rng(0)
    x = rng.poisson(0.4, (7, 4, 5)).astype(float)
    events = EventBatch.from_dense(x, np.array([7, 3, 5, 1]))
    for b, alone in enumerate(events):
        length = events.lengths[b]
        np.testing.assert_array_equal(alone.to_dense()[:, 0], x[:length, b])


def test_the_last_sample_is_minus_one_and_none_is_beyond():
    events = EventBatch.from_dense(np.eye(3).reshape(3, 1, 3).repeat(2, 1))
    assert len(events[-1].times) == 3
    with pytest.raises(IndexError):
        events[2]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("times", [0, 5, 1], "event 1 of sample 0 .* outside its sample's steps"),
        ("times", [2, 1, 1], "event 1 of sample 0 .* earlier than the one before"),
        ("neurons", [0, 1, 9], r"event 2 of sample 1 .* outside 0\.\.3"),
        ("offsets", [0, 4, 3], "that never fall"),
        ("offsets", [0, 2, 4], "should be equal"),
        ("offsets", [1, 2, 3], "offsets from 0"),
        ("values", [1.0], "1 values for 3 events"),
        ("values", [1.0, np.nan, 1.0], "value of event 1 is nan"),
        ("neurons", [0, 1, 2**32 + 1], r"neurons\[2\] is 4294967297, expected a int32"),
        ("times", [0.5, 1, 1], r"times\[0\] is 0.5"),
        ("times", [np.nan, 1, 1], r"times\[0\] is nan"),
    ],
)
def test_wrong_events_are_named(field, value, message):
    good = {"times": [0, 1, 1], "neurons": [0, 1, 2], "offsets": [0, 2, 3], "lengths": [3, 3], "size": 4}
    EventBatch(**good).validate()
    with pytest.raises(DataError, match=message):
        EventBatch(**{**good, field: np.array(value)}).validate()
