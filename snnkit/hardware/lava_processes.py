"""A plan of Lava processes built and run; imports nothing of snnkit, and runs on Python 3.10.

`snnkit.hardware.lava.plan` makes the plan: a dict of arrays, so that one ``.npz`` file carries it to an
interpreter that lava-nc supports. Run as a script it reads such a file and writes what Lava computed:

    python3.10 lava_processes.py plan.npz result.npz
"""

import json
import sys
import time
from typing import Any, Dict, List  # noqa: UP035  (Python 3.10 reads this file too)

import numpy as np


class Network:
    """Lava's processes by name, and how to run them.

    populations  name → LIF, LIFReset or RingBuffer process
    synapses     name → Dense, DelayDense, Sparse, DelaySparse or Conv process, or RingBuffer of values that
                 neurons get through no synapse
    """

    def __init__(self, plan: Dict[str, np.ndarray]) -> None:  # noqa: UP006
        self.plan = plan
        self.spec = json.loads(str(plan["spec"]))
        self.populations: Dict[str, Any] = {}  # noqa: UP006
        self.synapses: Dict[str, Any] = {}  # noqa: UP006
        for i, entry in enumerate(self.spec["populations"]):
            self.populations[entry["name"]] = self._population(i, entry)
        for i, entry in enumerate(self.spec["synapses"]):
            self._synapse(i, entry)

    def _population(self, i: int, entry: Dict[str, Any]) -> Any:  # noqa: UP006
        from lava.proc.io.source import RingBuffer
        from lava.proc.lif.process import LIF, LIFReset

        shape = tuple(entry["shape"])
        if entry["kind"] == "input":
            return RingBuffer(data=self.plan[f"p{i}_x"].reshape(*shape, -1).astype(int))
        arrays = {
            k: self.plan[f"p{i}_{k}"].reshape(shape).astype(int) for k in ("u", "v", "bias_mant", "bias_exp")
        }
        numbers = {}
        for k in ("du", "dv", "vth"):
            value = self.plan[f"p{i}_{k}"]
            numbers[k] = int(value) if value.ndim == 0 else value.reshape(shape).astype(int)
        arguments = {"shape": shape, **numbers, **arrays}
        if entry["reset_interval"]:
            return LIFReset(
                reset_interval=entry["reset_interval"], reset_offset=entry["reset_offset"], **arguments
            )
        return LIF(**arguments)

    def _synapse(self, i: int, entry: Dict[str, Any]) -> None:  # noqa: UP006
        from lava.proc.conv.process import Conv
        from lava.proc.dense.process import DelayDense, Dense
        from lava.proc.io.source import RingBuffer
        from lava.proc.sparse.process import DelaySparse, Sparse
        from lava.utils.weightutils import SignMode
        from scipy.sparse import csr_matrix

        target = self.populations[entry["target"]]
        if entry["kind"] == "handed":
            values = self.plan[f"s{i}_x"].reshape(*target.a_in.shape, -1).astype(int)
            self.synapses[entry["name"]] = RingBuffer(data=values)
            self.synapses[entry["name"]].s_out.connect(target.a_in)
            return
        source = self.populations[entry["source"]]
        weight = self.plan[f"s{i}_weight"].astype(int)
        if entry["kind"] == "conv":
            synapse = Conv(
                weight=weight,
                input_shape=tuple(entry["input_shape"]),
                stride=entry["stride"],
                padding=entry["padding"],
                dilation=entry["dilation"],
                groups=entry["groups"],
                num_message_bits=entry["num_message_bits"],
            )
            source.s_out.connect(synapse.s_in)
            synapse.a_out.connect(target.a_in)
        else:
            sparse = entry["kind"] == "sparse"
            arguments = {k: entry[k] for k in ("weight_exp", "num_weight_bits", "num_message_bits")}
            arguments["sign_mode"] = SignMode[entry["sign_mode"]]
            arguments["weights"] = csr_matrix(weight) if sparse else weight
            delay = self.plan.get(f"s{i}_delay")
            if delay is None:
                synapse = Sparse(**arguments) if sparse else Dense(**arguments)
            elif sparse:
                stored = csr_matrix(weight)
                lag = stored.copy()
                lag.data = delay.astype(int)[stored.nonzero()]
                synapse = DelaySparse(delays=lag, max_delay=int(delay.max()), **arguments)
            else:
                synapse = DelayDense(delays=delay.astype(int), **arguments)
            source.s_out.flatten().connect(synapse.s_in)
            synapse.a_out.reshape(target.a_in.shape).connect(target.a_in)
        self.synapses[entry["name"]] = synapse

    def run(self, steps: int, probe: bool = True) -> Dict[str, np.ndarray]:  # noqa: UP006
        """Run on the CPU in fixed point: {"name/u", "name/v", "name/s": int32 [T, N]} in (C, H, W) order.

        "seconds" is the time of all steps but the first, processes started before. Without `probe`
        only that is given.
        """
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg
        from lava.proc.monitor.process import Monitor

        probes: List[Any] = []  # noqa: UP006
        for entry in self.spec["populations"]:
            if entry["kind"] == "input" or not probe:
                continue
            process = self.populations[entry["name"]]
            for short, port in (("u", process.u), ("v", process.v), ("s", process.s_out)):
                monitor = Monitor()
                monitor.probe(port, steps)
                probes.append((entry, short, port.name, process, monitor))
        kinds = {entry["name"]: entry["kind"] for entry in self.spec["populations"]}
        first = next((p for name, p in self.populations.items() if kinds[name] == "lif"), None)
        first = first or next(iter(self.populations.values()))
        results: Dict[str, np.ndarray] = {}  # noqa: UP006
        try:
            first.run(condition=RunSteps(num_steps=1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            start = time.perf_counter()
            if steps > 1:
                first.run(
                    condition=RunSteps(num_steps=steps - 1), run_cfg=Loihi2SimCfg(select_tag="fixed_pt")
                )
            results["seconds"] = np.array(time.perf_counter() - start)
            for entry, short, port_name, process, monitor in probes:
                data = monitor.get_data()[process.name][port_name]
                data = data.reshape(steps, *entry["shape"])
                if len(entry["shape"]) == 3:
                    data = data.transpose(0, 3, 2, 1)
                results[f"{entry['name']}/{short}"] = data.reshape(steps, -1).astype(np.int32)
        finally:
            first.stop()
        return results


if __name__ == "__main__":
    sys.path.pop(0)  # this folder's own lava.py must not stand before Lava
    with np.load(sys.argv[1], allow_pickle=False) as file:
        given = {name: file[name] for name in file.files}
    found = Network(given).run(int(given["steps"]), probe=bool(given["probe"]))
    np.savez(sys.argv[2], **found)  # type: ignore[arg-type]
