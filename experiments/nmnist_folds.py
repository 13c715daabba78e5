"""N-MNIST's small set in five folds: the network of nmnist_conv_delays.toml, or a support vector machine.

    python experiments/nmnist_folds.py FOLD [SEED]    # the network, one of five folds
    python experiments/nmnist_folds.py svm            # all five folds

A fold of the 1,000 recordings to train is measured as it is and moved by one pixel; the test part is not
made. The support vector machine is given counts per pixel, polarity and saccade.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from snnkit.datasets.rules import SplitRule
from snnkit.datasets.splits import Splits
from snnkit.events import EventBatch
from snnkit.training import Trainer, evaluate
from snnkit.training.config import load_config
from snnkit.training.run import load_data

FILE = Path(__file__).with_name("nmnist_conv_delays.toml")
MOVES = {"as it is": (0, 0), "up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def moved(data, move):
    """Recordings moved by whole pixels (y, x); what leaves the sensor is lost."""
    x, lengths, _ = data.batch(np.arange(len(data)))
    x = x.reshape(*x.shape[:2], *data.shape)
    for axis, by in zip((3, 4), move, strict=True):
        x = np.roll(x, by, axis)
        if by:
            np.moveaxis(x, axis, 0)[0 if by > 0 else -1] = 0
    return replace(data, events=EventBatch.from_dense(x.reshape(*x.shape[:2], -1), lengths))


def fold_of(whole, fold):
    """Four folds, and the one that is left."""
    rows = SplitRule("kfold", 5, fold).rows(whole.labels, None, whole.name)
    return whole.subset(np.sort(np.concatenate([rows["train"], rows["valid"]]))), whole.subset(rows["test"])


def network(fold, seed):
    """Accuracy of the last epoch's network, for each move."""
    config = load_config(FILE, [f"train.seed={seed}", "train.threads=1", 'data.validation="none"'])
    data = load_data(config)
    train, valid = fold_of(data.train, fold)
    parts = {"train": train, "valid": valid}
    splits = Splits(
        make={part: (lambda some=some: some) for part, some in parts.items()},
        classes=data.classes, dt=data.dt, channels=data.channels, name="nmnist folds", shape=data.shape,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trained = Trainer(config, splits, folder).fit()
    return {name: evaluate(trained, moved(valid, move)).accuracy for name, move in MOVES.items()}


def counts(data):
    """Square roots of the counts in each saccade, [B, 3·N]."""
    x, _, _ = data.batch(np.arange(len(data)), steps=4)
    x[2] += x[3]  # some recordings end a little late
    return np.sqrt(np.concatenate(x[:3], 1))


def machine():
    """Mean accuracy over the folds, for each move."""
    whole = load_data(load_config(FILE, ["data.dt=103.0", 'data.validation="none"'])).train
    found = {name: [] for name in MOVES}
    for fold in range(5):
        train, valid = fold_of(whole, fold)
        fitted = SVC(C=10).fit(counts(train), train.labels)
        for name, move in MOVES.items():
            found[name].append((fitted.predict(counts(moved(valid, move))) == valid.labels).mean())
    return {name: float(np.mean(each)) for name, each in found.items()}


if __name__ == "__main__":
    asked = sys.argv[1]
    print(json.dumps(machine() if asked == "svm" else network(int(asked), int((sys.argv[2:] or [0])[0]))))
