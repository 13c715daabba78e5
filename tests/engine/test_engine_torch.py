"""A network with learned delays spikes in the engine as it does in torch, in double precision."""

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection

torch = pytest.importorskip("torch")


def in_torch(graph, x):
    """x [T, B, I] → spikes of each spiking layer and potential of the last one, [T, B, N]."""
    x, outputs = torch.as_tensor(x).permute(1, 2, 0), {}
    for p in graph.projections:
        longest = p.max_delay
        kernel = torch.zeros(*p.weight.shape, longest + 1, dtype=torch.float64)
        where = torch.as_tensor(longest - p.delays.astype(np.int64))[..., None]
        kernel.scatter_(2, where, torch.as_tensor(p.weight)[..., None])
        drive = torch.nn.functional.conv1d(torch.nn.functional.pad(x, (longest, 0)), kernel)
        drive = drive.permute(2, 0, 1) + torch.as_tensor(graph.populations[p.target].bias)
        target = graph.populations[p.target]
        decay, gain = (torch.as_tensor(target.params[k]) for k in ("decay", "gain"))
        v, rows = torch.zeros_like(drive[0]), []
        for d in drive:
            h = decay * v + gain * d
            spikes = (h >= 1.0).double() if target.neuron == "lif" else torch.zeros_like(h)
            v = h * (1 - spikes)
            rows.append(spikes if target.neuron == "lif" else v)
        outputs[p.target] = torch.stack(rows)
        x = outputs[p.target].permute(1, 2, 0)
    return {k: v.numpy() for k, v in outputs.items()}


def test_every_spike_is_torchs():
    rng = np.random.default_rng(0)
    sizes, populations, projections = (70, 64, 33, 10), {"p0": Population("p0", "input", (70,))}, []
    for k in (1, 2, 3):
        n, last = sizes[k], k == 3
        params = {"decay": rng.uniform(0.8, 0.97, n), "gain": rng.uniform(0.5, 1, n)}
        if not last:
            params |= {"v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
        bias = rng.normal(0, 0.02, n)
        populations[f"p{k}"] = Population(f"p{k}", "li" if last else "lif", (n,), params, bias)
        shape = (n, sizes[k - 1])
        weight, delay = rng.normal(0.02, 0.25, shape), rng.integers(0, 25, shape)
        projections.append(Projection(f"w{k}", f"p{k - 1}", f"p{k}", weight, delay))
    graph = Graph(populations, projections)
    x = rng.poisson(0.05, (100, 4, 70)).astype(float)
    want = in_torch(graph, x)

    got = simulate(graph, EventBatch.from_dense(x), record=[("p3", "v")], dtype="float64")

    for name in ("p1", "p2"):
        assert 0.02 < want[name].mean() < 0.5
        np.testing.assert_array_equal(got.spikes[name].to_dense(100), want[name])
    np.testing.assert_allclose(got.recorded["p3", "v"], want["p3"], rtol=1e-9, atol=1e-12)
    single = simulate(graph, EventBatch.from_dense(x), dtype="float32").spikes["p2"].to_dense(100)
    assert (single == want["p2"]).mean() > 0.999
