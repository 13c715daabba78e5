"""Fewer time steps: an ANN becomes a spiking network at T = 5 and ends at T = 1 (IIR-SNN).

    vgg, resnet20, build_ann, Residual     networks to start from
    fold_batchnorm, convert                ANN → `SpikingNet`
    compress_timesteps, train_images       stage by stage; `Schedule`, `Checkpoint`
    measure                                accuracy, spikes, energy by the paper's formula
    early_exit, exit_table                 as many steps as an image needs
    compress_bins                          the same idea for recordings: coarser bins, delays rescaled
    lower_spiking, encode                  → Graph, and its events
    compress_run, load_compression         a whole run from a TOML file
    load_stage, image_data                 a network of a run; a lowered network's images as events

The names are imported when first used.
"""

import importlib
from typing import Any

_HOME = {
    "Residual": "ann",
    "build_ann": "ann",
    "check_ann": "ann",
    "resnet20": "ann",
    "vgg": "ann",
    "fold_batchnorm": "fold",
    "convert": "conversion",
    "SpikingLayer": "neuron",
    "SpikingNet": "spiking",
    "measure": "measuring",
    "Schedule": "schedule",
    "compress_timesteps": "timesteps",
    "Checkpoint": "fitting",
    "train_images": "fitting",
    "early_exit": "exits",
    "exit_table": "exits",
    "choose_threshold": "exits",
    "compress_bins": "bins",
    "dense_graph": "lowering",
    "encode": "lowering",
    "lower_spiking": "lowering",
    "compress_run": "run",
    "load_compression": "run",
    "load_stage": "run",
    "image_data": "run",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
