"""What quantising changed, and by how much."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ParameterError
from ..graph import Graph


@dataclass
class LayerReport:
    """What became of one projection.

    scale      weight units per unit of the float weight (mean over targets)
    exponent   weights are integers of `bits` times 2^exponent
    clipped    weights that lay outside what `bits` can hold
    rms_error  rms of the weights' change relative to their rms
    """

    bits: int
    exponent: int
    scale: float
    clipped: int
    weights: int
    rms_error: float


@dataclass
class PopulationReport:
    """What became of one population: integers, K, and the decays' change."""

    threshold_units: float
    du: list[int]
    dv: list[int]
    vth: int
    decay_error: float
    bias_error: float
    latency: int


@dataclass
class Report:
    """What quantising did, kept in ``graph.metadata["quantisation"]``.

    delays_clipped  synapses whose delay was cut to the chip's longest
    relays          relay neurons added for long delays
    time_factor     steps of the float network that make one of this one
    warnings        what may differ, in words
    """

    chip: str
    layers: dict[str, LayerReport] = field(default_factory=dict)
    populations: dict[str, PopulationReport] = field(default_factory=dict)
    delays_clipped: int = 0
    relays: int = 0
    time_factor: int = 1
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph) -> Report:
        """The report of a graph that `quantise` made.

        Raises `ParameterError` for another graph.
        """
        if "quantisation" not in graph.metadata:
            raise ParameterError("this graph was not made by quantise; it holds no report.")
        data = dict(graph.metadata["quantisation"])
        data["layers"] = {k: LayerReport(**v) for k, v in data["layers"].items()}
        data["populations"] = {k: PopulationReport(**v) for k, v in data["populations"].items()}
        return cls(**data)

    def to_metadata(self) -> dict[str, Any]:
        """The entry that `of` reads."""
        return {"quantisation": asdict(self)}

    def __str__(self) -> str:
        lines = [f"{'projection':<24} {'bits':>4} {'exp':>4} {'scale':>9} {'clipped':>8} {'rms error':>10}"]
        lines += [
            f"{name:<24} {r.bits:>4} {r.exponent:>4} {r.scale:>9.4g} {r.clipped:>8} {r.rms_error:>10.2%}"
            for name, r in self.layers.items()
        ]
        lines.append(f"{'population':<24} {'vth':>7} {'du':>5} {'dv':>5} {'decay error':>12} {'latency':>8}")
        lines += [
            f"{name:<24} {r.vth:>7} {r.du[0]:>5} {r.dv[0]:>5} {r.decay_error:>12.2g} {r.latency:>8}"
            for name, r in self.populations.items()
        ]
        lines.append(f"delays clipped: {self.delays_clipped}; relay neurons: {self.relays}")
        return "\n".join([*lines, *self.warnings])
