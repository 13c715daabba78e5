"""Fewer and fewer time steps: train at T = 5, then at 4, 3, 2, 1, each from the network before (IIR-SNN)."""

from __future__ import annotations

import copy
import hashlib
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from ..datasets.images import ImageSplits
from ..errors import CheckpointError, ParameterError, ShapeError
from ..files import PathLike
from ..training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ..training.evaluation import evaluating
from ..training.record import stamp
from .ann import NORMS
from .measuring import Measured, accuracy, measure
from .schedule import PUBLISHED, Schedule
from .spiking import SpikingNet

Cost = Callable[[SpikingNet, np.ndarray], dict[str, float]]
"""``cost(network, images)``: further figures of a stage, such as energy and latency of a chip."""


@dataclass
class Fit:
    """A network trained, with the epoch that is best on validation.

    history  a row an epoch: epoch, loss, valid_accuracy
    """

    best_epoch: int = -1
    valid_accuracy: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


def augmented(x: np.ndarray, rng: np.random.Generator, amount: int, mirror: bool = True) -> np.ndarray:
    """Images ``[B, C, H, W]`` shifted by up to `amount` pixels (0 comes in), half of them mirrored.

    What is drawn for the shifts does not depend on `mirror`.
    """
    if not amount:
        return x
    batch, _, height, width = x.shape
    wide = np.pad(x, ((0, 0), (0, 0), (amount, amount), (amount, amount)))
    down, right = rng.integers(0, 2 * amount + 1, (2, batch))
    mirrored = rng.integers(0, 2, (batch,))
    y = np.empty_like(x)
    for b, turned in enumerate(mirrored):
        cut = wide[b, :, down[b] : down[b] + height, right[b] : right[b] + width]
        y[b] = cut[:, :, ::-1] if turned and mirror else cut
    return y


def _blend(decay: float, average: Sequence[Tensor], now: Sequence[Tensor], seen: Tensor) -> None:
    """average ← Σ_k decay^k·(weights k steps ago) / Σ_k decay^k, which includes the `seen` steps before."""
    share = (1 - decay) / (1 - decay ** (float(seen) + 1))
    for a, b in zip(average, now, strict=True):
        if a.is_floating_point():
            a.lerp_(b, share)
        else:
            a.copy_(b)


def distilled(
    scores: Tensor, labels: Tensor, teacher: Tensor, share: float, temperature: float, steps: int = 1
) -> Tensor:
    """(1 − share)·cross entropy + share·τ²·KL(softmax(teacher/τ) ‖ softmax(scores/(τ·steps))), mean.

    scores and teacher ``[B, classes]``, labels int64 ``[B]``; scores are a sum over `steps`. Hinton,
    Vinyals and Dean 2015 (arXiv 1503.02531), section 2; τ is the temperature, and τ² keeps the size of
    the gradient.
    """
    student, taught = (F.log_softmax(z / temperature, 1) for z in (scores / steps, teacher))
    divergence = F.kl_div(student, taught, reduction="batchmean", log_target=True)
    return (1 - share) * F.cross_entropy(scores, labels) + share * temperature**2 * divergence


def train_images(
    network: nn.Module,
    data: ImageSplits,
    schedule: Schedule,
    *,
    teacher: nn.Module | None = None,
    seed: int = 0,
    checkpoint: PathLike | None = None,
    resume: bool = False,
    about: dict[str, Any] | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Fit:
    """Train on ``data.train`` by cross entropy and leave the network with its best epoch on ``data.valid``.

    Order, augmentation and dropout of an epoch follow from (seed, epoch). With `checkpoint`, a file is
    written after every epoch; with `resume`, a run that was stopped goes on from it to the same numbers.

    teacher  gives the scores that `Schedule.distillation` compares with, see `distilled`; a spiking
             network's are a sum over its steps, and their mean is compared
    about    what else the result depends on, such as the stage it started from: a run that is resumed
             must say the same
    report   called with each row of the history, and how many epochs there are

    Seeds torch's generator in every epoch. A batch norm has no statistics of one image: a last batch of
    one is left out where the network has any.
    """
    if schedule.distillation and teacher is None:
        raise ParameterError(f"distillation = {schedule.distillation} needs a teacher, such as the ANN.")
    if not schedule.distillation:
        teacher = None
    parameter = next(network.parameters())
    (x, y), (x_valid, y_valid) = data.normalised("train"), data.normalised("valid")
    if len(x) == 0 or len(x_valid) == 0:
        raise ParameterError(f"training needs images: {len(x)} to train and {len(x_valid)} to validate on.")
    least = 2 if any(isinstance(m, NORMS) for m in network.modules()) else 1
    if min(schedule.batch, len(x)) < least:
        raise ParameterError(
            f"batch norm needs at least 2 images, the batch is {schedule.batch} of {len(x)} images."
        )
    optimiser: torch.optim.Optimizer
    if schedule.optimiser == "adam":
        optimiser = torch.optim.Adam(
            network.parameters(), lr=schedule.lr, amsgrad=True, weight_decay=schedule.weight_decay
        )
    else:
        optimiser = torch.optim.SGD(
            network.parameters(), lr=schedule.lr, momentum=0.9, weight_decay=schedule.weight_decay
        )
    average = None
    if schedule.average:
        blend = partial(_blend, schedule.average)
        average = AveragedModel(network, multi_avg_fn=blend, use_buffers=True)
    kept = network if average is None else average.module
    fit, best, start = Fit(), dict[str, Tensor](), 0
    path = None if checkpoint is None else Path(checkpoint)
    plan: dict[str, Any] = {}
    if path is not None:
        plan = {
            **schedule.model_dump(mode="json"), "seed": seed,
            "images": _digest(data), "start": _sizes(network),
            "teacher": [] if teacher is None else _sizes(teacher), **(about or {}),
        }  # fmt: skip
    if path is not None and resume and path.exists():
        content = load_checkpoint(path)
        _check_plan(path, content, plan)
        load_weights(network, content["last"], path)
        optimiser.load_state_dict(content["optimiser"])
        if average is not None:
            average.load_state_dict(content["average"])
        fit, best, start = Fit(**content["fit"]), content["best"], content["epoch"]
    clamp = getattr(network, "clamp_", None)
    for epoch in range(start, schedule.epochs):
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr_at(epoch)
        rng = np.random.default_rng([seed, epoch])
        torch.manual_seed(int(rng.integers(2**62)))
        order = rng.permutation(len(x))
        network.train()
        total, seen = 0.0, 0
        for first in range(0, len(x), schedule.batch):
            chosen = order[first : first + schedule.batch]
            if len(chosen) < least:
                continue
            images = torch.from_numpy(augmented(x[chosen], rng, schedule.augment, schedule.mirror)).to(
                parameter
            )
            labels = torch.from_numpy(y[chosen]).to(parameter.device)
            if teacher is None:
                loss = F.cross_entropy(network(images), labels)
            else:
                with torch.no_grad(), evaluating(teacher):
                    taught = teacher(images)
                scores = network(images)
                if taught.shape != scores.shape:
                    raise ShapeError(
                        f"the teacher's scores are {list(taught.shape)}, the network's {list(scores.shape)}; "
                        "both must know the same classes."
                    )
                loss = distilled(
                    scores, labels, taught, schedule.distillation, schedule.temperature,
                    getattr(network, "steps", 1),
                )  # fmt: skip
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            if clamp is not None:
                clamp()
            if average is not None:
                average.update_parameters(network)
            total, seen = total + loss.item() * len(chosen), seen + len(chosen)
        valid = accuracy(kept, x_valid, y_valid)
        row = {"epoch": epoch, "loss": total / seen, "valid_accuracy": valid}
        fit.history.append(row)
        if valid > fit.valid_accuracy:
            fit.valid_accuracy, fit.best_epoch = valid, epoch
            best = {k: v.detach().clone() for k, v in kept.state_dict().items()}
        if report is not None:
            report({**row, "epochs": schedule.epochs})
        if path is not None:
            save_checkpoint(
                path,
                {"record": {"plan": plan, **stamp(seed)}, "classes": list(data.classes),
                 "inputs": list(x.shape[1:]), "epoch": epoch + 1, "fit": asdict(fit), "best": best,
                 "last": dict(network.state_dict()), "optimiser": optimiser.state_dict(),
                 "average": {} if average is None else average.state_dict()},
            )  # fmt: skip
    network.load_state_dict(best)
    network.eval()
    return fit


def _digest(data: ImageSplits) -> str:
    """Names the images that are trained and validated on."""
    found = hashlib.sha256()
    for part in (*data.train, *data.valid):
        found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()[:16]


def _sizes(network: nn.Module) -> list[float]:
    """Σ|v| of every tensor: tells networks apart, but not by what another number of threads rounds."""
    return [float(v.detach().double().abs().sum()) for v in network.state_dict().values()]


def _check_plan(path: Path, content: dict[str, Any], plan: dict[str, Any]) -> None:
    """Raise `CheckpointError` if the file is of another run than `plan` says."""
    then = content["record"].get("plan")
    if then is None or {"optimiser", "fit", "epoch", "average"} - content.keys():
        raise CheckpointError(f"{path} was not written by train_images; choose another folder.")
    for key in sorted(then.keys() | plan.keys()):
        old, new = then.get(key), plan.get(key)
        if key in ("start", "teacher"):
            old, new = old or [], new or []
            if len(old) == len(new) and np.allclose(old, new, rtol=1e-4, atol=0):
                continue
            old, new = "other weights", "these"
        elif old == new:
            continue
        raise CheckpointError(
            f"{path} was trained with {key} = {old!r}, not {new!r}; resume with its own configuration or "
            "choose another folder."
        )


@dataclass
class Stage:
    """One stage: a network trained at T steps.

    stage_from      "ann", "T=5", …: what it started from; "direct" for T = 1 straight from the ANN
    valid           figures on the validation images, at the chosen epoch
    valid_start     validation accuracy before the stage was trained
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


def compress_timesteps(
    network: SpikingNet,
    data: ImageSplits,
    stages: Sequence[int] = (5, 4, 3, 2, 1),
    schedule: Schedule | Sequence[Schedule] = PUBLISHED,
    *,
    teacher: nn.Module | None = None,
    seed: int = 0,
    folder: PathLike | None = None,
    resume: bool = False,
    floor: float | None = None,
    direct: bool = False,
    cost: Cost | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Compression:
    """Train a converted network at the first number of steps, then at each next from the one before.

    Weights, thresholds and decays go on from stage to stage; epochs are chosen on validation; the test
    images are not touched. Chowdhury, Rathi and Roy (arXiv 2110.05929), where a network trained at T = 1
    straight from the ANN falls silent in its deep layers. At the end `network` has the last stage's
    weights and steps.

    stages    falling; steps may be left out, as in (5, 3, 1)
    schedule  one for all stages, or one each
    teacher   for `Schedule.distillation`: the ANN, say
    folder    checkpoint of every stage; with `resume`, stages and epochs that are there are not repeated
    floor     stop after the first stage whose validation accuracy is below
    direct    at the end also train T = 1 from the converted network, for as many epochs as all stages
              had together; comes last in the result, as stage_from "direct"
    cost      ``cost(network, validation images)`` → further columns
    report    called with a row after each epoch
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
    converted = copy.deepcopy(network.state_dict())
    done = Compression([])

    def run(T: int, origin: str, one: Schedule, label: str) -> Stage:
        network.steps = T
        checkpoint = None if folder is None else Path(folder) / f"{label}.pt"
        images, labels = data.normalised("valid")
        before = accuracy(network, images, labels)
        started = time.perf_counter()

        def tell(row: dict[str, float]) -> None:
            if report is not None:
                report({"T": T, "stage_from": origin, **row})

        fit = train_images(
            network, data, one, teacher=teacher, seed=seed, checkpoint=checkpoint, resume=resume,
            about={"T": T, "stage_from": origin}, report=tell,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        figures = {} if cost is None else cost(network, images)
        state = copy.deepcopy(network.state_dict())
        return Stage(
            T, origin, one.epochs, fit.best_epoch, before, measure(network, images, labels), seconds,
            figures, state,
        )  # fmt: skip

    origin = "ann"
    for T, one in zip(plan, schedules, strict=True):
        stage = run(T, origin, one, f"stage_T{T}")
        done.stages.append(stage)
        origin = f"T={T}"
        if floor is not None and stage.valid.accuracy < floor:
            done.stopped = (
                f"T = {T} reaches {stage.valid.accuracy:.4f} on validation, below the floor of {floor}."
            )
            break
    if direct:
        network.load_state_dict(converted)
        epochs = sum(stage.epochs for stage in done.stages)
        last = schedules[-1].schedule(epochs=epochs)
        done.stages.append(run(1, "direct", last, "direct_T1"))
        network.load_state_dict(done.stages[-2].state)
        network.steps = done.stages[-2].T
    return done
