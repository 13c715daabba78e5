"""NetX files as lava-dl's blocks lay them out, written with h5py alone."""

import h5py
import numpy as np

from tests.conftest import RECORDINGS

PEERS = RECORDINGS / "peers" / "netx"
"""Files that lava-dl's authors trained and published."""


def weights(rng, *shape, low=-60, high=60):
    """Even integers in float32, as lava-dl trains them."""
    return 2.0 * rng.integers(low // 2, high // 2, shape).astype(np.float32)


def layer(file, kind, **fields):
    """The next layer of a file: its group, with `fields` as arrays."""
    group = file.create_group(f"layer/{len(file.get('layer', ()))}")
    group.create_dataset("type", data=np.array([kind], "S10"))
    for key, value in fields.items():
        group[key] = value
    return group


def neuron(group, kind="CUBA", **fields):
    """A layer's neurons; `fields` replace the usual ones."""
    usual = {"iDecay": 4096, "vDecay": 150, "vThMant": 80, "refDelay": 1, "gradedSpike": False}
    for key, value in (usual | fields).items():
        group[f"neuron/{key}"] = value
    group.create_dataset("neuron/type", data=kind, dtype=h5py.string_dtype("ascii"))


def flatten(file, size):
    """A layer that says that an image is read as a vector of `size`."""
    layer(file, "flatten", shape=np.array([size, 1, 1]))


def vectors(file, rng):
    """An input layer with neurons as the PilotNet and MNIST tutorials have, then dense layers of every shape
    in which biases, decays and delays are taken."""
    old = {"wgtExp": 0, "theta": 1600, "tauRho": 0.5, "scaleRho": 10.0}
    group = layer(file, "input", shape=np.array([9]), weight=np.array([36.0]), bias=np.array([14.0]))
    neuron(group, "LOIHI", vDecay=1024, vThMant=25, **old)
    group = layer(file, "dense", shape=np.array([8]), weight=weights(rng, 8, 9), bias=np.array([7.0]))
    neuron(group, iDecay=np.arange(8) * 500, vDecay=np.arange(8) * 99, vThMant=80 + np.arange(8))
    late = rng.uniform(0, 5, 7).astype(np.float32)
    group = layer(file, "dense", shape=np.array([7, 1, 1]), weight=weights(rng, 7, 8), delay=late)
    neuron(group, iDecay=np.array([700]), vThMant=60)
    group = layer(file, "dense", shape=np.array([6]), weight=weights(rng, 42), bias=np.float32(-3), delay=2.0)
    neuron(group)
    layer(file, "dense", shape=np.array([4]), weight=weights(rng, 4, 6) + np.float32(0.5))


def images(file, rng):
    """An image with a negative input weight, convolutions with biases and decays of every shape."""
    group = layer(file, "input", shape=np.array([2, 6, 7]), weight=np.float32(-40), bias=np.float32(22))
    neuron(group, vThMant=50)
    plain = {"stride": 1, "padding": 1, "dilation": 1, "groups": 2}
    bias = weights(rng, 7, 6, 4, low=-20, high=20)
    group = layer(
        file, "conv", shape=np.array([4, 6, 7]), weight=weights(rng, 4, 1, 3, 3), bias=bias, **plain
    )
    neuron(group, iDecay=900)
    pairs = {"stride": [2, 1], "padding": [0, 1], "dilation": [1, 2], "groups": 1}
    pairs = {key: np.array(value) if key != "groups" else value for key, value in pairs.items()}
    weight = weights(rng, 3, 4, 2, 3, 1, low=-20, high=40)
    bias = weights(rng, 3, low=-9, high=9)
    group = layer(file, "conv", shape=np.array([3, 3, 5]), weight=weight, bias=bias, **pairs)
    neuron(group, iDecay=np.array([100, 900, 4096]), vThMant=np.array([60, 90, 120]))
    flatten(file, 45)
    neuron(layer(file, "dense", shape=np.array([5, 1, 1]), weight=weights(rng, 5, 45)))


def recurrent(file, rng):
    """Recurrent layers, and an input layer of a column of neurons without a weight."""
    neuron(layer(file, "input", shape=np.array([12, 1, 1])), vThMant=90)
    flatten(file, 12)
    group = layer(
        file, "dense_rec", shape=np.array([10]), weight=weights(rng, 10, 12),
        weight_rec=weights(rng, 10, 10), bias=weights(rng, 10, low=-8, high=8),
    )  # fmt: skip
    neuron(group, iDecay=500)
    layer(file, "dense", shape=np.array([3]), weight=weights(rng, 3, 10))
    neuron(file["layer/3"], vDecay=0, vThMant=(1 << 18) - 1)


KINDS = {"vectors": vectors, "images": images, "recurrent": recurrent}


def make(path, kind):
    """Write a file of one of `KINDS`; `path`."""
    with h5py.File(path, "w") as file:
        KINDS[kind](file, np.random.default_rng(1))
    return path
