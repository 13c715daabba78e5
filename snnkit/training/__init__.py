"""Training: configuration, networks, the trainer, lowering to a Graph.

The names below are imported when first used, so that `snnkit.training.config` costs no torch.
"""

import importlib
from typing import Any

_HOME = {
    "Config": "config",
    "load_config": "config",
    "parse_config": "config",
    "load_data": "run",
    "readout_loss": "losses",
    "SpikingClassifier": "network",
    "build": "network",
    "Trainer": "trainer",
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
    "load_checkpoint": "checkpoint",
    "load_network": "checkpoint",
    "lower": "lowering",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
