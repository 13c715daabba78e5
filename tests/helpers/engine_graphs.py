"""Small random networks of every kind, with numbers that floating point adds without rounding."""

import numpy as np

from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection, conv_output_shape
from snnkit.neurons.neuron import NEURONS as KNOWN
from snnkit.neurons.neuron import Neuron, register

NEURONS = {
    "lif": {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0},
    "if": {"decay": 1.0, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0},
    "li": {"decay": 0.75, "gain": 0.25},
    "cuba": {"decay_syn": 0.5, "decay_mem": 0.75, "v_th": 1.0, "v_reset": 0.0},
}


def eighths(rng, shape, low=-8, high=13):
    """Weights that are multiples of 1/8: sums of them are exact in float32, in any order."""
    return rng.integers(low, high, shape) / 8


def projection(rng, name, source, target, kind, least=0, longest=6, shared_delay=False):
    n_in, n_out = source.size, target.size
    extra = {}
    if kind == "dense":
        weight = eighths(rng, (n_out, n_in))
    elif kind == "one_to_one":
        weight = eighths(rng, n_in)
    else:
        fan = rng.integers(0, n_out + 1, n_in)
        weight = eighths(rng, fan.sum())
        extra = {
            "indptr": np.concatenate([[0], np.cumsum(fan)]),
            "indices": rng.integers(0, n_out, fan.sum()),  # some pairs have several synapses
        }
    delay = rng.integers(least, longest + 1, () if shared_delay else weight.shape)
    return Projection(name, source.name, target.name, weight, delay, kind, **extra)


def events(rng, size, lengths, rate=0.3, values=False):
    steps = max(lengths)
    x = (rng.random((steps, len(lengths), size)) < rate).astype(float)
    if values:
        x *= rng.integers(1, 4, x.shape)
    return EventBatch.from_dense(x, np.asarray(lengths))


def random_graph(seed, neuron="lif", options=None, sizes=(5, 7, 4)):
    """input → a ⇄ b, a ↺: dense, sparse and one-to-one projections with delays."""
    rng = np.random.default_rng(seed)
    params = NEURONS[neuron]
    options = options or {}
    if options.get("refractory"):
        params = params | {"refractory": 2.0}
    if options.get("floor"):
        params = params | {"v_min": -0.5}
    n_in, n_a, n_b = sizes
    inp = Population("in", "input", (n_in,))
    a = Population("a", neuron, (n_a,), params, np.float64(rng.integers(0, 3) / 8), options)
    b = Population("b", neuron, (n_b,), params, eighths(rng, n_b, -1, 2), options)
    kinds = ["dense", "sparse"]
    links = [
        projection(rng, "in→a", inp, a, kinds[rng.integers(2)], shared_delay=bool(rng.integers(2))),
        projection(rng, "in→b", inp, b, "dense", longest=int(rng.integers(0, 9))),
        projection(rng, "a→b", a, b, "sparse"),
        projection(rng, "a→b again", a, b, "dense", shared_delay=True),
        projection(rng, "b→a", b, a, kinds[rng.integers(2)], least=1),
        projection(rng, "a→a", a, a, "one_to_one", least=int(rng.integers(1, 4))),
    ]
    return Graph({"in": inp, "a": a, "b": b}, links, outputs=["b"])


def conv_graph(rng, options):
    """(4, 6, 7) → convolution of per-weight delays → dense, with a delayed convolution back to itself."""
    groups = options.get("groups", 1)
    inp = Population("in", "input", (4, 6, 7))
    weight = eighths(rng, (6, 4 // groups, 3, 2))
    conv = Projection("conv", "in", "map", weight, rng.integers(0, 4, weight.shape), "conv", options=options)
    maps = Population("map", "lif", conv_output_shape("map", conv, inp.shape), NEURONS["lif"])
    out = Population("out", "li", (3,), NEURONS["li"])
    around = eighths(rng, (6, 3, 3, 3), -4, 5)
    back = {"groups": 2, "padding": 1}
    links = [
        conv,
        Projection("map→map", "map", "map", around, np.int64(2), "conv", options=back),
        projection(rng, "map→out", maps, out, "dense"),
    ]
    return Graph({p.name: p for p in (inp, maps, out)}, links, outputs=["out"])


def count_up(v, x, decay, v_th):
    v = (v * decay >> 4) + x
    return v >= v_th, v, (v < v_th) * v


def integer_graph(rng, shift=0):
    """Integer leaky neurons; weights that a shift of 3 rounds."""
    if "count_up" not in KNOWN:
        register("count_up", lambda: Neuron("count_up", ("decay", "v_th"), ("v",), count_up, integer=True))
    inp = Population("in", "input", (6,))
    params = {"decay": 13, "v_th": 50}
    a, b = (Population(n, "count_up", (5,), params, np.int64(2)) for n in "ab")
    options = {"shift": shift} if shift else {}
    links = []
    for name, source, target, kind, least in (
        ("in→a", inp, a, "dense", 0),
        ("a→b", a, b, "sparse", 0),
        ("b→a", b, a, "dense", 1),
        ("in→b", inp, b, "dense", 2),
    ):
        link = projection(rng, name, source, target, kind, least, shared_delay=name == "in→b")
        link.weight = (link.weight * 8 * (7 if shift > 0 else 2)).astype(np.int32)
        link.options = dict(options)
        links.append(link)
    return Graph({p.name: p for p in (inp, a, b)}, links)
