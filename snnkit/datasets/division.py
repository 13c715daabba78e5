"""Who is in train, valid and test: official parts, whole speakers, one speaker left out, or at random."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import ParameterError
from .batches import Data

_log = logging.getLogger("snnkit.datasets")

Who = int | str | Sequence[int | str]
"""A speaker or several, by number or name."""


@dataclass(kw_only=True)
class Pool:
    """Recordings that are made into steps together, when the first of them is needed.

    labels    int64 [B]
    speakers  int64 [B]; −1 where unknown
    classes   names in label order
    make      makes them, all B
    official  part → rows of this pool, int64 [R]
    channels  that the recordings themselves have
    shape     of one step; () stands for as many channels as are asked for
    """

    labels: np.ndarray
    speakers: np.ndarray
    classes: list[str]
    make: Callable[[], Data]
    official: dict[str, np.ndarray]
    channels: int
    shape: tuple[int, ...] = ()

    @cached_property
    def data(self) -> Data:
        """What `make` gives, made once."""
        return self.make()


Parts = dict[str, tuple[Pool, np.ndarray]]
"""Part → where its recordings lie: a pool, and rows of it."""


@dataclass(frozen=True, kw_only=True)
class Division:
    """How a data set is divided; the fields are options of `snnkit.datasets.load`.

    name   the data set's, for messages
    names  speaker number → name
    """

    name: str
    validation: str
    valid_speakers: Who | None = None
    held_out: Who | None = None
    seed: int = 0
    names: dict[int, str] = field(default_factory=dict)

    def parts(self, pools: Sequence[Pool]) -> Parts:
        """Train, test and, unless there is none, valid.

        Raises `ParameterError` for speakers that there are not, and for a division that these pools or these
        options do not allow.
        """
        parts = {part: (pool, rows) for pool in pools for part, rows in pool.official.items()}
        if missing := {"train", "test"} - parts.keys():
            raise ParameterError(f"{self.name} has no {' and no '.join(sorted(missing))} part.")
        if self.held_out is not None:
            parts = self._held_out(pools, self.held_out)
        return self._validated(parts)

    def _held_out(self, pools: Sequence[Pool], held_out: Who) -> Parts:
        if len(pools) != 1:
            raise ParameterError(
                f"{self.name} has its test part in a file of its own; held_out is for datasets made from "
                "sound."
            )
        pool = pools[0]
        mask = np.isin(pool.speakers, _numbers(held_out, pool.speakers, self.names, "held_out"))
        if mask.all():
            raise ParameterError("held_out names every speaker; at least one must be left to train on.")
        if self.validation == "official":
            raise ParameterError("validation = 'official' does not go with held_out; take 'speakers'.")
        return {"train": (pool, np.flatnonzero(~mask)), "test": (pool, np.flatnonzero(mask))}

    def _validated(self, parts: Parts) -> Parts:
        if self.valid_speakers is not None and self.validation != "speakers":
            raise ParameterError(f"valid_speakers has no meaning with validation = {self.validation!r}.")
        if self.validation == "official":
            if "valid" not in parts:
                raise ParameterError(f"{self.name} has no official valid part; take validation = 'speakers'.")
            return parts
        pool, rows = parts["train"]
        if "valid" in parts:  # not used as such: its recordings are free to train on
            valid_pool, valid_rows = parts["valid"]
            if valid_pool is pool:
                rows = np.sort(np.concatenate([rows, valid_rows]))
        test = parts["test"]
        if self.validation == "none":
            return {"train": (pool, rows), "test": test}
        if self.validation == "test":
            _log.warning("%s: validation on the test part; what is chosen by it is optimistic.", self.name)
            return {"train": (pool, rows), "test": test, "valid": test}
        if self.validation == "random":
            taken = share_of_each(pool.labels[rows], 0.1, self.seed)
        else:
            speakers = pool.speakers[rows]
            taken = np.isin(speakers, carve(speakers, self.valid_speakers, self.seed, self.names))
        return {"train": (pool, rows[~taken]), "test": test, "valid": (pool, rows[taken])}


def share_of_each(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Which recordings are set aside: bool [B], a share of every class drawn at random.

    At least one of each class, and none of a class of one: that is left to train on.
    """
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        taken[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    return taken


def _numbers(who: Who, known: np.ndarray, names: dict[int, str], what: str) -> np.ndarray:
    """The numbers of the speakers `who`, or `ParameterError` naming the option `what` and one not `known`."""
    numbers = []
    for one in [who] if isinstance(who, int | str | np.integer) else who:
        match = [n for n in np.unique(known) if n == one or names.get(int(n)) == one]
        if not match:
            choice = ", ".join(names.get(int(n), str(n)) for n in np.unique(known)[:40])
            raise ParameterError(f"{what}: no speaker {one!r}; there are {choice}.")
        numbers.append(match[0])
    return np.array(numbers)


def carve(
    speakers: np.ndarray,
    count: Who | None = None,
    seed: int = 0,
    names: dict[int, str] | None = None,
) -> np.ndarray:
    """Speakers that are set aside for validation, sorted.

    speakers  int64 [B], the speaker of each training recording
    count     how many, or which; None: 15 % of them, at least one

    Raises `ParameterError` where that leaves none or takes none, for a speaker that there is not, and where
    some recordings have no speaker and others have one.
    """
    known = np.unique(speakers)
    if (unknown := int((speakers < 0).sum())) and unknown < len(speakers):
        raise ParameterError(
            f"a validation part by speaker needs the speaker of every recording; {unknown} of "
            f"{len(speakers)} have none. Give it, or take validation = 'random'."
        )
    if len(known) < 2:
        raise ParameterError(
            f"a validation part by speaker needs at least 2 speakers, there is {len(known)}; take "
            "validation = 'random'."
        )
    if count is not None and not isinstance(count, int | np.integer):
        chosen = _numbers(count, known, names or {}, "valid_speakers")
    else:
        number = max(1, round(0.15 * len(known))) if count is None else int(count)
        if number < 1:
            raise ParameterError(f"valid_speakers = {number}; it must be at least 1.")
        chosen = np.random.default_rng(seed).permutation(known)[:number]
    if len(chosen) >= len(known):
        raise ParameterError(
            f"valid_speakers takes {len(chosen)} of {len(known)} speakers; leave one to train on."
        )
    return np.sort(chosen)
