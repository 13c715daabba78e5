"""IIR-SNN on scikit-learn's digits: T = 5 → 1, T = 5 → 3 → 1, and T = 1 straight from the ANN.

    python experiments/iir_digits.py [--out DIR] [--seeds 0 1 2]

For every seed one ANN, its conversion, and the runs from it; T = 5 → 1 also with as many epochs at T = 1
as the run straight from the ANN has. Every network is the one that validation
chose; the 360 test images are looked at once, at the end of a run. Goes on where it was stopped.
Writes experiments/results/iir_digits.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from snnkit.commands.compress import compress
from snnkit.files import atomic

ROOT = Path(__file__).parent
COLUMNS = (
    "case", "T", "stage_from", "accuracy", "ann_accuracy", "valid_accuracy", "spikes_per_neuron",
    "energy_ratio_paper", "energy_ratio_memory", "synops", "latency_us_loihi2_scaled", "epochs",
    "seconds", "seed", "machine", "versions", "date",
)  # fmt: skip


def rows(config: Path, out: Path, seed: int, skips: bool) -> list[dict[str, Any]]:
    """All stages of one seed."""
    plans = {"staged": (["snn.direct=true"], ())}
    if skips:  # what is the same as in the first plan is not trained again
        longer = "snn.stage_epochs=[60, 60, 60, 60, 300]"
        plans["skipping"] = (["snn.direct=false", "snn.stages=[5, 3, 1]"], ("ann", "stage_T5"))
        plans["longer at T = 1"] = (
            ["snn.direct=false", longer], ("ann", "stage_T5", "stage_T4", "stage_T3", "stage_T2")
        )  # fmt: skip
    table = []
    for label, (settings, same) in plans.items():
        folder = out / f"seed{seed}" / label
        if same:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (f"{part}.pt" for part in same):
                if not (folder / name).exists():
                    shutil.copy(out / f"seed{seed}" / "staged" / name, folder / name)

        def show(row: dict[str, Any], label: str = label) -> None:
            print(f"seed {seed} {label} T={row['T']} {row['stage_from']}: epoch {row['epoch'] + 1}, loss "
                  f"{row['loss']:.4f}, valid {row['valid_accuracy']:.4f}", flush=True)  # fmt: skip

        result = compress(config, folder, [*settings, f"run.seed={seed}"], resume=True, report=show)
        for row in result["stages"]:
            kind = "direct" if row["stage_from"] == "direct" else label
            table.append({**{k: row.get(k) for k in COLUMNS}, "case": f"{row['case']}, {kind}"})
    return table


def run(name: str, skips: bool = True) -> None:
    """Read the arguments, run all seeds, write the results."""
    parser = argparse.ArgumentParser(description=f"Runs {name}.toml; see the file's docstring.")
    parser.add_argument("--out", type=Path, default=ROOT.parent / "runs" / name)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    table = []
    for seed in arguments.seeds:
        table += rows(ROOT / f"{name}.toml", arguments.out, seed, skips)
        with atomic(ROOT / "results" / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(table, indent=1) + "\n")
    for row in table:
        print(f"{row['case']:40} T={row['T']} from {row['stage_from']:7} accuracy {row['accuracy']:.4f} "
              f"(ANN {row['ann_accuracy']:.4f}), {row['spikes_per_neuron']:.3f} spikes a neuron, energy 1/"
              f"{row['energy_ratio_paper']:.1f}, with memory 1/{row['energy_ratio_memory']:.2f}")  # fmt: skip


if __name__ == "__main__":
    run("iir_digits")
