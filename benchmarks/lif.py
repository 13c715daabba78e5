"""LIF over time, forward and backward, beside SpikingJelly, snnTorch, sinabs and a plain copy.

    python benchmarks/lif.py            prints the rows as JSON, with the machine they were measured on

T = 100, B = 256, N = 256, float32, hard reset detached, ATan. Ours and the peer run alternately in one
process; medians. Before anything is timed the spikes must be equal. `lif_vs_copy` compares with
copying as many bytes: the three arrays that are read (x, gs, h) onto fresh ones of the size of those
that are written (s, h, gx). On a machine that others use too, --processor times one thread's own
processor time instead of the clock on the wall.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from snnkit.machine import processor
from snnkit.neurons import LIF

T, B, N = 100, 256, 256
REPEATS = 7


def medians(
    ours: Callable[[], Any], peer: Callable[[], Any], repeats: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Median times of both in ms, taken alternately after one call of each that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for k in range(repeats + 1):
        for f, kept in zip((ours, peer), times, strict=True):
            start = clock()
            f()
            if k:
                kept.append(1e3 * (clock() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def step_by_step(module: Any, x: torch.Tensor, state: Any) -> torch.Tensor:
    """Spikes of a peer that takes one time step a call."""
    spikes = []
    for x_t in x:
        s, state = module(x_t, state)
        spikes.append(s)
    return torch.stack(spikes)


def rows(repeats: int = REPEATS, clock: Callable[[], float] = time.perf_counter) -> list[dict[str, Any]]:
    """One row a peer: {case, ours_ms, peer, peer_ms, ratio}; `lif_vs_copy` has ours over the copy."""
    import sinabs.activation
    import sinabs.layers
    import snntorch
    from sinabs.activation import SingleExponential, SingleSpike
    from snntorch import surrogate as snn_surrogate
    from spikingjelly.activation_based import neuron as sj
    from spikingjelly.activation_based import surrogate as sj_surrogate

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(T, B, N, generator=generator).mul_(0.5).add_(0.2).requires_grad_()
    cotangent = torch.randn(T, B, N, generator=generator)
    decay = 0.5
    ours = LIF(decay=decay)
    ours_input = LIF(decay=decay, decay_input=True, reset="soft")

    jelly = sj.LIFNode(1 / (1 - decay), False, surrogate_function=sj_surrogate.ATan(), detach_reset=True,
                       step_mode="m")  # fmt: skip
    leaky = snntorch.Leaky(decay, reset_mechanism="zero", spike_grad=snn_surrogate.atan())
    # sinabs decays by exp(−dt/tau); with norm_input the input is scaled by 1 − decay, reset subtracts.
    tau = -1 / torch.log(torch.tensor(decay)).item()
    sina = sinabs.layers.LIF(tau, spike_fn=SingleSpike, surrogate_grad_fn=SingleExponential())

    def run_jelly() -> torch.Tensor:
        jelly.reset()
        return jelly(x)

    def run_leaky() -> torch.Tensor:
        return step_by_step(leaky, x, leaky.init_leaky())

    def run_sina() -> torch.Tensor:
        sina.reset_states()
        return sina(x.transpose(0, 1)).transpose(0, 1)

    peers = [
        ("lif_vs_spikingjelly", "SpikingJelly LIFNode, multi-step, torch backend", ours, run_jelly),
        ("lif_vs_snntorch", "snnTorch Leaky", ours, run_leaky),
        ("lif_vs_sinabs", "sinabs LIF", ours_input, run_sina),
    ]
    table = []
    for case, peer, module, run in peers:
        with torch.no_grad():
            got, want = module(x)[0], run()
        unequal = (got != want).float().mean().item()
        # sinabs computes its decay as an exponential: a rounding may move a spike.
        if unequal > (1e-4 if case == "lif_vs_sinabs" else 0):
            raise SystemExit(f"{case}: {unequal:.2%} of the spikes differ; nothing was timed.")

        def both_ways(forward: Callable[[], torch.Tensor]) -> None:
            torch.autograd.grad(forward(), x, cotangent)

        mine, theirs = medians(
            lambda module=module: both_ways(lambda: module(x)[0]),
            lambda run=run: both_ways(run),
            repeats,
            clock,
        )
        table.append({"case": case, "ours_ms": mine, "peer": peer, "peer_ms": theirs, "ratio": theirs / mine})

    sources = [x.detach(), cotangent, torch.randn(T, B, N, generator=generator)]
    mine, theirs = medians(
        lambda: torch.autograd.grad(ours(x)[0], x, cotangent),
        lambda: [a.clone() for a in sources],
        repeats,
        clock,
    )
    table.append(
        {"case": "lif_vs_copy", "ours_ms": mine, "peer": "copy of the same bytes", "peer_ms": theirs,
         "ratio": mine / theirs}
    )  # fmt: skip
    return table


FIRST = """
import time, torch
from snnkit.neurons import LIF
x = torch.randn(2, 3, 5, requires_grad=True)
start = time.process_time()
LIF(decay=0.5)(x)[0].sum().backward()
print(time.process_time() - start)
"""


def first_call_seconds() -> dict[str, float]:
    """Processor seconds of a process's first forward and backward: compiling, and from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SNNKIT_CACHE": folder}
        compiled, cached = (
            float(subprocess.run([sys.executable, "-c", FIRST], env=environment, capture_output=True,
                                 text=True, check=True).stdout)
            for _ in range(2)
        )  # fmt: skip
    return {"compiled": compiled, "cached": cached}


def main() -> None:
    """Print the rows, the machine and the cost of the first call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--processor", action="store_true", help="one thread, its processor time")
    options = parser.parse_args()
    if options.processor:
        torch.set_num_threads(1)
    clock = time.thread_time if options.processor else time.perf_counter
    print(
        json.dumps(
            {
                "rows": rows(options.repeats, clock),
                "clock": "processor" if options.processor else "wall",
                "first_call_s": first_call_seconds(),
                "machine": f"{processor()}, {torch.get_num_threads()} threads",
                "torch": torch.__version__,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
