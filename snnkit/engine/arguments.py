"""What a run is given: checked, and made into what the cores take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from .. import backend as backends
from ..errors import DataError, ParameterError
from ..events import EventBatch
from ..graph import INPUT, Graph, Population
from ..machine import cores
from ..metadata import Timing
from ..neurons.neuron import resolve
from .core import Core
from .generators import Generator
from .plan import Plan
from .recording import Recording, Watch

Events = EventBatch | Generator


@dataclass(frozen=True)
class Record:
    """What to record: a variable of chosen neurons.

    variable  a state variable of the neuron, "h" (before the reset), "x" (summed input) or "rate"
              (spikes a neuron and step)
    neurons   flat indices, or a boolean mask [N] or in the population's shape; None for all
    every     keep one step in so many, the first of each; "rate" is averaged over them

    Two requests of one variable become one: the neurons in the order asked for, each once.
    """

    population: str
    variable: str
    neurons: Sequence[int] | np.ndarray | None = None
    every: int = 1


class Computing(TypedDict, total=False):
    """How a run is computed, by keyword.

    dtype         "float32", "float64" or "int32" (state in int32, sums in int64); None: by the neurons
    backend       "reference", "numba" or "cuda"; None: as `snnkit.backend` says
    seed          of the generators (0)
    memory_limit  bytes that may be allocated; None: what the memory has
    """

    dtype: str | None
    backend: str | None
    seed: int
    memory_limit: int | None


def computing_of(
    dtype: str | None = None, backend: str | None = None, seed: int = 0, memory_limit: int | None = None
) -> tuple[str | None, str, int, int | None]:
    """`Computing` with its defaults and the backend chosen. Raises `ParameterError` as `backend_of` does."""
    return dtype, backend_of(backend), seed, memory_limit


def by_input(graph: Graph, events: Any) -> dict[str, Events]:
    """{input population: what it gets}. Raises `ParameterError` naming the input, `DataError` on sizes."""
    inputs = graph.inputs
    if events is None:
        given: dict[str, Events] = {}
    elif isinstance(events, dict):
        given = events
    elif len(inputs) == 1:
        given = {inputs[0]: events}
    else:
        raise ParameterError(
            f"the graph has {len(inputs)} inputs, {inputs}; give events as {{input: events}}."
        )
    for name, e in given.items():
        if name not in inputs:
            raise ParameterError(f"events for {name!r}, which is no input population; inputs are {inputs}.")
        if isinstance(e, EventBatch):
            if e.size != graph.populations[name].size:
                raise DataError(
                    f"events of {e.size} neurons for input {name!r} of {graph.populations[name].size}."
                )
            e.validate()
        elif not hasattr(e, "source"):
            raise ParameterError(
                f"events for {name!r} are a {type(e).__name__}; give an EventBatch or a generator."
            )
    lengths = {len(e) for e in given.values() if isinstance(e, EventBatch)} - {1}
    if len(lengths) > 1:
        raise DataError(f"the inputs have different numbers of samples: {sorted(lengths)}.")
    return given


def durations_of(graph: Graph, given: dict[str, Events], steps: int | None, batch: int) -> np.ndarray:
    """Steps that each sample runs, int64 [B]. Raises `ParameterError` where nothing says how many."""
    if steps is not None:
        if steps < 0:
            raise ParameterError(f"steps must not be negative, got {steps}.")
        return np.full(batch, steps, np.int64)
    lengths = [e.lengths for e in given.values() if isinstance(e, EventBatch)]
    if not lengths:
        raise ParameterError("without an EventBatch there is no length; say how many steps to run.")
    tail = Timing.of(graph.metadata).steps_tail
    return np.max([np.broadcast_to(n, batch) for n in lengths], axis=0) + tail


def recording_of(
    graph: Graph, spikes: Iterable[str] | None, record: Iterable[str | tuple | Record]
) -> Recording:
    """What is kept, see `simulate`. Raises `ParameterError` that says what there is."""
    return Recording(spikes=_kept(graph, spikes), watches=tuple(_watches(graph, record)))


def _kept(graph: Graph, spikes: Iterable[str] | None) -> frozenset[str]:
    if spikes is None:
        return frozenset(n for n, p in graph.populations.items() if p.neuron != INPUT)
    kept = frozenset([spikes] if isinstance(spikes, str) else spikes)
    unknown = kept - graph.populations.keys()
    if unknown:
        raise ParameterError(
            f"spikes of {sorted(unknown)}: no such population; there are {list(graph.populations)}."
        )
    return kept


def threads_of(threads: int | None, batch: int) -> int:
    """Threads that a run of `batch` samples takes; None: see `simulate`. Raises `ParameterError` below 1."""
    if threads is None:
        return 1 if batch == 1 else cores()
    if threads < 1:
        raise ParameterError(f"threads must be at least 1, got {threads}.")
    return threads


def _watches(graph: Graph, record: Iterable[str | tuple | Record]) -> list[Watch]:
    watches: dict[tuple[str, str], Watch] = {}
    for item in [record] if isinstance(record, str | Record) else record:
        if isinstance(item, str):
            having = [n for n in graph.populations if item in _variables(graph, n)]
            if not having:
                raise ParameterError(f"record: no population has a variable {item!r}.")
            entries = [Record(name, item) for name in having]
        else:
            entries = [item if isinstance(item, Record) else Record(*item)]
        for r in entries:
            watch = _checked(graph, r)
            same = watches.get(watch.key)
            watches[watch.key] = watch if same is None else _joined(same, watch)
    return list(watches.values())


def _joined(a: Watch, b: Watch) -> Watch:
    """One watch of the neurons of both. Raises `ParameterError` where they keep different steps."""
    if a.every != b.every:
        raise ParameterError(
            f"record: {a.variable!r} of {a.population!r} is asked for twice, with every={a.every} and "
            f"every={b.every}; one table keeps one rhythm. Ask for both with the same, or run twice."
        )
    if a.neurons is None or b.neurons is None:
        return replace(a, neurons=None)
    return replace(
        a, neurons=np.array(list(dict.fromkeys([*a.neurons.tolist(), *b.neurons.tolist()])), np.int64)
    )


def _variables(graph: Graph, name: str) -> tuple[str, ...]:
    """What can be recorded of a population."""
    population = graph.populations[name]
    if population.neuron == INPUT:
        return ("rate",)
    return (*resolve(population.neuron, population.options).state, "h", "x", "rate")


def _checked(graph: Graph, record: Record) -> Watch:
    """What `record` asks for, or a `ParameterError` that says what there is."""
    if record.population not in graph.populations:
        raise ParameterError(
            f"record: there is no population {record.population!r}; there are {list(graph.populations)}."
        )
    known = _variables(graph, record.population)
    if record.variable not in known:
        raise ParameterError(
            f"record: population {record.population!r} has no variable {record.variable!r}; it has "
            f"{', '.join(known)}."
        )
    if record.every < 1:
        raise ParameterError(f"record: every must be at least 1 step, got {record.every}.")
    neurons = (
        None if record.neurons is None else _chosen(graph.populations[record.population], record.neurons)
    )
    return Watch(record.population, record.variable, neurons, record.every)


def _chosen(population: Population, neurons: Sequence[int] | np.ndarray) -> np.ndarray:
    """Flat indices int64 [n] of the neurons that indices or a mask mean. Raises `ParameterError`."""
    where, size, chosen = f"record: neurons of {population.name!r}", population.size, np.asarray(neurons)
    if chosen.dtype == bool:
        if chosen.shape not in ((size,), tuple(population.shape)):
            raise ParameterError(
                f"{where} are a mask of shape {chosen.shape}; a mask has a value for each of the {size} "
                f"neurons, so shape {(size,)} or {tuple(population.shape)}."
            )
        return np.flatnonzero(chosen)
    if chosen.size and (chosen.dtype.kind not in "iu" or chosen.ndim != 1):
        raise ParameterError(
            f"{where} must be a list of whole numbers or a boolean mask, got {chosen.dtype} of shape "
            f"{chosen.shape}."
        )
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < size:
        raise ParameterError(f"{where} must lie in 0..{size - 1}, got {chosen.min()}..{chosen.max()}.")
    return chosen.astype(np.int64)


def backend_of(name: str | None) -> str:
    """The backend asked for, here or by `snnkit.backend`; "numba" if none was."""
    wanted = name or backends.requested()
    if wanted == "auto":
        return "numba"
    with backends.use(wanted):
        return backends.choose("simulate", "cuda" if wanted == "cuda" else "cpu")


def core_of(chosen: str, threads: int) -> tuple[Callable[[Plan, Recording], Core], int]:
    """What runs a sample, and in how many partitions the populations are cut for it."""
    if chosen != "cuda":
        return Core, threads
    from .kernels_cuda import PARTS, CudaCore

    return CudaCore, PARTS
