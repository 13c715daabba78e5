"""What a network costs in energy and time: counts of operations × prices of one operation.

    estimate(graph, events, profile="all")     the whole: run, count, price
    measure, count                             operations per layer and sample
    place                                      neurons on the cores of a chip, as a Mapping
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
from .calibrate import Calibration, Measurement, calibrate
from .comparisons import compare_delays, compare_dense
from .counting import count
from .counts import Counts, concatenate
from .estimates import Estimate, estimate
from .library import available, load_profile
from .mapping import OFF_CHIP, Mapping
from .measuring import measure
from .monitor import EnergyMonitor
from .placing import place
from .price import Price, price, sensitivity
from .profile import Constant, Mesh, Profile
from .tune import Study, tune
from .uncertainty import Range, human, human_time, uncertainty

__all__ = [
    "BREAK_EVENS",
    "OFF_CHIP",
    "Calibration",
    "Constant",
    "Counts",
    "Crossover",
    "EnergyMonitor",
    "Estimate",
    "Mapping",
    "Measurement",
    "Mesh",
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
