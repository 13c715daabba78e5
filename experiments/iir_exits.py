"""Early exit on scikit-learn's digits: the T = 5 networks of iir_digits.py, as many steps as an image needs.

    python experiments/iir_digits.py --seeds 0 1 2
    python experiments/iir_exits.py [--runs DIR] [--seeds 0 1 2]

The threshold is the one that takes the fewest steps on validation without losing an image there; with it the
360 test images are looked at once. Writes experiments/results/iir_exits.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from snnkit.compression import choose_threshold, early_exit, exit_table, load_compression, load_stage
from snnkit.datasets import images
from snnkit.files import atomic
from snnkit.training.record import stamp

ROOT = Path(__file__).parent
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


def row(runs: Path, seed: int) -> dict[str, Any]:
    """One seed."""
    config = load_compression(ROOT / "iir_digits.toml", [f"run.seed={seed}"])
    about = {k: v for k, v in config.data.model_dump().items() if k != "name"}
    data = images.load(config.data.name, **about)
    network = load_stage(config, runs / f"seed{seed}" / "staged", "T5")
    table = exit_table(network, *data.normalised("valid"), THRESHOLDS)
    threshold = choose_threshold(table)
    x, y = data.normalised("test")
    whole, early = (early_exit(network, x, t) for t in (2.0, threshold))
    return {
        "case": "digits, T = 5 with early exit",
        "threshold": threshold,
        "valid": table,
        "accuracy_all_steps": float((whole.predictions == y).mean()),
        "accuracy": float((early.predictions == y).mean()),
        "mean_steps": float(early.steps.mean()),
        "left_after": (np.bincount(early.steps, minlength=6)[1:] / len(y)).round(4).tolist(),
        **stamp(seed),
    }


def main() -> None:
    """Read the arguments, run all seeds, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=ROOT.parent / "runs" / "iir_digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    table = [row(arguments.runs, seed) for seed in arguments.seeds]
    for r in table:
        print(f"seed {r['seed']}: threshold {r['threshold']}, {r['mean_steps']:.2f} steps, accuracy "
              f"{r['accuracy']:.4f} (all 5 steps: {r['accuracy_all_steps']:.4f}), left after 1, 2, … steps "
              f"{r['left_after']}")  # fmt: skip
    with atomic(ROOT / "results" / "iir_exits.json") as temporary:
        temporary.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
