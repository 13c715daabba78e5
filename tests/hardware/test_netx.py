"""NetX files: Lava's reader's rules, written and read."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from snnkit.errors import DataError, ExportError, ShapeError
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.hardware import loihi, netx
from snnkit.hardware.quantise import quantise
from tests.helpers import networks
from tests.helpers.graphs import assert_same_graph

GOLDEN = Path(__file__).parent / "golden" / "netx"


def chain(weight, delay=1, *, recurrent=None, bias=0, kind="dense", shape=None, source=None, **options):
    """input → one population "n" through the given weights."""
    weight = np.asarray(weight)
    n_out, n_in = (weight.shape[0], weight.shape[1]) if shape is None else (shape, source)
    graph = Graph({"in": Population("in", INPUT, n_in)}, [])
    graph.populations["n"] = loihi.population("n", n_out, du=100, dv=200, vth=300, bias=bias)
    graph.projections.append(Projection("p", "in", "n", weight, np.asarray(delay), kind, options=options))
    if recurrent is not None:
        graph.projections.append(Projection("r", "n", "n", np.asarray(recurrent), np.array(1)))
    return graph


def test_what_is_written_is_read_back_whole(tmp_path):
    """Names, dt, metadata and the clocked reset of a quantised network with biases."""
    graph = quantise(networks.network(), calibration=networks.spikes())
    arguments = netx.write(graph, tmp_path / "a.net")
    assert arguments == {"reset_interval": 1 << 30, "reset_offset": 1}
    assert_same_graph(graph, netx.read(tmp_path / "a.net"))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.net")), ids=lambda p: p.stem)
def test_a_file_of_lavas_form_survives_the_round_trip(path, tmp_path):
    first = netx.read(path)
    netx.write(first, tmp_path / "again.net")
    assert_same_graph(first, netx.read(tmp_path / "again.net"))
    with h5py.File(path) as old, h5py.File(tmp_path / "again.net") as new:
        assert list(old["layer"]) == list(new["layer"])
        for key in old["layer"]:
            for name in ("type", "shape", "weight", "weight_rec", "bias", "delay", "stride", "groups"):
                assert (name in old["layer"][key]) == (name in new["layer"][key])
                if name in old["layer"][key]:
                    np.testing.assert_array_equal(old["layer"][key][name][()], new["layer"][key][name][()])


def test_the_layout_is_what_the_reader_of_lava_dl_asks_for(tmp_path):
    graph = chain([[1, -2, 3], [4, 5, -6]], [[1, 2, 3], [4, 5, 63]], bias=np.array([64, -128]))
    netx.write(graph, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert sorted(file["layer"]) == ["0", "1"]
        assert file["layer/0/type"][()].tolist() == [b"input"]
        assert file["layer/0/type"].dtype == "S10"
        assert "neuron" not in file["layer/0"]
        layer = file["layer/1"]
        assert layer["weight"][()].tolist() == [[1, -2, 3], [4, 5, -6]]
        assert layer["delay"][()].tolist() == [[0, 1, 2], [3, 4, 62]]
        assert layer["bias"][()].tolist() == [1, -2]
        neuron = layer["neuron"]
        assert neuron["type"][()] == b"CUBA"
        assert neuron["type"].shape == ()
        assert "messageBits" not in neuron
        for key, value in {"iDecay": 101, "vDecay": 200, "vThMant": 300, "refDelay": 1}.items():
            assert neuron[key].dtype.kind == "i"
            assert neuron[key].shape == ()
            assert neuron[key][()] == value
        assert not file.attrs
        assert not layer.attrs


@pytest.mark.parametrize(
    ("weight", "acting"),
    [
        ([[-128, -128]], [[0, 0]]),
        ([[-128, -1]], [[-127, -1]]),
        ([[-64, 0]], [[-32, 0]]),
        ([[-255, 0]], [[0, 0]]),
        ([[255, -1]], [[254, -1]]),
    ],
)
def test_matrices_that_lava_dl_garbles_are_refused_and_named(weight, acting, tmp_path):
    """The five cases that were seen to go wrong in the real reader."""
    with pytest.raises(ExportError, match=r"layer 'n'"):
        netx.write(chain(weight), tmp_path / "a.net")
    [(got, shift)] = netx.packed_weights(np.array(weight))
    np.testing.assert_array_equal(got, np.array(acting) << shift)


@pytest.mark.parametrize(("low", "high"), [(-128, 127), (0, 255), (-127, 127), (-5, 90)])
def test_safe_weights_act_as_they_are(low, high):
    r = np.random.default_rng(0)
    for _ in range(300):
        weight = r.integers(low, high + 1, tuple(r.integers(1, 6, 2)))
        if low < 0 and not (weight.min() < 0 < weight.max()):
            continue
        if weight.any():
            [(acting, shift)] = netx.packed_weights(weight)
            np.testing.assert_array_equal(acting, weight << shift)
            assert shift == 0


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (chain([[0, 0]]), r"layer 'n'.*all weights are 0"),
        (chain([[300, -300]]), r"layer 'n'.*300"),
        (
            chain([[1, -1]], [[1, 64]]),
            r"layer 'n': delay 63 at \[0, 1\].*62.*1 of 2.*--clip-delays \(long_delays='clip'\)",
        ),
        (chain([[1, -1]], bias=65), r"bias 65 is no multiple of 64"),
        (chain([[1, -1]], bias=64 * 4096), r"bias 4096 is beyond the chip's 13 bits"),
        (chain([[1, -1], [1, 2]], [[1, 2], [3, 4]], recurrent=[[1, -1], [1, 1]]), r"recurrence with delays"),
        (chain([[2, -2]], shift=1), r"shift = 1; divide its weights by 2"),
        (chain([[1, -1]], shift=1), r"weight exponent of −1"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(graph, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        netx.write(graph, tmp_path / "a.net")
    assert not (tmp_path / "a.net").exists()


def test_neurons_the_format_cannot_hold_are_refused(tmp_path):
    def refuses(message, **changes):
        graph = chain([[1, -1], [1, 2]])
        graph.populations["n"] = replace(graph.populations["n"], **changes)
        with pytest.raises(ExportError, match=message):
            netx.write(graph, tmp_path / "a.net")

    params = chain([[1, -1]]).populations["n"].params
    refuses(r"vth is 131072; the chip has 17 bits", params=params | {"vth": np.array(131072)})
    refuses(r"du differs between neurons \(1..2\)", params=params | {"du": np.array([1, 2])})
    refuses(r"dv is 5000", params=params | {"dv": np.array(5000)})
    refuses(r"starts from \['u'\]", initial={"u": np.array(5)})


def test_branches_loops_and_strangers_are_refused(tmp_path):
    graph = chain([[1, -1]])
    graph.populations["m"] = loihi.population("m", 1, du=0, dv=0, vth=9)
    with pytest.raises(ExportError, match=r"\['m'\] are not on the chain"):
        netx.write(graph, tmp_path / "a.net")
    graph.projections.append(Projection("q", "in", "m", np.array([[1, -1]]), np.array(1)))
    with pytest.raises(ExportError, match=r"'in' feeds \['n', 'm'\].*lava.build"):
        netx.write(graph, tmp_path / "a.net")


def convolution(delay=1, bias=0):
    r = np.random.default_rng(0)
    graph = Graph({"in": Population("in", INPUT, (2, 5, 6))}, [])
    graph.populations["c"] = loihi.population("c", (4, 3, 3), du=4095, dv=100, vth=60, bias=bias)
    options = {"stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "groups": 2}
    weight = r.integers(-90, 90, (4, 1, 3, 3))
    graph.projections.append(Projection("p", "in", "c", weight, np.array(delay), "conv", options=options))
    graph.populations["d"] = loihi.population("d", 3, du=0, dv=100, vth=60)
    graph.projections.append(Projection("q", "c", "d", r.integers(-90, 90, (3, 36)), np.array(1)))
    return graph


def test_a_delayed_convolution_is_refused_or_unrolled(tmp_path):
    graph = convolution(delay=4, bias=64 * np.arange(4).reshape(4, 1, 1))
    with pytest.raises(ExportError, match=r"layer 'c': a convolution with delays \(up to 3\).*unroll"):
        netx.write(graph, tmp_path / "a.net")
    netx.write(graph, tmp_path / "a.net", unroll=True)
    again = netx.read(tmp_path / "a.net")
    x = np.random.default_rng(1).random((40, 2, 60)) < 0.2
    want, got = loihi.reference(graph, x.astype(int)), loihi.reference(again, x.astype(int))
    assert want.spikes["d"].any()
    np.testing.assert_array_equal(got.v["c"], want.v["c"])
    np.testing.assert_array_equal(got.u["d"], want.u["d"])


def test_a_convolution_behind_a_vector_is_refused_unless_it_is_unrolled(tmp_path):
    graph = Graph({"in": Population("in", INPUT, 5)}, [])
    graph.populations["a"] = loihi.population("a", (2, 3, 3), du=4095, dv=100, vth=60)
    graph.populations["c"] = loihi.population("c", (1, 1, 1), du=4095, dv=100, vth=60)
    r = np.random.default_rng(0)
    graph.projections.append(Projection("p", "in", "a", r.integers(-90, 90, (18, 5)), np.array(1)))
    graph.projections.append(
        Projection("q", "a", "c", r.integers(-90, 90, (1, 2, 3, 3)), np.array(1), "conv")
    )
    with pytest.raises(
        ExportError, match=r"layer 'c': a convolution behind a dense layer.*\(18,\).*--unroll"
    ):
        netx.write(graph, tmp_path / "a.net")
    netx.write(graph, tmp_path / "a.net", unroll=True)
    assert [p.kind for p in netx.read(tmp_path / "a.net").projections] == ["dense", "dense"]


def test_what_makes_no_file_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"nothing is fed by 'in'"):
        netx.write(Graph({"in": Population("in", INPUT, 5)}, []), tmp_path / "a.net")
    graph = chain([[1]], shape=20000, source=20000)
    graph.projections[0] = Projection("p", "in", "n", np.arange(20000) % 90, np.array(1), "one_to_one")
    with pytest.raises(
        ExportError, match=r"projection 'p' is one_to_one; as the dense matrix.*20000 · 20000"
    ):
        netx.write(graph, tmp_path / "a.net")


@pytest.mark.parametrize(
    "notes", ["[1]", "nonsense", '{"kwargs": {"reset_interval": "x"}}', '{"kwargs": 5}', "{}x"]
)
def test_damaged_notes_are_named(notes, tmp_path):
    path = damage(tmp_path / "a.net", lambda file: file.__setitem__("snnkit", notes))
    with pytest.raises(DataError, match=r"a\.net: /snnkit is damaged"):
        netx.read(path)


def test_a_convolution_needs_one_bias_a_channel(tmp_path):
    with pytest.raises(ExportError, match=r"layer 'c': bias differs within a channel"):
        netx.write(convolution(bias=64 * np.arange(36).reshape(4, 3, 3)), tmp_path / "a.net")


def test_a_refractory_period_is_marked(tmp_path):
    graph = chain([[1, -1]])
    graph.populations["n"] = loihi.population("n", 1, du=0, dv=0, vth=9, refractory=2)
    netx.write(graph, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert file["layer/1/neuron/refDelay"][()] == 3
        assert "n: refractory period (no fixed-point model in lava-nc)" in file["snnkit"][()].decode()


def damage(path, change):
    with h5py.File(GOLDEN / "n1_dense_delay.net") as old, h5py.File(path, "w") as new:
        for key in old:
            old.copy(key, new)
        change(new)
    return path


def put(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def remove(name):
    def change(file):
        del file[name]

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (remove("layer"), DataError, "/layer is missing"),
        (remove("layer/1"), DataError, "/layer/1 is missing; layers must be numbered 0..2"),
        (remove("layer/2/weight"), DataError, "/layer/2/weight is missing"),
        (remove("layer/2/type"), DataError, "/layer/2/type is missing"),
        (remove("layer/2/neuron/vDecay"), DataError, "/layer/2/neuron/vDecay is missing"),
        (put("layer/2/neuron/vDecay", 1.5), DataError, r"/layer/2/neuron/vDecay is 1.5"),
        (put("layer/2/neuron/type", b"CUBA-LIF"), ExportError, "/layer/2/neuron/type is 'CUBA-LIF'"),
        (put("layer/2/type", np.array([b"pool"], "S10")), ExportError, "/layer/2/type is 'pool'"),
        (put("layer/2/shape", 12.5), DataError, "/layer/2/shape"),
        (put("layer/2/weight", np.full((12, 18), np.nan)), DataError, "/layer/2/weight holds NaN"),
        (put("layer/2/weight", np.ones((12, 17))), ShapeError, r"\(12, 17\), but the layer before has 18"),
        (put("layer/2/weight", np.zeros((12, 18))), ExportError, "all weights are 0"),
        (put("layer/2/delay", np.full((12, 18), 63)), ExportError, "/layer/2/delay reaches 63"),
        (put("layer/2/delay", np.full((12, 18), -1)), DataError, "/layer/2/delay holds -1"),
        (put("layer/2/delay", np.ones((3, 3), int)), DataError, r"/layer/2/delay has shape \(3, 3\)"),
        (put("layer/1/bias", np.ones(3, int)), DataError, r"/layer/1/bias has shape \(3,\)"),
    ],
)
def test_a_damaged_file_is_named_with_its_path(change, error, message, tmp_path):
    with pytest.raises(error, match=message):
        netx.read(damage(tmp_path / "bad.net", change))


def test_a_file_that_is_no_hdf5_is_named(tmp_path):
    (tmp_path / "a.net").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(DataError, match=r"a\.net is no readable HDF5"):
        netx.read(tmp_path / "a.net")


def test_delays_of_one_value_a_neuron_are_spread_as_lava_dl_spreads_them(tmp_path):
    weight = np.array([[1, -2, 3], [4, 5, -6]])
    for delay, want in ((np.array([3, 9]), [[4] * 3, [10] * 3]), (np.array([1, 2, 3]), [[2, 3, 4]] * 2)):
        path = damage(
            tmp_path / f"{len(delay)}.net",
            lambda f, d=delay: (
                put("layer/1/weight", weight)(f),
                put("layer/1/delay", d)(f),
                put("layer/1/shape", np.array([2]))(f),
                put("layer/0/shape", np.array([3]))(f),
                put("layer/1/bias", np.zeros(2))(f),
            ),
        )
        graph = netx.read(path, num_layers=2)
        assert graph.projections[0].delays.tolist() == want


def test_several_synapses_of_one_pair_are_refused_and_few_synapses_are_not(tmp_path):
    graph = chain(np.ones((1, 1)), shape=6, source=6)
    graph.projections[0] = Projection(
        "p", "in", "n", np.arange(1, 8), np.array(1), "sparse", np.array([0, 2, 3, 4, 5, 6, 7]),
        np.array([0, 0, 1, 2, 3, 4, 5]),
    )  # fmt: skip
    with pytest.raises(ExportError, match=r"projection 'p' joins a pair of neurons twice"):
        netx.write(graph, tmp_path / "a.net")
    graph = chain(np.ones((1, 1)), shape=2, source=2)
    graph.projections[0] = Projection("p", "in", "n", np.array([3, -4]), np.array(1), "one_to_one")
    netx.write(graph, tmp_path / "a.net")
    assert netx.read(tmp_path / "a.net").projections[0].weight.tolist() == [[3, 0], [0, -4]]
