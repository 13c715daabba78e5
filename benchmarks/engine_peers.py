"""Runs one network in NEST or Brian2, in the peers' own environment; prints a line of JSON.

    .venv-peers/bin/python benchmarks/engine_peers.py nest network.npz --threads 1 --ms 500 --seed 1

The network is that of `engine.py`: leaky neurons with delta synapses, a weight and a delay for each
synapse, Poisson noise of one rate to every neuron.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np


def nest(net, threads, ms, warm_ms, seed, scratch):
    import nest

    nest.set_verbosity("M_ERROR")
    nest.ResetKernel()
    nest.SetKernelStatus(
        {"resolution": float(net["dt"]), "local_num_threads": threads, "rng_seed": seed, "print_time": False}
    )
    n = int(net["n"])
    neurons = nest.Create(
        "iaf_psc_delta",
        n,
        {
            "tau_m": float(net["tau_mem"]), "C_m": 1.0, "E_L": 0.0, "V_m": 0.0, "I_e": 0.0,
            "V_th": float(net["v_th"]), "V_reset": float(net["v_reset"]), "t_ref": float(net["t_ref"]),
        },
    )  # fmt: skip
    began = time.perf_counter()
    first = neurons[0].global_id
    pre = np.repeat(np.arange(n) + first, np.diff(net["indptr"]))
    delay = net["delay"] * float(net["dt"])
    for chunk in np.array_split(np.arange(len(pre)), max(1, len(pre) // 2_000_000)):
        nest.Connect(
            pre[chunk],
            (net["indices"][chunk] + first).astype(np.int64),
            conn_spec="one_to_one",
            syn_spec={"weight": net["weight"][chunk].astype(float), "delay": delay[chunk]},
        )
    noise = nest.Create("poisson_generator", params={"rate": float(net["noise_hz"])})
    nest.Connect(noise, neurons, syn_spec={"weight": float(net["noise_weight"]), "delay": float(net["dt"])})
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    built = time.perf_counter() - began
    nest.Simulate(warm_ms)
    cpu, began = time.process_time(), time.perf_counter()
    nest.Simulate(ms)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    events = recorder.get("events")
    late = events["times"] > warm_ms
    # NEST dates a spike at the end of its step
    steps = np.round((events["times"][late] - warm_ms) / float(net["dt"])).astype(int) - 1
    return seconds, cpu, built, steps, events["senders"][late] - first, nest.__version__


def brian2(net, threads, ms, warm_ms, seed, scratch):
    import brian2 as b

    b.set_device("cpp_standalone", directory=str(scratch), build_on_run=False)
    b.prefs.devices.cpp_standalone.openmp_threads = 0 if threads == 1 else threads
    b.seed(seed)
    b.defaultclock.dt = float(net["dt"]) * b.ms
    n = int(net["n"])
    constants = {
        "tau": float(net["tau_mem"]) * b.ms,
        "v_th": float(net["v_th"]),
        "v_reset": float(net["v_reset"]),
    }
    neurons = b.NeuronGroup(
        n,
        "dv/dt = -v / tau : 1 (unless refractory)",
        threshold="v >= v_th",
        reset="v = v_reset",
        refractory=float(net["t_ref"]) * b.ms,
        method="exact",
        namespace=constants,
    )
    synapses = b.Synapses(neurons, neurons, "w : 1", on_pre="v_post += w")
    pre = np.repeat(np.arange(n), np.diff(net["indptr"]))
    synapses.connect(i=pre, j=net["indices"])
    synapses.w = net["weight"]
    synapses.delay = net["delay"] * float(net["dt"]) * b.ms
    sources = 1000
    noise = b.PoissonInput(
        neurons, "v", sources, float(net["noise_hz"]) / sources * b.Hz, weight=float(net["noise_weight"])
    )
    monitor = b.SpikeMonitor(neurons)
    clock = 'fprintf(f, "%f\\n", clock() * 1.0 / CLOCKS_PER_SEC);'
    for slot in ("before_network_run", "after_network_run"):
        b.device.insert_code(slot, '{ FILE* f = fopen("cpu.txt", "a"); ' + clock + " fclose(f); }")
    network = b.Network(neurons, synapses, noise, monitor)
    network.run(warm_ms * b.ms)
    network.run(ms * b.ms)
    began = time.perf_counter()
    b.device.build(directory=str(scratch), compile=True, run=False, debug=False)
    built = time.perf_counter() - began
    b.device.run()
    seconds = b.device._last_run_time  # of the second run alone, without loading and compiling
    before, after = (float(x) for x in (Path(scratch) / "cpu.txt").read_text().split()[-2:])
    cpu = after - before
    times, who = np.asarray(monitor.t / b.ms), np.asarray(monitor.i)
    late = times >= warm_ms
    steps = np.round((times[late] - warm_ms) / float(net["dt"])).astype(int)
    return seconds, cpu, built, steps, who[late], b.__version__


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("simulator", choices=["nest", "brian2"])
    parser.add_argument("network")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ms", type=float, default=500)
    parser.add_argument("--warm-ms", type=float, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scratch", default="brian2-output")
    parser.add_argument("--spikes", required=True)
    a = parser.parse_args()
    with np.load(a.network) as file:
        net = dict(file)
    run = {"nest": nest, "brian2": brian2}[a.simulator]
    seconds, cpu, built, steps, who, version = run(net, a.threads, a.ms, a.warm_ms, a.seed, a.scratch)
    np.savez(a.spikes, steps=steps, neurons=who)
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "build_seconds": built, "version": version}))


if __name__ == "__main__":
    main()
