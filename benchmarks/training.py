"""A training step of the SHD network with learned delays, beside dcls + SpikingJelly.

    python benchmarks/training.py                writes benchmarks/results/training.json, prints a table
    python benchmarks/training.py --processor    one thread, its processor time: for a machine that is busy

The network is the published one (140-256-256-20, window 25, padding that lets the sequence grow by 12 steps
a layer, batch norm, LIF with decay 0.005, dropout 0.4, leaky read-out, cross entropy of the summed softmax,
two Adams), batch 256 of 100 steps. A fifth of the inputs is not 0 (counts 1 to 3); the bias of the batch
norms is set so that hidden neurons fire in some 8 % of the steps, before dropout. Ours and the peer run
alternately in one process; medians. Before anything is timed both must compute the same.
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import snnkit  # noqa: F401  before torch: it sets how OpenMP's threads wait

# isort: split
import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit import memory
from snnkit.delays import DelayedLinear, sigma_at
from snnkit.machine import processor
from snnkit.neurons import LI, LIF
from snnkit.training.dropout import Dropout
from snnkit.training.network import TimeBatchNorm

SIZES = (140, 256, 256, 20)
STEPS, BATCH, WINDOW, EPOCHS, SIGMA = 100, 256, 25, 150, 12.0
DECAY = 1 - 1 / 1.005
RATE_BIAS = -0.405  # a standard normal exceeds 1.405 in 8 % of cases
NARROW = 0.23
SEED = 0
RESULT = Path(__file__).parent / "results" / "training.json"


class Ours(nn.Module):
    """The network of snnkit's layers."""

    def __init__(self, window: int = WINDOW, dropout: float = 0.4, bfloat16: bool = False) -> None:
        super().__init__()
        pairs = itertools.pairwise(SIZES)
        self.delays = nn.ModuleList(
            DelayedLinear(i, o, max_delay=window - 1, bfloat16_gradient=bfloat16) for i, o in pairs
        )
        self.norms = nn.ModuleList(TimeBatchNorm(n) for n in SIZES[1:-1])
        self.neurons = nn.ModuleList(LIF(decay=DECAY, alpha=5.0) for _ in SIZES[1:-1])
        self.dropout, self.readout = Dropout(dropout), LI(decay=DECAY)
        self.rates: list[float] = []

    def set_sigma(self, sigma: float) -> None:
        for layer in self.delays:
            layer.sigma = sigma

    def forward(self, x: Tensor, watch: bool = False) -> Tensor:
        for layer, norm, neuron in zip(self.delays, self.norms, self.neurons, strict=False):
            y = layer(x, padding_right=WINDOW // 2)
            s, x = neuron.after_norm(y, norm, self.dropout.shared(y))
            if watch:
                self.rates.append(s.mean().item())
        v, _ = self.readout(self.delays[-1](x, padding_right=WINDOW // 2))
        return v

    def clamp_(self) -> None:
        for layer in self.delays:
            layer.clamp_()


class Peer(nn.Module):
    """The same network as its authors build it, of dcls and SpikingJelly."""

    def __init__(self, window: int = WINDOW, dropout: float = 0.4) -> None:
        super().__init__()
        from DCLS.construct.modules import Dcls1d
        from spikingjelly.activation_based import functional, layer, neuron, surrogate

        def lif(threshold: float, keep: bool) -> nn.Module:
            return neuron.LIFNode(
                tau=1.005, decay_input=False, v_threshold=threshold, detach_reset=True, step_mode="m",
                surrogate_function=surrogate.ATan(alpha=5.0), store_v_seq=keep,
            )  # fmt: skip

        self.window, self.forget = window, functional.reset_net
        self.delays = nn.ModuleList(
            Dcls1d(i, o, kernel_count=1, groups=1, dilated_kernel_size=window, bias=False, version="gauss")
            for i, o in itertools.pairwise(SIZES)
        )
        for layer_ in self.delays:
            layer_.SIG.requires_grad_(False)
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for n in SIZES[1:-1])
        self.neurons = nn.ModuleList(lif(1.0, False) for _ in SIZES[1:-1])
        self.readout = lif(1e9, True)
        self.dropout = layer.Dropout(dropout, step_mode="m")

    def set_sigma(self, sigma: float) -> None:
        for layer in self.delays:
            layer.SIG.data.fill_(sigma)

    def _delayed(self, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(F.pad(x.permute(1, 2, 0), (self.window - 1, WINDOW // 2)))

    def forward(self, x: Tensor) -> Tensor:
        self.forget(self)
        for layer, norm, neuron in zip(self.delays, self.norms, self.neurons, strict=False):
            x = self.dropout(neuron(norm(self._delayed(layer, x)).permute(2, 0, 1)))
        self.readout(self._delayed(self.delays[-1], x).permute(2, 0, 1))
        return self.readout.v_seq

    def clamp_(self) -> None:
        for layer in self.delays:
            layer.clamp_parameters()

    def copy_(self, other: Ours) -> None:
        """Take weights and positions of ours."""
        with torch.no_grad():
            for mine, theirs in zip(self.delays, other.delays, strict=True):
                mine.weight.copy_(theirs.weight)
                mine.P[0].copy_(self.window // 2 - theirs.position)


class Training:
    """A network with what a step of its training needs."""

    def __init__(self, network: Any, x: Tensor, labels: Tensor) -> None:
        self.network, self.x, self.labels = network, x, labels
        for norm in network.norms:
            nn.init.constant_(norm.bias, RATE_BIAS)
        positions = [p for n, p in network.named_parameters() if n.endswith((".P", "position"))]
        rest = [p for n, p in network.named_parameters() if not n.endswith((".P", "position", "SIG"))]
        # steps of no length, so that every measurement sees the same network
        self.optimisers = [
            torch.optim.Adam(rest, lr=0.0, weight_decay=1e-5),
            torch.optim.Adam(positions, lr=0.0),
        ]

    def loss(self) -> Tensor:
        v = self.network(self.x)
        return F.cross_entropy(torch.softmax(v, -1).sum(0), self.labels)

    def step(self) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        self.loss().backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self.network.clamp_()


def batch(samples: int = BATCH, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Counts ``[T, B, 140]`` of which a fifth is not 0, and labels."""
    g = torch.Generator().manual_seed(SEED)
    shape = (steps, samples, SIZES[0])
    x = (torch.rand(shape, generator=g) < 0.2) * torch.randint(1, 4, shape, generator=g)
    return x.float(), torch.randint(0, SIZES[-1], (samples,), generator=g)


def check_sameness() -> dict[str, float]:
    """Raise unless both compute the same without dropout; gives the differences found."""
    torch.manual_seed(SEED)
    x, labels = batch(16)
    ours, peer = Ours(dropout=0.0), Peer(dropout=0.0)
    peer.copy_(ours)
    a, b = Training(ours, x, labels), Training(peer, x, labels)
    worst = {"layer": 0.0, "loss": 0.0, "gradient": 0.0}
    for sigma in (SIGMA, 1.0, NARROW):
        for network in (ours, peer):
            network.set_sigma(sigma)
        y = ours.delays[0](x, padding_right=WINDOW // 2)
        want = peer._delayed(peer.delays[0], x).permute(2, 0, 1)
        worst["layer"] = max(worst["layer"], ((y - want).abs().max() / want.abs().max()).item())
        losses = [t.loss() for t in (a, b)]
        worst["loss"] = max(worst["loss"], abs(1 - losses[0].item() / losses[1].item()))
        grads = [
            torch.autograd.grad(loss, [layer.weight for layer in t.network.delays])
            for loss, t in zip(losses, (a, b), strict=True)
        ]
        for g, h in zip(*grads, strict=True):
            worst["gradient"] = max(worst["gradient"], ((g - h).norm() / h.norm()).item())
    # a rounding may move a spike, so that the networks agree less closely than the layers
    if worst["layer"] > 1e-5 or worst["loss"] > 1e-3 or worst["gradient"] > 2e-2:
        raise SystemExit(f"ours and the peer differ ({worst}); nothing was timed.")
    return worst


def medians(runs: list[Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> list[float]:
    """Median ms of each, taken in turn after one round that does not count."""
    times: list[list[float]] = [[] for _ in runs]
    for k in range(repeats + 1):
        for run, kept in zip(runs, times, strict=True):
            start = clock()
            run()
            if k:
                kept.append(1e3 * (clock() - start))
    return [statistics.median(kept) for kept in times]


def row(case: str, ours: float, peer: str, theirs: float, ratio: float, **more: Any) -> dict[str, Any]:
    return {"case": case, "ours_ms": ours, "peer": peer, "peer_ms": theirs, "ratio": ratio, **more}


def step_rows(repeats: int, clock: Callable[[], float], at: list[int]) -> list[dict[str, Any]]:
    """The whole step with the σ of epochs `at` of the schedule, and its mean over all epochs."""
    torch.manual_seed(SEED)
    x, labels = batch()
    ours, peer, rough = Ours(), Peer(), Ours(bfloat16=True)
    peer.copy_(ours)
    rough.load_state_dict(ours.state_dict())
    trainings = [Training(n, x, labels) for n in (ours, peer, rough)]
    with torch.no_grad():
        ours.set_sigma(NARROW)
        ours(x, watch=True)
    name = "dcls + SpikingJelly"
    sigmas = [sigma_at(epoch, EPOCHS, SIGMA, NARROW) for epoch in at]
    times = []
    for sigma in sigmas:
        for training in trainings:
            training.network.set_sigma(sigma)
        times.append(medians([t.step for t in trainings], repeats, clock))
        print(f"σ {sigma:6.3f}: {', '.join(f'{t:.0f} ms' for t in times[-1])}", file=sys.stderr)
    mean = [float(np.interp(np.arange(EPOCHS), at, column).mean()) for column in np.array(times).T]
    facts = {
        "hidden_rates": [round(r, 4) for r in ours.rates],
        "input_density": (x != 0).float().mean().item(),
    }
    narrow, wide = times[-1], times[0]
    by_sigma = {f"{s:.3g}": [round(t, 1) for t in ts] for s, ts in zip(sigmas, times, strict=True)}
    rows = []
    for case, (mine, theirs, bf16) in (("step_schedule", mean), ("step_narrow", narrow), ("step_wide", wide)):
        rows.append(row(case, mine, name, theirs, theirs / mine, **facts))
        rows.append(row(f"{case}_bfloat16_gradient", bf16, name, theirs, theirs / bf16))
    rows[0]["by_sigma_ours_peer_bfloat16"] = by_sigma
    return rows


def delay_rows(repeats: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Windows of 101 and 25 delays with the same padding, averaged over narrow and wide by their epochs."""
    x, labels = batch()
    rows = []
    for case, kind in (("max_delay_100_over_25", Ours), ("max_delay_100_over_25_dcls", Peer)):
        trainings = [Training(kind(window), x, labels) for window in (101, 25)]
        for training in trainings:
            training.network.set_sigma(NARROW)
        long, short = medians(
            [t.step for t in trainings], max(1, repeats if kind is Ours else repeats // 2), clock
        )
        rows.append(row(case, long, "the same with max delay 24", short, long / short))
    return rows


def rate_rows(repeats: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Forward and gradient of the synapses of one 256→256 layer at input rates of 10 % and 1 %."""
    rows = []
    layer = DelayedLinear(256, 256, max_delay=24)
    for label, sigma in (("narrow", NARROW), ("wide", SIGMA)):
        layer.sigma = sigma
        runs = []
        for rate in (0.1, 0.01):
            x = (torch.rand(STEPS, BATCH, 256, generator=torch.Generator().manual_seed(SEED)) < rate).float()
            runs.append(lambda x=x: layer(x, padding_right=12).sum().backward())
        dense, sparse = medians(runs, repeats, clock)
        rows.append(row(f"rate_10_over_1_{label}", sparse, "the same at 10 %", dense, dense / sparse))
    return rows


MEMORY = """
import sys
sys.path.insert(0, {folder!r})
import training, torch
kind = training.{kind}
small = training.Training(kind(), *training.batch(4, 20))
small.network.set_sigma({sigma})
small.step()
del small
task = training.Training(kind(), *training.batch())
task.network.set_sigma({sigma})
open("/proc/self/clear_refs", "w").write("5")
def read(key):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(key)) / 1024
before = read("VmRSS")
for _ in range(3):
    task.step()
print(read("VmHWM") - before)
"""


def memory_rows() -> list[dict[str, Any]]:
    """Highest resident memory during steps over what the process held before, each in a fresh process."""
    found = {}
    for kind in ("Ours", "Peer"):
        sizes = []
        for sigma in (SIGMA, NARROW):
            code = MEMORY.format(folder=str(Path(__file__).parent), kind=kind, sigma=sigma)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            sizes.append(float(done.stdout.split()[-1]))
        found[kind] = max(sizes)
    mine, theirs = found["Ours"], found["Peer"]
    return [
        {"case": "memory", "ours_ms": None, "peer": "dcls + SpikingJelly", "peer_ms": None,
         "ours_mb": mine, "peer_mb": theirs, "ratio": theirs / mine}
    ]  # fmt: skip


def lif_rows(repeats: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """The neuron alone; see lif.py."""
    sys.path.insert(0, str(Path(__file__).parent))
    import lif

    return lif.rows(repeats, clock)


def main() -> None:
    """Check, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processor", action="store_true", help="one thread, its processor time")
    parser.add_argument("--only", nargs="*", help="groups: step, delay, rate, memory, lif")
    at = [0, 8, 14, 20, 24, 28, 31, EPOCHS // 4]
    parser.add_argument("--epochs", type=int, nargs="*", default=at, help="whose σ is timed, the last narrow")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.processor:
        torch.set_num_threads(1)
        numba.set_num_threads(1)
    memory.keep_freed()  # as the trainer does; the peer has the good of it too
    clock = time.thread_time if options.processor else time.perf_counter
    groups: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "step": lambda: step_rows(options.repeats, clock, options.epochs),
        "delay": lambda: delay_rows(options.repeats, clock),
        "rate": lambda: rate_rows(options.repeats, clock),
        "memory": memory_rows,
        "lif": lambda: lif_rows(options.repeats, clock),
    }
    differences = check_sameness()
    print(f"the same to {differences}", file=sys.stderr)
    rows = [r for name in options.only or groups for r in groups[name]()]
    versions = {n: importlib.metadata.version(n) for n in ("torch", "numba", "DCLS", "spikingjelly")}
    common = {
        "clock": "processor, one thread" if options.processor else "wall",
        "repeats": options.repeats,
        "load": round(os.getloadavg()[0], 1),
        "machine": f"{processor()}, {torch.get_num_threads()} threads",
        "versions": versions,
        "seed": SEED,
        "date": datetime.date.today().isoformat(),
    }
    rows = [{**r, **common} for r in rows]
    kept = json.loads(options.output.read_text()) if options.only and options.output.exists() else []
    cases = {r["case"] for r in rows}
    rows = [r for r in kept if r["case"] not in cases] + rows
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    for r in rows:
        unit, mine, theirs = (
            ("MB", r["ours_mb"], r["peer_mb"])
            if r["case"] == "memory"
            else ("ms", r["ours_ms"], r["peer_ms"])
        )
        print(f"{r['case']:36} {mine:9.1f} {unit}  {theirs:9.1f} {unit}  {r['ratio']:6.2f}  {r['peer']}")


if __name__ == "__main__":
    main()
