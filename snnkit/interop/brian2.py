"""Brian2's networks: none can be read; `to_graph` says how the arrays of one become a Graph.

A Brian2 group is equations in text, integrated as its user says, with threshold, reset and events in code of
any kind, in an order that can be changed too. Nothing in it says "leaky integrate-and-fire" so that one could
rely on it.
"""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import ExportError

HOW = (
    "Build the Graph of its arrays. NeuronGroup: dv/dt = (v0 - v)/tau, method 'exact', threshold v > vt "
    "and reset v = vr are Population(name, 'lif', (N,), {'decay': exp(-dt/tau), 'gain': 1, 'v_rest': v0, "
    "'v_th': vt, 'v_reset': vr}, options={'strict': True}); reset='soft' for a reset v -= vt. "
    "SpikeGeneratorGroup, PoissonGroup: an 'input'. Synapses with on_pre 'v_post += w': Projection of "
    "kind 'sparse', sorted by S.i, indices S.j, weight S.w * decay, delay S.delay/dt + 1, since w is "
    "added after the threshold of its step and decays before the next. A hard reset wipes out what "
    "arrives in its step unless Network.schedule has 'synapses' after 'resets'. docs/coming-from.md, "
    "'Brian2', does it line by line."
)


def to_graph(network: Any) -> NoReturn:
    """Raises `ExportError`, always, which says how the arrays of a Brian2 network become a Graph."""
    raise ExportError(
        f"Brian2's {type(network).__name__} cannot be read: its neurons are equations in text, and one read "
        f"wrongly is worse than none. {HOW}"
    )
