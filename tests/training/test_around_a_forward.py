"""Lowering sees what is not in a `forward`: hooks, weights in use, memory that tensors share, sizes."""

import resource

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import utils
from torch.nn.utils import parametrizations, parametrize, prune

from snnkit.delays import DelayedConv2d, DelayedLinear, RecurrentDelayedLinear
from snnkit.errors import GraphError
from snnkit.neurons import LIF
from snnkit.training import build, lower
from snnkit.training.config import Model
from tests.helpers.lowered import agrees, lif, line_of, module, spikes
from tests.helpers.random_networks import Fold


def layer(self, x):
    return self.n(self.l(x))


def net(forward=layer, **parts):
    torch.manual_seed(0)
    return module(forward, **{"l": nn.Linear(4, 4), "n": lif(), "same": nn.Identity(), **parts})


class Positive(nn.Module):
    def forward(self, weight):
        return weight.abs()


def stepped(part):
    """A part whose parameters were changed since it ran last, as an optimiser's step leaves it."""
    with torch.no_grad():
        for name, parameter in part.named_parameters():
            if "weight" in name or "original" in name:
                parameter.mul_(-1.7)
    return part


def positive(part, name):
    return stepped(parametrize.register_parametrization(part, name, Positive()))


def pruned(part):
    return stepped(prune.l1_unstructured(part, "weight", 0.5))


WEIGHTS = {
    "weight norm": ("l", lambda: stepped(parametrizations.weight_norm(nn.Linear(4, 4)))),
    "spectral norm": ("l", lambda: stepped(parametrizations.spectral_norm(nn.Linear(4, 4)))),
    "orthogonal": ("l", lambda: stepped(parametrizations.orthogonal(nn.Linear(4, 4)))),
    "weight norm by hook": ("l", lambda: stepped(utils.weight_norm(nn.Linear(4, 4)))),
    "spectral norm by hook": ("l", lambda: stepped(utils.spectral_norm(nn.Linear(4, 4)))),
    "pruned": ("l", lambda: pruned(nn.Linear(4, 4))),
    "pruned delays": ("l", lambda: pruned(DelayedLinear(4, 4, max_delay=3))),
    "pruned twice": ("l", lambda: pruned(prune.random_unstructured(nn.Linear(4, 4), "weight", 0.3))),
    "weight norm of delays": ("l", lambda: stepped(utils.weight_norm(DelayedLinear(4, 4, max_delay=3)))),
    "pruned loop": ("n", lambda: pruned(RecurrentDelayedLinear(4, lif(), max_delay=2))),
    "positive positions": ("l", lambda: positive(DelayedLinear(4, 4, max_delay=3), "position")),
    "positive thresholds": (
        "n",
        lambda: positive(LIF(tau_mem=3.0, v_th=0.2, learn_threshold=True, size=4), "v_th"),
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("name", WEIGHTS)
def test_the_weights_in_use_are_lowered(name):
    part, make = WEIGHTS[name]
    torch.manual_seed(3)
    _, total = agrees(net(**{part: make()}), spikes(4, rate=0.6))
    assert total > 5


def test_a_pruned_convolution_and_a_norm_of_changed_weights_are_lowered():
    torch.manual_seed(1)
    conv, norm = pruned(DelayedConv2d(2, 3, 3, padding=1, max_delay=2)), nn.BatchNorm2d(3)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    network = net(lambda self, x: self.n(self.b(self.c(x))), c=conv, b=Fold(positive(norm, "weight")))
    graph, total = agrees(network, spikes(2, 5, 5))
    assert total > 5
    assert (graph.projections[0].weight == 0).mean() >= 0.5


def test_a_network_of_the_configuration_that_was_pruned_lowers_to_its_own_spikes():
    torch.manual_seed(0)
    network = build(Model(hidden=(6,), max_delay=3, v_th=0.4), 5, 3, 10.0)
    pruned(network.layers[0].synapses)
    pruned(network.readout_synapses)
    graph = lower(network.double())
    with torch.no_grad():
        network.eval()(torch.zeros(2, 1, 5, dtype=torch.float64))  # puts the masked weights in place
    for projection, part in zip(
        graph.projections, (network.layers[0].synapses, network.readout_synapses), strict=True
    ):
        assert (part.weight == 0).double().mean() == 0.5
        zeros = part.weight.detach().numpy().reshape(projection.weight.shape) == 0
        np.testing.assert_array_equal(projection.weight == 0, zeros)


HOOKS = {
    "what goes into synapses": ("l", "register_forward_pre_hook", lambda module, given: (0.5 * given[0],)),
    "what comes out of synapses": ("l", "register_forward_hook", lambda module, given, made: 2 * made),
    "what goes into neurons": ("n", "register_forward_pre_hook", lambda module, given: (2 * given[0],)),
    "what goes into the whole": ("", "register_forward_pre_hook", lambda module, given: (0.5 * given[0],)),
    "what is between": ("l", "register_forward_hook", lambda module, given, made: made + given[0]),
    "nothing": ("n", "register_forward_hook", lambda module, given, made: None),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_are_followed(name):
    part, register, hook = HOOKS[name]
    network = net()
    plain, _ = agrees(network, spikes(4))
    getattr(network.get_submodule(part), register)(hook)
    graph, total = agrees(network, spikes(4))
    assert total > 5
    weights = [[p.weight.tolist() for p in g.projections] for g in (plain, graph)]
    biases = [g.populations["n"].bias.tolist() for g in (plain, graph)]
    assert (weights[0] == weights[1] and biases[0] == biases[1]) == (name == "nothing")
    assert all("forward" not in vars(m) for m in network.modules())


def test_a_hook_on_every_module_is_followed():
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, made: 2 * made if isinstance(module, nn.Linear) else None
    )
    try:
        network = net()
        graph, _ = agrees(network, spikes(4))
    finally:
        handle.remove()
    np.testing.assert_array_equal(graph.projections[0].weight, 2 * network.l.weight.detach().numpy())


def test_a_hook_with_no_place_in_a_graph_is_refused_with_its_line():
    def clipped(module, given, made):
        return made.clamp(max=1.0)

    network = net()
    network.l.register_forward_hook(clipped)
    with pytest.raises(GraphError, match="operation 'clamp'") as error:
        lower(network, 4, dt=1.0)
    assert f"line {line_of(clipped, 'made.clamp')}: return made.clamp" in str(error.value)


def test_hooks_on_a_whole_classifier_are_refused_and_on_its_parts_followed():
    torch.manual_seed(0)
    model = Model(layers=[{"size": 6, "norm": False}], delays="none")
    network = build(model, 5, 3, 10.0).double().eval()
    network.layers[0].synapses.register_forward_hook(lambda module, given, made: 3 * made)
    network.layers[0].dropout.register_forward_hook(lambda module, given, made: 0.5 * made)
    first, last = lower(network).projections
    np.testing.assert_allclose(first.weight, 3 * network.layers[0].synapses.weight.detach().numpy())
    np.testing.assert_allclose(last.weight, 0.5 * network.readout_synapses.weight.detach().numpy())
    for whole in (network, network.layers[0]):
        handle = whole.register_forward_hook(lambda module, given, made: None)
        with pytest.raises(GraphError, match=rf"{type(whole).__name__}.* has hooks on the whole of it"):
            lower(network)
        handle.remove()


@pytest.mark.parametrize("part", ["l", ""])
def test_a_forward_put_in_place_of_a_modules_own_is_followed(part):
    network = net()
    replaced = network.get_submodule(part)
    own = replaced.forward
    replaced.forward = lambda x: own(0.5 * x)
    graph, total = agrees(network, spikes(4, rate=0.8))
    assert total > 5
    np.testing.assert_allclose(graph.projections[0].weight, 0.5 * network.l.weight.detach().numpy())


def test_a_buffer_counts_as_it_stands_when_the_network_is_lowered():
    network = net(lambda self, x: self.n(nn.functional.linear(x, self.l.weight * self.mask) + self.offset))
    network.register_buffer("mask", torch.ones(4, 4, dtype=torch.float64))
    network.register_buffer("offset", torch.zeros(4, dtype=torch.float64))
    agrees(network, spikes(4))
    network.mask.triu_(), network.offset.fill_(0.1)
    graph, total = agrees(network, spikes(4))
    assert total > 5
    assert (graph.projections[0].weight == 0).sum() == 6
    assert graph.populations["n"].bias.tolist() == [0.1] * 4


def asks_for_state(self, x):
    x = self.l(x)
    return self.n.run(x).s


def steps_itself(self, x):
    x = self.l(x)
    return self.n.step(x)[0]


def hands_state_on(self, x):
    x = self.l(x)
    return self.n(x, self.n.run(x).state)


@pytest.mark.parametrize(
    ("forward", "call", "words"),
    [
        (asks_for_state, r"LIF\.run", "self.n.run(x).s"),
        (steps_itself, r"LIF\.step", "self.n.step(x)"),
        (hands_state_on, r"LIF\.run", "self.n.run(x).state"),
    ],
)
def test_a_neurons_state_is_refused_by_the_call_that_asks_for_it(forward, call, words):
    message = call + r" \(.*\) has no place in a Graph, whose neurons start at rest .* neuron\(x\)\.$"
    with pytest.raises(GraphError, match=message) as error:
        lower(net(forward), 4, dt=1.0)
    assert f"{__file__}, line {line_of(forward, words)}: " in str(error.value)


def part_of_it(self, x):
    y = self.l(x)
    z = y[:, :, :2]
    z += 1.0
    return self.n(y)


def other_shape(self, x):
    y = self.l(x)
    y.view(*x.shape[:2], 2, 2).mul_(3.0)
    return self.n(y)


def the_whole_of_it(self, x):
    y = self.l(x)
    z = y.unflatten(2, (2, 2))
    y.mul_(3.0)
    return self.n(z.flatten(2))


def detached(self, x):
    y = self.l(x)
    y.detach().div_(7.0)
    return self.n(y)


def half(self, x):
    y = self.l(x)
    first, _ = y.chunk(2, 2)
    first.sub_(1.0)
    return self.n(y)


def nothing_between(self, x):
    y = self.l(x)
    z = self.same(y)
    z += 1.0
    return self.n(y)


def into_what_is_read(self, x):
    y = self.l(x)
    torch.add(y, x, out=y)
    return self.n(y)


def into_a_constant(self, x):
    w = self.l.bias.detach()
    w.add_(self.l(x))
    return self.n(self.l(x) + w)


def assigned(self, x):
    y = self.l(x)
    y[:, :, 0] = 0.0
    return self.n(y)


def added_to_a_part(self, x):
    y = self.l(x)
    y[:, :, 0] += 1.0
    return self.n(y)


def data(self, x):
    y = self.l(x)
    y.data.mul_(0.0)
    return self.n(y)


OVERWRITTEN = {
    part_of_it: ("'n' .LIF.*reads what was changed in place by operation 'iadd'", "z += 1.0"),
    other_shape: ("'n' .LIF.*changed in place by operation 'mul_'", ".mul_(3.0)"),
    the_whole_of_it: ("'flatten' .*changed in place by operation 'mul_'", "y.mul_(3.0)"),
    detached: ("'n' .LIF.*changed in place by operation 'div_'", ".div_(7.0)"),
    half: ("'n' .LIF.*changed in place by operation 'sub_'", "first.sub_(1.0)"),
    nothing_between: ("'n' .LIF.*changed in place by operation 'iadd'", "z += 1.0"),
    into_what_is_read: ("operation 'add' .* writes into out=", "out=y"),
    into_a_constant: ("'add_' .* writes what depends on the input over a tensor that does not", "w.add_"),
    assigned: ("writes over a part of a tensor", "y[:, :, 0] = 0.0"),
    added_to_a_part: ("writes over a part of a tensor", "y[:, :, 0] += 1.0"),
    data: ("attribute 'data' of a tensor", "y.data.mul_"),
}


@pytest.mark.parametrize("forward", OVERWRITTEN, ids=lambda f: f.__name__)
def test_what_writes_over_another_name_of_a_tensor_is_refused_with_its_line(forward):
    message, words = OVERWRITTEN[forward]
    with pytest.raises(GraphError, match=message) as error:
        lower(net(forward), 4, dt=1.0)
    assert f"{__file__}, line {line_of(forward, words)}: " in str(error.value)


def only_the_view(self, x):
    y = self.l(x)
    z = y.unflatten(2, (2, 2))
    z *= 2.0
    z -= 0.1
    return self.n(z.flatten(2))


def copies(self, x):
    y = self.l(x)
    z, w = y.clone(), y + 0
    z += 1.0
    w *= 3.0
    return self.n(y)


@pytest.mark.parametrize("forward", [only_the_view, copies])
def test_writing_over_what_has_no_other_name_lowers(forward):
    _, total = agrees(net(forward), spikes(4))
    assert total > 5


CONSTANTS = {
    "ones": lambda self, x: 2 * torch.ones(x.shape) - self.l(x),
    "zeros by sizes": lambda self, x: self.l(x) + torch.zeros(x.shape[0], x.shape[1], 4),
    "full": lambda self, x: torch.full((*x.shape[:2], 4), 0.1) + self.l(x),
    "full in the wrong order": lambda self, x: self.l(x) * torch.full(size=x.shape, fill_value=1.5),
    "like": lambda self, x: self.l(x) + torch.ones_like(x) - torch.full_like(x, 0.9) + torch.zeros_like(x),
    "new": lambda self, x: self.l(x) / x.new_full(x.shape, 0.5) + x.new_zeros(x.shape) + x.new_ones(x.shape),
    "expanded": lambda self, x: self.l(x) + self.l.bias.expand(*x.shape[:2], -1),
    "expanded as": lambda self, x: self.l(x) + self.l.bias.expand_as(x),
    "broadcast": lambda self, x: self.l(x) + torch.broadcast_to(self.l.bias, x.shape),
    "joined": lambda self, x: self.l(torch.cat([x[:, :, :2], torch.ones(*x.shape[:2], 2)], 2)),
    "folded": lambda self, x: self.l(x.flatten(0, 1) + torch.ones(x.shape[0] * x.shape[1], 4)).view(x.shape),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_in_the_size_of_the_input_lower_and_stay_small(name):
    made = CONSTANTS[name]
    network = net(lambda self, x: self.n(made(self, x)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lower(network, 4, dt=1.0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} kB, and one such tensor has 978,000"
    _, total = agrees(network, spikes(4))
    assert total > 5


def accumulated(self, x):
    total = torch.zeros(x.shape[0], x.shape[1], 4)
    for _ in range(3):
        total += self.l(x)
    return self.n(total)


def test_a_sum_that_starts_at_zeros_lowers():
    _, total = agrees(net(accumulated), spikes(4))
    assert total > 5


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("rand", lambda self, x: torch.rand(x.shape)),
        ("randn", lambda self, x: torch.randn(x.shape[0], x.shape[1], 4)),
        ("empty", lambda self, x: torch.empty(x.shape)),
        ("zeros", lambda self, x: torch.zeros(x.shape[1], 4)),
        ("repeat", lambda self, x: self.l.bias.repeat(x.shape[0], x.shape[1], 1)),
        ("arange", lambda self, x: torch.arange(x.shape[0])[:, None, None]),
    ],
)
def test_other_tensors_in_the_size_of_the_input_are_refused_before_they_are_made(name, made):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GraphError, match=rf"operation '{name}' \({__file__}, line .* a Graph"):
        lower(net(lambda self, x: self.n(self.l(x) + made(self, x))), 4, dt=1.0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
