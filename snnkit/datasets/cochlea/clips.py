"""Whole clips through the chain, and the file that keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np

from ...errors import DataError, ShapeError
from ...files import PathLike
from ..event_files import write_events
from ..workers import worker_count
from . import bushy_cells, hair_cells
from .basilar import velocities
from .bushy_cells import Spikes
from .settings import Cochlea, with_changes
from .waveform import prepare


def encode(
    audio: np.ndarray, rate: int, seed: int = 0, settings: Cochlea | None = None, **changes: Any
) -> Spikes:
    """Spikes of one clip: times in seconds (float64 ``[E]``, sorted) and channels (int32 ``[E]``).

    audio     float or integer ``[n]``; its level does not matter
    rate      samples per second of `audio`
    seed      of the afferents; the same seed gives the same spikes
    settings  a `Cochlea`; `changes` replace some of its fields, as in ``encode(x, 8000, channels=128)``

    Raises as `prepare` and `membrane` do, and `ParameterError` for a setting out of its range.
    """
    s = with_changes(settings, changes)
    sound = prepare(audio, rate, s)
    work_rate = s.sample_rate or int(rate)
    cell_rate = work_rate // 2
    cells = hair_cells.constants_at(cell_rate, s)
    bushy = bushy_cells.constants_at(cell_rate, s)
    keys = bushy_cells.channel_keys(seed, s.channels)
    at, who, lo = [], [], 0
    for velocity in velocities(sound, work_rate, s, int(rate)):
        block = np.ascontiguousarray(velocity)
        width = block.shape[1]
        hair_cells.release_in_place(block, cells)
        t, c = bushy_cells.fire(block, keys[lo : lo + width], *bushy)
        at.append(t)
        who.append(c + np.int32(lo))
        lo += width
    times, units = np.concatenate(at), np.concatenate(who)
    order = np.lexsort((units, times))
    return times[order] / cell_rate, units[order]


def clip_seed(seed: int, index: int) -> int:
    """The seed that `encode_many` gives to the clip at `index`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def encode_many(
    clips: Sequence[np.ndarray],
    rate: int,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    settings: Cochlea | None = None,
    **changes: Any,
) -> list[Spikes]:
    """`encode` of every clip, several at once. Clip i uses ``clip_seed(seed, i)``, whatever `workers` is.

    clips     float or integer [n] each, at `rate` samples per second
    workers   clips at a time; None takes as many as there are processors
    progress  show a bar

    Raises what `encode` raises, with the clip's number, and `ParameterError` for `workers` below 1.
    """
    s = with_changes(settings, changes)
    workers = worker_count(workers)

    def one(index: int) -> Spikes:
        try:
            return encode(clips[index], rate, clip_seed(seed, index), s)
        except (DataError, ShapeError) as error:
            raise type(error)(f"Clip {index}: {error}") from error

    with ThreadPoolExecutor(workers) as pool:
        results: Iterable[Spikes] = pool.map(one, range(len(clips)))
        if progress:
            from rich.progress import track

            results = track(results, "cochlea", total=len(clips))
        return list(results)


def write_shd(
    path: PathLike,
    spikes: Iterable[Spikes],
    labels: Sequence[int] | np.ndarray,
    speakers: Sequence[int] | np.ndarray,
    keys: Sequence[str],
    settings: Cochlea,
    *,
    rate: int | None = None,
    seed: int | None = None,
) -> None:
    """`write_events` with the constants of the encoding in the attributes of the file.

    labels    [B] class of each clip, an index into `keys`; speakers [B]
    keys      names of the classes
    settings  what encoded them; `rate` of the sound and `seed` are recorded if given
    """
    attributes: dict[str, Any] = {
        f"cochlea_{name}": "none" if value is None else value for name, value in asdict(settings).items()
    }
    if rate is not None:
        attributes |= {"sound_rate": int(rate), "cell_rate": (settings.sample_rate or int(rate)) // 2}
    if seed is not None:
        attributes["seed"] = int(seed)
    write_events(
        path, spikes, np.asarray(labels), np.asarray(speakers), keys,
        channels=settings.channels, attributes=attributes,
    )  # fmt: skip
