"""The ``[model]`` table: which layers a network has, and which neurons.

`Model.plan` says of every layer what it is, all that the general keys give it filled in.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..delays import VERSIONS
from ..errors import ParameterError, choices, listed, sentences
from ..neurons import MODULES, NEURONS, RESETS, SURROGATES, resolve
from ..neurons.modules import arguments_of, module_of
from ..readouts import READOUTS
from .section import Section, one_of

GENERAL = {
    "tau_mem": "tau_mem",
    "v_th": "v_th",
    "reset": "reset",
    "decay_input": "decay_input",
    "detach_reset": "detach_reset",
    "learn_tau": "learn_tau",
    "surrogate": "surrogate",
    "surrogate_alpha": "alpha",
}
"""Key of ``[model]`` → argument of the neurons' modules."""

SHORTEST = 1e-3
"""ms; the step at which parameters are tried out when a file is read, its data's own step being unknown."""

OF_ANY_NETWORK = ("network", "readout", "tail")
"""Keys of ``[model]`` that concern a network of one's own as well."""

AT_SYNAPSES = ("learned", "random", "none")
"""What layers of ``hidden`` with ``padding = "grow"``, and convolutions, can have as `delays`."""


def trainable() -> list[str]:
    """The names of neurons that spike and have an adjoint."""
    found = []
    for name in NEURONS:
        neuron = resolve(name)
        if neuron.spiking and neuron.adjoint is not None and not neuron.integer:
            found.append(name)
    return found


Neuron = Annotated[str, one_of(trainable)]
Version = Annotated[str, one_of(lambda: VERSIONS)]
Delays = Literal["learned", "random", "none", "axonal", "dendritic"]
Recurrent = Literal["none", "dense", "delays"]


class Convolution(Section):
    """A convolution over space; square kernels, padded with zeros."""

    channels: int = Field(ge=1)
    kernel: int = Field(3, ge=1)
    stride: int = Field(1, ge=1)
    padding: int = Field(0, ge=0)


class Hidden(Section):
    """A layer of ``[[model.layers]]``: one of size, conv, pool, flatten; what is not given is the model's."""

    size: int | None = Field(None, ge=1, description="neurons, connected to all of the layer before")
    conv: Convolution | None = Field(None, description="channels, kernel, stride, padding")
    pool: int | None = Field(None, ge=1, description="average over squares of so many pixels a side")
    flatten: Literal[True] | None = Field(None, description="images to one axis; done by `size` as well")
    neuron: Neuron | None = None
    parameters: dict[str, Any] = Field({}, description="as the model's, of this layer")
    tau_spread: float | None = Field(None, ge=0)
    learn_tau: bool | None = None
    delays: Delays | None = None
    max_delay: int | None = Field(None, ge=0, description="steps")
    kernel_count: int | None = Field(None, ge=1)
    version: Version | None = None
    recurrent: Recurrent | None = None
    skip: int = Field(
        0, ge=0, description="adds what the layer so many before gives; the first is the input's"
    )
    dropout: float | None = Field(None, ge=0, lt=1)
    norm: bool = True

    def kinds(self) -> list[str]:
        """Which of size, conv, pool and flatten are given."""
        return [key for key in ("size", "conv", "pool", "flatten") if getattr(self, key) is not None]


@dataclass(frozen=True)
class Plan:
    """A layer with all that it is, what the model says for all layers filled in.

    where      what an error calls it
    size, conv, pool, flatten  one of them is given, see `Hidden`
    neuron, arguments          name in `NEURONS`, and what its module is made with besides dt
    tau_spread                 see `Model`
    """

    where: str
    size: int | None
    conv: Convolution | None
    pool: int | None
    flatten: bool
    neuron: str
    arguments: Mapping[str, Any]
    tau_spread: float
    delays: str
    max_delay: int
    kernel_count: int
    version: str
    recurrent: str
    skip: int
    dropout: float
    norm: bool

    @property
    def has_neurons(self) -> bool:
        """False for pooling and flattening."""
        return self.size is not None or self.conv is not None

    @property
    def has_taps(self) -> bool:
        """Whether any of its synapses have delays of their own."""
        return self.delays in ("learned", "random") or self.recurrent == "delays"

    @property
    def taus(self) -> list[str]:
        """The time constants that the neuron is made with, by name."""
        return [n for n, v in self.arguments.items() if n.startswith("tau_") and v is not None]

    def problems(self, index: int) -> Iterator[str]:
        """What can't be; `index` is its number among the layers with neurons."""
        if not self.has_neurons:
            return
        if self.kernel_count > 1 and not self.has_taps:
            yield f"{self.where}: kernel_count > 1 needs delays; set delays = 'learned' or 'random'"
        if self.recurrent == "delays" and self.max_delay < 1:
            yield f"{self.where}: recurrent = 'delays' needs max_delay ≥ 1, the shortest way back is a step"
        if self.conv is not None and self.delays not in AT_SYNAPSES:
            yield f"{self.where}: a convolution's delays are {listed(AT_SYNAPSES)}, not {self.delays}"
        if self.conv is not None and self.recurrent != "none":
            yield f"{self.where}: a convolution has no recurrent synapses; take them into a layer with a size"
        if self.skip > index + 1:
            yield (
                f"{self.where}: skip = {self.skip} goes beyond the input, which is {index + 1} before; "
                f"at most skip = {index + 1}"
            )
        if self.tau_spread and not self.taus:
            yield f"{self.where}: neuron {self.neuron!r} has no time constant that tau_spread could draw"


class Model(Section):
    """The network: layers of spiking neurons, fully connected or convolutional, and a leaky read-out."""

    hidden: tuple[int, ...] = (256, 256)
    layers: tuple[Hidden, ...] = Field((), description="layer by layer, in place of hidden")
    neuron: Neuron = "lif"
    parameters: dict[str, Any] = Field({}, description="of this neuron, by its own names")
    delays: Delays = "learned"
    max_delay: int = Field(24, ge=0, description="steps")
    kernel_count: int = Field(1, ge=1, description="taps per synapse")
    version: Version = Field(
        "gauss", description="delay kernel: gauss, triangle, max or one added to VERSIONS"
    )
    recurrent: Recurrent = Field(
        "none", description="dense: with a delay of one step; delays: with their own"
    )
    tau_mem: float = Field(10.05, gt=0, description="ms")
    tau_spread: float = Field(
        0.0,
        ge=0,
        description="time constants drawn, a neuron each, from τ/(1 + tau_spread) … τ·(1 + tau_spread)",
    )
    tau_readout: float | None = Field(None, gt=0, description="ms; tau_mem if not given")
    readout_bias: bool = Field(False, description="a learned bias of each output")
    v_th: float = Field(1.0, gt=0)
    reset: Annotated[str, one_of(lambda: RESETS)] = "hard"
    decay_input: bool = False
    detach_reset: bool = True
    learn_tau: bool = False
    surrogate: Annotated[str, one_of(lambda: SURROGATES)] = "atan"
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
    network: str | None = Field(
        None, description="package.module:build of a network of one's own, build(shape, classes, dt)"
    )
    readout: Annotated[str, one_of(lambda: READOUTS)] = Field(
        "softmax_sum", description="a name of `snnkit.readouts.READOUTS`"
    )

    @model_validator(mode="after")
    def _is_a_network(self) -> Model:
        problems = list(dict.fromkeys(self._problems()))
        if problems:
            raise ValueError(sentences(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if self.network is not None:
            yield from self.without_effect(
                f"model.network = {self.network!r}, which builds the whole network",
                [key for key in Model.model_fields if key not in OF_ANY_NETWORK],
                f"say it in the function that builds it; of [model] only {listed(OF_ANY_NETWORK)} concern it",
            )
            return
        yield from self._untold()
        if self.layers and self.hidden != Model.model_fields["hidden"].default:
            yield "model.hidden and [[model.layers]] both say which layers there are; give one of them"
        for i, layer in enumerate(self.layers):
            where, kinds = f"model.layers.{i}", layer.kinds()
            if len(kinds) != 1:
                given = listed(kinds) if kinds else "none"
                yield f"{where}: one of size, conv, pool and flatten is needed, {given} given"
                return
            useless = sorted(layer.model_fields_set - {*kinds, "norm"} - _unset(layer))
            if kinds[0] in ("pool", "flatten") and useless:
                yield f"{where}: {kinds[0]} has no neurons, synapses or skip: remove {listed(useless)}"
        if self.layers and not any({"size", "conv"} & {*layer.kinds()} for layer in self.layers):
            yield "model.layers has no layer with neurons; give one a size or conv"
        if self.delays in ("axonal", "dendritic") and self.kernel_count > 1:
            yield f"model: {self.delays} delays have one tap; leave kernel_count = 1"
        spiking = 0
        try:
            plans = self.plan()
        except ParameterError as error:
            yield str(error).rstrip(".")
            return
        for plan in plans:
            yield from plan.problems(spiking)
            spiking += plan.has_neurons
        yield from self._untaken(plans)
        late = [p.where for p in plans if p.delays not in AT_SYNAPSES or p.recurrent != "none" or p.skip]
        if self.padding == "grow" and (self.layers or late):
            yield (
                "model.padding = 'grow' is for model.hidden with delays at the synapses and no recurrence; "
                "use padding = 'tail'"
            )

    def _untold(self) -> Iterator[str]:
        """Keys of the read-out and of the silent tail that another choice leaves without effect."""
        if READOUTS[self.readout].of_spikes:
            yield from self.without_effect(
                f"model.readout = {self.readout!r}",
                ["tau_readout"],
                "its outputs spike and are neurons as model.neuron says: remove it",
            )
        if self.padding == "grow" and self.delays != "none" and self.max_delay > 1:
            yield from self.without_effect(
                "model.padding = 'grow'",
                ["tail"],
                "every layer adds its own steps: remove it, or set padding = 'tail'",
            )

    def _untaken(self, plans: list[Plan]) -> Iterator[str]:
        """General keys that are set and that no neuron takes; tau_mem may be the read-out's alone."""
        of_spikes = READOUTS[self.readout].of_spikes  # the read-out's neurons are the model's
        neurons = [p.neuron for p in plans if p.has_neurons] + [self.neuron] * of_spikes
        neurons = list(dict.fromkeys(neurons))
        taken = {name for neuron in neurons for name in arguments_of(neuron)}
        for key in self.changed(GENERAL):
            value = getattr(self, key)
            if GENERAL[key] in taken:
                continue
            if key != "tau_mem" or self.tau_readout is not None or of_spikes:
                have = "; ".join(f"{n!r} takes {', '.join(_own(n))}" for n in neurons)
                yield f"model.{key} = {value!r} is set, and no neuron of the layers takes it: {have}"

    def plan(self) -> list[Plan]:
        """Every layer, first to last, those of ``hidden`` as well.

        Raises `ParameterError` naming a neuron's parameter that is unknown, missing or out of range.
        """
        layers = self.layers or tuple(Hidden(size=n) for n in self.hidden)
        return [
            self._filled(f"model.layers.{i}" if self.layers else "model", layer)
            for i, layer in enumerate(layers)
        ]

    def readout_plan(self) -> Plan:
        """The read-out, whose synapses are as the model's own keys say."""
        return self._filled("the read-out", Hidden(size=1))

    def _filled(self, where: str, layer: Hidden) -> Plan:
        def own(key: str) -> Any:
            value = getattr(layer, key)
            return getattr(self, key) if value is None else value

        neuron, delays = own("neuron"), own("delays")
        recurrent = own("recurrent") if layer.conv is None or layer.recurrent else "none"
        taps = delays in ("learned", "random") or recurrent == "delays"
        parameters = layer.parameters
        if neuron == self.neuron:
            parameters = {**self.parameters, **parameters}
        return Plan(
            where=where,
            size=layer.size,
            conv=layer.conv,
            pool=layer.pool,
            flatten=bool(layer.flatten),
            neuron=neuron,
            arguments=(
                self._arguments(where, neuron, parameters, layer.learn_tau)
                if layer.size is not None or layer.conv is not None
                else {}
            ),
            tau_spread=own("tau_spread"),
            delays=delays,
            max_delay=own("max_delay"),
            kernel_count=own("kernel_count") if taps else layer.kernel_count or 1,
            version=own("version"),
            recurrent=recurrent,
            skip=layer.skip,
            dropout=own("dropout"),
            norm=layer.norm,
        )

    def arguments(self) -> dict[str, Any]:
        """What the module of ``model.neuron`` is made with besides dt."""
        return self._arguments("model", self.neuron, self.parameters, None)

    def _arguments(
        self, where: str, neuron: str, parameters: Mapping[str, Any], learn_tau: bool | None
    ) -> dict[str, Any]:
        taken = _own(neuron)
        for name in parameters:
            if name not in taken:
                raise ParameterError(
                    f"{where}.parameters: neuron {neuron!r} has no parameter {name!r}{choices(name, taken)}"
                )
        made: dict[str, Any] = {}
        fields = Model.model_fields
        for key, name in GENERAL.items():
            value = getattr(self, key)
            changed = value != fields[key].default
            if key == "learn_tau" and learn_tau is not None:
                value = learn_tau
            if name in parameters:
                continue
            if name not in taken:
                if key == "learn_tau" and learn_tau:
                    raise ParameterError(
                        f"{where}: learn_tau is set, and neuron {neuron!r} has no {name}; it has "
                        f"{', '.join(taken)}"
                    )
            elif changed or neuron in MODULES or taken[name] in (None, inspect.Parameter.empty):
                made[name] = value
        if {"decay", "decay_mem"} & parameters.keys():
            made.pop("tau_mem", None)
        made |= parameters
        missing = [n for n, d in taken.items() if d is inspect.Parameter.empty and n not in made]
        if missing:
            raise ParameterError(
                f"{where}: neuron {neuron!r} needs {listed(missing)}; give it in {where}.parameters"
            )
        if neuron != "lif" or parameters:
            _try_out(where, neuron, made)
        return made

    @property
    def plain(self) -> bool:
        """Whether this is `hidden` layers of "lif" with delays at the synapses: what other tools know."""
        return (
            self.network is None
            and not self.layers
            and self.neuron == "lif"
            and not self.parameters
            and not self.tau_spread
            and self.recurrent == "none"
            and self.delays in AT_SYNAPSES
        )


def _own(neuron: str) -> dict[str, Any]:
    """What a neuron's module takes besides what is known already, with defaults."""
    return {n: d for n, d in arguments_of(neuron).items() if n not in ("dt", "size")}


def _unset(layer: Hidden) -> set[str]:
    """Keys that have their defaults: a run's record names all of them."""
    return {key for key, field in Hidden.model_fields.items() if getattr(layer, key) == field.default}


def _try_out(where: str, neuron: str, arguments: Mapping[str, Any]) -> None:
    """Make the neuron once, so that a value that can't be is named before data are read."""
    try:
        module_of(neuron)(dt=SHORTEST, **arguments)
    except (ParameterError, TypeError, ValueError) as error:
        raise ParameterError(f"{where}: neuron {neuron!r}: {str(error).rstrip('.')}") from error
