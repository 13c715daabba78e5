"""Pixels on the chip: a stated scale makes integers of them, and the ladder shows what that costs."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from snnkit import cli
from snnkit.commands import simulate as simulating
from snnkit.datasets import Binned
from snnkit.engine import simulate
from snnkit.engine.readout import scores
from snnkit.errors import ExportError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.hardware import graded, netx
from snnkit.hardware.ladder import ladder
from snnkit.hardware.quantise import quantise
from snnkit.hardware.report import Report
from snnkit.metadata import Units

STEPS, SAMPLES = 4, 20


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(SAMPLES, 72)).astype(np.float32) * (rng.random((SAMPLES, 72)) < 0.7)
    return EventBatch.from_dense(np.broadcast_to(pixels, (STEPS, SAMPLES, 72)))


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(1)
    lif = {"decay": 0.7, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
    return Graph(
        {
            "input": Population("input", "input", (2, 6, 6)),
            "hidden": Population("hidden", "lif", (4, 6, 6), lif, bias=0.1 * rng.normal(size=(4, 1, 1))),
            "out": Population("out", "li", 5, {"decay": 1.0, "gain": 1.0}),
        },
        [
            Projection(
                "a", "input", "hidden", 0.3 * rng.normal(size=(4, 2, 3, 3)), kind="conv",
                options={"padding": 1},
            ),
            Projection("b", "hidden", "out", rng.normal(size=(5, 144))),
        ],
        outputs=["out"],
        metadata={"readout": "last_step"},
    ).validate()  # fmt: skip


def test_the_scale_cancels(graph, images):
    scale = graded.scales_of({"input": images})["input"]
    assert scale == 127 / np.abs(images.values).max()
    whole = EventBatch(
        images.times, images.neurons, images.offsets, images.lengths, images.size, images.values * scale
    )
    np.testing.assert_allclose(
        scores(graded.scaled(graph, {"input": scale}), whole, dtype="float64"),
        scores(graph, images, dtype="float64"),
        rtol=1e-5,
    )


def test_values_are_rounded_within_eight_bits():
    events = EventBatch([0, 0, 1, 2], [0, 1, 0, 1], [0, 3, 4], [3, 3], 2, np.array([0.004, -2.0, 0.5, 30.0]))
    whole = graded.rounded(events, 100.0)
    assert whole.values.tolist() == [-127, 50, 127]  # 0.4 rounds to no spike
    assert whole.neurons.tolist() == [1, 0, 1]
    assert whole.offsets.tolist() == [0, 2, 3]


def test_the_ladder_of_pixels_has_a_rung_for_their_rounding(graph, images, tmp_path):
    integer = quantise(graph, calibration=images)
    (scale,) = Units.of(integer.metadata).inputs.values()
    assert any(f"round({scale:.6g} · x)" in warning for warning in Report.of(integer).warnings)
    found = ladder(graph, integer, images, tolerance=1.0)
    assert [r.name for r in found.rungs] == ["rounded", "input", "quantised", "integer"]
    assert found.rungs[0].spikes > 1000
    assert all(r.equal > 0.97 for r in found.rungs[1:])
    assert found.rungs[3].equal > 0.995
    netx.write(integer, tmp_path / "a.net")
    again = netx.read(tmp_path / "a.net")
    assert ladder(graph, again, images, tolerance=1.0).rungs == found.rungs
    assert (graded.sent(again, images).values % 1 == 0).all()


def test_the_chip_is_given_what_a_person_would_round(graph, images):
    """By hand: q = round(S · x), and the integer model run on it."""
    integer = quantise(graph, calibration=images)
    (scale,) = Units.of(integer.metadata).inputs.values()
    q = np.rint(images.to_dense(dtype=np.float64) * np.float64(scale))
    by_hand = simulate(integer, EventBatch.from_dense(q.astype(np.float32)))
    ours = simulate(integer, graded.sent(integer, images))
    for name, spikes in ours.spikes.items():
        np.testing.assert_array_equal(spikes.times, by_hand.spikes[name].times)
        np.testing.assert_array_equal(spikes.neurons, by_hand.spikes[name].neurons)


def test_every_input_of_several_is_rounded_by_its_own_scale(graph, images):
    """By hand, as above: pixels into one input, pixels a tenth as large into another, counts into a third."""
    inputs = {name: Population(name, "input", 72) for name in ("large", "small", "counts")}
    rng = np.random.default_rng(2)
    several = Graph(
        {**inputs, "hidden": Population("hidden", "lif", 9, graph.populations["hidden"].params)},
        [Projection(n, n, "hidden", rng.normal(size=(9, 72)) * (10 if n == "small" else 1)) for n in inputs],
        outputs=["hidden"],
    ).validate()
    dense = images.to_dense(dtype=np.float64)
    given = {"large": dense, "small": dense[:, ::-1] / 10, "counts": np.rint(2 * dense)}
    events = {n: EventBatch.from_dense(x.astype(np.float32)) for n, x in given.items()}
    integer = quantise(several, calibration=events)
    scale = Units.of(integer.metadata).inputs
    assert set(scale) == {"large", "small"}
    assert scale["small"] == pytest.approx(10 * scale["large"])
    for order in (list(inputs), list(inputs)[::-1]):
        sent = graded.sent(integer, {n: events[n] for n in order})
        assert sent["counts"] is events["counts"]
        for name in ("large", "small"):
            want = np.rint(events[name].to_dense(dtype=np.float64) * scale[name])
            np.testing.assert_array_equal(sent[name].to_dense(dtype=np.float64), want)
        assert np.abs(sent["small"].values).max() == 127
    late = simulate(integer, sent).spikes["hidden"].to_dense(STEPS + 1)[1:]  # a step through the synapse
    wanted = simulate(several, events, dtype="float64").spikes["hidden"].to_dense(STEPS)
    assert wanted.sum() > 50
    assert (late == wanted).mean() > 0.95
    with pytest.raises(ParameterError, match=r"inputs large, small, counts; give {input: events}"):
        graded.sent(integer, images)
    with pytest.raises(ParameterError, match=r"events for .'other'.; the network has inputs"):
        graded.sent(integer, {"other": images})


def test_counts_stay_as_they_are(graph, images):
    counts = EventBatch(
        images.times, images.neurons, images.offsets, images.lengths, images.size, np.rint(images.values * 3)
    )
    integer = quantise(graph, calibration=counts)
    assert Units.of(integer.metadata).inputs == {}
    assert graded.sent(integer, counts) is counts


def test_simulate_and_verify_scale_the_input_of_an_exported_network(graph, images, tmp_path, monkeypatch):
    labels = scores(graph, images).argmax(1)
    data = Binned(images, labels, np.full(SAMPLES, -1), list("abcde"), 1.0, 72, "made")
    for module in ("simulate", "verify", "energy", "export"):
        monkeypatch.setattr(f"snnkit.commands.{module}.data_of", lambda *_, **__: data)
    graph.save(tmp_path / "graph.h5")

    def run(*arguments):
        done = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    said = run("export", tmp_path / "graph.h5", "--to", "netx", "-o", tmp_path / "x.net")
    assert "are no integers" in said["warnings"][0]
    ladder = run("verify", tmp_path / "x.net", "--against", tmp_path / "graph.h5", "--tolerance", 0.2)
    assert ladder["rungs"][1]["name"] == "input"
    simulated = simulating.simulate_on_data(tmp_path / "x.net")
    assert simulated["accuracy"] == ladder["rungs"][-1]["accuracy"]
    run("export", tmp_path / "graph.h5", "--to", "graph", "-o", tmp_path / "x.h5")
    assert run("energy", tmp_path / "x.h5", "--profile", "loihi2_scaled")["energy_pj"]["loihi2_scaled"] > 0


def test_a_soft_reset_is_refused_with_its_reason(graph, images):
    graph = Graph(dict(graph.populations), graph.projections, outputs=["out"])
    hidden = graph.populations["hidden"]
    graph.populations["hidden"] = Population(
        "hidden", "lif", hidden.shape, hidden.params, hidden.bias, {"reset": "soft"}
    )
    with pytest.raises(ExportError, match=r"'hidden': reset 'soft'.*\(hard\) only: nothing is left"):
        quantise(graph, calibration=images)
