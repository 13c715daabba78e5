"""Training on images: augmentation, a running average of weights, a teacher; the loop is training's own."""

from __future__ import annotations

import hashlib
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
from ..training.evaluation import evaluating
from ..training.loop import Interrupted, Loop
from ..training.record import stamp
from .ann import NORMS
from .measuring import accuracy
from .schedule import Schedule
from .spiking import SpikingNet


@dataclass
class Fit:
    """A network trained, with the epoch that is best on validation.

    history  a row an epoch: epoch, loss, valid_accuracy, and seconds in all epochs so far
    seconds  in all epochs, of runs that were stopped too
    """

    best_epoch: int = -1
    valid_accuracy: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept.

    resume  go on from the file, if it is there
    about   what else the result depends on, such as the stage it started from: a run that is resumed must
            say the same
    """

    path: Path
    resume: bool = False
    about: dict[str, Any] = field(default_factory=dict)


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


def _blend(decay: float, average: Sequence[Tensor], now: Sequence[Tensor], steps: Tensor) -> None:
    """average ← Σ_k decay^k·(weights k steps ago) / Σ_k decay^k, which includes the `steps` before."""
    share = (1 - decay) / (1 - decay ** (float(steps) + 1))
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
    checkpoint: Checkpoint | None = None,
    report: Callable[[dict[str, float]], None] | None = None,
    progress: bool = False,
) -> Fit:
    """Train on ``data.train`` by cross entropy and leave the network with its best epoch on ``data.valid``.

    Order, augmentation and dropout of an epoch follow from (seed, epoch). With `checkpoint`, a file is
    written after every epoch and at Ctrl-C, see `Loop`; a run that goes on from it gives the same numbers.

    teacher   gives the scores that `Schedule.distillation` compares with, see `distilled`; a spiking
              network's are a sum over its steps, and their mean is compared
    report    called with each row of the history, and how many epochs there are
    progress  show a bar

    Seeds torch's generator in every epoch. A batch norm has no statistics of one image: a last batch of
    one is left out where the network has any.

    Raises `ParameterError` if there are no images, or too few in a batch for a batch norm, or no teacher
    to distil, and what `Loop.run` raises.
    """
    training = _ImageTraining(network, data, schedule, teacher, seed, checkpoint, report)
    training.progress = progress
    training.run(resume=checkpoint is not None and checkpoint.resume)
    if training.stopping:  # in the last batch of all; another stage may be about to begin
        raise Interrupted(f"stopped after epoch {training.epoch}; {training.path} holds all of it")
    assert training.best is not None
    network.load_state_dict(training.best)
    network.eval()
    return training.fit


class _ImageTraining(Loop):
    """`train_images`, batch by batch."""

    def __init__(
        self, network: nn.Module, data: ImageSplits, schedule: Schedule, teacher: nn.Module | None, seed: int,
        checkpoint: Checkpoint | None, report: Callable[[dict[str, float]], None] | None,
    ) -> None:  # fmt: skip
        super().__init__(network, schedule.epochs, None if checkpoint is None else checkpoint.path)
        if schedule.distillation and teacher is None:
            raise ParameterError(f"distillation = {schedule.distillation} needs a teacher, such as the ANN.")
        self.teacher = teacher if schedule.distillation else None
        self.data, self.schedule, self.seed, self.report = data, schedule, seed, report
        (self.x, self.y), (self.x_valid, self.y_valid) = data.normalised("train"), data.normalised("valid")
        self.least = _least_batch(network, schedule.batch, len(self.x), len(self.x_valid))
        self.optimiser = _optimiser(network, schedule)
        self.average = None
        if schedule.average:
            blend = partial(_blend, schedule.average)
            self.average = AveragedModel(network, multi_avg_fn=blend, use_buffers=True)
        self.plan = {} if checkpoint is None else self._plan(checkpoint.about)
        self._rng, self._order = np.random.default_rng(), np.arange(0)
        self._draws: dict[str, Any] = {}

    @property
    def kept(self) -> nn.Module:
        """The running average of weights, or the network itself."""
        return self.network if self.average is None else self.average.module

    @property
    def fit(self) -> Fit:
        """What has been reached."""
        return Fit(
            best_epoch=self.best_epoch, valid_accuracy=self.best_accuracy, history=self.history,
            seconds=self.seconds,
        )  # fmt: skip

    def _plan(self, about: dict[str, Any]) -> dict[str, Any]:
        return {
            **self.schedule.model_dump(mode="json"),
            "seed": self.seed,
            "images": _digest(self.data),
            "start": _sizes(self.network),
            "teacher": [] if self.teacher is None else _sizes(self.teacher),
            **about,
        }

    def _start_epoch(self) -> int:
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.lr_at(self.epoch)
        self._rng = np.random.default_rng([self.seed, self.epoch])
        start = int(self._rng.integers(2**62))
        self._order = self._rng.permutation(len(self.x))
        if self.batch_index == 0:
            torch.manual_seed(start)
        else:  # the checkpoint's states of both generators
            self._rng.bit_generator.state = self._draws
        whole, rest = divmod(len(self.x), self.schedule.batch)
        return whole + (rest >= self.least)

    def _train_batch(self, index: int) -> None:
        schedule, size = self.schedule, self.schedule.batch
        chosen = self._order[index * size : (index + 1) * size]
        parameter = next(self.network.parameters())
        x = augmented(self.x[chosen], self._rng, schedule.augment, schedule.mirror)
        images = torch.from_numpy(x).to(parameter)
        labels = torch.from_numpy(self.y[chosen]).to(parameter.device)
        taught = self._taught(images)
        scores = self.network(images)
        loss = F.cross_entropy(scores, labels) if taught is None else self._distilled(scores, labels, taught)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimiser.step()
        if isinstance(self.network, SpikingNet):
            self.network.clamp_()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self._count(loss, scores, labels)

    def _taught(self, images: Tensor) -> Tensor | None:
        if self.teacher is None:
            return None
        with torch.no_grad(), evaluating(self.teacher):
            taught: Tensor = self.teacher(images)
        return taught

    def _distilled(self, scores: Tensor, labels: Tensor, taught: Tensor) -> Tensor:
        if taught.shape != scores.shape:
            raise ShapeError(
                f"the teacher's scores are {list(taught.shape)}, the network's {list(scores.shape)}; "
                "both must know the same classes."
            )
        steps = self.network.steps if isinstance(self.network, SpikingNet) else 1
        share, temperature = self.schedule.distillation, self.schedule.temperature
        return distilled(scores, labels, taught, share, temperature, steps)

    def _finish_epoch(self) -> dict[str, Any]:
        valid = accuracy(self.kept, self.x_valid, self.y_valid)
        loss = self.running["loss"] / self.running["samples"]
        return {"epoch": self.epoch, "loss": loss, "valid_accuracy": valid}

    def _tell(self, row: dict[str, Any]) -> None:
        if self.report is not None:
            self.report({**row, "epochs": self.epochs})

    def _content(self) -> dict[str, Any]:
        return {
            "record": {"plan": self.plan, **stamp(self.seed)},
            "classes": list(self.data.classes),
            "inputs": list(self.x.shape[1:]),
            "fit": asdict(self.fit),
            "optimiser": self.optimiser.state_dict(),
            "average": {} if self.average is None else self.average.state_dict(),
            "draws": self._rng.bit_generator.state,
        }

    def _checked(self, content: dict[str, Any]) -> dict[str, Any]:
        assert self.path is not None
        _check_plan(self.path, content, self.plan)
        if "history" in content:
            return content
        fit = Fit(**content["fit"])  # a checkpoint from between two epochs, as all once were
        between = {
            "batch_index": 0,
            "running": self.running,
            "history": fit.history,
            "seconds": fit.seconds,
            "best_accuracy": fit.valid_accuracy,
            "best_epoch": fit.best_epoch,
            "random": torch.get_rng_state(),
            "random_cuda": [],
        }
        return between | content

    def _restore(self, content: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(content["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self._draws = content.get("draws", {})


def _least_batch(network: nn.Module, batch: int, train: int, valid: int) -> int:
    """How many images a batch must have; raises `ParameterError` if there are fewer."""
    if train == 0 or valid == 0:
        raise ParameterError(f"training needs images: {train} to train and {valid} to validate on.")
    least = 2 if any(isinstance(m, NORMS) for m in network.modules()) else 1
    if min(batch, train) < least:
        raise ParameterError(f"batch norm needs at least 2 images, the batch is {batch} of {train} images.")
    return least


def _optimiser(network: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    parameters, decay = network.parameters(), schedule.weight_decay
    if schedule.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=schedule.lr, amsgrad=True, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=schedule.lr, momentum=0.9, weight_decay=decay)


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
