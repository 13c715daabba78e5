"""`snnkit predict`: what a trained network says of recordings that have no labels, and from when on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from .. import engine
from ..datasets.binning import bin_events
from ..datasets.event_data import CHANNELS
from ..datasets.mel import mel_frames
from ..datasets.splits import Data
from ..datasets.stores import View
from ..datasets.table import DATASETS
from ..datasets.unlabelled import heard, read_unlabelled, sound_of
from ..engine.readout import classify, read_out, recorded, rule_of
from ..errors import DataError, SnnkitError
from ..files import PathLike, atomic
from ..graph import Graph
from ..hardware.graded import sent
from ..metadata import Readout, Timing
from .formats import AS_WRITTEN, Reading, load


@dataclass(frozen=True)
class Prediction:
    """What the network says of one recording.

    recording   number within the file
    scores      class → score, as the read-out gives it
    decided_ms  from the start of the recording to the end of the first step from which the class stays
                ahead of all others; None if it never is
    length_ms   of the recording
    read_ms     from its start until the network is read out: the recording, and the silent steps in which
                its last spikes arrive; no decision is later
    """

    file: str
    recording: int
    label: str
    scores: dict[str, float]
    decided_ms: float | None
    length_ms: float
    read_ms: float

    def row(self) -> dict[str, Any]:
        """As one flat row."""
        about = {"file": self.file, "recording": self.recording, "class": self.label}
        times = {"decided_ms": self.decided_ms, "length_ms": self.length_ms, "read_ms": self.read_ms}
        return {**about, **times, **{f"score {name}": value for name, value in self.scores.items()}}


def predict(run: PathLike, files: Sequence[PathLike], reading: Reading = AS_WRITTEN) -> Iterator[Prediction]:
    """The predictions for all recordings of the files, which are binned as the data of the run were.

    run    folder of a run, its last.pt, or a file of the network in any format that `load` reads
    files  SHD's HDF5 or .npz (`snnkit.datasets.unlabelled`), or .wav, through the run's cochlea

    Raises `DataError` for files that can't be read or don't fit the network, naming both.
    """
    graph = network_of(run, reading)
    if "images" in graph.metadata:
        raise DataError(f"{run} was trained on images; recordings of events or sound can't be shown to it.")
    for file in files:
        try:
            data = recordings(graph, Path(file))
        except SnnkitError as error:
            named = str(error) if str(file) in str(error) else f"{file}: {error}"
            raise DataError(named) from error
        for start in range(0, len(data), 64):
            part = data.subset(np.arange(start, min(start + 64, len(data))))
            yield from _answers(graph, part, str(file), start)


def network_of(run: PathLike, reading: Reading = AS_WRITTEN) -> Graph:
    """The Graph of a run: its graph.h5, else its last.pt lowered; or the network in a file.

    Raises `DataError` for a folder that has neither.
    """
    path = Path(run)
    if path.is_dir():
        there = [one for one in (path / "graph.h5", path / "last.pt") if one.is_file()]
        if not there:
            raise DataError(f"{path} has neither graph.h5 nor last.pt; give the folder of a run.")
        path = there[0]
    if path.suffix.lower() != ".pt":
        return load(path, reading)
    from ..training.checkpoint import facts_of, load_network  # PyTorch takes seconds to load
    from ..training.facts import KEY
    from ..training.lowering import lower
    from ..training.own import runner

    network, config, content = load_network(path)
    facts = facts_of(content)
    shape = (content["inputs"],) if facts is None else facts.shape
    classes = [str(c) for c in content["classes"]]
    metadata = runner(network, config.model, shape, len(classes)).metadata()
    metadata |= {"classes": classes, "data": config.data.model_dump(mode="json")}
    if facts is not None:
        metadata[KEY] = facts.to_json()
    dt = config.data.dt if facts is None else facts.dt
    return lower(network, shape[0] if len(shape) == 1 else shape, dt, metadata)


def recordings(graph: Graph, file: Path) -> Data:
    """The recordings of a file as the graph's input: in its steps, channels, and counts or not.

    Raises `DataError` naming both if they don't fit.
    """
    if len(graph.inputs) != 1:
        raise DataError(f"predict shows recordings to one input; the network has {graph.inputs}.")
    known: dict[str, Any] = graph.metadata.get("data") or {}
    (name,) = graph.inputs
    inputs = graph.populations[name].size
    row = DATASETS.get(known.get("name", ""))
    of_sound = row is not None and row.kind == "sound"
    from_cochlea = of_sound or known.get("name") in ("shd", "ssc")
    if file.suffix.lower() == ".wav":
        if not from_cochlea:
            raise DataError(
                f"{file} is sound, and the network was trained on "
                f"{known.get('name', 'data without a name')!r}, which is not; give events."
            )
        clip = sound_of(file, known.get("channel"))
        rate = (graph.metadata.get("trained_on") or {}).get("rate")
        if rate not in (None, clip.rate):
            raise DataError(
                f"{file} has {clip.rate} Hz, and the network was trained on sound of {rate} Hz; bring "
                "it to that."
            )
        if known.get("features") == "mel":
            return mel_frames(clip, graph.dt, inputs, cache=False)
        data = heard(clip, int(known.get("seed", 0)))
    else:
        if known.get("features") == "mel":
            raise DataError(
                f"{file} holds events, and the network was trained on mel bands; give .wav files."
            )
        said = known.get("shape") or (graph.metadata.get("trained_on") or {}).get("shape") or (inputs,)
        shape = (CHANNELS,) if from_cochlea else tuple(int(n) for n in said)
        data = read_unlabelled(file, shape, known.get("origin", "zero"))
    smaller = ("downsample", "polarity") if data.channels != inputs else ()
    seen = {key: known[key] for key in (*smaller, "events_per_step") if key in known}
    data = View(**seen, dt=graph.dt).of(data)
    channels = inputs if len(data.shape) < 2 else None
    if data.channels != inputs and (channels is None or data.channels % inputs):
        raise DataError(
            f"{file} has {data.channels} channels, which do not become the {inputs} inputs of the network."
        )
    return bin_events(
        data, graph.dt, channels, binary=bool(known.get("binary", False)), steps=known.get("steps"),
        duration=known.get("duration"), cache=False,
    )  # fmt: skip


def _answers(graph: Graph, data: Data, file: str, start: int) -> Iterator[Prediction]:
    events = data.events
    result = engine.simulate(graph, sent(graph, events), record=recorded(graph), progress=False)
    scores = classify(result, graph, events.lengths)
    names = Readout.of(graph.metadata).classes or tuple(str(k) for k in range(scores.shape[1]))
    values = read_out(result, graph)
    for b, mine in enumerate(scores):
        winner = int(mine.argmax())
        length = int(events.lengths[b])
        step = decided(values[:, b], graph, length, winner)
        yield Prediction(
            file=file,
            recording=start + b,
            label=names[winner],
            scores=dict(zip(names, mine.tolist(), strict=True)),
            decided_ms=None if step is None else (step + 1) * graph.dt,
            length_ms=length * graph.dt,
            read_ms=steps_read(values[:, b], graph, length) * graph.dt,
        )


def decided(values: np.ndarray, graph: Graph, length: int, winner: int) -> int | None:
    """The first step from which `winner` stays ahead if the run is read out at any step; None: never.

    values  [T, C] of one recording
    length  its steps of input
    """
    start, stop = Timing.of(graph.metadata).latency, steps_read(values, graph, length)
    if stop <= start:
        return None
    mask = np.ones((stop - start, 1), bool)
    scores = rule_of(graph).so_far(values[start:stop, None], mask)[:, 0]
    behind = np.flatnonzero((np.delete(scores, winner, 1) >= scores[:, [winner]]).any(1))
    first = start if len(behind) == 0 else start + int(behind[-1]) + 1
    return first if first < stop else None


def steps_read(values: np.ndarray, graph: Graph, length: int) -> int:
    """Steps until a recording of `length` is read out: the silent ones after it are the graph's own."""
    return min(length + Timing.of(graph.metadata).steps_tail, len(values))


def write_csv(path: PathLike, found: Sequence[Prediction]) -> None:
    """A row a recording: file, recording, class, decided_ms, length_ms, read_ms, and a score a class."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        rows = [p.row() for p in found]
        writer = csv.DictWriter(out, list(rows[0]) if rows else ["file", "recording", "class"])
        writer.writeheader()
        writer.writerows(rows)


def prediction_table(found: Sequence[Prediction]) -> Table:
    """Class, its score and when it was decided, a row a recording."""
    table = Table()
    for column in ("file", "recording", "class", "score", "ms long", "read for ms", "decided after ms"):
        # the end of a path tells files apart: it is folded
        table.add_column(column, justify="left" if column in ("file", "class") else "right", overflow="fold")
    for p in found:
        when = "never ahead" if p.decided_ms is None else f"{p.decided_ms:g}"
        score, long, read = f"{p.scores[p.label]:.4g}", f"{p.length_ms:g}", f"{p.read_ms:g}"
        table.add_row(p.file, str(p.recording), p.label, score, long, read, when)
    return table
