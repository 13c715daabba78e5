"""The engine beside NEST, Brian2 and torch: `make bench-engine`.

    python benchmarks/engine.py                      # all cases
    python benchmarks/engine.py --cases brunel_10k --threads 1

Nothing is timed that is not equal first: firing rate, irregularity and correlation of each simulator
must lie within the spread of our own seeds, spikes of the clip network must be torch's. Peers run in
an environment of their own, `.venv-peers`, which is made on first use (Brian2 wants NumPy below 2.3);
without a network it is skipped, with a message. Our runs and theirs take turns; the least of the
repeats counts, since it is disturbed the least. Writes benchmarks/results/engine.json.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numba
import numpy as np

import snnkit
from snnkit.engine import Engine, Poisson, simulate
from snnkit.events import EventBatch
from snnkit.graph import Graph, Population, Projection
from snnkit.machine import processor

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers"
WANTED = ["numpy<2.3", "brian2==2.9.*", "nest-simulator==3.10.*", "setuptools", "numba", "h5py", "rich"]
OUT = ROOT / "benchmarks" / "results" / "engine.json"
SEED = 1
WARM_MS = 100.0


# ---------------------------------------------------------------------------------------------------
# Networks


def brunel(n=10_000, fan_in=1000, eta=2.0, g=5.0, seed=SEED, spread=1e-4):
    """(graph, noise in Hz): Brunel 2000, model A, delays 0.5–2.5 ms drawn for each synapse.

    80 % excitatory of weight J = 0.1 mV (for a fan-in of 1000), 20 % inhibitory of −g·J; every weight
    varies by `spread`, so that all simulators hold one weight a synapse.
    """
    rng = np.random.default_rng(seed)
    j = 0.1 * 1000 / fan_in
    excitatory = int(0.8 * n)
    synapses = n * fan_in
    weight = np.repeat(np.where(np.arange(n) < excitatory, j, -g * j).astype(np.float32), fan_in)
    if spread:
        for piece in np.array_split(weight, max(1, synapses // 5_000_000)):
            piece *= 1 + np.float32(spread) * rng.standard_normal(len(piece), np.float32)
    indices = rng.integers(0, n, synapses, np.int32)
    delay = rng.integers(5, 26, synapses, np.uint8)
    dt, tau_mem, v_th = 0.1, 20.0, 20.0
    noise_hz = eta * v_th / (j * tau_mem) * 1000
    params = {
        "decay": np.exp(-dt / tau_mem), "gain": 1.0, "v_th": v_th, "v_reset": 10.0, "v_rest": 0.0,
        "refractory": 20.0,
    }  # fmt: skip
    populations = {
        "noise": Population("noise", "input", (n,)),
        "n": Population("n", "lif", (n,), params, options={"refractory": True}),
    }
    projections = [
        Projection("drive", "noise", "n", np.full(n, j), np.int64(0), "one_to_one"),
        Projection(
            "synapses", "n", "n", weight, delay, "sparse", np.arange(n + 1, dtype=np.int64) * fan_in, indices
        ),
    ]
    return Graph(populations, projections, dt=dt), noise_hz


def write_for_peers(graph, noise_hz, path):
    p = graph.projections[1]
    np.savez(
        path, n=graph.populations["n"].size, dt=graph.dt, tau_mem=20.0, v_th=20.0, v_reset=10.0, t_ref=2.0,
        indptr=p.indptr, indices=p.indices, weight=p.weight, delay=p.delay, noise_hz=noise_hz,
        noise_weight=float(graph.projections[0].weight[0]),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------
# Running and comparing


class Ours:
    """The Brunel network in our engine, warm."""

    def __init__(self, graph, noise_hz, threads=1, dtype="float32", seed=SEED):
        began = time.perf_counter()
        self.engine = Engine(
            graph, generators={"noise": Poisson(noise_hz)}, threads=threads, dtype=dtype, seed=seed
        )
        self.build_seconds = time.perf_counter() - began
        self.engine.advance(round(WARM_MS / graph.dt))

    def run(self, ms):
        """(seconds, CPU seconds, synaptic events, (steps, neurons))."""
        first = self.engine.t
        cpu, began = time.process_time(), time.perf_counter()
        result = self.engine.advance(first + round(ms / self.engine.graph.dt))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        spikes = result.spikes["n"]
        events = int(result.counts["synops"]["synapses"][0])
        return seconds, cpu, events, (spikes.times - first, spikes.neurons)


def statistics(steps, neurons, n, duration, dt):
    """Rate (Hz), mean CV of the intervals, mean and spread of the correlation of counts in 5 ms."""
    rate = len(steps) / n / (duration * dt / 1000)
    order = np.lexsort((steps, neurons))
    steps, neurons = np.asarray(steps)[order], np.asarray(neurons)[order]
    intervals, same = np.diff(steps), np.diff(neurons) == 0
    who = neurons[1:][same]
    count = np.bincount(who, minlength=n)
    total = np.bincount(who, intervals[same], n)
    square = np.bincount(who, intervals[same].astype(float) ** 2, n)
    enough = count >= 5
    mean = total[enough] / count[enough]
    cv = np.sqrt(np.maximum(square[enough] / count[enough] - mean**2, 0)) / mean
    chosen = neurons < 400
    bins = round(5 / dt)
    table = np.zeros((400, -(-duration // bins)))
    np.add.at(table, (neurons[chosen], steps[chosen] // bins), 1)
    table = table[table.std(1) > 0]
    pairs = np.corrcoef(table)[np.triu_indices(len(table), 1)]
    return {
        "rate": rate,
        "cv": float(cv.mean()) if len(cv) else 0.0,
        "corr": pairs.mean(),
        "corr_sd": pairs.std(),
    }


def must_agree(name, theirs, seeds):
    """Each figure within four spreads of our seeds, or within 5 % of their mean (0.01 of correlation)."""
    for figure, value in theirs.items():
        ours = np.array([s[figure] for s in seeds])
        room = max(4 * ours.std(), 0.01 if figure == "corr" else 0.05 * abs(ours.mean()))
        if abs(value - ours.mean()) > room:
            raise SystemExit(
                f"{name}: {figure} is {value:.4g}, ours {ours.mean():.4g} ± {ours.std():.2g}; "
                "no time is reported of simulators that disagree."
            )


def peers_python():
    """The peers' interpreter; makes their environment if it is not there. None where it can't be had."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        print("making .venv-peers (NEST, Brian2) …", flush=True)
        venv.create(PEERS, with_pip=True)
    probe = subprocess.run([python, "-c", "import nest, brian2"], capture_output=True, check=False)
    if probe.returncode:
        done = subprocess.run([python, "-m", "pip", "install", "-q", *WANTED], check=False)
        if done.returncode:
            print("NEST and Brian2 could not be installed; their rows are left out.", file=sys.stderr)
            return None
    return python


def run_peer(python, simulator, network, threads, ms, folder, seed=SEED):
    spikes = folder / f"{simulator}.npz"
    command = [
        python, ROOT / "benchmarks" / "engine_peers.py", simulator, network, "--threads", threads, "--ms", ms,
        "--warm-ms", WARM_MS, "--seed", seed, "--spikes", spikes, "--scratch", folder / "brian2",
    ]  # fmt: skip
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{simulator} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    with np.load(spikes) as file:
        return answer["seconds"], answer["cpu_seconds"], answer["version"], file["steps"], file["neurons"]


# ---------------------------------------------------------------------------------------------------
# Cases; each gives rows


def brunel_10k(a):
    graph, noise_hz = brunel()
    n = graph.populations["n"].size
    duration = round(a.ms / graph.dt)
    seeds = []
    for seed in (11, 12, 13):
        _, _, _, spikes = Ours(graph, noise_hz, seed=seed).run(a.ms)
        seeds.append(statistics(*spikes, n, duration, graph.dt))
    print("our seeds:", seeds, flush=True)
    rows = []
    python = None if a.no_peers else peers_python()
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network.npz"
        write_for_peers(graph, noise_hz, network)
        for threads in a.threads:
            ours = Ours(graph, noise_hz, threads)
            ours64 = Ours(graph, noise_hz, threads, "float64")
            mine, mine64, theirs, versions = [], [], {}, {}
            peers = ["nest", "brian2"] if python else []
            for turn in range(a.repeats):
                for _ in range(3):
                    mine.append(ours.run(a.ms))
                    mine64.append(ours64.run(a.ms))
                for peer in peers:
                    seconds, used, versions[peer], steps, who = run_peer(
                        python, peer, network, threads, a.ms, Path(folder), SEED + turn
                    )
                    got = statistics(steps, who, n, duration, graph.dt)
                    print(peer, threads, "threads", f"{seconds:.3f} s, CPU {used:.3f} s", got, flush=True)
                    must_agree(peer, got, seeds)
                    events = len(steps) * 1000
                    theirs.setdefault(peer, []).append((seconds / events * 1e9, used / events * 1e9))
                    mine.append(ours.run(a.ms))
                    mine64.append(ours64.run(a.ms))
            best, best64 = (min(t / e for t, _, e, _ in m) * 1e9 for m in (mine, mine64))
            cpu = min(c / e for _, c, e, _ in mine) * 1e9
            extra = {"ours_float64_ns_per_event": best64, "ours_cpu_ns_per_event": cpu}
            for peer in peers or [None]:
                if peer:
                    wall, used = (min(t[k] for t in theirs[peer]) for k in (0, 1))
                    more = {
                        "peer_cpu_ns_per_event": used,
                        "ratio_cpu": used / cpu,
                        "ratio_float64": wall / best64,
                    }
                    row = figure("brunel_10k", threads, best, peer, wall, **extra, **more)
                    row["versions"][peer] = versions[peer]
                else:
                    row = figure("brunel_10k", threads, best, **extra)
                rows.append(row)
    return rows


def brunel_100k(a):
    before = peak_bytes()
    graph, noise_hz = brunel(100_000, 1000)
    synapses = graph.projections[1].weight.size
    rows = []
    for threads in a.threads:
        ours = Ours(graph, noise_hz, threads)
        packed = sum(x.nbytes for x in ours.engine.plan.lanes[1].arrays)
        runs = [ours.run(a.ms / 5) for _ in range(3)]
        rows.append(
            figure(
                "brunel_100k", threads, min(t / e for t, _, e, _ in runs) * 1e9,
                synapses=synapses, bytes_per_synapse=packed / synapses, build_seconds=ours.build_seconds,
                ours_cpu_ns_per_event=min(c / e for _, c, e, _ in runs) * 1e9,
                peak_bytes=peak_bytes(), peak_bytes_before=before,
            )
        )  # fmt: skip
        del ours
    return rows


def brunel_low_rate(a):
    """The same network with less noise, so that it fires at about a tenth of the rate."""
    full, low = (Ours(*brunel(eta=eta)) for eta in (2.0, a.low_eta))
    runs = [(full.run(a.ms), low.run(a.ms)) for _ in range(4)]
    time_full, time_low = (min(r[k][0] for r in runs) for k in (0, 1))
    events_full, events_low = (np.mean([r[k][2] for r in runs]) for k in (0, 1))
    return [
        figure(
            "brunel_low_rate", 1, min(r[1][0] / r[1][2] for r in runs) * 1e9,
            activity=events_low / events_full, time=time_low / time_full,
            cpu_time=min(r[1][1] for r in runs) / min(r[0][1] for r in runs),
        )
    ]  # fmt: skip


def clip_network(seed=SEED, sizes=(140, 128, 128, 20), max_delay=24):
    """A network of the shape of a trained spoken-digit one: dense layers, a delay for each synapse."""
    rng = np.random.default_rng(seed)
    populations = {"l0": Population("l0", "input", (sizes[0],))}
    projections = []
    for k, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        last = k == len(sizes) - 1
        params = {"decay": 0.95, "gain": 1.0 if not last else 0.05}
        if not last:
            params |= {"v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
        populations[f"l{k}"] = Population(f"l{k}", "li" if last else "lif", (n_out,), params)
        weight = rng.normal(0.02, 0.2, (n_out, n_in))
        delay = rng.integers(0, max_delay + 1, (n_out, n_in))
        projections.append(Projection(f"w{k}", f"l{k - 1}", f"l{k}", weight, delay))
    return Graph(populations, projections, dt=10.0, outputs=["l3"])


def torch_dense(graph, dtype):
    """The same network as torch runs it: delays as a convolution over time, neurons step by step."""
    import torch

    layers = []
    for p in graph.projections:
        kernel = torch.zeros(*p.weight.shape, p.max_delay + 1, dtype=dtype)
        index = torch.as_tensor(p.max_delay - p.delays.astype(np.int64))[..., None]
        kernel.scatter_(2, index, torch.as_tensor(p.weight, dtype=dtype)[..., None])
        layers.append((kernel, p.max_delay, graph.populations[p.target]))

    @torch.no_grad()
    def run(x):
        """x [1, I, T] → (spikes of each hidden layer [N, T], potential of the last [N, T])."""
        hidden = []
        for kernel, pad, target in layers:
            drive = torch.nn.functional.conv1d(torch.nn.functional.pad(x, (pad, 0)), kernel)[0].T.contiguous()
            decay, gain = float(target.params["decay"]), float(target.params["gain"])
            v, rows = torch.zeros(target.size, dtype=dtype), []
            if target.neuron == "li":
                for d in drive:
                    v = decay * v + gain * d
                    rows.append(v)
                return hidden, torch.stack(rows, 1)
            v_th = float(target.params["v_th"])
            for d in drive:
                h = decay * v + gain * d
                s = (h >= v_th).to(dtype)
                v = h * (1 - s)
                rows.append(s)
            x = torch.stack(rows, 1)[None]
            hidden.append(x[0])
        return hidden, None

    return run


def clip_batch1(a):
    import torch

    torch.set_num_threads(1)
    graph = clip_network()
    rng = np.random.default_rng(SEED)
    steps = 100
    clips = [(rng.random((steps, 1, 140)) < 0.02).astype(np.float32) for _ in range(a.clips)]
    batches = [EventBatch.from_dense(x) for x in clips]
    dense = torch_dense(graph, torch.float64)
    for x, batch in zip(clips[:10], batches[:10], strict=True):
        hidden, v = dense(torch.as_tensor(x[:, 0].T.astype(np.float64))[None])
        got = simulate(graph, batch, record=[("l3", "v")], dtype="float64")
        for k, want in enumerate(hidden, 1):
            if not np.array_equal(got.spikes[f"l{k}"].to_dense(steps)[:, 0].T, want.numpy()):
                raise SystemExit(f"clip_batch1: spikes of layer {k} are not torch's; nothing is timed.")
        np.testing.assert_allclose(got.recorded["l3", "v"][:, 0].T, v.numpy(), rtol=1e-9, atol=1e-12)
    spikes = np.mean([simulate(graph, b).counts["spikes"]["l1"][0] for b in batches[:10]])
    engine, dense = Engine(graph, record=[("l3", "v")], spikes=()), torch_dense(graph, torch.float32)
    tensors = [torch.as_tensor(x[:, 0].T)[None] for x in clips]
    mine, theirs, events, used = [], [], 0, []
    for x, batch in zip(tensors, batches, strict=True):
        cpu, began = time.thread_time(), time.perf_counter()
        engine.reset()
        engine.push(batch)
        result = engine.advance(steps)
        mine.append(time.perf_counter() - began)
        cpu_ours = time.thread_time() - cpu
        events += sum(int(c[0]) for c in result.counts["synops"].values())
        cpu, began = time.thread_time(), time.perf_counter()
        dense(x)
        theirs.append(time.perf_counter() - began)
        used.append((cpu_ours, time.thread_time() - cpu))
    ours, torch_s = np.median(mine), np.median(theirs)
    per = events / len(clips)
    return [
        figure(
            "clip_batch1", 1, ours / per * 1e9, "torch", torch_s / per * 1e9, ours_ms=ours * 1e3,
            ours_cpu_ns_per_event=np.median(used, 0)[0] / per * 1e9,
            peer_cpu_ns_per_event=np.median(used, 0)[1] / per * 1e9,
            ratio_cpu=np.median(used, 0)[1] / np.median(used, 0)[0],
            ours_p99_ms=np.percentile(mine, 99) * 1e3, ours_min_ms=min(mine) * 1e3, torch_ms=torch_s * 1e3,
            torch_p99_ms=np.percentile(theirs, 99) * 1e3, hidden_spikes=spikes, steps=steps,
        )
    ]  # fmt: skip


def stream_hour(a):
    """An hour of 10 ms steps, pushed in as packets of 50 ms come; memory must not grow."""
    graph = clip_network()
    engine = Engine(graph, record=[("l3", "v")])
    rng = np.random.default_rng(SEED)
    packet, total = 5, a.stream_steps
    events, mine, marks = 0, [], []
    for t in range(0, total, packet):
        steps, neurons = np.nonzero(rng.random((packet, 140)) < 0.02)
        batch = EventBatch(steps + t, neurons, [0, len(neurons)], [t + packet], 140)
        began = time.perf_counter()
        engine.push(batch)
        result = engine.advance(t + packet)
        mine.append(time.perf_counter() - began)
        events += sum(int(c[0]) for c in result.counts["synops"].values())
        if t in (total // 10, total - packet):
            marks.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    return [
        figure(
            "stream_hour", 1, sum(mine) / events * 1e9, steps=total, seconds=sum(mine),
            p99_ms_per_packet=np.percentile(mine, 99) * 1e3, grown_bytes=marks[1] - marks[0],
        )
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------


def figure(case, threads, ours, peer=None, theirs=None, **more):
    row = {
        "case": case,
        "threads": threads,
        "ours_ns_per_event": float(ours),
        "peer": peer,
        "peer_ns_per_event": float(theirs) if theirs else None,
        "ratio": float(theirs / ours) if theirs else None,
        **{k: float(v) for k, v in more.items()},
        "machine": processor(),
        "load": os.getloadavg()[0],
        "versions": {
            "snnkit": snnkit.__version__, "numba": numba.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "seed": SEED,
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip
    if threads == 1 and "peer_cpu_ns_per_event" in more:
        # one thread: CPU time, which other work on the machine does not stretch, and Brian2 reports
        row |= {
            "clock": "cpu",
            "ours_ns_per_event": row["ours_cpu_ns_per_event"],
            "peer_ns_per_event": row["peer_cpu_ns_per_event"],
            "ratio": row["ratio_cpu"],
            "ours_wall_ns_per_event": float(ours),
            "peer_wall_ns_per_event": float(theirs),
        }
    if peer == "torch":
        import torch

        row["versions"]["torch"] = torch.__version__
    print({k: v for k, v in row.items() if k not in ("machine", "versions")}, flush=True)
    return row


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


CASES = {f.__name__: f for f in (brunel_10k, brunel_100k, brunel_low_rate, clip_batch1, stream_hour)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, min(2, os.cpu_count() or 1)}))
    parser.add_argument("--ms", type=float, default=500, help="model time of a Brunel run")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each peer")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--stream-steps", type=int, default=360_000, help="10 ms each: an hour")
    parser.add_argument("--low-eta", type=float, default=1.0, help="noise of the low-rate case")
    parser.add_argument("--no-peers", action="store_true")
    a = parser.parse_args()
    kept = json.loads(OUT.read_text()) if OUT.exists() else []
    for case in a.cases:
        rows = CASES[case](a)
        kept = [r for r in kept if r["case"] != case] + rows
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
