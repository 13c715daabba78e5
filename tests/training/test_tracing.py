"""Lowering by tracing: any module's spikes are its Graph's, and what has no place is named with its line."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snnkit.delays import AxonalDelay, DelayedConv1d, DelayedConv2d, DelayedLinear
from snnkit.errors import GraphError
from snnkit.events import EventBatch
from snnkit.graph import Graph
from snnkit.hardware.ladder import ladder
from snnkit.hardware.quantise import quantise
from snnkit.neurons import LI, LIF
from snnkit.training import lower
from tests.helpers.lowered import BATCH, agrees, lif, line_of, module, spikes
from tests.helpers.random_networks import ALL, ON_CHIP, SHAPE, Fold, Network


@pytest.mark.parametrize("seed", range(24))
def test_a_random_architecture_lowers_to_its_own_spikes(seed, tmp_path):
    network = Network(seed, ALL)
    graph, total = agrees(network, spikes(*SHAPE, seed=seed))
    assert total > 5
    graph.save(tmp_path / "net.h5")
    again = Graph.load(tmp_path / "net.h5")
    assert [p.kind for p in again.projections] == [p.kind for p in graph.projections]


@pytest.mark.parametrize("seed", range(100, 108))
def test_a_random_architecture_of_the_chips_neurons_runs_in_its_integers(seed):
    """As in tests/hardware: rounding weights moves spikes, the chip's rounding of u and v hardly any."""
    x = spikes(*SHAPE, seed=seed)
    graph, _ = agrees(Network(seed, ON_CHIP), x)
    events = EventBatch.from_dense(x.flatten(2).numpy())
    graph.metadata |= {"readout": "softmax_sum", "steps_tail": 8}
    rungs = ladder(graph, quantise(graph, calibration=events), events).rungs
    assert [r.name for r in rungs] == ["rounded", "quantised", "integer"]
    assert rungs[0].spikes > 20
    assert rungs[1].equal > 0.8  # 8 bits; 0.98 in the median of 40 such networks
    assert rungs[2].equal > 0.95  # equal to the last spike in 31 of 40


class Residual(nn.Module):
    """SEW-ResNet's block (Fang et al., NeurIPS 2021), delays in its second convolution and on the skip."""

    def __init__(self, channels, join, skip):
        super().__init__()
        self.conv1 = Fold(nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1), nn.BatchNorm2d(channels)))
        self.conv2 = DelayedConv2d(channels, channels, 3, padding=1, max_delay=3)
        self.norm2 = Fold(nn.BatchNorm2d(channels))
        self.neuron1, self.neuron2, self.skip, self.join = lif(), lif(), skip, join

    def forward(self, x):
        y = self.neuron2(self.norm2(self.conv2(self.neuron1(self.conv1(x)))))
        if self.join == "ADD":
            return self.skip(x) + y
        if self.join == "AND":
            return self.skip(x) * y  # spikes × spikes
        return self.skip(x) * (1.0 - y)  # IAND


def residual(join, skip=None):
    torch.manual_seed(3)
    block = Residual(3, join, skip or nn.Identity())
    linear = nn.Linear(3 * 16, 5)
    with torch.no_grad():
        linear.weight.mul_(2)
    return module(
        lambda self, x: self.out(self.linear(self.block(x).flatten(2))), block=block, linear=linear, out=lif()
    )


@pytest.mark.parametrize("delayed", [False, True])
def test_a_sew_block_that_adds_lowers_with_delays_on_its_skip(delayed):
    around = DelayedConv2d(3, 3, 1, groups=3, max_delay=6)
    graph, total = agrees(residual("ADD", nn.Sequential(around, lif()) if delayed else None), spikes(3, 4, 4))
    assert total > 50
    assert len(graph.into("out")) == 2
    assert any(p.max_delay for p in graph.projections if p.source == "input") is delayed


class Late(nn.Module):
    """A delay a pixel of images, on their way around a block."""

    def __init__(self, pixels, max_delay):
        super().__init__()
        self.delay = AxonalDelay(pixels, max_delay=max_delay)

    def forward(self, x):
        return self.delay(x.flatten(2)).view(x.shape)


def test_a_sew_block_with_nothing_but_delays_on_its_skip_lowers():
    torch.manual_seed(5)
    graph, total = agrees(residual("ADD", Late(48, max_delay=5)), spikes(3, 4, 4))
    assert total > 50
    assert sorted(p.max_delay for p in graph.into("out")) == [0, 5]


def test_a_sew_block_with_synapses_alone_on_its_skip_is_refused_by_what_follows():
    with pytest.raises(GraphError, match=r"'linear' \(Linear\) follows other synapses .* add a neuron"):
        lower(residual("ADD", DelayedConv2d(3, 3, 1, max_delay=4)), (3, 4, 4), dt=1.0)


@pytest.mark.parametrize(("join", "words"), [("AND", "self.skip(x) * y"), ("IAND", "(1.0 - y)")])
def test_a_sew_block_that_multiplies_is_refused_by_name_and_line(join, words):
    with pytest.raises(GraphError, match="multiplies spikes with spikes, which no synapse does") as error:
        lower(residual(join), (3, 4, 4), dt=1.0)
    line = line_of(Residual.forward, words)
    assert f"{__file__}, line {line}: " in str(error.value)
    assert words in str(error.value)


def pooled(self, x):
    return self.n(F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2]).flatten(2))


PLACES = {
    "pooling, flattened": (pooled, {"n": lif}, (2, 4, 4)),
    "two convolutions that meet flattened": (
        lambda self, x: self.n(self.a(x).flatten(2) + self.b(x).flatten(2)),
        {"a": lambda: Fold(nn.Conv2d(1, 2, 1)), "b": lambda: Fold(nn.Conv2d(1, 8, 2, stride=2)), "n": lif},
        (1, 4, 4),
    ),
    "convolution behind chosen channels, in groups": (
        lambda self, x: self.n(self.a(x[:, :, [3, 1, 0, 2]])),
        {"a": lambda: Fold(nn.Conv2d(4, 4, 3, groups=2)), "n": lif},
        (5, 6, 6),
    ),
    "joined convolutions in one dimension": (
        lambda self, x: self.m(self.c(self.n(torch.cat([self.a(x), self.b(x)], 2)))),
        {
            "a": lambda: Fold(nn.Conv1d(2, 4, 3, padding="same")), "b": lambda: DelayedConv1d(2, 2, 1),
            "c": lambda: Fold(nn.Conv1d(6, 3, 3)), "n": lif, "m": lif,
        },
        (2, 7),
    ),
    "a threshold a channel, flattened": (
        lambda self, x: self.m(self.l(self.n(self.a(x)).flatten(2))),
        {
            "a": lambda: Fold(nn.Conv2d(2, 3, 3)), "l": lambda: nn.Linear(48, 4), "m": lif,
            "n": lambda: LIF(decay=[[[0.5]], [[0.2]], [[0.9]]], v_th=[[[0.2]], [[0.3]], [[0.4]]]),
        },
        (2, 6, 6),
    ),
    "a threshold a neuron of a flattened convolution": (
        lambda self, x: self.n(self.a(x).flatten(2)),
        {"a": lambda: Fold(nn.Conv2d(2, 3, 3)), "n": lambda: LIF(tau_mem=3.0, v_th=torch.rand(48) + 0.1)},
        (2, 6, 6),
    ),
    "a new last axis": (
        lambda self, x: self.n(self.a(x[..., None])),
        {"a": lambda: Fold(nn.Conv2d(2, 2, 1)), "n": lif},
        (2, 4),
    ),
    "stacked": (
        lambda self, x: self.n(torch.stack([x, self.l(x)], 2)),
        {"l": lambda: nn.Linear(4, 4), "n": lif},
        (4,),
    ),
    "parts of other sizes": (
        lambda self, x: self.n(self.l(x.split([1, 3], -1)[1])),
        {"l": lambda: nn.Linear(3, 4), "n": lif},
        (4,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_what_has_a_place_gives_the_modules_spikes(name):
    torch.manual_seed(0)
    forward, parts, shape = PLACES[name]
    _, total = agrees(module(forward, **{n: make() for n, make in parts.items()}), spikes(*shape, rate=0.6))
    assert total > 5


def test_several_inputs_and_outputs_have_their_own_populations():
    torch.manual_seed(1)
    network = module(
        lambda self, x, y: (self.n(self.a(x) + self.b(y)), self.m(self.b(y))),
        a=nn.Linear(4, 6), b=nn.Linear(3, 6), n=lif(), m=LI(tau_mem=3.0),
    )  # fmt: skip
    graph, total = agrees(network, spikes(4), spikes(3, seed=1))
    assert graph.inputs == ["input", "input1"]
    assert graph.outputs == ["n", "m"]
    assert total > 5


def steps_in_a_loop(self, x):
    made = []
    for t in range(x.shape[0]):
        made.append(self.l(x[t]))
    return self.n(torch.stack(made))


def over_time(self, x):
    made = []
    for step in x:
        made.append(self.l(step))
    return self.n(torch.stack(made))


def on_values(self, x):
    if x.sum() > 3:
        x = x * 2
    return self.n(self.l(x))


def on_truth(self, x):
    x = self.l(x)
    return self.n(x) if x else x


def times_itself(self, x):
    x = self.n(self.l(x))
    return self.n(x * x)


def largest(self, x):
    y = F.max_pool1d(self.l(x).flatten(0, 1)[:, None], 2)
    return self.n(y.view(*x.shape[:2], -1))


def rectified(self, x):
    x = self.l(x)
    return self.n(torch.relu(x))


def with_a_state(self, x):
    return self.n(self.l(x), (torch.zeros(BATCH, 4),))


def asks_for_state(self, x):
    x = self.l(x)
    return self.n.run(x).s


def changed_elsewhere(self, x):
    y = self.l(x)
    before = y
    y += x
    return self.n(before)


def mixes_samples(self, x):
    x = self.l(x)
    return self.n(x.view(-1, 8))


REFUSED = {
    steps_in_a_loop: ("picks steps or samples", "made.append(self.l(x[t]))"),
    over_time: ("must not loop or branch", "for step in x:"),
    on_values: ("'sum' .* has no place", "if x.sum() > 3:"),
    on_truth: ("must not loop or branch", "return self.n(x) if x else x"),
    times_itself: ("multiplies spikes with spikes", "return self.n(x * x)"),
    largest: ("'max_pool1d' .* has no place", "F.max_pool1d"),
    rectified: ("'relu' .* has no place", "torch.relu"),
    with_a_state: (r"layer 'n' \(LIF\).*a state from outside", "torch.zeros(BATCH, 4)"),
    asks_for_state: ("has no place", "self.n.run(x)"),
    changed_elsewhere: (r"layer 'n' \(LIF\).*changed in place by operation 'iadd'", "return self.n(before)"),
    mixes_samples: ("'view'", "x.view(-1, 8)"),
}


@pytest.mark.parametrize("forward", REFUSED, ids=lambda f: f.__name__)
def test_what_has_no_place_is_refused_with_its_line(forward):
    message, words = REFUSED[forward]
    with pytest.raises(GraphError, match=message) as error:
        lower(module(forward, l=nn.Linear(4, 4), n=lif()), 4, dt=1.0)
    assert f"{__file__}, line {line_of(forward, words)}: " in str(error.value)


def layer(self, x):
    return self.n(self.l(x))


NAMED = {
    "max pooling": (layer, Fold(nn.MaxPool2d(2)), (2, 4, 4), r"'l.layer' \(MaxPool2d\)"),
    "linear of another size": (layer, nn.Linear(5, 2), 4, r"'l' \(Linear\) expects 5 inputs"),
    "delays of another size": (layer, DelayedLinear(5, 2), 4, r"'l' \(DelayedLinear\) expects 5 inputs"),
    "delayed convolution of no space": (
        layer,
        DelayedConv1d(5, 2, 3),
        4,
        r"'l' \(DelayedConv1d\) expects \[C",
    ),
    "convolution of no space": (layer, nn.Conv1d(5, 2, 3), 4, r"'l' \(Conv1d\) expects \[C, L\]"),
    "an unknown layer": (layer, nn.ConvTranspose2d(2, 2, 3), (2, 4, 4), r"'l' \(ConvTranspose2d\)"),
    "folded time": (
        lambda self, x: self.n(x.flatten(0, 1)),
        None,
        4,
        r"'n' \(LIF\) takes \[T, B, …\] and gets \[T·B, …\]",
    ),
    "synapses last": (
        lambda self, x: self.l(self.n(x)),
        nn.Linear(4, 2),
        4,
        "ends in synapses; add a neuron",
    ),
    "a sum last": (lambda self, x: self.n(x) + x, None, 4, "ends in synapses; add a neuron"),
    "a dictionary": (
        lambda self, x: {"s": self.n(x)},
        None,
        4,
        "gives immutable_dict, expected what neurons",
    ),
    "an input too many": (
        lambda self, x, y: self.n(x + y),
        None,
        4,
        "takes an input 'y' more; give one shape",
    ),
    "inputs without names": (lambda self, *x: self.n(x[0]), None, 4, r"takes \*x, .* name every input"),
    "a shape too many": (lambda self, x: self.n(x), None, [(4,), (3,)], "takes no input 'input1'"),
}


@pytest.mark.parametrize(("forward", "part", "shape", "message"), NAMED.values(), ids=NAMED)
def test_what_has_no_place_is_refused_by_name(forward, part, shape, message):
    with pytest.raises(GraphError, match=message):
        lower(module(forward, n=lif(), l=part), shape, dt=1.0)


def test_adding_in_place_to_what_has_one_name_lowers():
    def forward(self, x):
        y = self.l(x)
        y += x
        return self.n(y)

    torch.manual_seed(2)
    _, total = agrees(module(forward, l=nn.Linear(4, 4), n=lif()), spikes(4))
    assert total > 5


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_subclass_with_a_forward_of_its_own_is_not_taken_for_its_parent():
    linear = Doubled(3, 4, bias=False)
    net = module(lambda self, x: self.n(self.fc(x)), fc=linear, n=LIF(4))
    (projection,) = lower(net, 3, 1.0).projections
    np.testing.assert_array_equal(projection.weight, 2 * linear.weight.detach().numpy())


def test_a_neuron_with_a_forward_of_its_own_is_refused():
    class Louder(LIF):
        def forward(self, x, state=None):
            return super().forward(3 * x, state)

    with pytest.raises(GraphError):
        lower(module(lambda self, x: self.n(self.fc(x)), fc=nn.Linear(3, 4), n=Louder(4)), 3, 1.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda v, x: v / x.shape[0],
        lambda v, x: v * (1 / x.shape[1]),
        lambda v, x: v + 2 * x.shape[0],
        lambda v, x: v * x.size(0),
    ],
    ids=["per step", "per sample", "sum", "size"],
)
def test_the_number_of_steps_is_no_constant(change):
    net = module(lambda self, x: self.n(change(self.fc(x), x)), fc=nn.Linear(3, 4), n=LIF(4))
    with pytest.raises(GraphError, match="number of steps or samples"):
        lower(net, 3, 1.0)


def test_a_norm_that_folds_time_into_its_batch_lowers_by_its_own_forward():
    class Folding(nn.BatchNorm1d):
        def forward(self, x):
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    norm = Folding(4)
    nn.init.uniform_(norm.weight), norm.running_var.uniform_(0.3, 1.0), norm.running_mean.uniform_(-1, 1)
    parts = {"fc": nn.Linear(3, 4), "n": LIF(4)}
    plain = nn.BatchNorm1d(4)
    plain.load_state_dict(norm.state_dict())
    graphs = [
        lower(module(lambda self, x: self.n(self.b(self.fc(x))), b=b, **parts), 3, 1.0) for b in (norm, plain)
    ]
    np.testing.assert_array_equal(*(g.projections[0].weight for g in graphs))
    np.testing.assert_array_equal(*(g.populations["n"].bias for g in graphs))
