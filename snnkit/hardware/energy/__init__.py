"""What a network costs in energy and time: counts of operations × prices of one operation.

    estimate(graph, events, profile="all")     the whole: run, count, price
    measure, count                             operations per layer and sample
    price, sensitivity                         counts × profile
    compare_delays                             what delays cost in four implementations

No torch here; docs/energy.md derives every figure of a three-neuron example by hand.
"""

from .counts import Counts, concatenate, count
from .delay import compare as compare_delays
from .estimate import Estimate, Placement, estimate, measure, place
from .monitor import EnergyMonitor
from .price import Price, price, sensitivity
from .profile import Constant, Mesh, Profile, available, load_profile

__all__ = [
    "Constant",
    "Counts",
    "EnergyMonitor",
    "Estimate",
    "Mesh",
    "Placement",
    "Price",
    "Profile",
    "available",
    "compare_delays",
    "concatenate",
    "count",
    "estimate",
    "load_profile",
    "measure",
    "place",
    "price",
    "sensitivity",
]
