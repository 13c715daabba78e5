"""Train, valid and test: official, by speaker, or with one speaker left out; and `load`, which gives them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..files import PathLike
from . import heidelberg, mel, speech
from .binning import Binned, Frames, bin_events
from .event_data import EventDataset
from .recordings import PARTS, Recordings, first_of_each

_log = logging.getLogger("snnkit.datasets")

NAMES = ("shd", "ssc", "gsc", "spoken_digits", "spoken_words", "synthetic_digits")
VALIDATION = ("auto", "official", "speakers", "random", "none", "test")
Data = Binned | Frames


@dataclass
class Splits:
    """Three parts of a dataset, each made when it is first asked for.

    `test` is meant for one look at the end: nothing in snnkit that trains or chooses touches it.

    speakers  who is in each part: part → sorted speaker numbers
    sizes     recordings in each part; neither makes the part
    """

    make: dict[str, Callable[[], Data]]
    classes: list[str]
    dt: float
    channels: int
    name: str
    synthetic: bool = False
    attribution: str = ""
    speaker_names: dict[int, str] = field(default_factory=dict)
    speakers: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    _made: dict[str, Data] = field(default_factory=dict, repr=False)

    @property
    def train(self) -> Data:
        """What weights are learned from."""
        return self._get("train")

    @property
    def valid(self) -> Data:
        """What epochs and settings are chosen by."""
        return self._get("valid")

    @property
    def test(self) -> Data:
        """What the final figure is measured on, once."""
        return self._get("test")

    def describe(self) -> dict[str, Any]:
        """What it is, in numbers and words: names, sizes, steps, occupancy. The test part is only counted."""
        summary: dict[str, Any] = {
            "name": self.name,
            "synthetic": self.synthetic,
            "classes": self.classes,
            "channels": self.channels,
            "dt_ms": self.dt,
            "recordings": self.sizes,
            "speakers": {
                part: [self.speaker_names.get(s, str(s)) for s in who] for part, who in self.speakers.items()
            },
            "attribution": self.attribution,
        }
        train = self.train
        summary["steps"] = {
            "median": float(np.median(train.lengths)),
            "longest": int(train.lengths.max(initial=0)),
        }
        if isinstance(train, Binned):
            summary["occupancy"] = train.occupancy
            values = train.events.values
            summary["mean_count"] = 1.0 if values is None else float(values.mean(dtype=np.float64))
        return summary

    def _get(self, part: str) -> Data:
        if part not in self._made:
            self._made[part] = self.make[part]()
        return self._made[part]


@dataclass
class _Pool:
    """Recordings that are binned together."""

    labels: np.ndarray
    speakers: np.ndarray
    classes: list[str]
    binned: Callable[[], Data]
    official: dict[str, np.ndarray]  # part → rows of this pool


def load(
    name: str,
    *,
    root: PathLike | None = None,
    dt: float = 10.0,
    channels: int = 140,
    binary: bool = False,
    steps: int | None = None,
    validation: str = "auto",
    valid_speakers: int | Sequence[int | str] | None = None,
    held_out: int | str | Sequence[int | str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    features: str = "cochlea",
    voices: int = 30,
    workers: int | None = None,
    fetch: bool = True,
    progress: bool = True,
    cache: bool = True,
) -> Splits:
    """A dataset by name, binned and split.

    name            "shd", "ssc", "gsc", "spoken_digits", "spoken_words" or "synthetic_digits"
    root            folder of the data; None: ``SNNKIT_DATA``, then the cache, then the network
    dt              length of a step, ms
    channels        input neurons; neighbours of the 700 channels are summed (mel bands for `features`
                    "mel")
    binary          0/1 instead of counts
    steps           cut every recording after so many steps; None: keep all
    validation      "official", "speakers" (whole speakers taken from train), "random" (a tenth of every
                    class, from train), "none", or "test" (validate on the test part, as some published
                    code does: the figures are then optimistic). "auto": official where there is one
                    and no speakers are named, else speakers
    valid_speakers  how many speakers, or which, "speakers" takes; None: 15 %, at least one
    held_out        speaker or speakers that are the test part, instead of the official one
    limit           at most so many recordings of every class, speaker and part
    seed            of the cochlea and of the choice of validation speakers
    features        "cochlea", or "mel" (GSC only): log mel bands
    voices          how many speakers "synthetic_digits" has; takes of each word: `limit`, or 3
    workers         clips that are encoded at a time; None: one a core
    fetch           download what is missing
    cache           keep binned events on disk
    """
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, 1)
        hint = f", did you mean {near[0]!r}?" if near else "."
        raise ParameterError(f"unknown dataset {name!r}; known are {', '.join(NAMES)}{hint}")
    if validation not in VALIDATION:
        raise ParameterError(f"validation = {validation!r}; it is one of {', '.join(VALIDATION)}.")
    if features not in ("cochlea", "mel") or (features == "mel" and name != "gsc"):
        raise ParameterError(f"features = {features!r} for {name}; 'cochlea', or 'mel' for gsc.")
    if limit is not None and limit < 1:
        raise ParameterError(f"limit = {limit}; it must be at least 1, or None for all.")

    def binned(data: EventDataset) -> Callable[[], Data]:
        return lambda: bin_events(data, dt, channels, binary=binary, steps=steps, cache=cache)

    attribution, synthetic, names = "", False, {}
    pools: dict[str, _Pool] = {}
    if name in ("shd", "ssc"):
        pools = _heidelberg_pools(name, root, fetch, progress, binned, limit)
        attribution = heidelberg.ATTRIBUTION
    else:
        recordings = sound(
            name, root=root, fetch=fetch, progress=progress, seed=seed, voices=voices, takes=limit or 3
        ).limited(limit)
        attribution, synthetic, names = (
            recordings.attribution,
            recordings.synthetic,
            recordings.speaker_names,
        )
        official = {part: recordings.rows(part) for part in PARTS if len(recordings.rows(part))}
        if features == "mel":
            make: Callable[[], Data] = lambda: mel.mel_frames(recordings, dt, channels, cache=cache)  # noqa: E731
        else:
            make = _once(
                lambda: binned(speech.encoded(recordings, seed=seed, workers=workers, progress=progress))()
            )
        pools["all"] = _Pool(recordings.labels, recordings.speakers, recordings.classes, make, official)
    where = {part: (pool, rows) for pool in pools.values() for part, rows in pool.official.items()}
    if held_out is not None:
        where = _held_out(name, pools, where, held_out, names)
        if validation == "official":
            raise ParameterError("validation = 'official' does not go with held_out; take 'speakers'.")
    if validation == "auto":
        given = "valid" in where and held_out is None and valid_speakers is None
        validation = "official" if given else "speakers"
    where = _validated(name, where, validation, valid_speakers, names, seed)

    def part_of(part: str) -> Callable[[], Data]:
        if part not in where:

            def absent() -> Data:
                raise ParameterError(f"{name} was loaded with validation = 'none'; it has no {part} part.")

            return absent
        pool, rows = where[part]

        def make_part() -> Data:
            data = pool.binned()
            whole = len(rows) == len(data) and (np.diff(rows) == 1).all()
            return data if whole else data.subset(rows)

        return make_part

    classes = next(iter(pools.values())).classes
    return Splits(
        {part: part_of(part) for part in PARTS},
        classes,
        dt,
        channels,
        name,
        synthetic,
        attribution,
        names,
        {part: sorted({int(s) for s in pool.speakers[rows]}) for part, (pool, rows) in where.items()},
        {part: len(rows) for part, (_, rows) in where.items()},
    )


def sound(
    name: str,
    *,
    root: PathLike | None = None,
    fetch: bool = True,
    progress: bool = True,
    seed: int = 0,
    voices: int = 30,
    takes: int = 3,
) -> Recordings:
    """The sound recordings of a dataset: "spoken_digits", "spoken_words", "gsc" or "synthetic_digits".

    `seed`, `voices` and `takes` are for the synthetic voices only.
    """
    if name == "synthetic_digits":
        return speech.synthetic_digits(voices, takes, seed=seed)
    if name not in speech.SOUND:
        raise ParameterError(f"no sound for {name!r}; known are synthetic_digits, {', '.join(speech.SOUND)}.")
    return speech.SOUND[name](root, fetch=fetch, progress=progress)


def leave_one_speaker_out(name: str, **options: Any) -> Iterator[tuple[str, Splits]]:
    """For every speaker in turn: the name, and splits that have this speaker alone as test part."""
    recordings = sound(name, **{k: options[k] for k in ("root", "fetch", "progress", "seed") if k in options})
    for number, speaker in recordings.speaker_names.items():
        yield speaker, load(name, held_out=number, **options)


def _heidelberg_pools(
    name: str,
    root: PathLike | None,
    fetch: bool,
    progress: bool,
    binned: Callable[[EventDataset], Callable[[], Data]],
    limit: int | None,
) -> dict[str, _Pool]:
    open_part = heidelberg.SHD if name == "shd" else heidelberg.SSC
    pools = {}
    for part in ("train", "test") if name == "shd" else PARTS:
        data = open_part(root, part, fetch=fetch, progress=progress)
        rows = np.arange(len(data)) if limit is None else first_of_each(limit, data.labels, data.speakers)
        pools[part] = _Pool(data.labels, data.speakers, data.classes, _once(binned(data)), {part: rows})
    return pools


def _once(make: Callable[[], Data]) -> Callable[[], Data]:
    made: list[Data] = []

    def get() -> Data:
        if not made:
            made.append(make())
        return made[0]

    return get


_Where = dict[str, tuple[_Pool, np.ndarray]]


def _numbers(
    who: int | str | Sequence[int | str], known: np.ndarray, names: dict[int, str], what: str
) -> np.ndarray:
    numbers = []
    for one in [who] if isinstance(who, int | str | np.integer) else who:
        match = [n for n in np.unique(known) if n == one or names.get(int(n)) == one]
        if not match:
            choice = ", ".join(names.get(int(n), str(n)) for n in np.unique(known)[:40])
            raise ParameterError(f"{what}: no speaker {one!r}; there are {choice}.")
        numbers.append(match[0])
    return np.array(numbers)


def _held_out(
    name: str,
    pools: dict[str, _Pool],
    where: _Where,
    held_out: int | str | Sequence[int | str],
    names: dict[int, str],
) -> _Where:
    if len(pools) != 1:
        raise ParameterError(
            f"{name} has its test part in a file of its own; held_out is for datasets made from sound."
        )
    pool = next(iter(pools.values()))
    out = _numbers(held_out, pool.speakers, names, "held_out")
    mask = np.isin(pool.speakers, out)
    if mask.all():
        raise ParameterError("held_out names every speaker; at least one must be left to train on.")
    return {"train": (pool, np.flatnonzero(~mask)), "test": (pool, np.flatnonzero(mask))}


def _validated(
    name: str,
    where: _Where,
    validation: str,
    valid_speakers: int | Sequence[int | str] | None,
    names: dict[int, str],
    seed: int,
) -> _Where:
    if valid_speakers is not None and validation != "speakers":
        raise ParameterError(f"valid_speakers has no meaning with validation = {validation!r}.")
    if validation == "official":
        if "valid" not in where:
            raise ParameterError(f"{name} has no official valid part; take validation = 'speakers'.")
        return where
    pool, rows = where["train"]
    if "valid" in where:  # not used as such: its recordings are free to train on
        valid_pool, valid_rows = where["valid"]
        if valid_pool is pool:
            rows = np.sort(np.concatenate([rows, valid_rows]))
    parts = {"train": (pool, rows), "test": where["test"]}
    if validation == "none":
        return parts
    if validation == "test":
        _log.warning("%s: validation on the test part; what is chosen by it is optimistic.", name)
        return {**parts, "valid": where["test"]}
    if validation == "random":
        taken = _a_tenth(pool.labels[rows], seed)
    else:
        taken = np.isin(pool.speakers[rows], carve(pool.speakers[rows], valid_speakers, seed, names))
    return {**parts, "train": (pool, rows[~taken]), "valid": (pool, rows[taken])}


def carve(
    speakers: np.ndarray,
    count: int | Sequence[int | str] | None = None,
    seed: int = 0,
    names: dict[int, str] | None = None,
) -> np.ndarray:
    """Speakers that are set aside for validation.

    speakers  speaker of each training recording
    count     how many, or which; None: 15 % of them, at least one
    """
    there = np.unique(speakers)
    if len(there) < 2:
        raise ParameterError(
            f"a validation part by speaker needs at least 2 speakers, there is {len(there)}; take "
            "validation = 'random'."
        )
    if count is not None and not isinstance(count, int | np.integer):
        chosen = _numbers(count, there, names or {}, "valid_speakers")
    else:
        number = max(1, round(0.15 * len(there))) if count is None else int(count)
        if number < 1:
            raise ParameterError(f"valid_speakers = {number}; it must be at least 1.")
        chosen = np.random.default_rng(seed).permutation(there)[:number]
    if len(chosen) >= len(there):
        raise ParameterError(
            f"valid_speakers takes {len(chosen)} of {len(there)} speakers; leave one to train on."
        )
    return np.sort(chosen)


def _a_tenth(labels: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        taken[rng.permutation(rows)[: max(1, round(0.1 * len(rows)))]] = True
    return taken
