"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numba
import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..datasets import Splits, augment
from ..datasets.splits import Data
from ..errors import DataError, ParameterError
from ..events import EventBatch
from ..files import PathLike, atomic
from ..memory import keep_freed
from .aware import builder
from .checkpoint import check_configuration, load_checkpoint, load_weights, save_checkpoint
from .config import Config, Model
from .evaluation import Evaluation, as_tensors, evaluate
from .losses import rate_penalty, readout_loss
from .network import SpikingClassifier
from .record import run_record
from .schedules import kernel_width, optimisers


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or SIGTERM, after its checkpoint was written."""


class Trainer:
    """Trains a `SpikingClassifier` as a `Config` says and keeps the best epoch.

    Everything random comes from ``config.train.seed``: weights, order of the samples (a permutation
    of the pair seed, epoch), dropout, augmentation. ``folder/last.pt`` is written after every epoch,
    and at Ctrl-C or SIGTERM in the middle of one; `fit` with ``resume=True`` goes on from it and
    ends with the same bits as a run that was never stopped.

    config    the run
    data      splits to train and validate on; the test split is not touched
    folder    where checkpoints, logs and the record go
    progress  show a progress bar
    make      builds the network from (model configuration, inputs, classes, dt), called after seeding;
              None: as ``train.hardware_aware`` says
    """

    def __init__(
        self,
        config: Config,
        data: Splits,
        folder: PathLike,
        progress: bool = True,
        make: Callable[[Model, int, int, float], Any] | None = None,
    ) -> None:
        self.config, self.data, self.folder, self.progress = config, data, Path(folder), progress
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
            numba.set_num_threads(min(config.train.threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        self.train_set = data.train
        self.valid_set = data.valid
        if len(self.train_set) == 0 or len(self.valid_set) == 0:
            raise ParameterError(
                f"training needs samples: {len(self.train_set)} to train and {len(self.valid_set)} to "
                "validate on; check [data] split and held_out."
            )
        if config.train.device == "cuda" and not torch.cuda.is_available():
            raise ParameterError(
                "train.device = 'cuda', but torch sees no GPU here; 'auto' takes what there is."
            )
        self.fabric = Fabric(accelerator=config.train.device, devices=1)
        make = make or builder(config.train.hardware_aware)
        torch.manual_seed(config.train.seed)
        network = make(config.model, self.train_set.channels, len(self.train_set.classes), self.train_set.dt)
        self.network = cast(SpikingClassifier, self.fabric.to_device(network))
        self.groups = optimisers(self.network, config)
        self.epoch, self.batch_index = 0, 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, torch.Tensor] | None = None
        self.best_accuracy, self.best_epoch = -1.0, -1
        self.record = run_record(config)
        self.seconds = 0.0
        self._stop = False
        self._running = {"loss": 0.0, "correct": 0.0, "samples": 0.0}

    def fit(self, resume: bool = False) -> SpikingClassifier:
        """Train to the last epoch (or until patience ends) and return the best network."""
        last = self.folder / "last.pt"
        if last.exists() and not resume:
            raise ParameterError(
                f"{self.folder} holds a run already (last.pt): resume it, or choose another folder."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder} can't be made a folder for the run ({error}).") from error
        self._stop = False
        keep_freed()
        if last.exists():
            self._restore(last)
        board = TensorBoardLogger(self.folder, name="tensorboard", version="")
        with self._signals(), self._bar() as (bar, task):
            while self.epoch < self.config.train.epochs and not self._out_of_patience():
                started = time.perf_counter()
                row = self._run_epoch(bar, task)
                self.seconds += time.perf_counter() - started
                row["seconds"] = self.seconds
                self._save(last)
                board.log_metrics(row, step=row["epoch"])
                board.save()
                self._write_table()
                if self._stop and self.epoch < self.config.train.epochs:
                    raise Interrupted(f"stopped after epoch {self.epoch}; {last} holds all of it")
        board.finalize("success")
        self._write_record()
        if self.best is not None:
            self.network.load_state_dict(self.best)
        return self.network.eval()

    def _run_epoch(self, bar: Progress | None, task: Any) -> dict[str, Any]:
        train = self.config.train
        sigma = kernel_width(train, self.config.model.max_delay, self.epoch)
        self.network.set_sigma(sigma)
        self.network.train()
        order = np.random.default_rng([train.seed, self.epoch]).permutation(len(self.train_set))
        starts = range(0, len(order), train.batch)
        for index in range(self.batch_index, len(starts)):
            chosen = order[starts[index] : starts[index] + train.batch]
            self._train_batch(chosen, np.random.default_rng([train.seed, self.epoch, index]))
            self.batch_index = index + 1
            if bar is not None:
                done = self.epoch + self.batch_index / len(starts)
                bar.update(task, completed=done, note=self._note())
            if self._stop and self.batch_index < len(starts):
                self._save(self.folder / "last.pt")
                raise Interrupted(
                    f"stopped in epoch {self.epoch + 1}; {self.folder / 'last.pt'} holds all of it"
                )
        paper = train.protocol == "paper"
        result = evaluate(self.network, self.valid_set, train.batch, count_padding=paper)
        accuracy = self._score(result)
        for _, schedule in self.groups.values():
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(accuracy)
            else:
                schedule.step()
        if accuracy > self.best_accuracy:
            self.best_accuracy, self.best_epoch = accuracy, self.epoch
            self.best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        samples = self._running["samples"]
        row = {
            "epoch": self.epoch,
            "sigma": sigma,
            "train_loss": self._running["loss"] / samples,
            "train_accuracy": self._running["correct"] / samples,
            "valid_loss": result.loss,
            "valid_accuracy": accuracy,
            **{f"rate_{i}": rate for i, rate in enumerate(result.rates)},
        }
        self.history.append(row)
        self.epoch, self.batch_index = self.epoch + 1, 0
        self._running = dict.fromkeys(self._running, 0.0)
        return row

    def _train_batch(self, chosen: np.ndarray, rng: np.random.Generator) -> None:
        train = self.config.train
        x, lengths, labels = as_tensors(self._augmented(self.train_set, chosen, rng), self.network)
        if train.protocol == "paper":
            lengths = torch.full_like(lengths, x.shape[0])
        out = self.network(x, lengths)
        loss = readout_loss(out.scores, labels)
        total = loss
        if train.rate_strength:
            total = loss + train.rate_strength * rate_penalty(out.spikes, out.mask, train.rate_target)
        for optimiser, _ in self.groups.values():
            optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(total)
        if train.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), train.clip_grad)
        for optimiser, _ in self.groups.values():
            optimiser.step()
        self.network.clamp_()
        self._running["loss"] += loss.item() * len(chosen)
        hard = labels if labels.ndim == 1 else labels.argmax(1)
        self._running["correct"] += (out.scores.argmax(1) == hard).sum().item()
        self._running["samples"] += len(chosen)

    def _augmented(
        self, data: Data, chosen: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch with the configured augmentations; labels are [B], or [B, classes] after CutMix."""
        a = self.config.augment
        changes: list[tuple[bool, Callable[..., EventBatch]]] = [
            (
                a.time_stretch > 0,
                partial(augment.time_stretch, low=1 - a.time_stretch, high=1 + a.time_stretch),
            ),
            (a.time_mask > 0, partial(augment.time_mask, width=a.time_mask)),
            (a.neuron_mask > 0, partial(augment.neuron_mask, width=a.neuron_mask)),
            (a.channel_shift > 0, partial(augment.channel_shift, amount=a.channel_shift)),
            (a.drop_event > 0, partial(augment.drop_event, probability=a.drop_event)),
        ]
        wanted = [change for on, change in changes if on]
        if not wanted and a.cutmix == 0:
            return data.batch(chosen)
        part = data.subset(chosen)
        events, labels = part.events, part.labels
        for change in wanted:
            events = change(events, rng)
        if a.cutmix > 0:
            events, labels = augment.cutmix(events, labels, len(data.classes), rng, probability=a.cutmix)
        return events.to_dense(), events.lengths, labels

    def _score(self, result: Evaluation) -> float:
        if self.config.train.protocol == "paper":
            return float(np.mean(result.batch_accuracies))
        return result.accuracy

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return patience is not None and self.epoch - 1 - self.best_epoch >= patience and self.epoch > 0

    def _note(self) -> str:
        samples = max(self._running["samples"], 1)
        valid = f"  valid {self.history[-1]['valid_accuracy']:.3f}" if self.history else ""
        return (
            f"loss {self._running['loss'] / samples:.3f}  train {self._running['correct'] / samples:.3f}"
            f"{valid}  best {max(self.best_accuracy, 0):.3f}"
        )

    @contextmanager
    def _bar(self) -> Iterator[tuple[Progress | None, Any]]:
        if not self.progress:
            yield None, None
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
            yield bar, bar.add_task("train", total=self.config.train.epochs, completed=self.epoch, note="")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM finish the batch at hand; a second Ctrl-C stops at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = True

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

    def _save(self, path: Path) -> None:
        save_checkpoint(
            path,
            {
                "record": self.record,
                "classes": list(self.train_set.classes),
                "inputs": self.train_set.channels,
                "epoch": self.epoch,
                "batch_index": self.batch_index,
                "running": self._running,
                "history": self.history,
                "seconds": self.seconds,
                "best": self.best,
                "best_accuracy": self.best_accuracy,
                "best_epoch": self.best_epoch,
                "last": dict(self.network.state_dict()),
                "optimisers": {k: o.state_dict() for k, (o, _) in self.groups.items()},
                "schedules": {k: s.state_dict() for k, (_, s) in self.groups.items()},
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        )

    def _restore(self, path: Path) -> None:
        content = load_checkpoint(path)
        check_configuration(path, content, self.config)
        load_weights(self.network, content["last"], path)
        for name, (optimiser, schedule) in self.groups.items():
            optimiser.load_state_dict(content["optimisers"][name])
            schedule.load_state_dict(content["schedules"][name])
        self.record = content["record"]
        for name in ("epoch", "batch_index", "history", "seconds", "best", "best_accuracy", "best_epoch"):
            setattr(self, name, content[name])
        self._running = content["running"]
        torch.set_rng_state(content["random"])
        if torch.cuda.is_available() and content["random_cuda"]:
            torch.cuda.set_rng_state_all(content["random_cuda"])

    def _write_record(self) -> None:
        self.record |= {
            "wall_seconds": self.seconds,
            "best_epoch": self.best_epoch,
            "valid_accuracy": self.best_accuracy,
            "parameters": sum(p.numel() for p in self.network.parameters() if p.requires_grad),
            "history": self.history,
        }
        with atomic(self.folder / "record.json") as temporary:
            temporary.write_text(json.dumps(self.record, indent=1))
        self._save(self.folder / "last.pt")

    def _write_table(self) -> None:
        """The history as ``metrics.csv``, one row an epoch."""
        columns = list(self.history[0])
        lines = [",".join(columns), *(",".join(str(row[c]) for c in columns) for row in self.history)]
        with atomic(self.folder / "metrics.csv") as temporary:
            temporary.write_text("\n".join(lines) + "\n")
