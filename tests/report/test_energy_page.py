"""The energy report: complete, self-contained, and safe with odd names and silent networks."""

import re
from base64 import b64decode

import numpy as np
import pytest

from snnkit.energy import available, estimate, tune
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.report import energy_page, tune_page

LIF = {"decay": 0.8, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}


NAME = "<b>hidden & co"


@pytest.fixture
def graph_and_events():
    rng = np.random.default_rng(0)
    graph = Graph(
        {"in": Population("in", "input", (12,)), NAME: Population(NAME, "lif", (9,), LIF)},
        [Projection("p", "in", NAME, rng.normal(0.3, 0.5, (9, 12)), rng.integers(0, 5, (9, 12)))],
    )
    x = (rng.random((15, 3, 12)) < 0.3).astype(np.float32)
    return graph.validate(), EventBatch.from_dense(x)


def test_the_page_holds_everything_and_fetches_nothing(graph_and_events, tmp_path):
    e = estimate(*graph_and_events, "all")
    energy_page(e, tmp_path / "energy.html", "Spoken <digits>")
    page = (tmp_path / "energy.html").read_text()
    for name in available():
        assert name in page
        for constant in e.prices[name].profile.constants.values():
            assert str(constant.year) in page
    assert "Horowitz, ISSCC 2014" in page
    assert "<b>hidden" not in page
    assert "&lt;b&gt;hidden &amp; co" in page
    assert "Spoken &lt;digits&gt;" in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
    assert "url(" not in page
    assert "<script" not in page
    pictures = [b64decode(data).decode() for data in re.findall(r"svg\+xml;base64,([^\"]+)", page)]
    assert len(pictures) > 2 * len(e.prices)
    assert all(p.rstrip().endswith("</svg>") for p in pictures)


def test_the_same_estimate_gives_the_same_page(graph_and_events, tmp_path):
    for name in ("a", "b"):
        energy_page(estimate(*graph_and_events, ["cmos45", "loihi1_sanafe"]), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("profile", [["lemaire45", "gpu"], "loihi1_sanafe", "cmos45"], ids=str)
def test_a_silent_network_has_a_page(graph_and_events, tmp_path, profile):
    graph, batch = graph_and_events
    silent = EventBatch([], [], [0, 0], [15], batch.size)
    energy_page(estimate(graph, silent, profile), tmp_path / "energy.html")
    assert "not known (no spikes)" in (tmp_path / "energy.html").read_text()


def test_without_delays_nothing_is_said_of_them(graph_and_events, tmp_path):
    graph, batch = graph_and_events
    energy_page(estimate(graph, batch, "lemaire45"), tmp_path / "with.html")
    graph.projections[0].delay = np.zeros((), int)
    energy_page(estimate(graph, batch, "lemaire45"), tmp_path / "without.html")
    assert "<h2>Delays</h2>" in (tmp_path / "with.html").read_text()
    assert "<h2>Delays</h2>" not in (tmp_path / "without.html").read_text()


def test_the_search_has_a_page(tmp_path):
    pytest.importorskip("optuna")
    study = tune(
        lambda p: {"accuracy": p["a"] / 10, "energy_pj": 1e4 * p["a"], "latency_us": 5.0},
        {"a": [1, 2, 3]},
        trials=9,
    )
    tune_page(study, tmp_path / "tune.html")
    page = (tmp_path / "tune.html").read_text()
    assert "30.0 nJ" in page
    assert "svg+xml" in page
