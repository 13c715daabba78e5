"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..datasets import Splits, augment
from ..datasets.splits import Data
from ..errors import DataError, ParameterError
from ..events import EventBatch
from ..files import PathLike, atomic
from ..graph import Graph
from .aware import builder
from .checkpoint import check_configuration, check_data, handed, start_weights
from .config import Config, Model
from .evaluation import Evaluation, as_tensors, measured
from .facts import KEY, Facts
from .loop import Loop
from .losses import rate_penalty, readout_loss
from .lowering import lower
from .network import inputs_of
from .own import build_named, runner
from .record import run_record
from .schedules import kernel_width, optimisers

_log = logging.getLogger("snnkit.training")


class Trainer(Loop):
    """Trains a `SpikingClassifier`, or a module of one's own, as a `Config` says and keeps the best epoch.

    Everything random comes from ``config.train.seed``: weights, order of the samples (a permutation
    of the pair seed, epoch), dropout, augmentation. The checkpoint is ``folder/last.pt``, see `Loop`.

    config    the run
    data      splits to train and validate on; the test split is not touched
    folder    where checkpoints, logs and the record go
    progress  show a progress bar
    make      builds the network from (model configuration, inputs, classes, dt), called after seeding;
              None: as ``train.hardware_aware`` says
    network   a module of one's own instead: x [T, B, *shape], time first, to potentials or spikes of its
              outputs [T, B, C], which `model.readout` reads; or (x, lengths) to an `Output`. Its neurons'
              rates are penalised, the positions and σ of its delays learned as those of ours

    named     whether the configuration's ``[data]`` gives `data` again, as the commands say; checkpoint and
              Graph then find them by it. False: they must be handed over again
    """

    network: Any

    def __init__(
        self,
        config: Config,
        data: Splits,
        folder: PathLike,
        progress: bool = True,
        make: Callable[[Model, Any, int, float], Any] | None = None,
        network: nn.Module | None = None,
    ) -> None:
        self.config, self.data, self.folder = config, data, Path(folder)
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
        self.facts, self.named = Facts.of(data), data.name == config.data.name
        if config.train.device == "cuda" and not torch.cuda.is_available():
            raise ParameterError(
                "train.device = 'cuda', but torch sees no GPU here; 'auto' takes what there is."
            )
        self.fabric = Fabric(accelerator=config.train.device, devices=1)
        self.handed = None if network is None else _full_name(network)
        torch.manual_seed(config.train.seed)
        own = self._own(network, make)
        made = own
        if made is None:
            make = make or builder(config.train.hardware_aware)
            made = make(config.model, inputs_of(self.train_set), len(self.facts.classes), self.facts.dt)
        super().__init__(
            self.fabric.to_device(made), config.train.epochs, self.folder / "last.pt",
            patience=config.train.patience, progress=progress,
        )  # fmt: skip
        outputs = len(self.facts.classes)
        self.runner = runner(self.network, config.model, self.facts.shape, outputs, made=own is None)
        self.groups = optimisers(cast(Any, self.runner), config)
        self.record = run_record(config)
        self._board = TensorBoardLogger(self.folder, name="tensorboard", version="")
        self._order = np.arange(0)

    def _own(self, network: nn.Module | None, make: Any) -> nn.Module | None:
        """The module of one's own, handed over or named by the configuration; None: there is none."""
        named = self.config.model.network
        if sum(x is not None for x in (network, make, named)) > 1:
            raise ParameterError("give one of network=, make= and model.network.")
        if named is not None:
            network = build_named(named, self.facts.shape, len(self.facts.classes), self.facts.dt)
        return None if network is None else handed(network, self.config)

    @property
    def kept(self) -> Any:
        """The network itself."""
        return self.network

    @property
    def known(self) -> dict[str, Any]:
        """What checkpoint and Graph know of the data, as plain data."""
        return replace(self.facts, named=self.named).to_json()

    def graph(self, metadata: dict[str, Any] | None = None) -> Graph:
        """The network lowered, with what the run knows of its data and its outputs.

        Raises `GraphError` naming the layer or operation that has no place in a Graph.
        """
        about: dict[str, Any] = {"classes": list(self.facts.classes), KEY: self.known}
        if self.named:
            about["data"] = self.config.data.model_dump(mode="json")
        about |= self.runner.metadata() | (metadata or {})
        shape = self.facts.shape[0] if len(self.facts.shape) == 1 else self.facts.shape
        return lower(self.network, shape, self.facts.dt, metadata=about)

    def fit(self, resume: bool = False) -> Any:
        """Train to the last epoch (or until patience ends) and return the best network.

        Raises what `Loop.run` raises, and `DataError` if the folder can't be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{self.folder} can't be made a folder for the run ({error}).") from error
        start = self.config.train.start_from
        if start is not None and not self.folder.joinpath("last.pt").exists():
            left = start_weights(self.network, start)
            self.runner.clamp_()
            self.record["start_from"] = {"checkpoint": str(start), "left": left}
            for name, why in left.items():
                _log.warning("start_from %s: %s did not come over: %s", start, name, why)
        self.run(resume)
        self._board.finalize("success")
        self._write_record()
        if self.best is not None:
            self.network.load_state_dict(self.best)
        return self.network.eval()

    def _start_epoch(self) -> int:
        train = self.config.train
        self.runner.set_sigma(train, self.epoch)
        self._order = np.random.default_rng([train.seed, self.epoch]).permutation(len(self.train_set))
        return -(-len(self._order) // train.batch)

    def _sigma(self) -> float:
        return kernel_width(self.config.train, self.config.model.max_delay, self.epoch)

    def _finish_epoch(self) -> dict[str, Any]:
        train = self.config.train
        paper = train.protocol == "paper"
        result = measured(self.runner, self.valid_set, train.batch, count_padding=paper)
        accuracy = self._score(result)
        for _, schedule in self.groups.values():
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(accuracy)
            else:
                schedule.step()
        samples = self.running["samples"]
        return {
            "epoch": self.epoch,
            "sigma": self._sigma(),
            "train_loss": self.running["loss"] / samples,
            "train_accuracy": self.running["correct"] / samples,
            "valid_loss": result.loss,
            "valid_accuracy": accuracy,
            **{f"rate_{i}": rate for i, rate in enumerate(result.rates)},
        }

    def _tell(self, row: dict[str, Any]) -> None:
        self._board.log_metrics(row, step=row["epoch"])
        self._board.save()
        self._write_table()

    def _train_batch(self, index: int) -> None:
        train = self.config.train
        chosen = self._order[index * train.batch : (index + 1) * train.batch]
        rng = np.random.default_rng([train.seed, self.epoch, index])
        x, lengths, labels = as_tensors(self._augmented(self.train_set, chosen, rng), self.network)
        if train.protocol == "paper":
            lengths = torch.full_like(lengths, x.shape[0])
        out = self.runner(x, lengths, rates=train.rate_strength > 0)
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
        self.runner.clamp_()
        self._count(loss, out.scores, labels)

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

    def _content(self) -> dict[str, Any]:
        return {
            "record": self.record,
            "classes": list(self.train_set.classes),
            "inputs": inputs_of(self.train_set),
            KEY: self.known,
            "network": self.handed,
            "optimisers": {k: o.state_dict() for k, (o, _) in self.groups.items()},
            "schedules": {k: s.state_dict() for k, (_, s) in self.groups.items()},
        }

    def _checked(self, content: dict[str, Any]) -> dict[str, Any]:
        check_data(self.folder / "last.pt", content, self.facts)
        check_configuration(self.folder / "last.pt", content, self.config)
        return content

    def _restore(self, content: dict[str, Any]) -> None:
        for name, (optimiser, schedule) in self.groups.items():
            optimiser.load_state_dict(content["optimisers"][name])
            schedule.load_state_dict(content["schedules"][name])
        self.record = content["record"] | {"configuration": self.record["configuration"]}

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
        self.save()

    def _write_table(self) -> None:
        """The history as ``metrics.csv``, one row an epoch."""
        columns = list(self.history[0])
        lines = [",".join(columns), *(",".join(str(row[c]) for c in columns) for row in self.history)]
        with atomic(self.folder / "metrics.csv") as temporary:
            temporary.write_text("\n".join(lines) + "\n")


def _full_name(network: nn.Module) -> str:
    return f"{type(network).__module__}.{type(network).__qualname__}"
