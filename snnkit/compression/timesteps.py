"""Fewer and fewer time steps: train at T = 5, then at 4, 3, 2, 1, each from the network before (IIR-SNN)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from torch import Tensor, nn

from ..datasets.images import ImageSplits
from ..errors import ParameterError
from ..files import PathLike
from .fitting import Checkpoint, train_images
from .measuring import Measured, accuracy, measure
from .schedule import PUBLISHED, Schedule
from .spiking import SpikingNet

Cost = Callable[[SpikingNet, np.ndarray], dict[str, float]]
"""``cost(network, images)``: further figures of a stage, such as energy and latency of a chip."""


@dataclass
class Stage:
    """One stage: a network trained at T steps.

    stage_from      "ann", "T=5", …: what it started from; "direct" for T = 1 straight from the ANN
    valid           figures on the validation images, at the chosen epoch
    valid_start     validation accuracy before the stage was trained
    seconds         of all its epochs
    cost            what the callable gave
    state           the network's weights, for `SpikingNet.load_state_dict`
    """

    T: int
    stage_from: str
    epochs: int
    best_epoch: int
    valid_start: float
    valid: Measured
    seconds: float
    cost: dict[str, float]
    state: dict[str, Tensor]

    def row(self) -> dict[str, Any]:
        """Plain numbers for a table."""
        return {
            "T": self.T,
            "stage_from": self.stage_from,
            "valid_accuracy": self.valid.accuracy,
            "valid_accuracy_start": self.valid_start,
            "spikes_per_neuron": self.valid.spikes_per_neuron,
            "energy_pj_paper": self.valid.energy_pj,
            "energy_ratio_paper": self.valid.energy_ratio_paper,
            "epochs": self.epochs,
            "best_epoch": self.best_epoch + 1,
            "seconds": round(self.seconds, 1),
            **self.cost,
        }


@dataclass
class Compression:
    """What `compress_timesteps` gives: the stages in order, and why it ended early, if it did."""

    stages: list[Stage]
    stopped: str = ""

    def table(self) -> list[dict[str, Any]]:
        """A row a stage."""
        return [stage.row() for stage in self.stages]


def check_stages(stages: Sequence[int]) -> None:
    """Raise `ParameterError` if there are none or the steps do not fall."""
    plan = list(stages)
    if not plan or plan[-1] < 1 or any(a <= b for a, b in itertools.pairwise(plan)):
        raise ParameterError(f"stages {plan} must fall from stage to stage and end at 1 or more.")


class Course(TypedDict, total=False):
    """What all stages of a compression have in common, by keyword.

    teacher   for `Schedule.distillation`: the ANN, say
    seed      of the order of the images (0)
    folder    checkpoint of every stage; with `resume`, stages and epochs that are there are not repeated
    cost      ``cost(network, validation images)`` → further columns
    report    called with a row after each epoch
    progress  show a bar for each stage
    """

    teacher: nn.Module | None
    seed: int
    folder: PathLike | None
    resume: bool
    cost: Cost | None
    report: Callable[[dict[str, Any]], None] | None
    progress: bool


def compress_timesteps(
    network: SpikingNet,
    data: ImageSplits,
    stages: Sequence[int] = (5, 4, 3, 2, 1),
    schedule: Schedule | Sequence[Schedule] = PUBLISHED,
    *,
    floor: float | None = None,
    direct: bool = False,
    **course: Unpack[Course],
) -> Compression:
    """Train a converted network at the first number of steps, then at each next from the one before.

    Weights, thresholds and decays go on from stage to stage; epochs are chosen on validation; the test
    images are not touched. Chowdhury, Rathi and Roy (arXiv 2110.05929), where a network trained at T = 1
    straight from the ANN falls silent in its deep layers. At the end `network` has the last stage's
    weights and steps.

    stages    falling; steps may be left out, as in (5, 3, 1)
    schedule  one for all stages, or one each
    floor     stop after the first stage whose validation accuracy is below
    direct    at the end also train T = 1 from the converted network, for as many epochs as all stages
              had together; comes last in the result, as stage_from "direct"
    course    see `Course`

    Raises `ParameterError` for stages that do not fall, another number of schedules, and thresholds ≤ 0.
    """
    plan = list(stages)
    check_stages(plan)
    schedules = [schedule] * len(plan) if isinstance(schedule, Schedule) else list(schedule)
    if len(schedules) != len(plan):
        raise ParameterError(f"there are {len(plan)} stages and {len(schedules)} schedules; give one each.")
    for name, layer in network.spiking():
        if not bool((layer.v_th > 0).all()):
            raise ParameterError(
                f"layer {name!r}: threshold {float(layer.v_th.detach().min())} must be positive."
            )
    training = _Training(network, data, **course)
    converted = copy.deepcopy(network.state_dict())
    done = Compression([])
    origin = "ann"
    for T, one in zip(plan, schedules, strict=True):
        stage = training.stage(T, origin, one, f"stage_T{T}")
        done.stages.append(stage)
        origin = f"T={T}"
        if floor is not None and stage.valid.accuracy < floor:
            done.stopped = (
                f"T = {T} reaches {stage.valid.accuracy:.4f} on validation, below the floor of {floor}."
            )
            break
    if direct:
        network.load_state_dict(converted)
        last = schedules[-1].schedule(epochs=sum(stage.epochs for stage in done.stages))
        done.stages.append(training.stage(1, "direct", last, "direct_T1"))
        network.load_state_dict(done.stages[-2].state)
        network.steps = done.stages[-2].T
    return done


@dataclass(frozen=True)
class _Training:
    """What all stages of a compression share; see `Course`."""

    network: SpikingNet
    data: ImageSplits
    teacher: nn.Module | None = None
    seed: int = 0
    folder: PathLike | None = None
    resume: bool = False
    cost: Cost | None = None
    report: Callable[[dict[str, Any]], None] | None = None
    progress: bool = False

    def stage(self, T: int, origin: str, schedule: Schedule, label: str) -> Stage:
        """Train the network as it is at T steps; `origin` says what it comes from, `label` names its file."""
        network, about = self.network, {"T": T, "stage_from": origin}
        network.steps = T
        checkpoint = None
        if self.folder is not None:
            checkpoint = Checkpoint(Path(self.folder) / f"{label}.pt", self.resume, about)
        images, labels = self.data.normalised("valid")
        before = accuracy(network, images, labels)

        def tell(row: dict[str, float]) -> None:
            if self.report is not None:
                self.report({**about, **row})

        fit = train_images(
            network, self.data, schedule, teacher=self.teacher, seed=self.seed, checkpoint=checkpoint,
            report=tell, progress=self.progress,
        )  # fmt: skip
        return Stage(
            T=T,
            stage_from=origin,
            epochs=schedule.epochs,
            best_epoch=fit.best_epoch,
            valid_start=before,
            seconds=fit.seconds,
            cost={} if self.cost is None else self.cost(network, images),
            valid=measure(network, images, labels),
            state=copy.deepcopy(network.state_dict()),
        )
