"""What a run is: a TOML file that this schema checks.

Every mistake of a file is reported at once, an unknown key with the nearest valid one.
"""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    field_validator,
    model_validator,
)

from ..chips import CHIPS
from ..datasets.table import Dataset, lookup
from ..delays import VERSIONS
from ..errors import ConfigError, SnnkitError, choices, nearest
from ..files import PathLike
from ..readouts import READOUTS

Whole = TypeVar("Whole", bound=BaseModel)


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """A table that names a data set and may hold the options that this data set alone has."""

    name: str
    root: Path | None = None

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> type[DataSection]:
        """This section with the own options of the data set that its values name as further keys.

        A name that is not in the table may have any options: a run's record must be readable where its data
        set is not registered. `snnkit.datasets.load` refuses it.
        """
        name = values.get("name", cls.model_fields["name"].default)
        if not isinstance(name, str):
            return cls
        try:
            return _with_options(cls, lookup(name))
        except SnnkitError:
            return _with_options(cls, None)


@functools.cache
def _with_options(section: type[DataSection], row: Dataset | None) -> type[DataSection]:
    if row is None:
        anything = {"model_config": {"extra": "allow"}, "__module__": section.__module__}
        return type(section.__name__, (section,), anything)
    own: dict[str, Any] = {
        key: (option.annotation, ... if option.required else option.default)
        for key, option in row.options().items()
    }
    if row.channels is None and "channels" in section.model_fields:
        own["channels"] = (int | None, Field(None, gt=0, description="None: all that the recordings have"))
    return create_model(section.__name__, __base__=section, **own) if own else section


def own_options(section: type[DataSection]) -> WrapValidator:
    """Marks a field of type `section`: the options of the data set that it names are keys of it as well."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, dict):
            return section.of_values(value).model_validate(value)
        return handler(value)

    return WrapValidator(validate)


class Data(DataSection):
    """Which recordings, and how they become steps and channels."""

    name: str = "spoken_digits"
    dt: float = Field(10.0, gt=0, description="length of a step, ms")
    channels: int = Field(140, gt=0, description="700 channels are summed in neighbouring groups")
    binary: bool = Field(False, description="spike or no spike instead of counts")
    steps: int | None = Field(None, ge=1, description="cut recordings after so many steps")
    duration: float | None = Field(None, gt=0, description="ms that every recording of events lasts")
    validation: Literal["auto", "official", "speakers", "random", "none", "test"] = "auto"
    valid_speakers: int | tuple[int | str, ...] | None = None
    held_out: int | str | tuple[int | str, ...] | None = Field(
        None, description="the speakers kept for the test, instead of the official test part"
    )
    limit: int | None = Field(None, ge=1, description="recordings of every class, speaker and part")
    seed: int = Field(0, description="of the cochlea and of the choice of validation speakers")
    features: Literal["cochlea", "mel"] = "cochlea"


class Augmentation(Section):
    """Strength of each augmentation of the training data; 0 is off."""

    time_mask: int = Field(0, ge=0, description="longest masked stretch, steps")
    neuron_mask: int = Field(0, ge=0, description="widest masked band, channels")
    channel_shift: int = Field(0, ge=0, description="largest shift, channels")
    drop_event: float = Field(0.0, ge=0, lt=1, description="share of events dropped")
    time_stretch: float = Field(0.0, ge=0, lt=1, description="largest relative change of tempo")
    cutmix: float = Field(0.0, ge=0, le=1, description="share of samples mixed with another")


class Model(Section):
    """The network: fully connected layers of spiking neurons and a leaky read-out."""

    hidden: tuple[int, ...] = (256, 256)
    delays: Literal["learned", "random", "none"] = "learned"
    max_delay: int = Field(24, ge=0, description="steps")
    kernel_count: int = Field(1, ge=1, description="taps per synapse")
    version: str = Field("gauss", description="delay kernel: gauss, triangle, max or one added to VERSIONS")
    tau_mem: float = Field(10.05, gt=0, description="ms")
    tau_readout: float | None = Field(None, gt=0, description="ms; tau_mem if not given")
    v_th: float = Field(1.0, gt=0)
    reset: Literal["hard", "soft", "none"] = "hard"
    decay_input: bool = False
    detach_reset: bool = True
    learn_tau: bool = False
    surrogate: str = "atan"
    surrogate_alpha: float = Field(5.0, gt=0)
    dropout: float = Field(0.4, ge=0, lt=1)
    dropout_mask: Literal["shared", "step"] = Field(
        "shared", description="shared: one mask for all steps of a sample, as published; step: one for each"
    )
    norm_weight: float = Field(1.0, gt=0, description="initial weight of the batch norms")
    padding: Literal["tail", "grow"] = Field(
        "tail",
        description="tail: `tail` silent steps follow the input, layers keep the length; "
        "grow: every layer adds (window − 1)//2 steps, as published",
    )
    tail: int | None = Field(None, ge=0, description="steps; (window − 1)//2 a layer if not given")
    readout: str = Field("softmax_sum", description="a name of `snnkit.readouts.READOUTS`")

    @field_validator("readout")
    @classmethod
    def _a_readout(cls, name: str) -> str:
        if name not in READOUTS:
            raise ValueError(f"is none of {', '.join(READOUTS)}{nearest(name, READOUTS)}")
        return name

    @field_validator("version")
    @classmethod
    def _known_version(cls, version: str) -> str:
        if version not in VERSIONS:
            *others, last = (repr(name) for name in VERSIONS)
            raise ValueError(f"Input should be {', '.join(others)} or {last}")
        return version


class Group(Section):
    """Learning rate of a group of parameters over the epochs."""

    lr: float = Field(1e-3, gt=0)
    lr_max: float = Field(5e-3, gt=0, description="peak of a onecycle schedule")
    schedule: Literal["constant", "onecycle", "cosine", "plateau"] = "onecycle"
    weight_decay: float = Field(0.0, ge=0)


class Train(Section):
    """How it is trained, and which epoch is kept."""

    epochs: int = Field(150, ge=1)
    batch: int = Field(256, ge=1)
    seed: int = Field(0, ge=0)
    weights: Group = Group(weight_decay=1e-5)
    positions: Group = Group(lr=0.1, schedule="cosine")
    sigma: float | None = Field(None, gt=0, description="first kernel width, steps; max_delay/2 if not given")
    sigma_final: float = Field(0.23, gt=0)
    sigma_epochs: float = Field(0.25, gt=0, le=1, description="share of the epochs in which σ shrinks")
    patience: int | None = Field(None, ge=1, description="epochs without a better validation accuracy")
    rate_target: float = Field(0.0, ge=0, description="spikes a neuron and step that cost nothing")
    rate_strength: float = Field(0.0, ge=0)
    clip_grad: float | None = Field(None, gt=0)
    protocol: Literal["safe", "paper"] = Field(
        "safe",
        description="safe: epoch chosen on validation, padding masked; paper: as SNN-delays was published, "
        "epoch chosen on the test set, padded steps counted, accuracy a mean of batch means",
    )
    hardware_aware: str = Field("none", description="none, or the chip that the forward pass rounds for")
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("hardware_aware")
    @classmethod
    def _a_chip(cls, name: str) -> str:
        known = ("none", *CHIPS)
        if name not in known:
            raise ValueError(f"is none of {', '.join(known)}{nearest(name, known)}")
        return name


class Config(Section):
    """A whole run."""

    data: Annotated[SerializeAsAny[Data], own_options(Data)] = Data()
    augment: Augmentation = Augmentation()
    model: Model = Model()
    train: Train = Train()

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.model.delays == "none" and self.model.kernel_count > 1:
            raise ValueError("model.kernel_count > 1 needs delays; set delays = 'learned' or 'random'")
        if not self.model.hidden:
            raise ValueError("model.hidden is empty; give at least one hidden layer, e.g. [256, 256]")
        chip = self.train.hardware_aware
        if self.model.reset != "hard" and chip != "none":
            raise ValueError(f"train.hardware_aware = {chip!r} needs model.reset = 'hard'; Loihi resets to 0")
        return self


def load_config(path: PathLike, overrides: tuple[str, ...] | list[str] = ()) -> Config:
    """Read a TOML file; `overrides` are ``"train.epochs=3"`` strings, values in TOML's notation.

    An override without a value (``"data.held_out="``) gives the key its default back.

    Raises `ConfigError` with every problem of the file.
    """
    return read_file(path, overrides, Config, "train.epochs=3")


def parse_config(tree: dict[str, Any], where: str = "configuration") -> Config:
    """A checked `Config` from nested dictionaries."""
    return _checked(tree, where, Config)


def read_file(
    path: PathLike, overrides: tuple[str, ...] | list[str], kind: type[Whole], example: str
) -> Whole:
    """A TOML file with overrides as a `kind` of configuration; `example` is an override of it.

    Raises `ConfigError` with every problem of the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist.")
    try:
        tree = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from error
    for override in overrides:
        _override(tree, override, example)
    return _checked(tree, str(path), kind)


def _checked(tree: dict[str, Any], where: str, kind: type[Whole]) -> Whole:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        problems = [explain(problem, kind, tree) for problem in error.errors()]
        count = f"{len(problems)} problem" + "s" * (len(problems) > 1)
        raise ConfigError(f"{where} has {count}: " + "; ".join(problems) + ".") from None


def _override(tree: dict[str, Any], text: str, example: str = "train.epochs=3") -> None:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise ConfigError(f"override {text!r} should read key=value, e.g. {example}.")
    *parents, last = key.strip().split(".")
    value = value.strip()
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"override {text!r}: {parent} is a value, not a table.")
    if not value:
        tree.pop(last, None)  # "key=" gives the key its default back
        return
    try:
        tree[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tree[last] = value


def explain(problem: Any, kind: type[BaseModel], tree: dict[str, Any]) -> str:
    """A sentence of one of pydantic's problems with a `kind` of configuration, made of `tree`."""
    *parents, key = problem["loc"] or ("configuration",)
    table = f"[{'.'.join(str(p) for p in parents)}] " if parents else ""
    if problem["type"] == "extra_forbidden":
        return f"{table}unknown key {key!r}{choices(str(key), _fields(parents, kind, tree))}"
    given = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    return f"{table}{key}{given}: {problem['msg'].removeprefix('Value error, ').rstrip('.')}"


def _fields(parents: list[Any], kind: type[BaseModel], tree: dict[str, Any]) -> list[str]:
    """The keys of a table of the file, those of the data set that it names included."""
    section: Any = kind
    for parent in parents:
        section, tree = section.model_fields[parent].annotation, tree[parent]
    return list((section.of_values(tree) if issubclass(section, DataSection) else section).model_fields)


def parse_overrides(overrides: list[str]) -> Config:
    """A `Config` of defaults and ``"data.name=shd"`` strings."""
    tree: dict[str, Any] = {}
    for override in overrides:
        _override(tree, override)
    return parse_config(tree, "command line")
