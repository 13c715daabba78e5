"""Do learned delays help? Learned, random fixed, width-matched random and no delays, tuned alike.

    python experiments/delays.py spoken_words            # authors' split by speaker
    python experiments/delays.py spoken_digits           # each speaker left out in turn
    python experiments/delays.py spoken_digits --reference  # the dcls + spikingjelly network beside ours
    python experiments/delays.py --table                 # print the tables from the results

The variants with delays get one grid (decay, dropout, initial batch-norm weight), the one without a
grid that suits it; both are searched with a seed of their own on the validation speakers. The winner
is then trained with fresh seeds, its epoch chosen on validation, and the test speakers are evaluated
once a run. Digits are tuned on the first split alone, whose validation speaker is a test speaker of
another. Dropout is drawn for each step. Runs are kept under ``runs/delays``, by job and source, and
not repeated; two run at a time, one thread each.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from snnkit.files import atomic
from snnkit.training.config import parse_config

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "runs" / "delays"
RESULTS = ROOT / "experiments" / "results"

TUNING_SEED = 1000
REVISION_OF_RUNS = 1
"""Raise it when a change of snnkit changes what a run computes: kept runs are then made anew."""
GRID = [
    {"tau_mem": tau, "norm_weight": norm, "dropout": dropout}
    for (tau, norm), dropout in itertools.product([(10.05, 1.0), (100.0, 0.3)], [0.1, 0.4])
]
# Without delays memory is in the neurons: longer time constants, less dropout.
GRID_NONE = [
    {"tau_mem": tau, "norm_weight": 0.3, "dropout": dropout}
    for tau, dropout in itertools.product([50.0, 100.0, 200.0], [0.0, 0.1])
]
VARIANTS: dict[str, dict[str, Any]] = {
    "learned": {"delays": "learned", "hidden": (128, 128)},
    "random": {"delays": "random", "hidden": (128, 128)},
    "random_width_matched": {"delays": "random", "hidden": (204, 204)},
    "none": {"delays": "none", "hidden": (128, 128), "tail": 36},
}
SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
DATA: dict[str, dict[str, Any]] = {
    # runs: (seed, speaker held out); None is the authors' split
    "spoken_words": {"runs": [(s, None) for s in range(5)], "epochs": 35, "tuning_epochs": 20},
    "spoken_digits": {"runs": list(enumerate(SPEAKERS)), "epochs": 18, "tuning_epochs": 9},
}
REFERENCE_EPOCHS, REFERENCE_RUNS = 30, 3


def configuration(
    data: str, fold: str | None, model: dict[str, Any], epochs: int, seed: int
) -> dict[str, Any]:
    """The run as the tree of a configuration file."""
    return {
        "data": {"name": data, "dt": 10.0, "channels": 140, "held_out": fold},
        "model": {"max_delay": 24, "readout": "softmax_sum", "dropout_mask": "step", **model},
        "train": {"epochs": epochs, "batch": 128, "seed": seed, "threads": 1},
    }


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Train as ``job["config"]`` says; validation accuracy, and test predictions where asked for."""
    kept = KEPT / f"{key(job)}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    import numba

    numba.set_num_threads(1)
    from snnkit import datasets
    from snnkit.training import Trainer, build, evaluate
    from snnkit.training.record import stamp

    if job["network"] == "reference":
        from reference import build
    config = parse_config(job["config"])
    data = datasets.load(**config.data.model_dump(), progress=False)
    started = time.perf_counter()
    trainer = Trainer(config, data, kept.with_suffix(""), progress=False, make=build)
    network = trainer.fit(resume=True)
    result = {
        "job": job,
        "validation_accuracy": trainer.best_accuracy,
        "best_epoch": trainer.best_epoch,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "seconds": time.perf_counter() - started,
        "stamp": stamp(config.train.seed),
        "rates": [v for k, v in trainer.history[trainer.best_epoch].items() if k.startswith("rate_")],
    }
    if job["test"]:
        test = evaluate(network, data.test)
        result |= {
            "test_accuracy": test.accuracy,
            "correct": test.correct.astype(int).tolist(),
            "speaker": np.asarray(data.test.speakers).tolist(),
        }
    with atomic(kept) as temporary:
        temporary.write_text(json.dumps(result))
    return result


def key(job: dict[str, Any]) -> str:
    """Names a run by what it depends on: the job and the version of what a run computes."""
    text = json.dumps([REVISION_OF_RUNS, job], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_all(jobs: list[dict[str, Any]], workers: int, note: str) -> list[dict[str, Any]]:
    """All jobs, two at a time, results in order."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        results = []
        for i, result in enumerate(pool.map(run, jobs)):
            results.append(result)
            test = f"  test {result['test_accuracy']:.3f}" if "test_accuracy" in result else ""
            print(
                f"{note} {i + 1}/{len(jobs)}  validation {result['validation_accuracy']:.3f}{test}"
                f"  {result['seconds']:.0f} s",
                flush=True,
            )
        return results


def job(config: dict[str, Any], test: bool, network: str = "snnkit") -> dict[str, Any]:
    return {"config": config, "test": test, "network": network}


def grid_of(variant: str) -> list[dict[str, float]]:
    """The settings a variant is tuned over."""
    return GRID_NONE if variant == "none" else GRID


def tune(data: str, workers: int) -> dict[str, dict[str, Any]]:
    """The grid point of each variant with the best validation accuracy in the first run's split."""
    settings = DATA[data]
    fold, epochs = settings["runs"][0][1], settings["tuning_epochs"]
    points = [(v, g) for v in VARIANTS for g in range(len(grid_of(v)))]
    jobs = [
        job(configuration(data, fold, VARIANTS[v] | grid_of(v)[g], epochs, TUNING_SEED), test=False)
        for v, g in points
    ]
    results = run_all(jobs, workers, f"{data} tuning")
    scores = {p: r["validation_accuracy"] for p, r in zip(points, results, strict=True)}
    tuned = {}
    for v in VARIANTS:
        grid = [scores[v, g] for g in range(len(grid_of(v)))]
        tuned[v] = {"chosen": grid_of(v)[int(np.argmax(grid))], "grid": grid}
    return tuned


def compare(data: str, workers: int) -> None:
    """Tune, train, test; rows into ``results/delays_<data>.json``."""
    settings = DATA[data]
    tuned = tune(data, workers)
    points = [(v, s, f) for s, f in settings["runs"] for v in VARIANTS]
    models = {v: VARIANTS[v] | tuned[v]["chosen"] for v in VARIANTS}
    jobs = [job(configuration(data, f, models[v], settings["epochs"], s), test=True) for v, s, f in points]
    rows = [
        {
            "case": f"{data}/{v}",
            "held_out": f,
            "model": models[v],
            "grid_validation": tuned[v]["grid"],
            **row(result),
        }
        for (v, s, f), result in zip(points, run_all(jobs, workers, f"{data} runs"), strict=True)
    ]
    save(f"delays_{data}.json", rows)


def reference(data: str, workers: int) -> None:
    """The published setting with the authors' packages and with ours, same seeds and batches."""
    model = VARIANTS["learned"] | {"tau_mem": 10.05, "dropout": 0.4, "dropout_mask": "shared"}
    points = [(n, s, f) for s, f in DATA[data]["runs"][:REFERENCE_RUNS] for n in ("reference", "snnkit")]
    jobs = [
        job(configuration(data, f, model, REFERENCE_EPOCHS, s), test=True, network=n) for n, s, f in points
    ]
    rows = [
        {"case": f"{data}/{n}", "held_out": f, "model": model, **row(result)}
        for (n, s, f), result in zip(points, run_all(jobs, workers, f"{data} reference"), strict=True)
    ]
    save(f"reference_{data}.json", rows)


def stamp_of(seed: int) -> dict[str, Any]:
    """Machine, versions, seed and date, for rows made outside `run`."""
    from snnkit.training.record import stamp

    return stamp(seed)


def row(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run, with the share of correct clips of each test speaker."""
    correct, speaker = np.array(result["correct"]), np.array(result["speaker"])
    return {
        "validation_accuracy": result["validation_accuracy"],
        "test_accuracy": result["test_accuracy"],
        "test_accuracy_by_speaker": {
            str(s): float(correct[speaker == s].mean()) for s in np.unique(speaker).tolist()
        },
        "test_clips": len(correct),
        "best_epoch": result["best_epoch"],
        "parameters": result["parameters"],
        "rates": result["rates"],
        "seconds": round(result["seconds"], 1),
        **result["stamp"],
    }


def save(name: str, rows: list[dict[str, Any]]) -> None:
    with atomic(RESULTS / name) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")


def by_speaker(rows: list[dict[str, Any]], case: str) -> np.ndarray:
    """Accuracy of a case on each test speaker, mean over the seeds that have it, ``[speakers]``."""
    found: dict[str, list[float]] = {}
    for r in rows:
        if r["case"] == case:
            for speaker, accuracy in r["test_accuracy_by_speaker"].items():
                found.setdefault(speaker, []).append(accuracy)
    return np.array([np.mean(found[s]) for s in sorted(found)])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over test speakers and its 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def print_tables() -> None:
    """Markdown tables of all results, as in ``experiments/README.md``."""
    for data in DATA:
        path = RESULTS / f"delays_{data}.json"
        if path.exists():
            rows = json.loads(path.read_text())
            print(f"\n{data}: mean over test speakers [95 % t-interval over them], ± spread over runs\n")
            print("| variant | parameters | tuned to | validation | test | learned − this |")
            print("|---|---|---|---|---|---|")
            learned = by_speaker(rows, f"{data}/learned")
            for v in VARIANTS:
                mine = [r for r in rows if r["case"] == f"{data}/{v}"]
                table = by_speaker(rows, f"{data}/{v}")
                model = mine[0]["model"]
                tuned = ", ".join(f"{k} {model[k]}" for k in ("tau_mem", "dropout", "norm_weight"))
                validation = np.mean([r["validation_accuracy"] for r in mine])
                spread = np.std([r["test_accuracy"] for r in mine], ddof=1)
                cells = ["{:.3f} [{:.3f}, {:.3f}] ± {:.3f}".format(*interval(table), spread)]
                difference = learned - table
                cells.append(
                    "—" if v == "learned" else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval(difference))
                )
                print(
                    f"| {v} | {mine[0]['parameters']:,} | {tuned} | {validation:.3f} | {' | '.join(cells)} |"
                )
        path = RESULTS / f"reference_{data}.json"
        if path.exists():
            rows = json.loads(path.read_text())
            print(f"\n{data}: the authors' packages and ours\n")
            print("| network | test by seed | mean | seconds a run |\n|---|---|---|---|")
            for n in ("reference", "snnkit"):
                mine = [r for r in rows if r["case"] == f"{data}/{n}"]
                tests = [r["test_accuracy"] for r in mine]
                seconds = np.mean([r["seconds"] for r in mine])
                print(
                    f"| {n} | {', '.join(f'{t:.3f}' for t in tests)} | {np.mean(tests):.3f} | {seconds:.0f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="*", choices=[*DATA, []], help="default: both")
    parser.add_argument(
        "--reference", action="store_true", help="the dcls + spikingjelly network beside ours"
    )
    parser.add_argument("--table", action="store_true", help="print the tables and stop")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if not arguments.table:
        for data in arguments.data or DATA:
            (reference if arguments.reference else compare)(data, arguments.workers)
    print_tables()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
