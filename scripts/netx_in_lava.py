"""Run a NetX file through lava-dl's own reader. For Python 3.10 with lava-nc and lava-dl.

    python3.10 scripts/netx_in_lava.py file.net input.npz result.npz

input.npz holds x, int [T, N], and kwargs, a JSON text for `Network`. result.npz gets u, v and s of every
layer with neurons, as N0_u, N0_v, …

lava-dl leaves it to the caller to feed an input layer with neurons: here x goes to the neurons' port with
the sign of the layer's weight, and the layer's bias is theirs.

lava-dl pins an old torch, which its reader uses for resonate-and-fire neurons only: modules of that
name that hold nothing stand in for it.
"""

import json
import sys
import tempfile
import types
from pathlib import Path

import numpy as np

empty = Path(tempfile.mkdtemp())


def stand_in(*names: str) -> None:
    for name in names:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__file__ = str(empty / f"{name}.py")  # Lava looks for models beside it


def main() -> None:
    stand_in("torch", "lava.lib.dl.slayer", "lava.lib.dl.slayer.neuron", "lava.lib.dl.slayer.neuron.rf")
    sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = None
    stand_in("lava.lib.dl.netx.sequential_modules")

    from lava.lib.dl.netx.hdf5 import Network
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.source import RingBuffer
    from lava.proc.monitor.process import Monitor

    with np.load(sys.argv[2], allow_pickle=False) as file:
        x, kwargs = file["x"], json.loads(str(file["kwargs"]))
    net = Network(net_config=sys.argv[1], **kwargs)
    shape = net.inp.shape
    first, port = net.in_layer, net.inp
    if first.block == "Input":
        port = first.neuron.a_in
        first.neuron.bias_mant.init = np.full(shape, first.transform["bias"])
        x = x * np.sign(first.transform["weight"])
    images = len(shape) == 3
    data = x.reshape(len(x), *reversed(shape)).transpose(3, 2, 1, 0) if images else x.T
    source = RingBuffer(data=np.ascontiguousarray(data).astype(int))
    source.s_out.connect(port)
    probes = []
    for i, layer in enumerate(net.layers):
        for key, of in (("u", layer.neuron.u), ("v", layer.neuron.v), ("s", layer.neuron.s_out)):
            monitor = Monitor()
            monitor.probe(of, len(x))
            probes.append((f"N{i}_{key}", layer.neuron, of.name, monitor))
    try:
        net.run(condition=RunSteps(num_steps=len(x)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        found = {}
        for key, neuron, name, monitor in probes:
            values = monitor.get_data()[neuron.name][name].reshape(len(x), *neuron.v.shape)
            if values.ndim == 4:
                values = values.transpose(0, 3, 2, 1)
            found[key] = values.reshape(len(x), -1).astype(np.int32)
    finally:
        net.stop()
    np.savez(sys.argv[3], **found)


if __name__ == "__main__":
    main()
