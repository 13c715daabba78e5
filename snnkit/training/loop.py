"""The loop that every training shares: batches and epochs, the best epoch, checkpoints, stopping, a bar."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from ..errors import ParameterError
from ..memory import keep_freed
from .checkpoint import load_checkpoint, load_weights, save_checkpoint

PROGRESS = ("epoch", "batch_index", "history", "seconds", "best", "best_accuracy", "best_epoch", "running")
"""Attributes of a `Loop` that a checkpoint holds under the same names."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM, after its checkpoint was written."""


class Loop(ABC):
    """Epochs of batches, of which the one with the best validation accuracy is kept.

    After every epoch, and at Ctrl-C or SIGTERM in the middle of one, a checkpoint is written; `run` with
    ``resume=True`` goes on from it and ends with the same bits as a run that was never stopped. What a
    batch does, what is measured after an epoch, and what else a checkpoint holds, its subclasses say.

    network   is trained
    epochs    so many
    path      of the checkpoint; None: nothing is kept, and Ctrl-C stops at once
    patience  end after so many epochs without a better validation accuracy; None: never
    progress  show a bar

    epoch, batch_index  epochs that are done, and batches of the one at hand
    running             sums over these batches: loss · samples, correct, samples
    history             a row an epoch
    seconds             in all epochs
    stopping            Ctrl-C or SIGTERM asked for an end
    best                the state of `kept` in epoch `best_epoch`, where validation gave `best_accuracy`
    """

    def __init__(
        self, network: nn.Module, epochs: int, path: Path | None, *, patience: int | None = None,
        progress: bool = False,
    ) -> None:  # fmt: skip
        self.network, self.epochs, self.path = network, epochs, path
        self.patience, self.progress = patience, progress
        self.epoch, self.batch_index = 0, 0
        self.running = {"loss": 0.0, "correct": 0.0, "samples": 0.0}
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.best: dict[str, Tensor] | None = None
        self.best_accuracy, self.best_epoch = -1.0, -1
        self.stopping = False

    @property
    @abstractmethod
    def kept(self) -> nn.Module:
        """The network that validation measures."""

    @abstractmethod
    def _start_epoch(self) -> int:
        """Make ready for the batches of `epoch` from `batch_index` on; how many there are in all."""

    @abstractmethod
    def _train_batch(self, index: int) -> None:
        """One step of the optimiser, added to `running`."""

    @abstractmethod
    def _finish_epoch(self) -> dict[str, Any]:
        """A row for the history, with "valid_accuracy": None in an epoch without validation."""

    @abstractmethod
    def _tell(self, row: dict[str, Any]) -> None:
        """Show or log the row of an epoch, before its checkpoint is written."""

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """What a checkpoint holds besides weights, progress and the state of torch's generator."""

    @abstractmethod
    def _checked(self, content: dict[str, Any]) -> dict[str, Any]:
        """The checkpoint of this training; raises `CheckpointError` if it is of another."""

    @abstractmethod
    def _restore(self, content: dict[str, Any]) -> None:
        """Take back what `_content` gave."""

    def run(self, resume: bool = False) -> None:
        """Train to the last epoch, or until patience ends.

        Raises `ParameterError` if the checkpoint exists and is not to be resumed, `CheckpointError` if it
        is of another training, and `Interrupted` once it was stopped and saved.
        """
        if self.path is not None and self.path.exists():
            if not resume:
                raise ParameterError(
                    f"{self.path.parent} holds a run already ({self.path.name}): resume it, or choose "
                    "another folder."
                )
            self._go_on(self.path)
        self.stopping = False
        keep_freed()
        with self._signals(), self._bar() as show:
            while self.epoch < self.epochs and not self._out_of_patience():
                started = time.perf_counter()
                row = self._run_epoch(show)
                self.seconds += time.perf_counter() - started
                row["seconds"] = self.seconds
                self._tell(row)
                self.save()
                if self.stopping and self.epoch < self.epochs:
                    raise Interrupted(f"stopped after epoch {self.epoch}; {self.path} holds all of it")

    def _run_epoch(self, show: Callable[[float], None]) -> dict[str, Any]:
        batches = self._start_epoch()
        self.network.train()
        for index in range(self.batch_index, batches):
            self._train_batch(index)
            self.batch_index = index + 1
            show(self.epoch + self.batch_index / batches)
            if self.stopping and self.batch_index < batches:
                self.save()
                raise Interrupted(f"stopped in epoch {self.epoch + 1}; {self.path} holds all of it")
        row = self._finish_epoch()
        measured = row["valid_accuracy"]
        if measured is not None and measured > self.best_accuracy:
            self.best_accuracy, self.best_epoch = measured, self.epoch
            self.best = {k: v.detach().clone() for k, v in self.kept.state_dict().items()}
        self.history.append(row)
        self.epoch, self.batch_index = self.epoch + 1, 0
        self.running = dict.fromkeys(self.running, 0.0)
        return row

    def _count(self, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        """Add a batch to `running`: its mean loss, scores [B, C], and labels [B] or mixed, [B, C]."""
        hard = labels if labels.ndim == 1 else labels.argmax(1)
        self.running["loss"] += loss.item() * len(labels)
        self.running["correct"] += (scores.argmax(1) == hard).sum().item()
        self.running["samples"] += len(labels)

    def _count_metric(self, loss: Tensor, metric: Tensor, samples: float) -> None:
        """As `_count`, where something else than correct classes is counted."""
        self.running["loss"] += loss.item() * samples
        self.running["correct"] += metric.item() * samples
        self.running["samples"] += samples

    def save(self) -> None:
        """Write the checkpoint, if there is a path for it."""
        if self.path is None:
            return
        save_checkpoint(
            self.path,
            {
                **self._content(),
                **{name: getattr(self, name) for name in PROGRESS},
                "last": dict(self.network.state_dict()),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        )

    def _go_on(self, path: Path) -> None:
        content = self._checked(load_checkpoint(path))
        load_weights(self.network, content["last"], path)
        self._restore(content)
        for name in PROGRESS:
            setattr(self, name, content[name])
        torch.set_rng_state(content["random"])
        if torch.cuda.is_available() and content["random_cuda"]:
            torch.cuda.set_rng_state_all(content["random_cuda"])

    def _out_of_patience(self) -> bool:
        since = self.epoch - 1 - self.best_epoch
        return self.patience is not None and since >= self.patience and self.epoch > 0

    def _note(self) -> str:
        samples = max(self.running["samples"], 1)
        measured = [r["valid_accuracy"] for r in self.history if r["valid_accuracy"] is not None]
        valid = f"  valid {measured[-1]:.3f}" if measured else ""
        return (
            f"loss {self.running['loss'] / samples:.3f}  train {self.running['correct'] / samples:.3f}"
            f"{valid}  best {self.best_accuracy if measured else 0:.3f}"
        )

    @contextmanager
    def _bar(self) -> Iterator[Callable[[float], None]]:
        """Gives what is called with the epochs done, parts of one included."""
        if not self.progress:
            yield lambda done: None
            return
        columns = (
            SpinnerColumn(),
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
            task = bar.add_task("train", total=self.epochs, completed=self.epoch, note="")
            yield lambda done: bar.update(task, completed=done, note=self._note())

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM finish the batch at hand; a second Ctrl-C stops at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.stopping and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopping = True

        if self.path is None:
            yield
            return
        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are the caller's
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
