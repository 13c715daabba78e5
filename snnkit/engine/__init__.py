"""Event-driven simulation of a Graph: whole recordings or a stream, on CPU or CUDA."""

from .generators import Array, EventFile, Poisson, Regular
from .simulate import Engine, Record, Result, load_result, simulate
from .synapses import Synapses, fan_out, synapses

__all__ = [
    "Array",
    "Engine",
    "EventFile",
    "Poisson",
    "Record",
    "Regular",
    "Result",
    "Synapses",
    "fan_out",
    "load_result",
    "simulate",
    "synapses",
]
