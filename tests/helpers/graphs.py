"""Equality of Graphs."""

import numpy as np


def assert_same_graph(a, b, rtol=0.0, exact=False):
    """Same names, order, kinds, options, metadata and numbers; parameters and biases to `rtol`.

    A delay counts where there is a weight: formats need not keep those of absent synapses. With `exact`
    every number has its type, every absent synapse its delay, every projection its options.
    """
    assert (a.dt, a.outputs, a.metadata) == (b.dt, b.outputs, b.metadata)
    assert list(a.populations) == list(b.populations)
    for name, p in a.populations.items():
        q = b.populations[name]
        assert (p.neuron, p.shape, p.options) == (q.neuron, q.shape, q.options), name
        assert (p.params.keys(), p.initial.keys()) == (q.params.keys(), q.initial.keys()), name
        pairs = [(p.param(key), q.param(key)) for key in p.params]
        pairs += [(p.initial[key], q.initial[key]) for key in p.initial]
        pairs += [(np.broadcast_to(x.bias, x.shape) for x in (p, q))]
        for mine, theirs in pairs:
            np.testing.assert_allclose(theirs, mine, rtol=rtol, atol=rtol, err_msg=name)
            assert not exact or theirs.dtype == mine.dtype, name
    assert len(a.projections) == len(b.projections)
    for p, q in zip(a.projections, b.projections, strict=True):
        assert (p.name, p.source, p.target, p.kind) == (q.name, q.source, q.target, q.kind)
        assert p.options == q.options or not (exact or p.kind == "conv"), p.name
        np.testing.assert_array_equal(q.weight, p.weight)
        there = (p.weight != 0) | exact
        np.testing.assert_array_equal(
            np.broadcast_to(q.delays, there.shape)[there], np.broadcast_to(p.delays, there.shape)[there]
        )
        for name in ("indptr", "indices"):
            np.testing.assert_array_equal(getattr(q, name), getattr(p, name))
