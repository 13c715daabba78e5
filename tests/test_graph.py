"""A Graph survives its file, and a wrong one is refused with the place named."""

import contextlib

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snnkit.errors import DataError, GraphError
from snnkit.graph import Graph, Population, Projection
from tests.helpers.graphs import assert_same_graph


def small(**changes):
    """Two inputs, three hidden, one output, with a recurrent projection."""
    rng = np.random.default_rng(0)
    populations = {
        "in": Population("in", "input", 2),
        "h": Population("h", "lif", 3, {"decay": rng.random(3), "v_th": 1.0}, np.arange(3.0)),
        "out": Population("out", "li", 1, {"decay": 0.5}, initial={"v": 0.25}),
    }
    projections = [
        Projection("a", "in", "h", rng.normal(size=(3, 2)), rng.integers(0, 5, (3, 2))),
        Projection("r", "h", "h", rng.normal(size=(3, 3)), np.array(1)),
        Projection("b", "h", "out", rng.normal(size=(1, 3))),
    ]
    graph = Graph(populations, projections, 10.0, ["out"], {"classes": ["x"], "readout": "mean"})
    for path, value in changes.items():
        part, index, name = path.split("__")
        owner = graph.populations[index] if part == "pop" else graph.projections[int(index)]
        setattr(owner, name, value)
    return graph


def test_load_of_save_is_the_same_graph(tmp_path):
    graph = small()
    graph.save(tmp_path / "net.h5")
    assert_same_graph(graph, Graph.load(tmp_path / "net.h5"), exact=True)


@given(n_in=st.integers(1, 4), n_out=st.integers(1, 4), data=st.data())
def test_any_sparse_graph_survives_its_file(tmp_path_factory, n_in, n_out, data):
    counts = data.draw(st.lists(st.integers(0, n_out), min_size=n_in, max_size=n_in))
    rng = np.random.default_rng(sum(counts))
    indices = np.concatenate([np.arange(c) for c in counts]).astype(np.int32)
    sparse = Projection(
        "s", "in", "h", rng.normal(size=len(indices)).astype(np.float32), rng.integers(0, 9, len(indices)),
        "sparse", np.concatenate([[0], np.cumsum(counts)]), indices,
    )  # fmt: skip
    graph = Graph({"in": Population("in", "input", n_in), "h": Population("h", "li", n_out)}, [sparse])
    path = tmp_path_factory.mktemp("graphs") / "net.h5"
    graph.save(path)
    assert_same_graph(graph, Graph.load(path), exact=True)


def test_inputs_come_first_even_behind_delays():
    h, source = Population("h", "lif", 1), Population("in", "input", 1)
    graph = Graph({"h": h, "in": source}, [Projection("p", "in", "h", np.ones((1, 1)), np.array(2))])
    assert graph.order() == ["in", "h"]


def test_order_puts_sources_first_and_lets_delayed_loops_be():
    graph = small()
    graph.populations = dict(reversed(graph.populations.items()))
    assert graph.order() == ["in", "h", "out"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proj__0__weight": np.ones((2, 3))}, r"'a' \(in→h\): weight is \(2, 3\), expected \(3, 2\)"),
        ({"proj__0__weight": np.array([[1, 2], [3, np.nan], [5, 6]])}, r"weight is nan at \[1, 1\]"),
        ({"proj__0__delay": np.full((3, 2), 1.5)}, "must be integer steps"),
        ({"proj__0__delay": np.array([[0, 0], [0, -3], [0, 0]])}, r"delay -3 at \[1, 1\] is negative"),
        ({"proj__0__delay": np.zeros(7, int)}, "does not broadcast"),
        ({"proj__1__delay": np.array(0)}, "loop of projections with delay 0"),
        ({"proj__2__target": "nowhere"}, "there is no population 'nowhere'"),
        ({"proj__2__target": "in"}, "takes no synapses"),
        ({"proj__2__kind": "magic"}, "kind 'magic' is none of"),
        ({"proj__2__name": "a"}, "two projections are named 'a'"),
        ({"pop__h__params": {"decay": np.array([1.0, np.inf, 0.0])}}, r"decay is inf at \[1\]"),
        ({"pop__h__bias": np.zeros(4)}, "bias has shape"),
        ({"pop__h__bias": np.zeros(3, complex)}, "bias has dtype complex128"),
        ({"proj__0__weight": np.full((3, 2), "x")}, "weight has dtype"),
        ({"pop__h__options": [1]}, "options are a list"),
        ({"pop__h__shape": (0,)}, "at least one neuron"),
    ],
)
def test_a_wrong_graph_is_refused_with_the_place_named(changes, message):
    with pytest.raises(GraphError, match=message):
        small(**changes).validate()


def test_conv_shapes_are_checked():
    populations = {"in": Population("in", "input", (2, 6, 8)), "h": Population("h", "lif", (4, 3, 4))}
    conv = Projection("c", "in", "h", np.ones((4, 2, 3, 3)), kind="conv", options={"stride": 2, "padding": 1})
    Graph(populations, [conv]).validate()
    conv.options["stride"] = [1, 2]
    with pytest.raises(GraphError, match=r"target shape is \(4, 3, 4\), expected \(4, 6, 4\)"):
        Graph(populations, [conv]).validate()


@pytest.mark.parametrize("options", [{"stride": 0}, {"groups": 0}, {"padding": -1}, {"dilation": [1, 0]}])
def test_impossible_convolutions_are_refused(options):
    populations = {"in": Population("in", "input", (2, 6, 8)), "h": Population("h", "lif", (4, 3, 4))}
    conv = Projection("c", "in", "h", np.ones((4, 2, 3, 3)), kind="conv", options=options)
    with pytest.raises(GraphError, match="at least"):
        Graph(populations, [conv]).validate()


class TestFiles:
    @given(st.data())
    def test_no_corruption_of_a_file_is_more_than_a_named_error(self, tmp_path_factory, data):
        path = tmp_path_factory.mktemp("corrupt") / "net.h5"
        small().save(path)
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(raw)
        with contextlib.suppress(DataError, GraphError):
            Graph.load(path)

    def test_a_failed_save_leaves_what_was_there(self, tmp_path):
        path = tmp_path / "net.h5"
        small().save(path)
        before = path.read_bytes()
        bad = small()
        bad.metadata["x"] = object()
        with pytest.raises(TypeError):
            bad.save(path)
        assert path.read_bytes() == before
        assert [f.name for f in tmp_path.iterdir()] == ["net.h5"]

    @pytest.mark.parametrize("keep", [0, 100, 2000])
    def test_a_truncated_file_is_named(self, tmp_path, keep):
        path = tmp_path / "net.h5"
        small().save(path)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match=r"net\.h5 is no readable HDF5"):
            Graph.load(path)

    def test_missing_foreign_newer_and_incomplete_files_are_told_apart(self, tmp_path):
        path = tmp_path / "net.h5"
        with pytest.raises(DataError, match="does not exist"):
            Graph.load(path)
        with h5py.File(path, "w") as file:
            file["x"] = 1
        with pytest.raises(DataError, match="no snnkit graph"):
            Graph.load(path)
        small().save(path)
        with h5py.File(path, "a") as file:
            del file["projections/a/weight"]
        with pytest.raises(DataError, match=r"damaged snnkit graph.*weight"):
            Graph.load(path)
        for attribute, value in (
            ("dt", "fast"),
            ("outputs", "3"),
            ("metadata", "[1]"),
            ("version", "abc"),
            ("dt", np.inf),
        ):
            small().save(path)
            with h5py.File(path, "a") as file:
                file.attrs[attribute] = value
            with pytest.raises((DataError, GraphError)):
                Graph.load(path)
        small().save(path)
        with h5py.File(path, "a") as file:
            file.attrs["version"] = 99
        with pytest.raises(DataError, match="format version 99"):
            Graph.load(path)
