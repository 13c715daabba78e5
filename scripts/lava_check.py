"""Run an exported network through real Lava and compare it with snnkit's integer model, spike for spike.

    .venv/bin/python scripts/lava_check.py [--net build/demo/network.net] [--events events.npz]

Makes the environment .venv-lava (Python 3.10, lava-nc and lava-dl from PyPI) where it is not there.
A NetX file goes through lava-dl's own reader, every other integer graph through snnkit's builder; u, v
and spikes of every layer and step must be equal. Then both are timed at batch 1. Without --net the
network of `make demo` is taken, or, where there is none, random ones. Exit code: 0 if all is equal or no
Python 3.10 is to be had, which it then says; 1 otherwise.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from snnkit.commands.formats import load
from snnkit.engine import Engine
from snnkit.events import EventBatch
from snnkit.graph import INPUT, Graph, Population, Projection
from snnkit.hardware import lava, loihi, netx
from snnkit.hardware.graded import sent
from snnkit.hardware.quantise import quantise

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / ".venv-lava"
PACKAGES = ["lava-nc==0.10.0", "h5py"]
READER = ["lava-dl==0.6.0"]  # without its dependencies, an old torch among them


def find_python() -> str | None:
    """A Python 3.10: on the path, or pyenv's or uv's."""
    beside = Path(sys.base_prefix).parent  # other versions of the manager that this Python is from
    folders = [Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python", beside]
    found = [str(p) for folder in folders for p in sorted(folder.glob("*3.10*/bin/python3.10"))]
    for command in filter(None, (shutil.which("python3.10"), *found)):
        check = "import sys; sys.exit(sys.version_info[:2] != (3, 10))"
        if subprocess.run([command, "-c", check], capture_output=True, check=False).returncode == 0:
            return command
    return None


def environment() -> str | None:
    """The interpreter of .venv-lava, made on first use."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        base = find_python()
        if base is None:
            return None
        print(f"making {ENVIRONMENT.name} with {base} …", flush=True)
        subprocess.run([base, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, *PACKAGES], check=True)
        subprocess.run([*pip, "--no-deps", *READER], check=True)
        ready.touch()
    return str(python)


def random_network(sizes: tuple[int, ...], seed: int) -> tuple[Graph, EventBatch]:
    """A float network with delays of 0..24 steps, biases and counts as input, as a trained one has."""
    r = np.random.default_rng(seed)
    graph = Graph({"input": Population("input", INPUT, sizes[0])}, [], outputs=["out"])
    last = "input"
    for i, (n, m) in enumerate(pairwise(sizes)):
        params = {"decay": 0.3, "gain": 1.0, "v_th": 1.0, "v_reset": 0.0, "v_rest": 0.0}
        name = f"hidden{i}"
        population = Population(name, "lif", m, params, 0.05 * r.normal(size=m))
        if i == len(sizes) - 2:
            population = Population("out", "li", m, {"decay": 0.9, "gain": 1.0}, 0.01 * r.normal(size=m))
        graph.populations[population.name] = population
        weight, delay = 4 * r.normal(size=(m, n)) / np.sqrt(n), r.integers(0, 25, (m, n))
        graph.projections.append(
            Projection(f"{last}→{population.name}", last, population.name, weight, delay)
        )
        last = population.name
    x = (r.random((80, 3, sizes[0])) < 0.04) * r.integers(1, 3, (80, 3, sizes[0]))
    return graph, EventBatch.from_dense(x.astype(np.float32))


def through_lava_dl(
    path: Path, kwargs: dict[str, int], x: np.ndarray, python: str
) -> list[dict[str, np.ndarray]]:
    """u, v and s of each layer as lava-dl's reader and Lava compute them."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, x=x, kwargs=np.array(json.dumps(kwargs)))
        script = ROOT / "scripts" / "netx_in_lava.py"
        done = subprocess.run(
            [python, str(script), str(path), str(given), str(found)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"lava-dl failed on {path}:\n{done.stderr[-2000:]}")
        with np.load(found) as file:
            count = sum(name.endswith("_s") for name in file.files)
            return [{k: file[f"N{i}_{k}"] for k in "uvs"} for i in range(count)]


def kwargs_of(path: Path) -> dict[str, int]:
    """The arguments for lava-dl's `Network` that `netx.write` left in the file."""
    import h5py

    with h5py.File(path) as file:
        return json.loads(file["snnkit"][()])["kwargs"] if "snnkit" in file else {}


def differences(graph: Graph, trace: loihi.Trace, theirs: list[dict[str, np.ndarray]]) -> list[str]:
    names = [n for n, p in graph.populations.items() if p.neuron != INPUT]
    words = []
    for name, want in zip(names, theirs, strict=True):
        for k, mine in (("u", trace.u), ("v", trace.v), ("s", trace.spikes)):
            wrong = np.argwhere(mine[name][:, 0] != want[k])
            if len(wrong):
                words.append(f"{name}: {k} differs first at step {wrong[0][0]}, neuron {wrong[0][1]}")
    return words


def compare(
    title: str, graph: Graph, events: EventBatch, python: str, path: Path | None, samples: int
) -> bool:
    tail = int(graph.metadata.get("steps_tail", 30))
    fine = True
    for b in range(min(samples, len(events))):
        x = events[b].to_dense(int(events.lengths[b]) + tail, np.int64)[:, 0]
        trace = loihi.simulate(graph, x[:, None])
        if path is not None:
            kwargs = kwargs_of(path)
            if (x > 1).any():
                kwargs["input_message_bits"] = netx.MESSAGE_BITS
            theirs = through_lava_dl(path, kwargs, x, python)
        else:
            found = lava.run(graph, x, python=python)
            theirs = [
                {"u": found.u[n][:, 0], "v": found.v[n][:, 0], "s": found.spikes[n][:, 0]} for n in found.u
            ]
        wrong = differences(graph, trace, theirs)
        count = sum(int(trace.spikes[n].sum()) for n in trace.u)
        print(
            f"{title}, sample {b}: {len(x)} steps, {count} spikes: {'; '.join(wrong) or 'equal'}", flush=True
        )
        fine &= not wrong
    return fine


def own_seconds(graph: Graph, event: EventBatch, steps: int) -> float:
    """Seconds a step of the integer model for one sample: the best of seven runs."""
    engine = Engine(graph, dtype="int32", spikes=graph.outputs)
    best = np.inf
    for _ in range(7):
        engine.reset()
        start = time.perf_counter()
        engine.push(event)
        engine.advance(steps)
        best = min(best, time.perf_counter() - start)
    return best / steps


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", type=Path, help="a NetX file or an integer graph")
    parser.add_argument("--events", type=Path, help=".npz with x, int [T, B, N]")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    python = environment()
    if python is None:
        print("No Python 3.10 was found, and lava-nc runs on no later one: nothing was compared with Lava.")
        return 0

    cases: list[tuple[str, Graph, EventBatch, Path | None]] = []
    net = args.net or next(iter(sorted((ROOT / "build" / "demo").glob("*.net"))), None)
    with tempfile.TemporaryDirectory() as folder:
        if net is not None:
            graph = load(net)
            if args.events:
                with np.load(args.events) as file:
                    events = EventBatch.from_dense(file["x"])
            else:
                size = graph.populations[graph.inputs[0]].size
                events = EventBatch.from_dense(np.random.default_rng(0).random((80, 3, size)) < 0.03)
                print(f"no --events: random input of {size} neurons")
            events = sent(graph, events)
            is_netx = net.suffix == ".net"
            cases.append((net.name, graph, events, net if is_netx else None))
        else:
            print("no exported network given or in build/demo: random ones")
        for i, sizes in enumerate(((40, 64, 64, 10), (140, 256, 256, 20))):
            real, events = random_network(sizes, i)
            graph = quantise(real, calibration=events)
            path = Path(folder) / f"{i}.net"
            netx.write(graph, path)
            title = "random " + "-".join(map(str, sizes))
            cases += [(f"{title} through lava-dl", graph, events, path)] if not i else []
            cases.append((f"{title} through the builder", graph, events, None))
        found = [compare(*case[:3], python, case[3], args.samples) for case in cases]
        equal = all(found)
        rows = []
        for title, graph, events, _ in cases:
            if "lava-dl" in title:
                continue
            event = events[0]
            steps = int(event.lengths[0]) + int(graph.metadata.get("steps_tail", 30))
            ours = own_seconds(graph, event, steps)
            theirs = lava.seconds(graph, event.to_dense(steps, np.int64)[:, 0], python=python)
            rows.append({"case": title, "lava_ms_a_step": 1e3 * theirs, "ms_a_step": 1e3 * ours})
            speeds = f"Lava {1e3 * theirs:.2f} ms a step, snnkit {1e3 * ours:.4f} ms"
            print(f"{title}: {speeds}, {theirs / ours:.0f} ×")
    print("all equal" if equal else "NOT equal")
    if args.json:
        args.json.write_text(json.dumps({"equal": equal, "rows": rows}, indent=1))
    return int(not equal)


if __name__ == "__main__":
    sys.exit(main())
