"""A whole compression as one TOML file: train the ANN, convert it, train it at fewer and fewer steps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from torch import nn

from ..datasets import Binned, dataset, images
from ..datasets.images import ImageSplits
from ..errors import DataError
from ..files import PathLike, atomic
from ..graph import Graph
from ..training.checkpoint import load_checkpoint, load_weights
from ..training.config import DataSection, Section, own_options, read_file
from ..training.record import stamp
from .ann import MODELS, build_ann
from .conversion import convert, converted_like
from .fitting import Checkpoint, train_images
from .lowering import encode, lower_spiking
from .measuring import accuracy, measure
from .schedule import Distillation, Training
from .spiking import SpikingNet
from .timesteps import Cost, Stage, check_stages, compress_timesteps


class Data(DataSection):
    """Which images."""

    name: str = "digits"
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    limit: int | None = Field(None, ge=2, description="images of every class")
    seed: int = Field(0, description="of the choice of validation images")

    @field_validator("name")
    @classmethod
    def _has_images(cls, name: str) -> str:
        return dataset(name, "images").name


class Ann(Training):
    """The network without spikes."""

    model: Literal[MODELS] = "vgg5"  # type: ignore[valid-type]
    width: float = Field(1.0, gt=0)
    hidden: int = Field(512, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    epochs: int = Field(30, ge=1)
    lr: float = Field(1e-3, gt=0)


class Snn(Training, Distillation):
    """Conversion and stages."""

    stages: tuple[int, ...] = (5, 4, 3, 2, 1)
    percentile: float = Field(90.0, gt=0, le=100)
    calibration_images: int = Field(512, ge=1)
    calibration_steps: int = Field(500, ge=1)
    per_channel: bool = False
    floor: float | None = Field(None, description="stop below this validation accuracy")
    direct: bool = Field(True, description="also T = 1 straight from the ANN, for as many epochs")
    stage_epochs: tuple[int, ...] = Field((), description="epochs of each stage, in place of `epochs`")
    gradients: Literal["float32", "bfloat16"] = Field("float32", description="of convolutions")

    @field_validator("stages")
    @classmethod
    def _falling(cls, stages: tuple[int, ...]) -> tuple[int, ...]:
        check_stages(stages)
        return stages

    @field_validator("stage_epochs")
    @classmethod
    def _one_each(cls, epochs: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        stages = info.data.get("stages", ())
        if epochs and (len(epochs) != len(stages) or min(epochs) < 1):
            raise ValueError(f"give each of the {len(stages)} stages its number of epochs, at least 1")
        return epochs


class Run(Section):
    """Seed and machine."""

    seed: int = 0
    threads: int | None = Field(None, ge=1)
    device: str = "cpu"
    chip: str | None = Field("loihi2_scaled", description="profile for energy and latency on a chip")


class CompressionConfig(Section):
    """A whole compression."""

    data: Annotated[SerializeAsAny[Data], own_options(Data)] = Data()
    ann: Ann = Ann()
    snn: Snn = Snn()
    run: Run = Run()


def image_data(graph: Graph, split: str) -> Binned:
    """The images that a lowered network was trained on ("train", "valid" or "test"), as its input events.

    Raises `DataError` if the Graph's metadata does not say which.
    """
    known = graph.metadata.get("images")
    if known is None:
        raise DataError("the Graph does not say what images it was trained on.")
    data = images.load(**known)
    if list(data.classes) != list(graph.metadata["classes"]):
        raise DataError(f"the network knows {len(graph.metadata['classes'])} classes, {data.name} others.")
    x, y = data.normalised(split)
    events = encode(x, int(graph.metadata["steps"]))
    unknown = np.full(len(y), -1)
    return Binned(events, y, unknown, data.classes, graph.dt, int(np.prod(x.shape[1:])), data.name)


def load_stage(config: CompressionConfig, folder: PathLike, stage: str) -> SpikingNet:
    """The network of a stage of a finished or unfinished run, at the epoch that validation chose.

    stage  "T5", "T1", … or "direct"
    """
    name = "direct_T1.pt" if stage == "direct" else f"stage_{stage}.pt"
    first, last = (load_checkpoint(Path(folder) / file) for file in ("ann.pt", name))
    ann = _ann(config, len(first["classes"]), first["inputs"])
    load_weights(ann, first["best"], Path(folder) / "ann.pt")
    network = converted_like(ann, last["best"], per_channel=config.snn.per_channel)
    load_weights(network, last["best"], Path(folder) / name)
    network.steps = 1 if stage == "direct" else int(stage.removeprefix("T"))
    return network.eval()


def load_compression(path: PathLike, overrides: tuple[str, ...] | list[str] = ()) -> CompressionConfig:
    """Read a TOML file; `overrides` are ``"snn.epochs=3"`` strings.

    Raises `ConfigError` with every problem of the file.
    """
    return read_file(path, overrides, CompressionConfig, "snn.epochs=3")


def compress_run(
    config: CompressionConfig,
    folder: PathLike,
    resume: bool = False,
    *,
    cost: Cost | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run into `folder`: ann.pt, stage_T5.pt …, graph.h5 of the last stage, result.json; returns the last.

    With `resume` everything that is there is kept and an unfinished stage goes on at its last epoch. The
    test images are touched once, at the end: each stage's network, as validation chose it, and the ANN.

    cost      see `compress_timesteps`
    report    called with a row an epoch
    progress  show a bar for the ANN and for each stage
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    about = {k: v for k, v in config.data.model_dump().items() if k != "name"}
    data = images.load(config.data.name, **about)
    torch.manual_seed(config.run.seed)
    ann = _ann(config, len(data.classes), data.train[0].shape[1:]).to(config.run.device)
    fit = train_images(
        ann, data, config.ann.schedule(), seed=config.run.seed,
        checkpoint=Checkpoint(folder / "ann.pt", resume),
        report=None if report is None else lambda row: report({"T": 0, "stage_from": "", **row}),
        progress=progress,
    )  # fmt: skip
    s, network = config.snn, _converted(config, ann, data)
    done = compress_timesteps(
        network, data, s.stages, [s.schedule(epochs=n) for n in s.stage_epochs or [s.epochs] * len(s.stages)],
        teacher=ann, seed=config.run.seed, folder=folder, resume=resume, floor=s.floor, direct=s.direct,
        cost=cost, report=report, progress=progress,
    )  # fmt: skip
    ann_test = accuracy(ann, *data.normalised("test"))
    rows = _rows(config, network, data, done.stages, ann_test)
    last = [stage for stage in done.stages if stage.stage_from != "direct"][-1]
    network.load_state_dict(last.state)
    network.steps = last.T
    _graph(config, network, data).save(folder / "graph.h5")
    result = {
        "images": data.name,
        "ann_valid_accuracy": fit.valid_accuracy,
        "ann_accuracy": ann_test,
        "stopped": done.stopped,
        "stages": rows,
        "graph": str(folder / "graph.h5"),
    }
    with atomic(folder / "result.json") as temporary:
        temporary.write_text(
            json.dumps({**result, "configuration": config.model_dump(mode="json")}, indent=1)
        )
    return result


def _ann(config: CompressionConfig, classes: int, shape: Sequence[int]) -> nn.Sequential:
    """The ANN of a run, for images of shape [C, H, W], with the weights that the torch seed gives."""
    a = config.ann
    return build_ann(a.model, classes, shape[0], shape[1], width=a.width, dropout=a.dropout, hidden=a.hidden)


def _converted(config: CompressionConfig, ann: nn.Sequential, data: ImageSplits) -> SpikingNet:
    """The spiking network of a trained ANN, calibrated on training images that the seed chooses."""
    s, shown = config.snn, data.normalised("train")[0]
    chosen = np.random.default_rng([config.run.seed, 1]).permutation(len(shown))[: s.calibration_images]
    network = convert(
        ann, shown[chosen], s.percentile, steps=s.stages[0], calibration_steps=s.calibration_steps,
        per_channel=s.per_channel,
    )  # fmt: skip
    network.mixed = s.gradients == "bfloat16"
    return network


def _rows(
    config: CompressionConfig, network: SpikingNet, data: ImageSplits, stages: list[Stage], ann_test: float
) -> list[dict[str, Any]]:
    """A row a stage, with what it does on the test images."""
    rows = []
    for stage in stages:
        network.load_state_dict(stage.state)
        network.steps = stage.T
        tested = measure(network, *data.normalised("test"))
        rows.append(
            {
                "case": f"{config.data.name} {config.ann.model} ×{config.ann.width:g}",
                **stage.row(),
                "accuracy": tested.accuracy,
                "ann_accuracy": ann_test,
                "spikes_per_neuron": tested.spikes_per_neuron,
                "energy_ratio_paper": tested.energy_ratio_paper,
                **stamp(config.run.seed),
            }
        )
    return rows


def _graph(config: CompressionConfig, network: SpikingNet, data: ImageSplits) -> Graph:
    """The network lowered, knowing its images."""
    metadata = {
        "classes": data.classes,
        "images": config.data.model_dump(mode="json"),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
    }
    return lower_spiking(network, data.train[0].shape[1:], metadata=metadata)
