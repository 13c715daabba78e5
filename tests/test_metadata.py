"""The typed view of a Graph's metadata: what is written is what is read, and the keys are the format's."""

import json

import pytest

from snnkit.metadata import Readout, Timing, Units


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        (Readout(), ["readout"]),
        (Readout(kind="mean", classes=("a", "b")), ["readout", "classes"]),
        (Timing(), ["steps_tail"]),
        (Timing(steps_tail=9, padding="grow"), ["steps_tail", "padding"]),
        (
            Timing(steps_tail=9, latency=2, latencies={"n": 2}),
            ["latency", "latencies", "steps_tail"],
        ),
        (Timing(latencies={}), ["latency", "latencies", "steps_tail"]),
        (Units(), ["scale", "graded"]),
        (Units(inputs={"in": 2.0}), ["scale", "graded", "input_scale"]),
        (Units(inputs={"in": 2.0}, largest=None), ["scale", "graded", "input_scale", "input_largest"]),
        (Units(scale={"n": 0.5, "m": [1.0, 2.0]}, graded=False), ["scale", "graded"]),
    ],
)
def test_what_is_written_is_read(record, keys):
    written = record.to_metadata()
    assert list(written) == keys
    assert type(record).of(json.loads(json.dumps(written))) == record


def test_what_a_file_does_not_say_has_a_meaning():
    assert Readout.of({}) == Readout(kind="softmax_sum", classes=None)
    assert Timing.of({}).lag("n") == 0
    assert Timing.of({"latencies": {"n": 2}}).lag("n") == 2
    assert Units.of({}) == Units(scale={}, graded=None)
