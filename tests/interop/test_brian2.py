"""Brian2 is refused with how; networks built so spike as Brian2's, where it is there."""

import json
import subprocess

import numpy as np
import pytest

from snnkit.engine import simulate
from snnkit.errors import ExportError
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.interop import brian2
from tests.helpers.peers import brian2_python

DT, TAU, V0, VT, VR, STEPS = 0.1, 8.0, 0.1, 1.0, -0.2, 600
SOFT = {"reset": "v -= vt", "order": None}
HARD = {"reset": "v = vr", "order": ["start", "groups", "thresholds", "resets", "synapses", "end"]}

SCRIPT = """
import json, sys
import brian2 as b
b.prefs.codegen.target = "numpy"
given = json.load(sys.stdin)
b.defaultclock.dt = given["dt"] * b.ms
space = {"tau": given["tau"] * b.ms, "v0": given["v0"], "vt": given["vt"], "vr": given["vr"]}
cells = b.NeuronGroup(
    given["n"], "dv/dt = (v0 - v)/tau : 1", threshold="v > vt", reset=given["reset"], method="exact",
    namespace=space,
)
times = b.Quantity([t * given["dt"] / 1000 for t in given["t"]], dim=b.second.dim)
inputs = b.SpikeGeneratorGroup(given["inputs"], given["who"], times)
links = []
for source, (i, j, w, d) in zip((inputs, cells), given["links"]):
    made = b.Synapses(source, cells, "w : 1", on_pre="v_post += w")
    made.connect(i=i, j=j)
    made.w = w
    made.delay = b.Quantity([k * given["dt"] / 1000 for k in d], dim=b.second.dim)
    links.append(made)
monitor = b.SpikeMonitor(cells)
network = b.Network(cells, inputs, *links, monitor)
if given["order"]:
    network.schedule = given["order"]
network.run(given["steps"] * given["dt"] * b.ms)
steps = [round(float(t / b.ms) / given["dt"]) for t in monitor.t]
print("found " + json.dumps(sorted(zip(steps, [int(n) for n in monitor.i]))))
"""


def test_a_brian2_network_is_refused_with_what_to_do():
    class NeuronGroup:
        pass

    with pytest.raises(
        ExportError, match=r"Brian2's NeuronGroup cannot be read: .* Build the Graph of its arr"
    ):
        brian2.to_graph(NeuronGroup())


@pytest.mark.parametrize("how", [SOFT, HARD], ids=["soft", "hard"])
def test_a_graph_of_the_arrays_spikes_as_brian2(how):
    rng = np.random.default_rng(1)
    n, inputs = 10, 6
    t, who = np.unique(np.stack([rng.integers(0, STEPS, 150), rng.integers(0, inputs, 150)]), axis=1)

    def drawn(size, number):
        ends = rng.integers(0, size, number), rng.integers(0, n, number)
        return (*ends, rng.normal(0.1, 0.4, number), rng.integers(0, 30, number))

    links = [drawn(inputs, 40), drawn(n, 30)]
    given = how | {
        "dt": DT,
        "tau": TAU,
        "v0": V0,
        "vt": VT,
        "vr": VR,
        "n": n,
        "inputs": inputs,
        "steps": STEPS,
    }
    given |= {"t": t.tolist(), "who": who.tolist(), "links": [[x.tolist() for x in link] for link in links]}
    done = subprocess.run(
        [brian2_python(), "-c", SCRIPT], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("found "))
    want = [tuple(pair) for pair in json.loads(line[6:])]

    decay, projections = np.exp(-DT / TAU), []
    for source, size, (i, j, w, d) in (("in", inputs, links[0]), ("cells", n, links[1])):
        order = np.argsort(i, kind="stable")
        indptr = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=size))])
        listed = (w[order] * decay, d[order] + 1, "sparse", indptr, j[order])
        projections.append(Projection(source, source, "cells", *listed))
    options = {"strict": True} | ({"reset": "soft"} if how is SOFT else {})
    params = {"decay": decay, "gain": 1.0, "v_rest": V0, "v_th": VT, "v_reset": VR}
    cells = Population("cells", "lif", (n,), params, options=options)
    graph = Graph({"in": Population("in", "input", (inputs,)), "cells": cells}, projections, dt=DT)
    events = EventBatch(t, who, np.array([0, len(t)]), np.array([STEPS]), inputs)
    found = simulate(graph, events, STEPS, dtype="float64").spikes["cells"]
    assert sorted(zip(found.times.tolist(), found.neurons.tolist(), strict=True)) == want
    assert 50 < len(want) < n * STEPS / 2
