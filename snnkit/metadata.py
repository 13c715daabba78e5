"""What a Graph's metadata say of its run, typed: read-out, time, and a chip's units.

Each class is read by ``of(graph.metadata)`` and written by ``to_metadata()``; the keys are those of Graph
format 1 (docs/graph-format.md). Keys that are absent have the meaning of the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Readout:
    """How classes are read from the output population: keys "readout" and "classes".

    kind     a name of `snnkit.readouts.READOUTS`
    classes  their names, by the output's neurons; None: not known
    """

    kind: str = "softmax_sum"
    classes: tuple[str, ...] | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Readout:
        """What the metadata say."""
        classes = metadata.get("classes")
        return cls(
            kind=metadata.get("readout", cls.kind), classes=None if classes is None else tuple(classes)
        )

    def to_metadata(self) -> dict[str, Any]:
        """The entries that say so."""
        known = {} if self.classes is None else {"classes": list(self.classes)}
        return {"readout": self.kind} | known


@dataclass(frozen=True)
class Timing:
    """When there is something to read; all in steps. Keys of the same names.

    steps_tail  steps to run after the last input; what a chip is late is in it
    latency     steps from an input to its first effect on the output, beyond the delays: a chip's
    latencies   population → steps by which it lags behind the float network; None: this is that network
    padding     how the trained layers lengthened their input (``padding`` of `snnkit.training.config.Model`)
    """

    steps_tail: int = 0
    latency: int = 0
    latencies: dict[str, int] | None = None
    padding: str | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Timing:
        """What the metadata say."""
        return cls(
            steps_tail=int(metadata.get("steps_tail", 0)),
            latency=int(metadata.get("latency", 0)),
            latencies=metadata.get("latencies"),
            padding=metadata.get("padding"),
        )

    def to_metadata(self) -> dict[str, Any]:
        """The entries that say so; those of a chip only where there is one."""
        said: dict[str, Any] = {}
        if self.latency or self.latencies is not None:
            said["latency"] = self.latency
        if self.latencies is not None:
            said["latencies"] = self.latencies
        said["steps_tail"] = self.steps_tail
        return said if self.padding is None else said | {"padding": self.padding}

    def lag(self, population: str) -> int:
        """Steps by which a population lags behind the float network."""
        return 0 if self.latencies is None else self.latencies.get(population, 0)


@dataclass(frozen=True)
class Units:
    """What numbers on a chip mean: keys "scale", "graded", "input_scale" and "input_largest".

    scale   population → units of v per unit of the float network's v; one number, or one a neuron
    graded  whether input spikes carry values other than 1; None: not known
    inputs  input population → what values are multiplied by before they are rounded to what a spike carries
    largest the magnitude that such values are held within; None: they are not, as they are no spikes
    """

    scale: dict[str, float | list[float]] = field(default_factory=dict)
    graded: bool | None = None
    inputs: dict[str, float] = field(default_factory=dict)
    largest: int | None = 127

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Units:
        """What the metadata say."""
        return cls(
            scale=metadata.get("scale", {}),
            graded=metadata.get("graded"),
            inputs=metadata.get("input_scale", {}),
            largest=metadata.get("input_largest", cls.largest),
        )

    def to_metadata(self) -> dict[str, Any]:
        """The entries that say so; those of inputs only where there is one."""
        said: dict[str, Any] = {"scale": self.scale, "graded": self.graded}
        if self.inputs:
            said["input_scale"] = self.inputs
        if self.inputs and self.largest != Units.largest:
            said["input_largest"] = self.largest
        return said
