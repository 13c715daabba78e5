"""What the chip's integers cost: float against 8-bit Loihi on test speakers, with and without fine-tuning.

    python experiments/loihi.py spoken_words --seeds 3

Takes the learned-delay networks of `experiments/delays.py` (training them if they are not kept),
lowers and quantises each, and runs float, quantised and integer networks on the test part: the
accuracies and the share of spikes in common, rung by rung. Fine-tuning trains on for a few epochs with
the chip's rounding in the forward pass. Rows into ``results/loihi_<data>.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from typing import Any

import delays
import numpy as np

from snnkit import datasets
from snnkit.hardware.ladder import ladder
from snnkit.hardware.quantise import quantise
from snnkit.hardware.report import Report
from snnkit.training import Trainer, aware, load_network, lower
from snnkit.training.config import Config, parse_config

TUNED = {
    "epochs": 5,
    "weights": {"lr": 2e-4, "schedule": "cosine", "weight_decay": 0.0},
    "positions": {"lr": 1e-4, "schedule": "cosine"},
    "sigma": 0.23,
}
"""Fine-tuning: short, slow, kernels narrow from the start."""


def trained(data: str, seed: int, fold: str | None, model: dict[str, Any]) -> Any:
    """The network of a run of `experiments/delays.py`."""
    job = delays.job(delays.configuration(data, fold, model, delays.DATA[data]["epochs"], seed), test=True)
    delays.run(job)
    network, _, _ = load_network(delays.KEPT / delays.key(job) / "last.pt")
    return network, parse_config(job["config"])


def fine_tuned(network: Any, config: Config, splits: Any, bits: int) -> Any:
    """The network trained on with the chip's integers in the forward pass; roundings made permanent."""
    tree = config.model_dump()
    tree["train"] |= TUNED
    tree["train"]["seed"] = config.train.seed + 500
    aware.prepare(network.train(), bits=bits)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(parse_config(tree), splits, folder, progress=False, make=lambda *_: network)
        return trainer.fit()


def measure(graph: Any, splits: Any, bits: int) -> dict[str, Any]:
    """Accuracy and spikes of every rung on the test part."""
    some = splits.train.subset(np.linspace(0, len(splits.train) - 1, 128).astype(int)).events
    started = time.perf_counter()
    integer = quantise(graph, bits=bits, calibration=some)
    seconds = time.perf_counter() - started
    found = ladder(graph, integer, splits.test.events, splits.test.labels, tolerance=1.0)
    return {
        "accuracy": {r.name: r.accuracy for r in found.rungs},
        "equal_spikes": {r.name: r.equal for r in found.rungs[1:]},
        "drop_points": 100 * found.drop,
        "quantise_seconds": round(seconds, 2),
        "warnings": Report.of(integer).warnings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="?", default="spoken_words", choices=list(delays.DATA))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 4])
    arguments = parser.parse_args()
    results = json.loads((delays.RESULTS / f"delays_{arguments.data}.json").read_text())
    model = next(r["model"] for r in results if r["case"] == f"{arguments.data}/learned")
    rows = []
    for seed, fold in delays.DATA[arguments.data]["runs"][: arguments.seeds]:
        network, config = trained(arguments.data, seed, fold, model)
        splits = datasets.load(**config.data.model_dump(), progress=False)
        graph = lower(network, metadata={"classes": splits.train.classes})
        for bits in arguments.bits:
            case = {"case": f"{arguments.data}/{bits} bits", "held_out": fold, "fine_tuned": False}
            rows.append(case | measure(graph, splits, bits) | delays.stamp_of(seed))
            print(json.dumps(rows[-1]["accuracy"] | {"bits": bits, "seed": seed}), flush=True)
        bits = arguments.bits[0]
        tuned = lower(fine_tuned(network, config, splits, bits), metadata={"classes": splits.train.classes})
        case = {"case": f"{arguments.data}/{bits} bits", "held_out": fold, "fine_tuned": True}
        row = case | measure(tuned, splits, bits) | delays.stamp_of(seed)
        row["drop_points"] = 100 * (
            rows[-len(arguments.bits)]["accuracy"]["rounded"] - row["accuracy"]["integer"]
        )
        rows.append(row)
        print(json.dumps(row["accuracy"] | {"bits": bits, "seed": seed, "fine_tuned": True}), flush=True)
        delays.save(f"loihi_{arguments.data}.json", rows)


if __name__ == "__main__":
    sys.exit(main())
