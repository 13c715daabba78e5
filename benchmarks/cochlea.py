"""One second of sound to spikes of 700 channels: `snnkit.datasets.cochlea` beside the package lauscher.

    python benchmarks/cochlea.py            # a recording if SNNKIT_DATA has one, else two tones; some minutes
    python benchmarks/cochlea.py --seconds 0.1

Both get the same sound at 48 kHz and compute on one core. Before anything is timed the stages without chance
must be equal, and afterwards the spike counts alike. Times are processor time (children included), so that
what else the machine does matters less, and our clip is timed before, between and after lauscher's stages.
Lauscher's bushy cells run 50 channels at a time: all 700 at once would take 5 GB.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import sys
import types
from pathlib import Path

import h5py
import numpy as np
from scipy import signal

from snnkit.datasets import cochlea
from snnkit.machine import processor

RESULTS = Path(__file__).parent / "results" / "cochlea.json"
RATE = 48_000


def load(seconds: float) -> tuple[np.ndarray, str]:
    """The sound at 48 kHz, and what it is."""
    path = Path(os.environ.get("SNNKIT_DATA", "")) / "asc" / "asc_words.h5"
    count = round(8000 * seconds)
    if path.is_file():
        with h5py.File(path) as file:
            clip = file["samples"][file["offset"][100] : file["offset"][101]]
        peak = int(np.abs(clip).argmax())
        start = min(max(0, peak - count // 2), max(0, len(clip) - count))
        what, clip = "Arabic Speech Commands, clip 100", clip[start : start + count].astype(float)
    else:
        t = np.arange(count) / 8000
        what, clip = "two tones", np.sin(2 * np.pi * 300 * t) + np.sin(2 * np.pi * 2000 * t) * t
    return signal.resample_poly(clip, 6, 1), what


def clock() -> float:
    """Processor time of this process and of its children that have ended, seconds."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    sys.modules.setdefault("soundfile", types.ModuleType("soundfile"))  # only reads files, which we don't
    from lauscher import transformations as peer
    from lauscher.audiowaves import MonoAudioWave
    from lauscher.firing_probability import FiringProbability
    from lauscher.helpers import CommandLineArguments
    from lauscher.membranevelocity import MembraneVelocity

    CommandLineArguments().num_concurrent_jobs = 1
    sound, what = load(args.seconds)
    ours: list[float] = []
    counts: list[int] = []

    def time_ours(repeats: int = 5) -> None:
        for _ in range(repeats):
            start = clock()
            times, _ = cochlea.encode(sound, RATE, seed=args.seed + len(ours))
            ours.append(clock() - start)
            counts.append(len(times))

    cochlea.encode(sound, RATE)  # compiles, and makes the membrane's table or reads it
    peer_seconds = {}

    def timed(name, stage, data):
        start = clock()
        result = stage(data)
        peer_seconds[name] = peer_seconds.get(name, 0.0) + clock() - start
        time_ours()
        print(
            f"lauscher {name}: {peer_seconds[name]:.2f} s   snnkit, all: {np.median(ours):.3f} s", flush=True
        )
        return result

    time_ours()
    wave = timed("level", peer.RmsNormalizer(0.3), MonoAudioWave(sound.copy(), RATE))
    wave = timed("flanks", peer.HanningWindow(0.03, 0.03), wave)
    velocity = timed("membrane", peer.BasilarMembrane(channels=700), wave)

    some = np.arange(0, 700, 50)
    exact = cochlea.Cochlea(sample_rate=None, pad_ms=None, precision="double")
    mine = cochlea.membrane(cochlea.prepare(sound, RATE, exact), RATE, exact)[:, some]
    error = np.abs(mine.T - velocity.channels[some]).max() / np.abs(velocity.channels).max()
    probability = timed(
        "hair cells", peer.HairCell(), MembraneVelocity(velocity.channels, velocity.sample_rate)
    )
    mine = cochlea.release(mine, RATE // 2, exact)
    error = max(error, np.abs(mine.T / probability.channels[some] - 1).max())
    if not error < 1e-6:
        sys.exit(f"the stages differ by {error:.2g}: nothing is timed that is not equal")

    np.random.seed(args.seed)  # noqa: NPY002 - the generator that lauscher draws from
    spikes = 0
    for lo in range(0, 700, 50):
        part = FiringProbability(probability.channels[lo : lo + 50], probability.sample_rate)
        spikes += len(timed("bushy cells", peer.BushyCell(), part).spike_times)
    spread = 5 * max(np.std(counts), 5.0)
    if abs(spikes - np.mean(counts)) > spread:
        sys.exit(
            f"{spikes} spikes against {np.mean(counts):.0f} ± {np.std(counts):.0f}: not the same distribution"
        )

    total = sum(peer_seconds.values())
    row = {
        "case": f"cochlea, {args.seconds:g} s of {what}, 48 kHz, 700 channels, processor time",
        "ours_ms": round(1e3 * float(np.median(ours)), 2),
        "ours_min_ms": round(1e3 * min(ours), 2),
        "ours_repeats": len(ours),
        "peer": "lauscher",
        "peer_ms": round(1e3 * total, 1),
        "peer_stages_ms": {name: round(1e3 * seconds, 1) for name, seconds in peer_seconds.items()},
        "ratio": round(total / float(np.median(ours)), 1),
        "largest_relative_difference": float(error),
        "spikes": round(float(np.mean(counts)), 1),
        "spikes_sd": round(float(np.std(counts)), 1),
        "peer_spikes": spikes,
        "machine": processor(),
        "versions": {
            "python": platform.python_version(),
            **{
                name: importlib.metadata.version(name)
                for name in ("snnkit", "lauscher", "numpy", "scipy", "numba")
            },
        },
        "seed": args.seed,
        "date": datetime.date.today().isoformat(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([row], indent=2) + "\n")
    print(f"snnkit {row['ours_ms']} ms, lauscher {row['peer_ms']} ms: {row['ratio']} times faster")


if __name__ == "__main__":
    main()
