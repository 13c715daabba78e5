"""Files in the layouts of the published datasets, made small, by nothing of snnkit.

`MAKERS`: name of a row of `snnkit.datasets.DATASETS` → what makes its files in a folder.
"""

import gzip
import hashlib
import pickle
import struct
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


def gsc(folder, words=("bed", "yes"), rate=16000):
    rng = np.random.default_rng(0)
    for word in words:
        for speaker in ("0a7c", "b3f1", "c2d4"):
            for k in range(2):
                write_wav(
                    folder / word / f"{speaker}_nohash_{k}.wav", rng.integers(-999, 999, 1600 + k), rate
                )
    write_wav(folder / "_background_noise_" / "hum.wav", rng.integers(-9, 9, 99), rate)
    (folder / "validation_list.txt").write_text(
        "".join(f"{w}/b3f1_nohash_{k}.wav\n" for w in words for k in (0, 1))
    )
    (folder / "testing_list.txt").write_text(f"{words[1]}/c2d4_nohash_0.wav\n")
    return folder


def cifar10(root, per_batch=20, test=10, seed=0):
    """CIFAR-10 as its archive unpacks, small."""
    rng = np.random.default_rng(seed)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    content = {}
    for name, n in [(f"data_batch_{k}", per_batch) for k in range(1, 6)] + [("test_batch", test)]:
        x, y = rng.integers(0, 256, (n, 3072), dtype=np.uint8), (np.arange(n) % 10).tolist()
        content[name] = (x, y)
        (folder / name).write_bytes(pickle.dumps({"data": x, "labels": y, "batch_label": name}, protocol=2))
    return content


def cifar100(root, train=300, test=100, seed=0):
    """CIFAR-100 as its archive unpacks, small; the names of its classes."""
    rng = np.random.default_rng(seed)
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    names = [f"thing{k}" for k in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}, protocol=2))
    for name, n in (("train", train), ("test", test)):
        x = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
        content = {"data": x, "fine_labels": [k % 100 for k in range(n)], "coarse_labels": [0] * n}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return names


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist(root, folder="MNIST", train=60, test=20, seed=0):
    """MNIST or Fashion-MNIST as torchvision leaves them, small, packed."""
    rng = np.random.default_rng(seed)
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for stem, n in (("train", train), ("t10k", test)):
        x, y = rng.integers(0, 256, (n, 28, 28)), np.arange(n) % 10
        (raw / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
        (raw / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y)))


def subset_file(path, seed=0, n=40):
    """As the README of the subset says: differences in both directions, red and blue less green."""
    rng = np.random.default_rng(seed)
    kept = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["classes"] = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"
        for part in ("train", "test"):
            x = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
            kept[part] = x
            coded = x.copy()
            coded[:, 0] -= x[:, 1]
            coded[:, 2] -= x[:, 1]
            coded = np.diff(coded, axis=3, prepend=np.uint8(0))
            coded = np.diff(coded, axis=2, prepend=np.uint8(0))
            data = file.create_dataset(f"{part}/images_residual", data=coded)
            data.attrs["sha256_decoded"] = hashlib.sha256(x.tobytes()).hexdigest()
            file[f"{part}/labels"] = (np.arange(n) % 10).astype(np.uint8)
    return kept


def fsdd(root, seed=0):
    """The Free Spoken Digit Dataset: six speakers, three digits, takes 3 to 6."""
    rng = np.random.default_rng(seed)
    for speaker in ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"):
        for digit in range(3):
            for take in range(3, 7):
                path = root / "recordings" / f"{digit}_{speaker}_{take}.wav"
                write_wav(path, rng.integers(-3000, 3000, rng.integers(800, 1600)), 8000)


def asc(root, seed=0):
    """Arabic Speech Commands: two words by the speakers 1 to 8, takes 1, 2 and 6."""
    rng = np.random.default_rng(seed)
    for word in ("backward", "yes"):
        for speaker in range(1, 9):
            for take in (1, 2, 6):
                path = root / "dataset" / word / f"{speaker:08d}_NO_{take:02d}.wav"
                write_wav(path, rng.integers(-3000, 3000, rng.integers(1600, 3200)), 16000)


def events(name, parts, clips=60, speakers=10):
    """A maker of SHD or SSC: so many clips of three classes in every part."""

    def make(root):
        for seed, part in enumerate(parts):
            times, units, labels = random_clips(seed, clips=clips)
            heidelberg(root / f"{name}_{part}.h5", times, units, labels, np.arange(clips) % speakers)

    return make


def synthesise_digits(speakers, takes, seed, workers=None, **_):
    """In place of eSpeak NG: noise, as many clips as it would speak."""
    from snnkit.datasets import voices

    plan = [(s, w, t) for s in speakers for w in range(20) for t in range(takes)]
    rng = np.random.default_rng(seed)
    clips = [rng.integers(-999, 999, 300).astype(np.int16) for _ in plan]
    words, who = (np.array([clip[k] for clip in plan]) for k in (1, 0))
    return voices.Digits(clips=clips, labels=words, speakers=who, rate=16000)


def bin_file(path, t, x, y, p):
    """A .bin file as N-MNIST's: 5 bytes an event, times below 2**23 µs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for one in zip(t, x, y, p, strict=True):
            when, col, row, up = (int(k) for k in one)
            file.write(bytes([col, row, up << 7 | when >> 16, when >> 8 & 255, when & 255]))


def nmnist(root, train=10, test=3, seed=0):
    """N-MNIST's folders, so many recordings of the digits 0 to 9 in each part."""
    rng = np.random.default_rng(seed)
    for part, count in (("Train", train), ("Test", test)):
        for digit in range(10):
            for k in range(count):
                t = np.sort(rng.integers(0, 40_000, 60))
                x, y, p = (rng.integers(0, n, 60) for n in (34, 34, 2))
                bin_file(root / part / str(digit) / f"{10 * k + digit + 1:05d}.bin", t, x, y, p)


def own_events(root, seed=0):
    """Three files in SHD's layout with 70 channels; nobody is in valid and in another."""
    for k, part in enumerate(("train", "test", "valid")):
        times, units, labels = random_clips(seed + k, clips=60, channels=70)
        path = heidelberg(root / f"{part}.h5", times, units, labels, np.arange(60) % 10 + 5 * k)
        with h5py.File(path, "r+") as file:
            file.attrs["channels"] = 70


def own_audio(root, seed=0):
    """A folder of WAVs for each of two words, take and speaker in the name."""
    rng = np.random.default_rng(seed)
    for word in ("left", "right"):
        for speaker in ("ann", "bob", "cy", "dee", "eve", "fay", "gus", "hal"):
            for take in range(2):
                path = root / word / f"{take}_{speaker}_.wav"
                write_wav(path, rng.integers(-3000, 3000, rng.integers(800, 1600)), 8000)


def nothing(root):
    """For data that need no files."""


MAKERS = {
    "shd": events("shd", ("train", "test")),
    "ssc": events("ssc", ("train", "valid", "test")),
    "gsc": gsc,
    "spoken_digits": fsdd,
    "spoken_words": asc,
    "synthetic_digits": nothing,
    "nmnist": nmnist,
    "events": own_events,
    "audio": own_audio,
    "cifar10_subset": lambda root: subset_file(root / "cifar10" / "cifar10_subset.h5"),
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
    "fashion_mnist": lambda root: mnist(root, "FashionMNIST", seed=1),
    "digits": nothing,
}
