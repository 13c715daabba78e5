"""Training step and memory of a spiking network beside its ANN, at T = 5 and T = 1.

    python benchmarks/compression.py [--models vgg9 resnet20] [--repeats 7] [--batch 64] [--threads 1]

Writes benchmarks/results/compression.json. Spiking step and ANN step run alternately in one process;
medians; a step is forward, cross entropy, backward and Adam on random images 3 × 32 × 32. The ANN is
the network as it is trained (batch norm, ReLU); the spiking one is what `convert` made of it. `naive`
is the same spiking network as it is usually written: a loop over steps, every layer in plain torch.

    step_T5, step_T1      ours / the ANN's step              wanted: ≤ 3, ≤ 1.15
    mixed_T5              the same, ours with `mixed`: gradients of convolutions in bfloat16
    naive_T5              ours / the loop's step
    forward_T1            ours / the ANN's forward pass, evaluation mode, batch norm folded in both
    memory_T5             bytes that autograd keeps for a step, ours / the ANN's  wanted: ≤ 3
    peak_T5               peak of the process above its start, each in a process of its own  wanted: ≤ 3

In the memory rows `ours_ms` and `peer_ms` hold MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from snnkit import backend
from snnkit.compression import SpikingNet, build_ann, convert, fold_batchnorm
from snnkit.compression.walking import Step
from snnkit.files import atomic
from snnkit.training.record import stamp

RESULTS = Path(__file__).parent / "results" / "compression.json"
MODELS = {"vgg9": 0.25, "resnet20": 1.0}
"""Network → width: what `experiments/iir_cifar10.toml` trains, and the published ResNet-20."""


class Naive(nn.Module):
    """A loop over steps in plain torch, everything computed in every step."""

    def __init__(self, network: SpikingNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        run = Step()
        total: Any = 0
        for _ in range(self.network.steps):
            run.once = {}
            total = total + self.network.step(x, run)
        return total


def networks(
    model: str, width: float, batch: int
) -> tuple[nn.Module, SpikingNet, torch.Tensor, torch.Tensor]:
    """The ANN, its spiking network at T = 5, images and labels; no dropout."""
    torch.manual_seed(0)
    ann = build_ann(model, 10, 3, 32, width=width, dropout=0.0, hidden=max(16, round(512 * width)))
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    for _ in range(2):
        ann(x)
    return ann, convert(ann, x, calibration_steps=3), x, y


def stepper(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    """One training step."""
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-4, amsgrad=True)
    module.train()

    def step() -> None:
        loss = F.cross_entropy(module(x), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def medians(ours: Callable[[], Any], peer: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median times of both in ms, taken alternately after one call of each that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for k in range(repeats + 1):
        for f, kept in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            f()
            if k:
                kept.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def kept_mib(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """MiB that autograd holds between forward and backward pass, each memory counted once."""
    module.train()
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    held: dict[int, torch.UntypedStorage] = {}  # keeps them alive, so that no address comes twice
    hooks = torch.autograd.graph.saved_tensors_hooks

    class Watching(hooks):
        """Counts what `pack` makes of a tensor."""

        def __init__(self, pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> None:
            def counted(tensor: torch.Tensor) -> Any:
                packed = pack(tensor)
                storage = (packed if isinstance(packed, torch.Tensor) else packed[0]).untyped_storage()
                if storage.data_ptr() not in own:
                    held[storage.data_ptr()] = storage
                return packed

            super().__init__(counted, unpack)

    torch.autograd.graph.saved_tensors_hooks = Watching  # the network's own hooks are counted too
    try:
        with Watching(lambda t: t, lambda t: t):
            loss = F.cross_entropy(module(x), y)
    finally:
        torch.autograd.graph.saved_tensors_hooks = hooks
    loss.backward()
    return sum(storage.nbytes() for storage in held.values()) / 2**20


PEAK = """
import ctypes, sys
import torch
import compression as bench

model, width, batch, which = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(1)

def memory(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

ann, network, x, y = bench.networks(model, width, 2)
module = ann if which == "ann" else network
bench.stepper(module, x, y)()  # kernels are compiled
module.zero_grad(set_to_none=True)
x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
step = bench.stepper(module, x, y)
ctypes.CDLL("libc.so.6").malloc_trim(0)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts again from here
before = memory("VmRSS")
step()
step()
print(memory("VmHWM") - before)
"""


def peak_mib(model: str, width: float, batch: int, which: str) -> float:
    """Peak resident memory of two steps, MiB, above that before them, in a process of its own (Linux)."""
    command = [sys.executable, "-c", PEAK, model, str(width), str(batch), which]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    environment["MALLOC_MMAP_THRESHOLD_"] = str(1 << 18)  # memory given back counts as given back
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"the process that measures memory failed:\n{done.stderr}")
    return float(done.stdout)


def rows(model: str, width: float, batch: int, repeats: int) -> list[dict[str, Any]]:
    """All rows of one network."""
    ann, network, x, y = networks(model, width, batch)
    where = f"{model} ×{width:g}, batch {batch}"
    table: list[dict[str, Any]] = []

    def add(case: str, peer: str, pair: tuple[float, float]) -> None:
        table.append({"case": f"{case}, {where}", "ours_ms": pair[0], "peer": peer, "peer_ms": pair[1],
                      "ratio": pair[0] / pair[1], **stamp(0)})  # fmt: skip
        print(
            f"{table[-1]['case']:44} {pair[0]:9.2f} / {pair[1]:9.2f} = {table[-1]['ratio']:.3f}", flush=True
        )

    network.eval()
    naive = Naive(network)
    with torch.no_grad(), backend.use("reference"):
        want = naive(x)
    with torch.no_grad():
        worst = (network(x) - want).abs().max().item() / want.abs().max().item()
    if worst > 1e-3:
        raise SystemExit(f"{where}: scores differ by {worst:.1e} of the largest; nothing was timed.")
    theirs = stepper(ann, x, y)
    for steps in (5, 1):
        network.steps = steps
        add(f"step_T{steps}", "its ANN", medians(stepper(network, x, y), theirs, repeats))
    network.steps, network.mixed = 5, True
    add("mixed_T5", "its ANN", medians(stepper(network, x, y), theirs, repeats))
    network.mixed = False
    add("naive_T5", "loop over steps, plain torch",
        medians(stepper(network, x, y), stepper(naive, x, y), max(repeats // 2, 2)))  # fmt: skip
    add("memory_T5", "its ANN", (kept_mib(network, x, y), kept_mib(ann, x, y)))
    add("peak_T5", "its ANN", (peak_mib(model, width, batch, "snn"), peak_mib(model, width, batch, "ann")))
    network.steps = 1
    folded = fold_batchnorm(ann).eval()
    network.eval()

    def silent(module: nn.Module) -> Callable[[], None]:
        def call() -> None:
            with torch.no_grad():
                module(x)

        return call

    add("forward_T1", "its ANN, batch norm folded", medians(silent(network), silent(folded), 2 * repeats))
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table: list[dict[str, Any]] = []
    for model in arguments.models:
        table += rows(model, MODELS[model], arguments.batch, arguments.repeats)
    for row in table:
        row["threads"] = arguments.threads
    with atomic(RESULTS) as temporary:
        temporary.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
