"""What a run is: a TOML file that this schema checks.

Every mistake of a file is reported at once, an unknown key with the nearest valid one.
"""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_validator,
)

from ..chips import CHIPS
from ..datasets.table import Dataset, lookup
from ..errors import ConfigError, SnnkitError, choices, sentences
from ..files import PathLike
from ..readouts import READOUTS
from .model import Model as Model
from .section import Section as Section
from .section import one_of

Whole = TypeVar("Whole", bound=BaseModel)


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
    jitter: int = Field(0, ge=0, description="largest move of each event in time, steps")
    shift: int = Field(0, ge=0, description="largest shift of images along y and along x, pixels")
    mirror: bool = Field(False, description="left and right of images swapped in half of the samples")
    rotate: float = Field(0.0, ge=0, le=180, description="largest turn of images, degrees")


class Group(Section):
    """Learning rate of a group of parameters over the epochs."""

    lr: float = Field(1e-3, gt=0)
    lr_max: float = Field(5e-3, gt=0, description="peak of a onecycle schedule")
    schedule: Literal["constant", "onecycle", "cosine", "plateau"] = "onecycle"
    weight_decay: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _takes_its_rate(self) -> Group:
        rises = self.schedule == "onecycle"
        key, instead = ("lr", "its rate is lr_max's") if rises else ("lr_max", "its rate is lr's")
        for problem in self.without_effect(f"schedule = {self.schedule!r}", [key], instead):
            raise ValueError(problem)
        return self


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
    hardware_aware: Annotated[str, one_of(lambda: ("none", *CHIPS))] = Field(
        "none", description="none, or the chip that the forward pass rounds for"
    )
    start_from: Path | None = Field(None, description="checkpoint whose weights, by name, are the first ones")
    loss: str | None = Field(
        None,
        description="package.module:function of a loss of one's own, f(out, targets)",
    )
    metric: str | None = Field(None, description="likewise what epochs are chosen by; more is better")
    class_weights: Literal["balanced"] | tuple[float, ...] | None = Field(
        None, description="weights of the classes in the cross entropy; balanced: one over their samples"
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled", description="balanced: of every class equally many samples an epoch"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="bfloat16: products of matrices under autocast; weights stay float32",
    )
    gradient_accumulation: int = Field(
        1, ge=1, description="batches whose gradients make one step of the optimiser"
    )
    validate_every: int = Field(1, ge=1, description="epochs from one validation to the next")
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _penalty_has_strength(self) -> Train:
        if self.rate_strength == 0:
            for problem in self.without_effect("rate_strength = 0", ["rate_target"], "set rate_strength too"):
                raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _patience_sees_a_validation(self) -> Train:
        if self.patience is not None and self.patience < self.validate_every:
            raise ValueError(
                f"patience = {self.patience} epochs end before there is a validation every "
                f"{self.validate_every}; give at least as many"
            )
        return self


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
        if not self.model.hidden and not self.model.layers:
            raise ValueError("model.hidden is empty; give at least one hidden layer, e.g. [256, 256]")
        if self.train.hardware_aware != "none":
            self._fits_the_chip(self.train.hardware_aware)
        return self

    def _fits_the_chip(self, name: str) -> None:
        """Raises for what training does not round as the chip's export does."""
        chip, what = CHIPS[name], f"train.hardware_aware = {name!r}"
        if self.model.reset != "hard":
            raise ValueError(f"{what} needs model.reset = 'hard'; Loihi resets to 0")
        if READOUTS[self.model.readout].of_spikes and self.model.neuron not in chip.cells:
            raise ValueError(
                f"{what}: the read-out has neurons {self.model.neuron!r}; {chip.name} has cells for "
                f"{', '.join(chip.cells)}"
            )
        for layer in self.model.plan():
            if layer.pool is not None:
                raise ValueError(f"{what}: {layer.where} pools, whose weights are not rounded; use a stride")
            if not layer.has_neurons:
                continue
            if layer.neuron not in chip.cells:
                raise ValueError(
                    f"{what}: {layer.where} has neurons {layer.neuron!r}; {chip.name} has cells for "
                    f"{', '.join(chip.cells)}"
                )
            if (reset := layer.arguments.get("reset", "hard")) != "hard":
                raise ValueError(f"{what}: {layer.where} has reset = {reset!r}; Loihi resets to 0 (hard)")
            if layer.arguments.get("max_spikes", 1) != 1 or layer.arguments.get("v_min") is not None:
                raise ValueError(
                    f"{what}: {layer.where} has max_spikes or v_min; Loihi's neuron spikes once a step "
                    "and has no floor under v"
                )
            if layer.recurrent != "none":
                raise ValueError(
                    f"{what}: {layer.where} is recurrent, and recurrent weights are not rounded; "
                    "use recurrent = 'none'"
                )


MACHINE = frozenset({("data", "root"), ("data", "workers"), ("train", "threads"), ("train", "device")})
"""Settings, by section and key, of where a run takes place: they are no part of what it is."""


PATHS = ("root", "file", "table", "save_to", "start_from", "train", "valid", "test")
"""Keys of files and folders: one that is called nan or 2024 is no number."""


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
        raise ConfigError(f"{where} has {count}: {sentences(problems)}") from None


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
        given = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        given = value
    of_path = last in PATHS and isinstance(given, int | float) and not isinstance(given, bool)
    tree[last] = value if of_path else given


def explain(problem: Any, kind: type[BaseModel], tree: dict[str, Any]) -> str:
    """A sentence of one of pydantic's problems with a `kind` of configuration, made of `tree`."""
    *parents, key = problem["loc"] or ("configuration",)
    table = f"[{'.'.join(str(p) for p in parents)}] " if parents else ""
    if problem["type"] == "extra_forbidden":
        return f"{table}unknown key {key!r}{choices(str(key), _fields(parents, kind, tree))}"
    given = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if message.startswith((f"{key}:", f"{key}.")):
        return f"{table}{message}"
    return f"{table}{key}{given}: {message}"


def _fields(parents: list[Any], kind: type[BaseModel], tree: dict[str, Any]) -> list[str]:
    """The keys of a table of the file, those of the data set that it names included."""
    section: Any = kind
    for parent in parents:
        section = _inner(section if isinstance(parent, int) else section.model_fields[parent].annotation)
        tree = tree[parent]
    return list((section.of_values(tree) if issubclass(section, DataSection) else section).model_fields)


def _inner(annotation: Any) -> Any:
    """The section in ``Section | None`` and ``tuple[Section, ...]``."""
    return next((a for a in get_args(annotation) if a not in (type(None), ...)), annotation)


def overridden(config: Config, overrides: tuple[str, ...] | list[str]) -> Config:
    """The configuration with ``"data.root=NEW"`` strings."""
    tree = config.model_dump(mode="json")
    for override in overrides:
        _override(tree, override, "data.root=NEW")
    return parse_config(tree, "command line")


def parse_overrides(overrides: list[str]) -> Config:
    """A `Config` of defaults and ``"data.name=shd"`` strings."""
    tree: dict[str, Any] = {}
    for override in overrides:
        _override(tree, override)
    return parse_config(tree, "command line")
