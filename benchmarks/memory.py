"""Resident memory of `snnkit train` on a made set in the layout of Spiking Speech Commands.

    python benchmarks/memory.py                     # 2,000 clips, under a minute
    python benchmarks/memory.py --clips 105807      # the size of SSC; 7 GB of disk in --folder
    python benchmarks/memory.py -s model.hidden=[512,512,512] -s model.delays=learned

Clips of one second, their spikes drawn evenly over time and 700 channels: speech is denser in places, so it
fills fewer steps and takes less. One epoch is trained and validated, every clip of both parts once, by the
command in a process of its own, whose /proc/PID/status is read every 20 ms: first without the binned cache,
then with it. RssAnon is what the process holds, RssFile its pages of mapped files, which the system takes
back at need.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from snnkit.machine import processor

RESULTS = Path(__file__).parent / "results" / "memory.json"
CONFIG = Path(__file__).parent.parent / "experiments" / "ssc_dcls.toml"
PARTS = {"train": 75_466, "valid": 9_981, "test": 20_360}
FIELDS = ("VmRSS", "RssAnon", "RssFile")


def make(folder: Path, clips: int, events: int) -> dict[str, int]:
    """Files of SSC's names, parts in its shares; the clips of each."""
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 1, events)).astype(np.float16) for _ in range(64)]
    units = [rng.integers(0, 700, events).astype(np.uint16) for _ in range(63)]
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {part: max(70, round(clips * share / sum(PARTS.values()))) for part, share in PARTS.items()}
    for part, size in sizes.items():
        with h5py.File(folder / f"ssc_{part}.h5", "w") as file:
            t = file.create_dataset("spikes/times", (size,), h5py.vlen_dtype(np.float16))
            u = file.create_dataset("spikes/units", (size,), h5py.vlen_dtype(np.uint16))
            for i in range(size):
                t[i], u[i] = times[i % 64], units[i % 63]
            file["labels"] = (np.arange(size) % 35).astype(np.uint16)
            file["extra/keys"] = np.array([f"word {k}".encode() for k in range(35)])
    return sizes


def watch(command: list[str], environment: dict[str, str], binned: Path) -> dict[str, dict[str, float]]:
    """Peaks in MB while `command` bins (until both parts lie in `binned`) and after it; seconds."""
    peaks = {phase: dict.fromkeys(FIELDS, 0.0) for phase in ("binning", "training")}
    start, status = time.perf_counter(), {}
    ended = start if binned.exists() else None
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            if ended is None and len(list(binned.glob("ssc_*-*.h5"))) >= 2:
                ended = time.perf_counter()
            now = {}
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                key, _, value = line.partition(":")
                if key in (*FIELDS, "VmHWM"):
                    now[key] = int(value.split()[0]) * 1024 / 1e6
            status = now or status
            phase = peaks["binning" if ended is None else "training"]
            for key in FIELDS:
                phase[key] = max(phase[key], now.get(key, 0.0))
            time.sleep(0.02)
        said.seek(0)
        text = said.read().decode()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text[-3000:]}")
    done = time.perf_counter()
    if ended is None:
        raise SystemExit(f"no binned cache of two parts in {binned}:\n{text[-3000:]}")
    peaks["binning"]["seconds"], peaks["training"]["seconds"] = ended - start, done - ended
    if ended == start:
        del peaks["binning"]
    peaks["whole"] = {"VmHWM": status["VmHWM"], "seconds": done - start}
    return {phase: {k: round(v, 1) for k, v in one.items()} for phase, one in peaks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--events", type=int, default=8000, help="of each clip")
    parser.add_argument("--folder", type=Path, help="where the files are made; else a temporary folder")
    parser.add_argument("-s", "--set", action="append", default=[], help="settings of the run, key=value")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    settings = ["model.hidden=[64]", "model.delays=none", "train.threads=1", "train.epochs=1", *args.set]
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made)
        sizes = make(folder / "data", args.clips, args.events)
        environment = os.environ | {"SNNKIT_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        binned = folder / "cache" / "binned"
        runs = {}
        for name in ("first", "again"):
            command = [sys.executable, "-m", "snnkit", "train", str(CONFIG), "--out", str(folder / name)]
            for setting in (f"data.root={folder / 'data'}", *settings):
                command += ["-s", setting]
            runs[name] = watch(command, environment, binned)
            print(name, json.dumps(runs[name]), flush=True)
        disk = {
            "events": sum(p.stat().st_size for p in (folder / "data").iterdir()) / 1e6,
            "binned": sum(p.stat().st_size for p in binned.iterdir()) / 1e6,
        }
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": processor(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "torch", "h5py", "numba")},
        "clips": sizes,
        "events_each": args.events,
        "settings": settings,
        "megabytes_on_disk": {k: round(v, 1) for k, v in disk.items()},
        "megabytes_resident_at_most": runs,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
