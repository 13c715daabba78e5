"""The table of frameworks and features in docs/coming-from.md: every cell is computed here.

A cell is "equal" where a network with the feature gives the framework's own spikes in every step, and
"refused" with the reason that the error gives. Where the framework has nothing of the kind the cell says so.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nir")
torch = pytest.importorskip("torch")
for package in ("spikingjelly", "norse", "snntorch", "sinabs", "rockpool"):
    pytest.importorskip(package)

from torch import nn  # noqa: E402

from snnkit.delays import DelayedLinear  # noqa: E402
from snnkit.engine import simulate  # noqa: E402
from snnkit.errors import ExportError  # noqa: E402
from snnkit.events import EventBatch  # noqa: E402
from snnkit.graph import INPUT, Population, Projection  # noqa: E402
from snnkit.hardware import netx  # noqa: E402
from snnkit.hardware.quantise import quantise  # noqa: E402
from snnkit.interop.nir import to_nir  # noqa: E402
from snnkit.interop.nir.targets import TARGETS  # noqa: E402
from tests.helpers import networks  # noqa: E402
from tests.interop import test_modules as modules  # noqa: E402
from tests.interop import test_nir_frameworks as files  # noqa: E402
from tests.interop import test_nir_targets as targets  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
FEATURES = (
    "weights",
    "hard reset",
    "soft reset",
    "fires at v_th",
    "fires above v_th",
    "one spike a step",
    "several spikes a step",
    "delays",
    "recurrence",
    "convolution",
)


def jelly(reset=0.0, first=None, middle=None):
    first = first or modules.layer.Linear(modules.INPUTS, 20)
    node = lambda: modules.neuron.LIFNode(tau=2.5, decay_input=False, v_reset=reset)  # noqa: E731
    net = nn.Sequential(first, middle or node(), modules.layer.Linear(20, modules.OUTPUTS), node())
    modules.functional.set_step_mode(net, "m")
    return net, modules.in_time, modules.spikes(0.3, modules.INPUTS)


def norse(kind="LIFCell", first=None, middle=None):
    cell = modules.NORSE[kind]
    net = modules.norse.SequentialState(
        first or nn.Linear(modules.INPUTS, 20), middle or cell(), nn.Linear(20, modules.OUTPUTS), cell()
    )
    return net, modules.with_state, modules.spikes(0.3, modules.INPUTS)


def snntorch(kind="Leaky", way="zero", first=None):
    o = {"init_hidden": True, "spike_grad": modules.heaviside}
    out = modules.snntorch.Leaky(beta=0.7, output=True, **o)
    net = nn.Sequential(
        first or nn.Linear(modules.INPUTS, 20), modules.SNNTORCH[kind](reset_mechanism=way, **o),
        nn.Linear(20, modules.OUTPUTS), out,
    )  # fmt: skip
    return net, modules.kept, modules.spikes(0.3, modules.INPUTS)


def sinabs(kind="LIF", fn="many", reset=None, first=None):
    o = {"spike_fn": modules.SPIKE_FNS[fn], "reset_fn": reset or modules.activation.MembraneSubtract()}
    net = nn.Sequential(
        first or nn.Linear(modules.INPUTS, 20), modules.SINABS[kind](**o),
        nn.Linear(20, modules.OUTPUTS), modules.sinabs.IAF(**o),
    )  # fmt: skip
    return net, modules.batch_first, modules.spikes(0.6, modules.INPUTS)


def images(net, run, size=(2, 6, 6)):
    return net, run, modules.spikes(0.3, *size)


def jelly_images():
    make, layer = modules.jelly()["IFNode"], modules.layer
    net = nn.Sequential(layer.Conv2d(2, 4, 3), make(), layer.Flatten(), layer.Linear(64, 5), make())
    modules.functional.set_step_mode(net, "m")
    return images(net, modules.in_time)


def norse_images():
    cell = modules.NORSE["IAFCell"]
    net = modules.norse.SequentialState(nn.Conv2d(2, 4, 3), cell(), nn.Flatten(), nn.Linear(64, 5), cell())
    return images(net, modules.with_state)


def snntorch_images():
    o = {"init_hidden": True, "spike_grad": modules.heaviside, "reset_mechanism": "zero"}
    cell = lambda: modules.snntorch.Leaky(beta=0.8, **o)  # noqa: E731
    return images(
        nn.Sequential(nn.Conv2d(2, 4, 3), cell(), nn.Flatten(), nn.Linear(64, 5), cell()), modules.kept
    )


def sinabs_images():
    sinabs, B = modules.sinabs, modules.BATCH
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), sinabs.IAFSqueeze(batch_size=B), nn.Flatten(), nn.Linear(64, 5),
        sinabs.IAFSqueeze(batch_size=B),
    )  # fmt: skip

    def run(network, x):
        y = network(x.transpose(0, 1).flatten(0, 1))
        return y.unflatten(0, (B, modules.STEPS)).transpose(0, 1)

    return images(net, run)


def sinabs_delays():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.delayed = DelayedLinear(modules.INPUTS, 20, max_delay=8)
            self.out = modules.sinabs.LIF(tau_mem=5.0)

        def forward(self, x):
            return self.out(self.delayed(x.transpose(0, 1)).transpose(0, 1))

    return Network(), modules.batch_first, modules.spikes(0.3, modules.INPUTS)


class InTime(nn.Module):
    """Delays of a whole recording, then the framework's neurons step by step."""

    def __init__(self, rest):
        super().__init__()
        self.delayed, self.rest = DelayedLinear(modules.INPUTS, 20, max_delay=8), rest

    def forward(self, x):
        return self.rest(self.delayed(x))[0]


def norse_delays():
    p = modules.parameters(modules.norse.LIFParameters, tau_syn_inv=400.0, tau_mem_inv=300.0, v_th=0.5)
    return InTime(modules.norse.LIF(p)), lambda net, x: net(x), modules.spikes(0.3, modules.INPUTS)


def recurrent_norse():
    p = modules.parameters(modules.norse.LIFParameters, tau_syn_inv=400.0, tau_mem_inv=300.0, v_th=0.5)
    net = modules.norse.SequentialState(
        modules.norse.LIFRecurrentCell(modules.INPUTS, 20, p), nn.Linear(20, 5), modules.norse.LIFCell(p)
    )
    return net, modules.with_state, modules.spikes(0.3, modules.INPUTS)


def loop_of_jelly():
    node = modules.neuron.LIFNode(v_reset=None)
    return jelly(None, middle=modules.layer.LinearRecurrentContainer(node, 20, 20, step_mode="m"))


HARD = modules.activation.MembraneReset()
MODULES = {
    "SpikingJelly": {
        "weights": jelly,
        "hard reset": jelly,
        "soft reset": lambda: jelly(None),
        "fires at v_th": jelly,
        "fires above v_th": "SpikingJelly fires at v_th",
        "one spike a step": jelly,
        "several spikes a step": "SpikingJelly gives one",
        "delays": lambda: jelly(first=DelayedLinear(modules.INPUTS, 20, max_delay=8)),
        "recurrence": loop_of_jelly,
        "convolution": jelly_images,
    },
    "Norse": {
        "weights": norse,
        "hard reset": norse,
        "soft reset": lambda: norse("LIFBoxCell, subtracted"),
        "fires at v_th": "Norse fires above v_th",
        "fires above v_th": norse,
        "one spike a step": norse,
        "several spikes a step": "Norse gives one",
        "delays": norse_delays,
        "recurrence": recurrent_norse,
        "convolution": norse_images,
    },
    "snnTorch": {
        "weights": snntorch,
        "hard reset": snntorch,
        "soft reset": lambda: snntorch(way="subtract"),
        "fires at v_th": "snnTorch fires above v_th",
        "fires above v_th": snntorch,
        "one spike a step": snntorch,
        "several spikes a step": "snnTorch gives one",
        "delays": "snnTorch's layers take one step, a layer with delays all",
        "recurrence": lambda: snntorch("RLeaky"),
        "convolution": snntorch_images,
    },
    "sinabs": {
        "weights": sinabs,
        "hard reset": lambda: sinabs(reset=HARD),
        "soft reset": sinabs,
        "fires at v_th": sinabs,
        "fires above v_th": "sinabs fires at v_th",
        "one spike a step": lambda: sinabs(fn="single"),
        "several spikes a step": sinabs,
        "delays": sinabs_delays,
        "recurrence": lambda: sinabs("LIFRecurrent"),
        "convolution": sinabs_images,
    },
}


def cell_of_module(framework, feature):
    case = MODULES[framework][feature]
    if isinstance(case, str):
        return f"refused: {case}"
    network, run, x = case()
    modules.scaled(network, 1.6 if framework == "sinabs" else 5.0)
    for part in network.modules():
        if isinstance(part, modules.sinabs.LIFRecurrent):
            part.rec_connect.weight.data.mul_(0.1)
    made, _ = modules.simulated(network, x)
    with torch.no_grad():
        want = run(network, x).flatten(2).numpy()
    assert 0 < (want > 0).mean() < 1
    if feature == "several spikes a step":
        assert want.max() > 1
    np.testing.assert_array_equal(made, want)
    return "equal"


def with_feature(convention, feature):
    """A Graph with the framework's own options but for those that the feature is about."""
    kind = "cuba" if convention == "rockpool" else "lif"
    graph = targets.network(
        convention, kind, recurrent=feature == "recurrence", dt=2.0 if convention == "norse" else 1.0
    )
    said = {"hard reset": {"reset": "hard"}, "soft reset": {"reset": "soft"}}
    said |= {"fires at v_th": {"strict": False}, "fires above v_th": {"strict": True}}
    said |= {"one spike a step": {"max_spikes": 1}}
    said |= {"several spikes a step": {"max_spikes": TARGETS[convention].options["max_spikes"]}}
    if feature == "several spikes a step" and said[feature]["max_spikes"] == 1:
        said[feature] = {"max_spikes": None, "reset": "soft"}
    for name in ("a", "b"):
        p = graph.populations[name]
        graph.populations[name] = replace(p, options=p.options | said.get(feature, {}))
    if feature == "delays":
        graph.projections[0].delay = np.array(2)
    if feature == "convolution":
        graph = targets.convolutional(convention, "if" if convention == "sinabs" else kind)
    return graph.validate()


def reason(error):
    """What an error says, without the name of the population or projection that it begins with."""
    told = re.sub(r"^(NIR: )?(population|projection|layer) '[^']*'( \([^)]*\))?[:,]? ?", "", str(error))
    return told.split(". ")[0].rstrip(".").replace("|", "/")


def cell_of_nir_out(convention, feature):
    """The network that the framework's from_nir makes of our nodes, beside the Graph."""
    graph = with_feature(convention, feature)
    source = graph.populations[graph.inputs[0]]
    x = (np.random.default_rng(1).random((150, source.size)) < 0.4).astype(float)
    try:
        made = to_nir(graph, convention)
    except ExportError as error:
        return f"refused: {reason(error)}"
    with torch.no_grad():
        want = targets.LOAD[convention](made, graph, x.reshape(-1, *source.shape)).reshape(len(x), -1)
    assert 0 < (want > 0).mean() < 1
    if feature == "several spikes a step":
        assert want.max() > 1
    events = EventBatch.from_dense(x[:, None])
    got = simulate(graph, events, len(x), dtype="float64").spikes[graph.outputs[0]].to_dense(len(x))
    np.testing.assert_array_equal(got[:, 0], want)
    return "equal"


def whole(test, *kinds):
    """Networks through the framework's own export, at few spikes and many: see `test_nir_frameworks`."""
    return lambda: [test(kind, rate) for kind in kinds for rate in files.RATES]


NO_RESET = "a file does not hold the reset; reset= says it"
NIR_IN = {
    "snntorch": {
        "weights": whole(files.test_snntorch, "Leaky", "Synaptic"),
        "hard reset": whole(files.test_snntorch, "Leaky"),
        "soft reset": NO_RESET,
        "fires at v_th": "snnTorch fires above v_th",
        "fires above v_th": whole(files.test_snntorch, "Leaky"),
        "one spike a step": whole(files.test_snntorch, "Leaky"),
        "several spikes a step": "snnTorch gives one",
        "delays": "snnTorch writes none",
        "recurrence": whole(files.test_snntorch, "RLeaky"),
    },
    "spikingjelly": {
        "weights": whole(files.test_spikingjelly, "LIFNode", "IFNode", "CUBALIFNode"),
        "hard reset": whole(files.test_spikingjelly, "LIFNode"),
        "soft reset": NO_RESET,
        "fires at v_th": whole(files.test_spikingjelly, "LIFNode"),
        "fires above v_th": "SpikingJelly fires at v_th",
        "one spike a step": whole(files.test_spikingjelly, "LIFNode"),
        "several spikes a step": "SpikingJelly gives one",
        "delays": "SpikingJelly writes none",
        "recurrence": "SpikingJelly writes none",
    },
    "norse": {
        "weights": whole(files.test_norse, "LIFBoxCell", "LIFCell", "IAFCell"),
        "hard reset": whole(files.test_norse, "LIFCell"),
        "soft reset": NO_RESET,
        "fires at v_th": "Norse fires above v_th",
        "fires above v_th": whole(files.test_norse, "LIFCell"),
        "one spike a step": whole(files.test_norse, "LIFCell"),
        "several spikes a step": "Norse gives one",
        "delays": "Norse writes none",
        "recurrence": "Norse writes none",
    },
    "sinabs": {
        "weights": whole(files.test_sinabs, "LIF", "IAF"),
        "hard reset": whole(files.test_sinabs, "LIF, hard"),
        "soft reset": whole(files.test_sinabs, "LIF"),
        "fires at v_th": whole(files.test_sinabs, "LIF"),
        "fires above v_th": "sinabs fires at v_th",
        "one spike a step": whole(files.test_sinabs, "LIF, single"),
        "several spikes a step": whole(files.test_sinabs, "LIF"),
        "delays": "sinabs writes none",
        "recurrence": "sinabs writes none",
    },
    "rockpool": {
        "weights": whole(files.test_rockpool, "LIFTorch", "LIFNeuronTorch"),
        "hard reset": "Rockpool's reset is soft",
        "soft reset": whole(files.test_rockpool, "LIFTorch"),
        "fires at v_th": whole(files.test_rockpool, "LIFTorch"),
        "fires above v_th": "Rockpool fires at v_th",
        "one spike a step": "Rockpool gives several",
        "several spikes a step": whole(files.test_rockpool, "LIFTorch"),
        "delays": "Rockpool writes none",
        "recurrence": "Rockpool's files leave out recurrent weights",
        "convolution": "Rockpool writes none",
    },
}
"""Convention → feature → what shows it equal, or why there is nothing to read."""


def cell_of_nir_in(convention, feature):
    case = NIR_IN[convention].get(feature)
    if isinstance(case, str):
        return f"refused: {case}"
    if case is None:
        assert feature == "convolution"
        files.test_convolutions_of_a_framework_stay_its_own(convention)
    else:
        case()
    return "equal"


def cell_of_netx(feature, tmp_path):
    graph = networks.network(recurrent=feature == "recurrence", longest=4 if feature == "delays" else 1)
    for p in graph.projections:
        if p.source == p.target:
            p.delay = np.array(1)
    said = {"soft reset": {"reset": "soft"}, "fires above v_th": {"strict": True}}
    said |= {"several spikes a step": {"max_spikes": None, "reset": "soft"}}
    for name, p in graph.populations.items():
        if p.neuron == "lif":
            graph.populations[name] = replace(p, options=p.options | said.get(feature, {}))
    events = networks.spikes()
    if feature == "convolution":
        r, first = np.random.default_rng(0), graph.populations["hidden0"]
        graph.populations = {
            "input": Population("input", INPUT, (2, 6, 6)),
            "map": replace(first, name="map", shape=(4, 4, 4), bias=np.zeros(())),
            "out": graph.populations["out"],
        }
        graph.projections = [
            Projection("c", "input", "map", r.normal(0.1, 0.3, (4, 2, 3, 3)), kind="conv"),
            Projection("d", "map", "out", r.normal(0, 0.3, (graph.populations["out"].size, 64))),
        ]
        events = EventBatch.from_dense((np.random.default_rng(1).random((20, 3, 72)) < 0.3).astype(float))
    try:
        integer = quantise(graph, calibration=events)
        netx.write(integer, tmp_path / "a.net")
    except ExportError as error:
        return f"refused: {reason(error)}"
    back = netx.read(tmp_path / "a.net")
    want, got = (simulate(g, events).spikes for g in (integer, back))
    for a, b in zip(list(want.values()), list(got.values()), strict=True):
        np.testing.assert_array_equal(b.to_dense(), a.to_dense())
    return "equal"


@pytest.fixture(autouse=True)
def in_float64(request):
    torch.manual_seed(3)
    before = torch.get_default_dtype()
    if "module" in request.node.name:
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def row(name, cells):
    return f"| {name} | " + " | ".join(cells) + " |"


def on_page(name):
    """The row of this name on the page."""
    return next((a for a in PAGE.read_text().splitlines() if a.startswith(f"| {name} |")), "")


@pytest.mark.parametrize("framework", MODULES)
def test_the_row_of_a_frameworks_module_is_what_lowering_gives(framework):
    cells = [cell_of_module(framework, feature) for feature in FEATURES]
    assert on_page(f"{framework}, modules in") == row(f"{framework}, modules in", cells)


@pytest.mark.parametrize("convention", TARGETS)
@pytest.mark.parametrize(
    ("way", "cell"), [("out", cell_of_nir_out), ("in", cell_of_nir_in)], ids=["out", "in"]
)
def test_the_rows_of_nir_are_what_writing_and_reading_give(convention, way, cell):
    name = f"{convention}, NIR {way}"
    assert on_page(name) == row(name, [cell(convention, feature) for feature in FEATURES])


def test_the_row_of_netx_is_what_the_chip_takes(tmp_path):
    cells = [cell_of_netx(feature, tmp_path) for feature in FEATURES]
    assert on_page("Loihi, NetX in and out") == row("Loihi, NetX in and out", cells)


def test_no_cell_says_anything_else():
    rows = [
        a for a in PAGE.read_text().splitlines() if re.match(r"\| .*(modules in|NIR in|NIR out|NetX in)", a)
    ]
    assert len(rows) == len(MODULES) + 2 * len(TARGETS) + 1
    for line in rows:
        cells = [c.strip() for c in line.strip("|").split("|")[1:]]
        assert len(cells) == len(FEATURES)
        assert all(c == "equal" or c.startswith("refused: ") for c in cells)
