"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import numba
import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..datasets import Splits, augment
from ..datasets.splits import Data
from ..errors import CheckpointError, DataError, GraphError, NonFiniteError, ParameterError
from ..events import EventBatch
from ..files import PathLike, atomic
from ..graph import Graph
from .aware import builder
from .checkpoint import check_configuration, check_data, check_layers, handed, start_weights
from .config import Config, Model
from .evaluation import Evaluation, as_tensors, measured
from .facts import KEY, Facts
from .identity import Identity
from .loop import Loop
from .losses import Objective, Score, balanced_order, class_weights, objective, rate_penalty
from .lowering import lower
from .network import Output, inputs_of
from .own import build_named, imported, layers_of, module, runner
from .record import run_record
from .schedules import kernel_width, optimisers

_log = logging.getLogger("snnkit.training")

_IN_THE_PLANE = ("shift", "mirror", "rotate")
"""Keys of ``[augment]`` for steps of shape (C, H, W)."""


_Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""x [T, B, N], lengths [B] and targets [B, …]."""


class Trainer(Loop):
    """Trains a `SpikingClassifier`, or a module of one's own, as a `Config` says and keeps the best epoch.

    Everything random comes from ``config.train.seed``: weights, order of the samples (a permutation
    of the pair seed, epoch), dropout, augmentation. The checkpoint is ``folder/last.pt``, see `Loop`; `fit`
    leaves the best network as a Graph beside it, ``graph.h5``.

    config    the run
    data      splits to train and validate on; the test split is not touched
    folder    where checkpoints, logs and the record go
    progress  show a progress bar
    make      builds the network from (model configuration, inputs, classes, dt), called after seeding;
              None: as ``train.hardware_aware`` says
    network   a module of one's own instead: x [T, B, *shape], time first, to potentials or spikes of its
              outputs [T, B, C], which `model.readout` reads; or (x, lengths) to an `Output`. Its neurons'
              rates are penalised, the positions and σ of its delays learned as those of ours
    loss      ``f(out, targets)`` → what is minimised, a scalar, instead of that of `TARGETS` for targets of
              this kind; or ``train.loss`` names it
    metric    likewise what epochs are chosen by, more is better; the history calls it valid_accuracy. The run
              resumes with the same loss and metric, see `Identity`

    named     whether the configuration's ``[data]`` gives `data` again, as the commands say; checkpoint and
              Graph then find them by it. False: they must be handed over again
    no_graph  why the best network has no place in a Graph, once `fit` has tried; None: it has one
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
        loss: Score | None = None,
        metric: Score | None = None,
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
        self.no_graph: str | None = None
        self._check_plane()
        if config.train.device == "cuda" and not torch.cuda.is_available():
            raise ParameterError(
                "train.device = 'cuda', but torch sees no GPU here; 'auto' takes what there is."
            )
        self.fabric = Fabric(accelerator=config.train.device, devices=1)
        self.handed = None if network is None else _full_name(module(network))
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
        self.goal = self._objective(loss, metric)
        given = {"loss": loss, "metric": metric}
        self.scores = {k: None if f is None else Identity.of(f) for k, f in given.items()}
        if not self.goal.accuracy:
            self.best_accuracy = -float("inf")
        if not any(p.requires_grad for p in self.network.parameters()):
            raise ParameterError(
                f"{type(self.network).__name__} has no parameter that is learned; there is nothing to train. "
                "evaluate(network, data) and lower(network, …) take it as it is."
            )
        outputs = len(self.facts.classes) or None
        self.runner = runner(self.network, config.model, self.facts.shape, outputs, made=own is None)
        self.groups = optimisers(cast(Any, self.runner), config)
        self.record = run_record(config)
        self._board = TensorBoardLogger(self.folder, name="tensorboard", version="")
        self._order = np.arange(0)

    def _check_plane(self) -> None:
        """Raises `ParameterError` naming the augmentations that need steps of another shape than these."""
        asked = [f"augment.{key}" for key in _IN_THE_PLANE if getattr(self.config.augment, key)]
        if asked and len(self.facts.shape) != 3:
            raise ParameterError(
                f"{', '.join(asked)}: for data whose steps have the shape [C, H, W]; these have "
                f"{list(self.facts.shape)}. Leave out {'it' if len(asked) == 1 else 'them'}; channels in a "
                "row have augment.channel_shift."
            )

    def _own(self, network: nn.Module | None, make: Any) -> nn.Module | None:
        """The module of one's own, handed over or named by the configuration; None: there is none."""
        named = self.config.model.network
        if sum(x is not None for x in (network, make, named)) > 1:
            raise ParameterError("give one of network=, make= and model.network.")
        if named is not None:
            network = build_named(named, self.facts.shape, len(self.facts.classes), self.facts.dt)
        return None if network is None else handed(network, self.config)

    def _objective(self, loss: Score | None, metric: Score | None) -> Objective:
        """What is minimised and chosen by, for training."""
        train, labels = self.config.train, self.train_set.labels
        for name, given in (("loss", loss), ("metric", metric)):
            if given is not None and getattr(train, name) is not None:
                raise ParameterError(f"give one of {name}= and train.{name}.")
        loss = loss if train.loss is None else imported(train.loss, "train.loss")
        metric = metric if train.metric is None else imported(train.metric, "train.metric")
        plain = objective(labels, loss=loss, metric=metric)
        longest = int(self.train_set.lengths.max())
        if loss is None and labels.ndim > 1 and labels.shape[1] < longest:
            raise ParameterError(
                f"targets of shape {list(labels.shape)} are one for each step, and recordings have up to "
                f"{longest} steps; give [B, T], or for one class a recording, if they are one-hot, "
                "targets.argmax(1)."
            )
        top, count = int(labels.max()) if labels.dtype.kind in "iu" else -1, len(self.facts.classes)
        if loss is None and labels.ndim == 2 and top >= count:
            raise ParameterError(f"a target is {top}, and there are {count} classes, from 0.")
        weights = None
        if train.class_weights is not None and plain.classes:
            weights = class_weights(train.class_weights, labels, len(self.facts.classes))
        elif train.class_weights is not None or (train.sampling == "balanced" and not plain.classes):
            raise ParameterError(
                "train.class_weights and train.sampling = 'balanced' need targets that are classes [B], "
                f"these have shape {list(labels.shape)}."
            )
        if self.config.augment.cutmix and not plain.classes:
            raise ParameterError("augment.cutmix mixes classes [B]; these targets are none. Set it to 0.")
        self.validation_goal = plain  # of unweighted samples
        return objective(labels, loss=loss, metric=metric, weights=weights)

    @property
    def kept(self) -> Any:
        """The network itself."""
        return self.network

    @property
    def known(self) -> dict[str, Any]:
        """What checkpoint and Graph know of the data, as plain data."""
        return replace(self.facts, named=self.named).to_json()

    def graph(self) -> Graph:
        """The network lowered, with what the run knows of its data, its outputs and itself.

        Raises `GraphError` naming the layer or operation that has no place in a Graph.
        """
        about: dict[str, Any] = {"classes": list(self.facts.classes), KEY: self.known}
        if self.named:
            about["data"] = self.config.data.model_dump(mode="json")
        about |= self.runner.metadata()
        about |= {
            "synthetic": self.data.synthetic,
            "trained": self.record["started"],
            "revision": self.record["revision"],
        }
        shape = self.facts.shape[0] if len(self.facts.shape) == 1 else self.facts.shape
        return lower(self.network, shape, self.facts.dt, metadata=about)

    def fit(self, resume: bool = False) -> Any:
        """Train to the last epoch (or until patience ends) and return the best network.

        Its Graph is in ``folder/graph.h5``; of one that no Graph can hold there is none, and a warning says
        why, as `no_graph` does.

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
        self.network.eval()
        try:
            self.graph().save(self.folder / "graph.h5")
        except GraphError as error:  # a network of one's own is trained all the same
            self.no_graph = str(error)
            _log.warning("no %s: %s", self.folder / "graph.h5", error)
        return self.network

    def _start_epoch(self) -> int:
        train = self.config.train
        self.runner.set_sigma(train, self.epoch)
        rng = np.random.default_rng([train.seed, self.epoch])
        if train.sampling == "balanced":
            self._order = balanced_order(self.train_set.labels, rng)
        else:
            self._order = rng.permutation(len(self.train_set))
        return -(-len(self._order) // (train.batch * train.gradient_accumulation))

    def _sigma(self) -> float:
        return kernel_width(self.config.train, self.config.model.max_delay, self.epoch)

    def _finish_epoch(self) -> dict[str, Any]:
        result = self._validated()
        accuracy = None if result is None else self._score(result)
        for _, schedule in self.groups.values():
            if not isinstance(schedule, ReduceLROnPlateau):
                schedule.step()
            elif accuracy is not None:
                schedule.step(accuracy)
        samples = self.running["samples"] or 1  # of targets of which no step counts
        return {
            "epoch": self.epoch,
            "sigma": self._sigma(),
            "train_loss": self.running["loss"] / samples,
            "train_accuracy": self.running["correct"] / samples,
            "valid_loss": None if result is None else result.loss,
            "valid_accuracy": accuracy,
            **{f"rate_{i}": rate for i, rate in enumerate([] if result is None else result.rates)},
        }

    def _validated(self) -> Evaluation | None:
        """What validation gives in this epoch; None where `validate_every` passes it over."""
        train, done = self.config.train, self.epoch + 1
        if done % train.validate_every and done < self.epochs:
            return None
        paper = train.protocol == "paper"
        return measured(self.runner, self.valid_set, train.batch, self.validation_goal, count_padding=paper)

    def _tell(self, row: dict[str, Any]) -> None:
        self._board.log_metrics({k: v for k, v in row.items() if v is not None}, step=row["epoch"])
        self._board.save()
        self._write_table()

    def _train_batch(self, index: int) -> None:
        train = self.config.train
        whole = train.batch * train.gradient_accumulation
        rows = self._order[index * whole : (index + 1) * whole]
        for optimiser, _ in self.groups.values():
            optimiser.zero_grad(set_to_none=True)
        parts = [rows[start : start + train.batch] for start in range(0, len(rows), train.batch)]
        shares = [(len(chosen) / len(rows),) * 2 for chosen in parts]
        batches: Iterable[_Batch] = (self._batch(index, part, chosen) for part, chosen in enumerate(parts))
        if self.goal.loss_count is not None and len(parts) > 1:  # its mean is over more than samples
            batches = list(batches)
            counts = [self.goal.loss_count(*map(torch.from_numpy, batch[1:])) for batch in batches]
            shares = [(n / (sum(counts) or 1), share) for n, (_, share) in zip(counts, shares, strict=True)]
        for chosen, batch, share in zip(parts, batches, shares, strict=True):
            self._backward(index, chosen, batch, share)
        if train.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), train.clip_grad)
        for optimiser, _ in self.groups.values():
            optimiser.step()
        self.runner.clamp_()
        broken = [name for name, p in self.network.named_parameters() if not torch.isfinite(p).all()]
        if broken:
            self._stop_at(index, f"{broken[0]} is not finite after the step")

    def _batch(self, index: int, part: int, chosen: np.ndarray) -> _Batch:
        """The `part`-th batch of step `index`, augmented."""
        seed = [self.config.train.seed, self.epoch, index, *([part] if part else [])]
        return self._augmented(self.train_set, chosen, np.random.default_rng(seed))

    def _backward(self, index: int, chosen: np.ndarray, batch: _Batch, share: tuple[float, float]) -> None:
        """Add the gradients of a batch of step `index` to those there are.

        share  of the step that the batch's loss is, by what it is a mean over, and that its rate penalty is,
               by samples
        """
        train = self.config.train
        x, lengths, labels = as_tensors(batch, self.network)
        own = lengths
        if not torch.isfinite(x).all():  # a neuron that is given NaN is silent, and the loss finite
            sample = int(chosen[int((~torch.isfinite(x)).flatten(2).any(2).any(0).nonzero()[0])])
            self._stop_at(index, f"the input is not finite in sample {sample} of the training part")
        if train.protocol == "paper":
            lengths = torch.full_like(lengths, x.shape[0])
        out = replace(self._forward(x, lengths), lengths=own)
        loss = self.goal.loss(out, labels)
        total = loss * share[0]
        if train.rate_strength:
            penalty = rate_penalty(out.spikes, out.mask, train.rate_target)
            total = total + train.rate_strength * share[1] * penalty
        if not torch.isfinite(total):
            self._stop_at(index, f"the loss is {total.item()}: {self._culprit(x, lengths)}")
        if not loss.requires_grad:
            raise ParameterError(
                "the loss has no gradient: nothing that is learned has a part in it. Is it, or what the "
                "network gives, detached, rounded or made outside of torch?"
            )
        self.fabric.backward(total)
        if self.goal.accuracy:
            self._count(loss, out.scores, labels)
        else:
            count = self.goal.metric_count
            number = len(labels) if count is None else count(own, labels)
            if number:
                self._count_metric(loss, self.goal.metric(out, labels), number)

    def _stop_at(self, index: int, what: str) -> NoReturn:
        """Raise `NonFiniteError` for a step of the epoch at hand; the checkpoint stays as it is."""
        path = self.folder / "last.pt"
        kept = f"{path} holds the run before it" if path.exists() else "no epoch was finished before it"
        raise NonFiniteError(
            f"epoch {self.epoch + 1}, batch {index + 1}: {what}; {kept}. Look at the input, lower "
            "train.weights.lr_max, or set train.clip_grad."
        )

    def _culprit(self, x: Tensor, lengths: Tensor) -> str:
        """Where in the network the first number that is not finite comes up, for this batch."""
        found: list[str] = []

        def look(name: str, module: nn.Module, given: Any) -> None:
            values = given if isinstance(given, tuple) else (given,)
            if any(isinstance(v, Tensor) and not torch.isfinite(v).all() for v in values):
                found.append(f"{name} ({type(module).__name__})")

        handles = [
            module.register_forward_hook(lambda m, _, given, name=name: look(name, m, given))
            for name, module in self.network.named_modules()
            if name
        ]
        with torch.no_grad():
            self._forward(x, lengths)
        for handle in handles:
            handle.remove()
        if not found:
            return "every layer's output is finite, the loss of it is not"
        return f"the first layer whose output is not finite is {found[0]}"

    def _forward(self, x: Tensor, lengths: Tensor) -> Output:
        """What the network makes of a batch; what is read of it is in float32."""
        train = self.config.train
        if train.precision == "float32":
            return self.runner(x, lengths, rates=train.rate_strength > 0)
        with torch.autocast(x.device.type, torch.bfloat16):
            out = self.runner(x, lengths, rates=train.rate_strength > 0)
        return Output(out.scores.float(), out.v.float(), [s.float() for s in out.spikes], out.mask)

    def _augmented(
        self, data: Data, chosen: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A batch with the configured augmentations; labels are [B], or [B, classes] after CutMix."""
        a, shape = self.config.augment, self.facts.shape
        changes: list[tuple[bool, Callable[..., EventBatch]]] = [
            (
                a.time_stretch > 0,
                partial(augment.time_stretch, low=1 - a.time_stretch, high=1 + a.time_stretch),
            ),
            (a.time_mask > 0, partial(augment.time_mask, width=a.time_mask)),
            (a.neuron_mask > 0, partial(augment.neuron_mask, width=a.neuron_mask)),
            (a.channel_shift > 0, partial(augment.channel_shift, amount=a.channel_shift)),
            (a.drop_event > 0, partial(augment.drop_event, probability=a.drop_event)),
            (a.jitter > 0, partial(augment.jitter, steps=a.jitter)),
            (a.shift > 0, partial(augment.shift, shape=shape, amount=a.shift)),
            (a.mirror, partial(augment.mirror, shape=shape)),
            (a.rotate > 0, partial(augment.rotate, shape=shape, degrees=a.rotate)),
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
        if result.metric is not None:
            return result.metric
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
            "layers": None if self.handed is None else layers_of(self.network),
            "scores": {k: None if one is None else one.to_json() for k, one in self.scores.items()},
            "optimisers": {k: o.state_dict() for k, (o, _) in self.groups.items()},
            "schedules": {k: s.state_dict() for k, (_, s) in self.groups.items()},
        }

    def _checked(self, content: dict[str, Any]) -> dict[str, Any]:
        check_data(self.folder / "last.pt", content, self.facts)
        check_configuration(self.folder / "last.pt", content, self.config)
        then = content.get("network")
        if "network" in content and _last(then) != _last(self.handed):
            raise CheckpointError(
                f"{self.folder / 'last.pt'} was trained with the network {then or 'of the configuration'}, "
                f"not {self.handed or 'that'}; resume with its own, or choose another folder."
            )
        if self.handed is not None:
            check_layers(self.folder / "last.pt", content, self.network)
        self._check_scores(content.get("scores", {}))
        return content

    def _check_scores(self, known: dict[str, Any]) -> None:
        """Raise `CheckpointError` if the run had another loss or metric handed over than now."""
        path = self.folder / "last.pt"
        for name, then in known.items():
            before, now = None if then is None else Identity(**then), self.scores[name]
            if before is None and now is None:
                continue
            if before is None or now is None or before.differs(now):
                raise CheckpointError(
                    f"{path} was trained with {name} = {before or 'that of its configuration'}, not "
                    f"{now or 'that'}; resume with its own, or choose another folder."
                )
            if not before.comparable(now):
                _log.warning(
                    "%s was trained with %s = %s under Python %s; whether this is the same can't be told "
                    "under %s.", path, name, before, before.python, now.python,
                )  # fmt: skip

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
        columns = list(dict.fromkeys(column for row in self.history for column in row))
        rows = [["" if row.get(c) is None else str(row[c]) for c in columns] for row in self.history]
        lines = [",".join(columns), *(",".join(row) for row in rows)]
        with atomic(self.folder / "metrics.csv") as temporary:
            temporary.write_text("\n".join(lines) + "\n")


def _last(name: str | None) -> str:
    """The class alone: a script's module is called otherwise where it is imported."""
    return (name or "").rpartition(".")[2]


def _full_name(network: nn.Module) -> str:
    return f"{type(network).__module__}.{type(network).__qualname__}"
