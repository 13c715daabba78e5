"""What is minimised and what epochs are chosen by: losses of targets of each kind, metrics, a rate penalty.

`TARGETS` is the only list of kinds; ``train.loss`` and ``Trainer(loss=, metric=)`` replace them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ParameterError, SnnkitError
from .lines import first_line, line_of

Score = Callable[[Any, Tensor], Tensor]
"""``f(out, targets)`` → a scalar, mean over the batch; `out` is a `snnkit.training.network.Output`: scores
[B, C], v [T, B, C], spikes, mask [T, B] and lengths [B]; targets [B, …] are those of the data."""
Count = Callable[[Tensor, Tensor], float]
"""``f(lengths, targets)`` → the number, or sum of weights, that a mean over a batch is divided by."""


def valid_steps(steps: int, lengths: Tensor) -> Tensor:
    """Mask ``[T, B]``: True in the first ``lengths[b]`` steps of sample b."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths[None, :]


def readout_loss(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross entropy of the scores [B, C] against labels int64 [B], mean over the batch.

    weight  of each class [C]: then a weighted mean
    """
    return F.cross_entropy(scores, labels, weight)


def rate_penalty(spikes: list[Tensor], mask: Tensor, target: float) -> Tensor:
    """Σ_layers mean over neurons of max(0, rate − target)²; rate in spikes per neuron and valid step.

    spikes [T, B, N] of each layer, mask bool [T, B] of the steps that count.
    """
    penalty = torch.zeros((), device=mask.device)
    for s in spikes:
        inside = mask[: s.shape[0], :, None]
        rate = (s * inside).sum((0, 1)) / inside.sum()
        penalty = penalty + torch.relu(rate - target).square().mean()
    return penalty


def _class_accuracy(out: Any, labels: Tensor) -> Tensor:
    hard = labels if labels.ndim == 1 else labels.argmax(1)
    return (out.scores.argmax(1) == hard).float().mean()


def _steps_that_count(out: Any, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """v [T, B, C], targets [T, B, …] and mask [T, B] over the steps that all of them have.

    Where a sample's own length is known, no step after it counts: its targets are padding there.
    """
    steps = min(out.v.shape[0], targets.shape[1])
    mask = out.mask[:steps]
    if out.lengths is not None:
        mask = mask & valid_steps(steps, out.lengths)
    return out.v[:steps], targets.transpose(0, 1)[:steps], mask


def _step_loss(out: Any, targets: Tensor) -> Tensor:
    """Cross entropy of v in every step that counts; targets [B, T], negative: not counted."""
    v, wanted, mask = _steps_that_count(out, targets)
    chosen = mask & (wanted >= 0)
    return F.cross_entropy(v[chosen], wanted[chosen]) if chosen.any() else 0 * v.sum()


def _step_accuracy(out: Any, targets: Tensor) -> Tensor:
    v, wanted, mask = _steps_that_count(out, targets)
    chosen = mask & (wanted >= 0)
    return (v[chosen].argmax(-1) == wanted[chosen]).float().mean()


def _trace_loss(out: Any, targets: Tensor) -> Tensor:
    """Mean squared error of v in every step that counts; targets [B, T, C]."""
    v, wanted, mask = _steps_that_count(out, targets)
    return (v[mask] - wanted[mask].to(v.dtype)).square().mean() if mask.any() else 0 * v.sum()


def _inside(lengths: Tensor, targets: Tensor) -> Tensor:
    """Whether each step of the targets [B, T, …] is one of its sample, [B, T]."""
    return valid_steps(targets.shape[1], lengths).T


@dataclass(frozen=True)
class Target:
    """A kind of targets.

    about   what they are
    fits    whether targets of so many axes, whole numbers or not, are of this kind
    loss    what is minimised
    metric  what epochs are chosen by, more is better
    count   what both are means over; None: samples
    """

    about: str
    fits: Callable[[int, bool], bool]
    loss: Score
    metric: Score
    count: Count | None = None


TARGETS = {
    "class": Target(
        "a class, whole numbers [B]",
        lambda axes, whole: axes == 1 and whole,
        lambda out, labels: readout_loss(out.scores, labels),
        _class_accuracy,
    ),
    "steps": Target(
        "a class in every step, whole numbers [B, T], negative where there is none",
        lambda axes, whole: axes == 2 and whole,
        _step_loss,
        _step_accuracy,
        lambda lengths, targets: float((_inside(lengths, targets) & (targets >= 0)).sum()),
    ),
    "trace": Target(
        "potentials of the outputs, reals [B, T, C]",
        lambda axes, whole: axes == 3 and not whole,
        _trace_loss,
        lambda out, targets: -_trace_loss(out, targets),
        lambda lengths, targets: float(_inside(lengths, targets).sum()),
    ),
}
"""Name → kind of targets; another is another row."""


def kind_of(targets: np.ndarray) -> str | None:
    """The first name in `TARGETS` that fits `targets`, [B, …]; None: no kind does."""
    whole = targets.dtype.kind in "iub"
    return next((name for name, target in TARGETS.items() if target.fits(targets.ndim, whole)), None)


def is_class(targets: np.ndarray) -> bool:
    """Whether `targets` are one class a sample, whole numbers [B]."""
    return kind_of(targets) == "class"


@dataclass(frozen=True)
class Objective:
    """What a run minimises, and what its epochs are chosen by.

    loss, metric  ``f(out, targets)`` → a scalar, see `Score`
    classes       whether targets are classes [B], so that accuracy and confusion have a meaning
    accuracy      whether `metric` is the share of samples classified correctly
    loss_count, metric_count  what each is a mean over; None: samples
    """

    loss: Score
    metric: Score
    classes: bool
    accuracy: bool
    loss_count: Count | None = None
    metric_count: Count | None = None


def objective(
    labels: np.ndarray, *, loss: Score | None = None, metric: Score | None = None,
    weights: Sequence[float] | None = None,
) -> Objective:  # fmt: skip
    """The objective for targets like `labels`; `loss` and `metric` replace the kind's own.

    weights  of the classes, for the cross entropy

    With a loss of one's own and targets of no known kind, the metric is its negative. Raises
    `ParameterError` for targets that none of `TARGETS` fits where no loss is given, and for weights that
    have nothing to act on.
    """
    kind = kind_of(labels)
    classes = kind == "class"
    if weights is not None and (loss is not None or not classes):
        raise ParameterError(
            "train.class_weights weigh the cross entropy of classes; with "
            + ("a loss of one's own" if loss is not None else "other targets")
            + " leave them out, and weigh in the loss."
        )
    if kind is None and loss is None:
        known = "; ".join(target.about for target in TARGETS.values())
        raise ParameterError(
            f"targets of shape {list(labels.shape)} and dtype {labels.dtype} have no loss of their own "
            f"(those that have: {known}); give train.loss = 'package.module:function' or Trainer(loss=…)."
        )
    loss, metric = (own_score(given, name) for name, given in (("loss", loss), ("metric", metric)))
    own = metric is None and classes
    count = None if kind is None else TARGETS[kind].count
    loss_count, metric_count = (None if given is not None else count for given in (loss, metric))
    if loss is None:
        loss = TARGETS[str(kind)].loss
        if weights is not None:
            loss, loss_count = _weighted(torch.tensor(list(weights)))
    if metric is None:
        metric = TARGETS[kind].metric if kind is not None else _negative(loss)
    return Objective(
        loss=loss, metric=metric, classes=classes, accuracy=own, loss_count=loss_count,
        metric_count=metric_count,
    )  # fmt: skip


def own_score(function: Score | None, name: str) -> Score | None:
    """`function` as it is called; what it raises and gives is looked at. None stays None.

    name  "loss", which must give a tensor, or "metric", which may give a number

    Raises `ParameterError` for what is no function; where it is called, for what it can't do with an `Output`
    and targets, and for anything but one number.
    """
    if function is None:
        return None
    if not callable(function) or isinstance(function, type):
        also = f"; the name of one, package.module:function, goes to train.{name}"
        raise ParameterError(
            f"{name} = {function!r} is no function f(out, targets) that gives one number"
            f"{also if isinstance(function, str) else ''}."
        )
    called = getattr(function, "__qualname__", type(function).__qualname__)

    def score(out: Any, targets: Tensor) -> Tensor:
        try:
            value = function(out, targets)
        except SnnkitError:
            raise
        except (TypeError, AttributeError, ValueError, IndexError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ParameterError(
                f"{name} {called} failed ({first_line(error)}){line_of(error)}. It is called with an Output: "
                f"out.scores {list(out.scores.shape)}, out.v {list(out.v.shape)}, out.mask "
                f"{list(out.mask.shape)}, out.lengths; and targets {list(targets.shape)} of {targets.dtype}. "
                f"A function of scores is {name}=lambda out, targets: f(out.scores, targets)."
            ) from error
        if name == "metric" and isinstance(value, int | float | np.number):
            return torch.tensor(float(value))
        if isinstance(value, Tensor) and value.numel() == 1:
            return value.reshape(())
        given = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ParameterError(
            f"{name} {called} gave {given}; it should give "
            + ("a tensor of one number that has a gradient" if name == "loss" else "one number")
            + ", the mean over the batch."
        )

    return score


def _weighted(weights: Tensor) -> tuple[Score, Count]:
    """The weighted cross entropy, and its divisor: the sum of weights; the samples, for mixed labels."""

    def count(lengths: Tensor, labels: Tensor) -> float:
        mixed = labels.ndim > 1
        return len(labels) if mixed else float(weights.double()[labels.cpu()].sum())

    return lambda out, labels: readout_loss(out.scores, labels, weights.to(out.scores)), count


def _negative(loss: Score) -> Score:
    return lambda out, targets: -loss(out, targets)


def class_weights(
    setting: str | Sequence[float] | None, labels: np.ndarray, classes: int
) -> list[float] | None:
    """The weight of each class: None, the given ones, or "balanced": samples / (classes · its samples).

    A class without samples weighs 1; it takes no part. Raises `ParameterError` for another number of weights.
    """
    if setting is None:
        return None
    if isinstance(setting, str):
        counts = np.bincount(labels, minlength=classes)
        there = np.count_nonzero(counts)
        return [float(len(labels) / (there * n)) if n else 1.0 for n in counts]
    if len(setting) != classes:
        raise ParameterError(f"train.class_weights has {len(setting)} weights for {classes} classes.")
    return [float(w) for w in setting]


def balanced_order(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many samples as there are, in random order, of every class equally many (to one).

    No sample of a class comes again before all of it have come. int64 [B]
    """
    classes = np.unique(labels)
    quota = np.full(len(classes), len(labels) // len(classes))
    quota[rng.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen = []
    for label, n in zip(classes, quota, strict=True):
        rows = np.flatnonzero(labels == label)
        rounds = [rng.permutation(rows) for _ in range(-(-int(n) // len(rows)))]
        chosen.append(np.concatenate(rounds)[:n] if rounds else rows[:0])
    return rng.permutation(np.concatenate(chosen))
