"""`snnkit train`: a configuration becomes a checkpoint and a Graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import PathLike
from ..training.config import load_config
from ..training.run import load_data, validation_of
from ..training.trainer import Trainer


def train_run(
    config: PathLike,
    folder: PathLike,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train what the TOML file `config` says, which writes the best epoch's Graph (graph.h5); a summary.

    Of a network of one's own that no Graph can hold the summary says why, under "no_graph".
    """
    plan, folder = load_config(config, list(overrides)), Path(folder)
    data = load_data(plan, progress)
    trainer = Trainer(plan, data, folder, progress=progress)
    trainer.named = True
    trainer.fit(resume=resume)
    lowered: dict[str, str | None] = {"graph": str(folder / "graph.h5")}
    if trainer.no_graph is not None:
        lowered = {"graph": None, "no_graph": trainer.no_graph}
    return {
        "dataset": data.name,
        "synthetic": data.synthetic,
        "train_clips": len(data.train),
        "valid_clips": len(data.valid),
        "chosen_on": "test" if validation_of(plan) == "test" else "validation",
        "epochs": trainer.epoch,
        "best_epoch": trainer.best_epoch + 1,
        "valid_accuracy": trainer.best_accuracy,
        "parameters": trainer.record["parameters"],
        "seconds": round(trainer.seconds, 1),
        "checkpoint": str(folder / "last.pt"),
        **lowered,
    }
