"""Networks of neuroscience: SONATA circuits of point neurons as Graphs, and SONATA's spike files.

    from snnkit.interop import sonata
    graph = sonata.read("circuit_config.json", "simulation_config.json")
    events = sonata.read_spikes("spikes.h5", graph, "external")

A network means what NEST computes of it (its own SONATA reader is the definition), step for step:

    model_type                    model_template      neuron     how (`MODELS`; another model is one more row)
    virtual                                           "input"    fed by `read_spikes`
    point_neuron, point_process   nest:iaf_psc_delta  "lif"      a weight (mV) is a jump of v
                                  nest:iaf_psc_exp    "cuba"     weights times the propagator, one step later

Potentials are in mV above E_L, as NEST keeps them itself: V_m = v + E_L. Dai et al., PLOS Computational
Biology 16(2), 2020 (SONATA).
"""

from .models import MODELS, Model
from .reading import read
from .spikes import read_spikes, write_spikes

__all__ = ["MODELS", "Model", "read", "read_spikes", "write_spikes"]
