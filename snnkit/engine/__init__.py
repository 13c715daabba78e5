"""Event-driven simulation of a Graph: whole recordings or a stream, on CPU or CUDA."""

from .arguments import Record
from .generators import Array, EventFile, Poisson, Regular
from .result import Result, load_result
from .simulate import simulate
from .stream import Engine
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
