"""Runs written to a file, runs that are interrupted, the bar that shows them."""

import os
import signal
import threading
import time

import h5py
import numpy as np
import pytest

from snnkit.engine import EventFile, Poisson, Record, load_result, simulate
from snnkit.engine.progress import Meter
from snnkit.engine.recording import File
from snnkit.errors import DataError, ParameterError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from tests.helpers.engine_graphs import events, random_graph


@pytest.mark.parametrize("piece", [1, 500, 1 << 22])
def test_a_file_holds_what_memory_would(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(File, "PIECE", piece)
    graph = random_graph(2)
    batch = events(np.random.default_rng(2), 5, [300], values=True)
    record = [("a", "v"), Record("b", "rate", every=8), ("b", "x", [2])]
    want = simulate(graph, batch, record=record, spikes=["in", "a", "b"])

    given = simulate(graph, batch, record=record, spikes=["in", "a", "b"], out=tmp_path / "run.h5")

    got = load_result(tmp_path / "run.h5")
    assert want.spikes["b"].times.size > 10
    for name, spikes in want.spikes.items():
        np.testing.assert_array_equal(got.spikes[name].times, spikes.times)
        np.testing.assert_array_equal(got.spikes[name].to_dense(), spikes.to_dense())
        assert got.spikes[name].size == spikes.size
    for key, rows in want.recorded.items():
        np.testing.assert_array_equal(got.recorded[key], rows)
    assert given.counts == want.counts
    assert got.complete
    assert got.steps == want.steps
    again = simulate(graph, EventFile(tmp_path / "run.h5", "spikes/in"), 300)
    np.testing.assert_array_equal(again.spikes["b"].times, want.spikes["b"].times)


def test_silence_leaves_a_file_that_can_be_read(tmp_path):
    graph = random_graph(2)
    for population in graph.populations.values():
        population.bias = np.zeros(())
    simulate(graph, None, 5, out=tmp_path / "run.h5")
    assert load_result(tmp_path / "run.h5").spikes["b"].times.size == 0


def test_only_a_run_of_one_sample_goes_to_a_file(tmp_path):
    batch = events(np.random.default_rng(2), 5, [3, 3])
    with pytest.raises(ParameterError, match="runs of one sample"):
        simulate(random_graph(2), batch, out=tmp_path / "run.h5")
    assert not list(tmp_path.iterdir())


def test_another_file_is_no_run(tmp_path):
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(DataError, match="holds no run"):
        load_result(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs.update(format="snnkit-run", version=99)
    with pytest.raises(DataError, match="run format version 99"):
        load_result(tmp_path / "a.h5")


@pytest.mark.parametrize("to_file", [False, True])
def test_ctrl_c_returns_what_was_recorded_so_far(tmp_path, to_file):
    graph = random_graph(2)
    simulate(graph, Poisson(300.0), 10)  # compiled before the clock runs

    def interrupt():
        while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            time.sleep(0.01)  # the run has not begun
        time.sleep(0.4)
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=interrupt)
    pressing.start()
    out = tmp_path / "run.h5" if to_file else None
    result = simulate(graph, Poisson(300.0), 10**9, record=[Record("a", "v", [0], every=100)], out=out)
    pressing.join()
    assert not result.complete
    if to_file:
        result = load_result(out)
        assert not result.complete
    steps = int(result.steps[0])
    assert 0 < steps < 10**9
    assert len(result.recorded["a", "v"]) == -(-steps // 100)
    assert result.spikes["a"].times.max() < steps
    want = simulate(graph, Poisson(300.0), steps)
    np.testing.assert_array_equal(result.spikes["a"].times, want.spikes["a"].times)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_bar_appears_only_once_a_run_takes_long(monkeypatch):
    shown = []
    meter = Meter
    monkeypatch.setattr(meter, "_show", lambda self, steps: shown.append(steps))
    graph = random_graph(2)
    simulate(graph, Poisson(300.0), 3000)
    assert not shown
    monkeypatch.setattr(meter, "AFTER", 0.0)
    simulate(graph, Poisson(300.0), 3000)
    assert shown == sorted(shown)
    assert shown[-1] > 1000
    shown.clear()
    simulate(graph, Poisson(300.0), 3000, progress=False)
    assert not shown


def test_the_bar_counts_steps(capsys, monkeypatch):
    meter = Meter(100, True)
    with meter:
        meter._show(40)
        assert meter.bar.tasks[0].percentage == 40
    assert "simulating" not in capsys.readouterr().out


def tabled(record, **options):
    """What is recorded of 6 neurons whose potentials are 1 … 6 times one number, steps [3, 1, n]."""
    graph = Graph(
        {
            "i": Population("i", "input", (6,)),
            "o": Population("o", "li", (2, 3), {"decay": np.ones(()), "gain": np.ones(())}),
        },
        [Projection("p", "i", "o", np.diag(np.arange(1.0, 7.0)))],
        outputs=["o"],
    ).validate()
    ones = EventBatch.from_dense(np.ones((3, 1, 6)))
    return simulate(graph, ones, 3, record=record, dtype="float64", **options).recorded["o", "v"]


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize(
    ("record", "neurons"),
    [
        ([("o", "v", np.array([False, True, False, False, True, False]))], [1, 4]),
        ([("o", "v", np.array([[False, True, False], [False, True, False]]))], [1, 4]),
        ([("o", "v", [False] * 5 + [True])], [5]),
        ([("o", "v", np.zeros(6, bool))], []),
        ([("o", "v", [1]), ("o", "v", [2])], [1, 2]),
        ([("o", "v", [4, 1]), ("o", "v", [1, 0])], [4, 1, 0]),
        ([("o", "v", [4]), "v"], [0, 1, 2, 3, 4, 5]),
        (["v", ("o", "v", [4])], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_what_was_asked_for_is_recorded(record, neurons, backend):
    want = np.arange(1.0, 4.0)[:, None] * (np.array(neurons, float) + 1)
    np.testing.assert_array_equal(tabled(record, backend=backend)[:, 0], want)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([("o", "v", [True, False])], r"mask of shape \(2,\).*shape \(6,\) or \(2, 3\)"),
        ([("o", "v", [0.5])], "whole numbers or a boolean mask, got float64"),
        ([("o", "v", [[0, 1]])], "must be a list of whole numbers"),
        ([("o", "v", [-1])], r"must lie in 0\.\.5, got -1"),
        ([("o", "v", [1]), Record("o", "v", [2], every=2)], "asked for twice, with every=1 and every=2"),
    ],
)
def test_a_record_that_can_be_read_two_ways_is_refused(record, message):
    with pytest.raises(ParameterError, match=message):
        tabled(record)
