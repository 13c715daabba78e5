"""Strategies of hypothesis for `[[model.layers]]`: any neurons, delays, loops, skips, convolutions."""

from hypothesis import strategies as st

NEURON = {
    "lif": st.sampled_from([{}, {"tau_mem": 25.0}, {"v_reset": -0.2, "refractory": 1}, {"reset": "soft"}]),
    "cuba": st.sampled_from([{"tau_syn": 15.0}, {"tau_syn": 30.0, "tau_mem": 20.0, "v_th": 0.8}]),
    "adlif": st.sampled_from([{"tau_w": 60.0}, {"tau_w": 40.0, "a": 0.5, "discretisation": "euler"}]),
    "if": st.just({}),
}


@st.composite
def common(draw, neurons=tuple(NEURON)):
    """Keys of any layer with neurons."""
    neuron = draw(st.sampled_from(neurons))
    spread = draw(st.sampled_from([0.0, 0.5])) if neuron != "if" else 0.0
    return {
        "neuron": neuron,
        "parameters": draw(NEURON[neuron]),
        "tau_spread": spread,
        "learn_tau": neuron != "if" and draw(st.booleans()),
        "norm": draw(st.booleans()),
        "max_delay": draw(st.integers(1, 5)),
    }


@st.composite
def images(draw, neurons=tuple(NEURON)):
    """Layers for (2, 6, 7), the last of one axis."""
    layers = []
    for _ in range(draw(st.integers(1, 2))):
        conv = {"channels": draw(st.integers(1, 3)), "kernel": draw(st.integers(1, 3)), "padding": 1}
        conv["stride"] = draw(st.integers(1, 2))
        delays = draw(st.sampled_from(["learned", "random", "none"]))
        layers.append({**draw(common(neurons)), "conv": conv, "delays": delays})
    layers += draw(
        st.sampled_from([[], [{"pool": 2}], [{"flatten": True}], [{"pool": 2}, {"flatten": True}]])
    )
    return [*layers, *draw(dense(neurons, 1))]


@st.composite
def dense(draw, neurons=tuple(NEURON), most=3):
    """Fully connected layers of 8 neurons, so that spikes can skip layers, also from an input of 8."""
    layers = []
    for i in range(draw(st.integers(1, most))):
        layer = draw(common(neurons))
        layer["size"] = 8
        layer["delays"] = draw(st.sampled_from(["learned", "random", "none", "axonal", "dendritic"]))
        layer["recurrent"] = draw(st.sampled_from(["none", "dense", "delays"]))
        if layer["delays"] in ("learned", "random"):
            layer["kernel_count"] = draw(st.integers(1, 2))
        layer["skip"] = draw(st.integers(0, i + 1)) if most > 1 else 0
        layers.append(layer)
    return layers
