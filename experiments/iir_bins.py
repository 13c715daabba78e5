"""Coarser bins on spoken digits: 10 → 20 → 40 ms stage by stage, and 40 ms from scratch.

    SNNKIT_DATA=… python experiments/iir_bins.py [--out DIR] [--runs 3]

The demo's network (140-128-128-10 with learned delays). Run k has seed k and keeps another speaker for the
test. The stages have 12, 6 and 6 epochs; the network at 40 ms from scratch has 24. The last epoch counts,
so nothing is chosen; the test speaker is evaluated once a network. Energy and latency are those of 64
validation recordings on the profile loihi2_scaled. Goes on where it was stopped. Writes
experiments/results/iir_bins.json.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from snnkit.compression import compress_bins
from snnkit.energy import load_profile, measure, place, price
from snnkit.files import atomic
from snnkit.graph import Graph
from snnkit.training.config import Config, load_config
from snnkit.training.evaluation import evaluate
from snnkit.training.record import stamp
from snnkit.training.run import load_data

ROOT = Path(__file__).parent
BINS, EPOCHS = (10.0, 20.0, 40.0), (12, 6, 6)
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
CHIP = "loihi2_scaled"


def cost(graph: Graph, events: Any) -> dict[str, float]:
    """Energy and latency of an inference on the chip."""
    profile = load_profile(CHIP)
    assert profile.chip is not None
    mapping = place(graph, profile.chip, "neurons_only")
    priced = price(measure(graph, events, mapping=mapping), profile)
    assert priced.latency_us is not None
    return {f"energy_nj_{CHIP}": priced.total_pj / 1e3, f"latency_us_{CHIP}": float(priced.latency_us.mean())}


def load(config: Config) -> Any:
    """The recordings in the configuration's bins; synthetic voices are no recordings."""
    splits = load_data(config, progress=False)
    if splits.synthetic:
        raise SystemExit("The Free Spoken Digit Dataset is not there; set SNNKIT_DATA.")
    return splits


def rows(out: Path, seed: int) -> list[dict[str, Any]]:
    """Stages and the run from scratch, for one seed and test speaker."""
    common = [f"train.seed={seed}", f"data.held_out={SPEAKERS[seed]!r}", "train.threads=1"]
    fine = load_config(ROOT / "spoken_digits.toml", common)
    # the same window and time constants; a neuron can't forget faster than in one bin
    ratio = BINS[-1] / BINS[0]
    window = math.ceil(fine.model.max_delay / ratio)
    scratch = load_config(
        ROOT / "spoken_digits.toml",
        [*common, f"data.dt={BINS[-1]}", f"model.max_delay={window}", f"model.tau_mem={BINS[-1] + 0.2}"],
    )
    where = out / f"seed{seed}"
    staged = compress_bins(fine, load, where / "staged", BINS, epochs=EPOCHS, resume=True, cost=cost)
    direct = compress_bins(
        scratch, load, where / "scratch", BINS[-1:], epochs=(sum(EPOCHS),), resume=True, cost=cost
    )
    table = []
    for stage in (*staged, *direct):
        tree = load_config(ROOT / "spoken_digits.toml", [*common, f"data.dt={stage.dt}"])
        row = {**stage.row(), "accuracy": evaluate(stage.network, load(tree).test).accuracy}
        case = "from scratch" if stage in direct else "staged"
        table.append({"case": f"spoken digits, {case}", "held_out": SPEAKERS[seed], **row, **stamp(seed)})
        print(f"seed {seed} {case:12} {stage.dt:g} ms: start {row['valid_accuracy_start']:.4f}, valid "
              f"{row['valid_accuracy']:.4f}, test {row['accuracy']:.4f}, {row['steps']:.0f} steps, "
              f"{row['synops']:.0f} SynOps", flush=True)  # fmt: skip
    return table


def main() -> None:
    """Read the arguments, run all seeds, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT.parent / "runs" / "iir_bins")
    parser.add_argument("--runs", type=int, default=3, choices=range(1, len(SPEAKERS) + 1))
    arguments = parser.parse_args()
    table: list[dict[str, Any]] = []
    for seed in range(arguments.runs):
        table += rows(arguments.out, seed)
    with atomic(ROOT / "results" / "iir_bins.json") as temporary:
        temporary.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
