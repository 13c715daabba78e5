"""Files in the layouts of the published datasets, made small, by nothing of snnkit."""

import wave

import h5py
import numpy as np


def heidelberg(path, times, units, labels, speakers=None, keys=("null", "eins", "zwei"), dtype="float16"):
    """A file as zenkelab.org publishes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, rows, kind in (("times", times, dtype), ("units", units, "uint16")):
            data = file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(np.dtype(kind)))
            for i, row in enumerate(rows):
                data[i] = np.asarray(row, kind)
        file["labels"] = np.asarray(labels, np.uint16)
        file["extra/speaker"] = np.asarray(range(len(labels)) if speakers is None else speakers, np.uint16)
        file["extra/keys"] = np.array([k.encode() for k in keys])
        file["extra/meta_info/age"] = np.full(12, 30, np.uint16)
        file["extra/meta_info/gender"] = np.array([b"female"] * 12)
    return path


def random_clips(seed, clips=7, longest=1.2, channels=700, most=400):
    """Sorted times (s) and units of some clips, and their labels."""
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, longest, rng.integers(1, most))) for _ in range(clips)]
    units = [rng.integers(0, channels, len(t)) for t in times]
    return times, units, rng.integers(0, 3, clips)


def write_wav(path, samples, rate, width=2, channels=1):
    """A PCM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples).astype({1: "u1", 2: "<i2"}[width]).tobytes())
