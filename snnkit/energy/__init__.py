"""What a network costs in energy and time: counts of operations × prices of one operation.

    estimate(graph, events, profile="all")     the whole: run, count, price
    measure, count                             operations per layer and sample
    price, sensitivity                         counts × profile
    uncertainty, human                         ranges and their significant figures
    compare_delays                             what delays cost in four implementations
    compare_dense, crossover                   dense networks of equal size, and the break-even rate
    EnergyMonitor                              counts from any torch network
    calibrate                                  a profile fitted to measurements
    tune                                       Pareto search over accuracy, energy and time

No torch here; docs/energy.md derives every figure of a three-neuron example by hand.
"""

from .baseline import BREAK_EVENS, Crossover, crossover
from .baseline import compare as compare_dense
from .calibrate import Calibration, Measurement, calibrate
from .counts import Counts, concatenate, count
from .delay import compare as compare_delays
from .estimates import Estimate, Placement, estimate, measure, place
from .monitor import EnergyMonitor
from .price import Price, price, sensitivity
from .profile import Constant, Mesh, Profile, available, load_profile
from .tune import Study, tune
from .uncertainty import Range, human, human_time, uncertainty

__all__ = [
    "BREAK_EVENS",
    "Calibration",
    "Constant",
    "Counts",
    "Crossover",
    "EnergyMonitor",
    "Estimate",
    "Measurement",
    "Mesh",
    "Placement",
    "Price",
    "Profile",
    "Range",
    "Study",
    "available",
    "calibrate",
    "compare_delays",
    "compare_dense",
    "concatenate",
    "count",
    "crossover",
    "estimate",
    "human",
    "human_time",
    "load_profile",
    "measure",
    "place",
    "price",
    "sensitivity",
    "tune",
    "uncertainty",
]
