"""What lava-dl writes: read to the same u, v and spikes as Lava's, or refused by name."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from snnkit.errors import DataError, ExportError, ShapeError, SnnkitError, TooLargeError
from snnkit.events import EventBatch
from snnkit.hardware import lava, loihi, netx
from snnkit.hardware.graded import sent
from snnkit.metadata import Units
from tests.helpers import netx_files as files
from tests.helpers.graphs import assert_same_graph

GOLDEN = Path(__file__).parent / "golden" / "netx"
RATES = (0.005, 0.02, 0.1, 0.4)
"""How often an input spikes, for as many stretches of a run."""


def spikes(size, steps=80, seed=0):
    """0 and 1 at each of `RATES` in turn, int [steps · len(RATES), size]."""
    rng = np.random.default_rng(seed)
    return np.concatenate([(rng.random((steps, size)) < rate).astype(int) for rate in RATES])


def assert_equal(graph, theirs, ours):
    names = list(ours.u)
    assert len(names) == len(theirs)
    for name, layer in zip(names, theirs, strict=True):
        for key, values in (("u", ours.u), ("v", ours.v), ("s", ours.spikes)):
            np.testing.assert_array_equal(values[name][:, 0], layer[key], err_msg=f"{key} of {name}")


@pytest.mark.parametrize("name", ["nir_docs_lava_network", "oxford_network", "trained_mnist_network"])
def test_published_networks_give_lavas_potentials_and_spikes(name, check, real_lava):
    path = files.PEERS / f"{name}.net"
    if not path.is_file():
        pytest.skip(f"{path} is not there: set SNNKIT_DATA to the folder that holds peers/netx")
    graph = netx.read(path)
    x = spikes(graph.populations["input"].size)
    ours = loihi.simulate(graph, x[:, None])
    assert all(s[:, 0].any() and not s[:, 0].all() for s in ours.spikes.values())
    assert_equal(graph, check.through_lava_dl(path, {}, x, real_lava), ours)


@pytest.mark.parametrize(
    ("kind", "reset"),
    [
        ("vectors", {}),
        ("images", {"reset_interval": 16, "reset_offset": 3}),
        ("recurrent", {"reset_interval": 16}),
    ],
    ids=list(files.KINDS),
)
def test_every_layer_of_lava_dl_gives_lavas_potentials_and_spikes(kind, reset, check, real_lava, tmp_path):
    """Input as lava-dl trains it: numbers x, of which the neurons get w · x + b."""
    path = files.make(tmp_path / "a.net", kind)
    graph = netx.read(path, **reset)
    rng = np.random.default_rng(2)
    size = graph.populations["input"].size
    x = spikes(size) * np.concatenate([rng.uniform(-2, 4, (80, size)), np.ones((240, size))])
    with h5py.File(path) as file:
        weight = float(np.reshape(file.get("layer/0/weight", 64.0), -1)[0])
    q = np.rint(abs(weight) * x.astype(np.float32).astype(np.float64)).astype(int)

    ours = loihi.simulate(graph, sent(graph, EventBatch.from_dense(x[:, None].astype(np.float32))), len(x))

    assert all(0 < ours.spikes[name].mean() < 1 for name in list(ours.u)[:-1])
    assert_equal(graph, check.through_lava_dl(path, reset, q, real_lava), ours)


def test_lavas_own_processes_run_an_input_layer_with_neurons(real_lava, tmp_path):
    """The graph that was read, through `snnkit.hardware.lava`."""
    graph = netx.read(files.make(tmp_path / "a.net", "vectors"))
    x = spikes(9, 30) * np.random.default_rng(3).integers(-40, 90, (120, 9))
    theirs, ours = lava.run(graph, x, python=real_lava), loihi.reference(graph, x[:, None])
    for name in ours.u:
        for key in ("u", "v", "spikes"):
            np.testing.assert_array_equal(getattr(theirs, key)[name], getattr(ours, key)[name])


def test_an_input_layers_neurons_add_up_weight_times_input_and_bias(tmp_path):
    """By hand: v keeps 3072/4096, and a spike above 25 · 64 resets it."""
    graph = netx.read(files.make(tmp_path / "a.net", "vectors"), num_layers=1)
    assert list(graph.populations) == ["input", "layer0"]
    assert Units.of(graph.metadata).inputs == {"input": 36.0}
    x = np.random.default_rng(4).uniform(-1, 1, (50, 9))
    v, want, fired = np.zeros(9, int), [], []
    for t in range(50):
        given = np.rint(36 * x[t]).astype(int)
        v = np.sign(v) * (abs(v) * 3072 // 4096) + 64 * given + 64 * 14
        fired.append(v > 25 * 64)
        v = np.where(fired[-1], 0, v)
        want.append(v)
    got = loihi.reference(graph, sent(graph, EventBatch.from_dense(x[:, None])), 50)
    np.testing.assert_array_equal(got.v["layer0"][:, 0], want)
    np.testing.assert_array_equal(got.spikes["layer0"][:, 0], fired)
    assert 0 < np.mean(fired) < 1


def test_large_input_values_are_not_held_at_eight_bits(tmp_path):
    graph = netx.read(files.make(tmp_path / "a.net", "vectors"))
    events = EventBatch.from_dense(np.full((1, 1, 9), 20.0, np.float32))
    assert sent(graph, events).values.tolist() == [720.0] * 9


@pytest.mark.parametrize("kind", ["recurrent", "images"])
def test_an_input_layer_with_neurons_is_written_as_one(kind, tmp_path):
    path = files.make(tmp_path / "a.net", kind)
    if kind == "images":  # what a layer has one value of
        with h5py.File(path, "r+") as file:
            for name in ("iDecay", "vThMant"):
                del file[f"layer/2/neuron/{name}"]
                file[f"layer/2/neuron/{name}"] = 100
            del file["layer/1/bias"]
            file["layer/1/bias"] = np.arange(4)
    first = netx.read(path)
    assert netx.write(first, tmp_path / "again.net") == {}
    assert_same_graph(first, netx.read(tmp_path / "again.net"))
    with h5py.File(path) as old, h5py.File(tmp_path / "again.net") as new:
        assert new["layer/0/type"][0] == b"input"
        assert int(new["layer/0/weight"][0]) == int(np.reshape(old.get("layer/0/weight", 64), -1)[0])
        assert ("bias" in old["layer/0"]) == ("bias" in new["layer/0"])


def test_a_layer_without_neurons_is_written_as_one(tmp_path):
    """lava-dl's own stand-in for its neurons has a threshold beyond the 17 bits that a file may name."""
    with h5py.File(tmp_path / "a.net", "w") as file:
        weight = files.weights(np.random.default_rng(0), 4, 6)
        files.layer(file, "dense", shape=np.array([4]), weight=weight, bias=np.arange(4))
    first = netx.read(tmp_path / "a.net")
    netx.write(first, tmp_path / "again.net")
    with h5py.File(tmp_path / "again.net") as file:
        assert "neuron" not in file["layer/1"]
    assert_same_graph(first, netx.read(tmp_path / "again.net"))


def change(path, where, value):
    """Set one field of a file, or remove it where `value` is None."""
    with h5py.File(path, "r+") as file:
        if where in file:
            del file[where]
        if value is not None:
            file[where] = value
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("SDNN", r"sigma-delta network \(SDNN\)"),
        ("ALIF", "adaptive thresholds"),
        ("RF_PHASE", "resonate-and-fire"),
        ("RF_IZHIKEVICH", "resonate-and-fire"),
        ("ADRF_IZHIKEVICH", "adaptive resonate-and-fire"),
        ("CUBA-LIF", "read are CUBA and LOIHI"),
    ],
)
@pytest.mark.parametrize("at", [0, 1])
def test_other_neurons_are_refused_by_name(kind, words, at, tmp_path):
    path = change(files.make(tmp_path / "a.net", "vectors"), f"layer/{at}/neuron/type", kind)
    with pytest.raises(ExportError, match=rf"/layer/{at}/neuron/type is '{kind}'.*{words}"):
        netx.read(path)


def test_a_sigma_delta_network_as_the_tutorials_write_it_is_refused_as_one(tmp_path):
    with h5py.File(tmp_path / "a.net", "w") as file:
        group = files.layer(file, "input", shape=np.array([3, 33, 100]))
        group["neuron/activation"], group["neuron/type"], group["neuron/vThMant"] = "relu", "SDNN", 0
    with pytest.raises(ExportError, match=r"a\.net: /layer/0/neuron/type is 'SDNN'.*\(SDNN\)"):
        netx.read(tmp_path / "a.net")


@pytest.mark.parametrize("kind", ["pool", "convT", "unpool", "average", "concat", "dense_comp", "kwta"])
def test_other_layers_are_refused_by_name(kind, tmp_path):
    path = change(files.make(tmp_path / "a.net", "vectors"), "layer/2/type", np.array([kind], "S10"))
    with pytest.raises(ExportError, match=f"/layer/2/type is '{kind}'.*num_layers=2"):
        netx.read(path)
    assert list(netx.read(path, num_layers=2).populations) == ["input", "layer0", "layer1"]


@pytest.mark.parametrize(
    ("kind", "where", "value", "words"),
    [
        ("images", "layer/1/delay", np.array([0, 0, 3, 0]), "delays of a convolution"),
        ("vectors", "layer/1/neuron/weight_exp", np.array([-2.0]), "a weight exponent of batch norm"),
        ("vectors", "layer/0/neuron/wgtExp", 1, "a weight exponent"),
        ("vectors", "layer/1/neuron/gradedSpike", True, "graded spikes"),
        ("vectors", "layer/1/neuron/refDelay", 4, "a refractory period of 3 steps"),
    ],
)
def test_what_lava_dls_reader_leaves_out_is_refused_unless_it_is_to_be(kind, where, value, words, tmp_path):
    plain = netx.read(files.make(tmp_path / "a.net", kind))
    path = change(tmp_path / "a.net", where, value)
    with pytest.raises(ExportError, match=rf"/{where} says {words}.*as_lava=True"):
        netx.read(path)
    assert_same_graph(plain, netx.read(path, as_lava=True))


def test_a_refractory_period_of_ours_comes_back(tmp_path):
    graph = netx.read(files.make(tmp_path / "a.net", "recurrent"), num_layers=3)
    population = graph.populations["layer1"]
    graph.populations["layer1"] = loihi.population(
        "layer1",
        population.shape,
        refractory=2,
        **{k: population.params[k] for k in ("du", "dv", "vth", "bias")},
    )
    netx.write(graph, tmp_path / "b.net")
    assert_same_graph(graph, netx.read(tmp_path / "b.net"))
    again = netx.read(tmp_path / "b.net", as_lava=True)
    assert "refractory" not in again.populations["layer1"].params


COMPLEX = np.zeros((8, 9), np.float32)


@pytest.mark.parametrize(
    ("where", "value", "error", "words"),
    [
        ("vectors:layer/0/shape", np.array([3, 3]), DataError, r"/layer/0/shape is \[3, 3\]; neurons"),
        ("vectors:layer/0/weight", np.ones(9), DataError, r"/layer/0/weight has shape \(9,\), must be one"),
        ("vectors:layer/0/bias", np.ones(9), DataError, r"/layer/0/bias has shape \(9,\), must be one"),
        ("vectors:layer/1/neuron/vDecay", np.ones(3, int), DataError, r"vDecay has shape \(3,\).*or \(8,\)"),
        ("vectors:layer/1/neuron/iDecay", 4097, DataError, r"iDecay holds 4097, must lie in 0\.\.4096"),
        ("vectors:layer/1/neuron/vThMant", -1, DataError, "vThMant holds -1"),
        ("vectors:layer/1/neuron/iDecay", True, DataError, "iDecay is bool, no number"),
        ("vectors:layer/1/bias", np.ones((8, 1, 1)), DataError, r"/layer/1/bias has shape \(8, 1, 1\)"),
        ("vectors:layer/1/shape", np.array([2.5]), DataError, "must be one to three positive integers"),
        ("vectors:layer/1/shape", np.array([1 << 40]), DataError, "/layer/1/shape reaches 1.09951e.12"),
        ("vectors:layer/1/shape", np.array([1 << 30]), TooLargeError, r"/layer/1/shape is \[1073741824\]"),
        ("vectors:layer/2/type", np.array(["input"], "S10"), ExportError, "is an input layer behind others"),
        ("vectors:layer/1/weight", np.full((8, 9), 1e12), DataError, "/layer/1/weight reaches 1e.12"),
        ("images:layer/1/bias", np.ones((4, 6, 7)), DataError, r"bias has shape \(4, 6, 7\).*\(7, 6, 4\)"),
        ("images:layer/1/groups", 4, ShapeError, "groups = 4, but the layer before has 2 channels"),
        ("images:layer/1/stride", np.array([1]), DataError, r"/layer/1/stride is \[1\]"),
        ("images:layer/1/stride", 0, DataError, "/layer/1/stride is 0"),
        ("images:layer/1/shape", np.array([4, 6, 8]), ShapeError, r"shape is \[4, 6, 8\].*gives \[6, 7\]"),
        ("images:layer/1/weight", np.ones((4, 9)), DataError, r"weight has shape \(4, 9\)"),
        ("recurrent:layer/2/weight_rec", np.ones((10, 9)), DataError, r"weight_rec has shape \(10, 9\)"),
        ("recurrent:layer/2/neuron/iDecay", np.array([]), DataError, "iDecay is empty"),
        ("recurrent:layer/2/delay", np.ones(10), ExportError, "/layer/2 is dense_rec with delay"),
    ],
)
def test_damage_is_named_with_its_path(where, value, error, words, tmp_path):
    kind, where = where.split(":")
    path = change(files.make(tmp_path / "a.net", kind), where, value)
    with pytest.raises(error, match=words):
        netx.read(path)


def test_complex_weights_are_refused(tmp_path):
    for kind, at in (("vectors", 1), ("images", 1)):
        path = change(files.make(tmp_path / "a.net", kind), f"layer/{at}/weight", None)
        change(path, f"layer/{at}/weight/real", COMPLEX)
        with pytest.raises(ExportError, match=f"/layer/{at}/weight is complex: resonate-and-fire"):
            netx.read(path)


@pytest.mark.parametrize("flat", [False, True])
def test_flatten_stands_between_image_and_vector_and_nowhere_else(flat, tmp_path):
    with h5py.File(tmp_path / "a.net", "w") as file:
        rng = np.random.default_rng(0)
        shape, weight = (np.array([6]), files.weights(rng, 3, 6)) if flat else (np.array([2, 1, 3]), None)
        files.neuron(files.layer(file, "input", shape=shape))
        if flat:
            files.flatten(file, 6)
        weight = files.weights(rng, 3, 6) if weight is None else weight
        files.neuron(files.layer(file, "dense", shape=np.array([3]), weight=weight))
    words = "a flatten layer but no image" if flat else "an image without a flatten layer"
    with pytest.raises(ExportError, match=f"dense layer behind {words}"):
        netx.read(tmp_path / "a.net")


def test_an_input_of_rows_is_a_vector(tmp_path):
    with h5py.File(tmp_path / "a.net", "w") as file:
        files.layer(file, "input", shape=np.array([2, 3]))
        weight = files.weights(np.random.default_rng(0), 3, 6)
        files.neuron(files.layer(file, "dense", shape=np.array([3]), weight=weight))
    assert netx.read(tmp_path / "a.net").populations["input"].shape == (6,)


def damaged(value):
    """Other values that could stand in a dataset's place."""
    value = np.asarray(value)
    yield from (np.array([]), b"text", np.array([b"a", b"b"]), np.zeros((2, 0, 3)), h5py.Empty("f"), 1j)
    yield from (np.nan, np.inf, -1, 0, 2**62, 1e300, True, np.ones(3, int), np.ones((2, 2, 2, 2, 2, 2)))
    if value.dtype.kind in "iuf":
        yield from (
            value.astype(np.float64) + 0.25,
            value[..., None],
            np.concatenate([value.reshape(-1)] * 2),
        )
        yield value.reshape(-1)[:-1]


@pytest.mark.parametrize("source", [*files.KINDS, "n1_dense_delay"])
def test_no_damage_of_one_field_gives_a_raw_error(source, tmp_path):
    """Each dataset and group is removed, made a group, and given some other types, shapes and values."""
    path = tmp_path / "a.net"
    if source in files.KINDS:
        files.make(path, source)
    else:
        path.write_bytes((GOLDEN / f"{source}.net").read_bytes())
    whole, refused = path.read_bytes(), 0
    with h5py.File(path) as file:
        names, values = [], {}
        file["layer"].visititems(lambda n, o: names.append(f"layer/{n}"))
        values = {n: file[n][()] for n in names if isinstance(file[n], h5py.Dataset)}

    def spoil(name, put):
        """What `netx.read` says of the file; None where it reads it."""
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            del file[name]
            put(file)
        try:
            netx.read(path)
        except SnnkitError as error:
            return str(error)
        return None

    for i, name in enumerate(names):
        others = [h5py.SoftLink("/nowhere"), 5, *damaged(values.get(name, 0))][i % 6 :: 6]
        said = [spoil(name, lambda file: None), spoil(name, lambda file, n=name: file.create_group(n))]
        said += [spoil(name, lambda file, n=name, o=other: file.__setitem__(n, o)) for other in others]
        refused += len(said) - said.count(None)
        assert all(str(path) in words for words in said if words is not None)
    assert refused > 2 * len(values)
