"""`snnkit evaluate`: how good a checkpoint is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..files import PathLike
from ..training.checkpoint import load_network
from ..training.evaluation import evaluate
from ..training.run import load_data


def evaluate_run(checkpoint: PathLike, split: str = "valid") -> dict[str, Any]:
    """Accuracy and rates of a checkpoint's best epoch on a split of the data it was trained on."""
    network, config, _ = load_network(checkpoint)
    data = getattr(load_data(config), split)
    paper = config.train.protocol == "paper"
    result = evaluate(network, data, config.train.batch, count_padding=paper)
    worst = result.confusion.copy()
    np.fill_diagonal(worst, 0)
    label, guess = np.unravel_index(worst.argmax(), worst.shape)
    confused = f"{result.classes[label]} taken for {result.classes[guess]} {worst.max()} times"
    return {"split": split, **result.summary(), "most_confused": confused}
