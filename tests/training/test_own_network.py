"""Any module of one's own is trained, measured, kept, read again and lowered as ours are."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from snnkit.commands.evaluate import evaluate_run
from snnkit.commands.simulate import agreement, simulate_on_data
from snnkit.commands.train import train_run
from snnkit.datasets import Splits
from snnkit.errors import CheckpointError, ConfigError, ParameterError, ShapeError
from snnkit.graph import Graph
from snnkit.neurons import LIF
from snnkit.readouts import READOUTS
from snnkit.training import Trainer, build, evaluate, load_network
from snnkit.training.config import Model
from snnkit.training.own import runner
from tests.helpers.own_networks import Convolving, Skipping, Wrong

NAMED = "tests.helpers.own_networks:build"


def skipping(seed=0):
    torch.manual_seed(seed)
    return Skipping(8, 2, 10.0)


@pytest.fixture
def trained(task, config, tmp_path):
    """A trainer of a stranger's network, after its run."""
    made = config(train={"epochs": 12, "weights": {"lr_max": 0.02}})
    trainer = Trainer(made, task, tmp_path / "own", network=skipping(), progress=False)
    trainer.fit()
    return trainer


def test_it_learns_and_its_graph_gives_its_spikes(trained, task):
    assert trained.best_accuracy > 0.85
    result = evaluate(trained.network, task.valid, model=trained.config.model)
    assert result.accuracy == trained.best_accuracy
    assert len(result.rates) == 2
    assert all(0 < rate < 1 for rate in result.rates)
    graph = trained.graph()
    assert graph.metadata["steps_tail"] == 3 * 3  # three layers with delays up to 6 steps
    found = agreement(trained.network, graph, task.valid, "float64", trained.config.model)
    assert found["equal_cells"] == 1
    assert found["spikes"] > 0
    assert found["graph_accuracy"] == found["network_accuracy"] == trained.best_accuracy


def test_positions_and_widths_are_learned_as_ours(trained):
    start = skipping()
    groups = trained.groups
    assert len(groups["positions"][0].param_groups[0]["params"]) == 3
    assert groups["positions"][0].param_groups[0]["initial_lr"] == 0.1
    for name in ("first", "skip", "last"):
        before, after = getattr(start, name), getattr(trained.network, name)
        assert not torch.equal(before.position, after.position)
        assert after.position.min() >= 0
        assert after.position.max() <= 6
    trained.runner.set_sigma(trained.config.train, 0)
    assert trained.network.skip.sigma == 3  # half of its own longest delay
    trained.runner.set_sigma(trained.config.train, 11)
    assert trained.network.skip.sigma == pytest.approx(0.23)


def test_scores_are_the_readouts_of_what_it_gives(task):
    network = skipping().eval()
    x, lengths, _ = (torch.from_numpy(a) for a in task.valid.batch(np.arange(5)))
    out = runner(network, Model(readout="max_over_time", tail=4), (8,), 2)(x, lengths)
    v = network(nn.functional.pad(x, (0, 0, 0, 0, 0, 4)))
    mask = torch.arange(len(v))[:, None] < lengths + 4
    assert torch.equal(out.scores, READOUTS["max_over_time"](v, mask))
    assert [s.shape[2] for s in out.spikes] == [12, 12]
    assert not network._forward_hooks
    assert not network.a._forward_hooks


def test_a_rate_penalty_quietens_its_neurons(task, config, tmp_path):
    rates = []
    for strength in (0.0, 50.0):
        made = config(train={"epochs": 8, "rate_strength": strength, "weights": {"lr_max": 0.02}})
        trainer = Trainer(made, task, tmp_path / str(strength), network=skipping(), progress=False)
        trainer.fit()
        rates.append(np.mean([trainer.history[-1][f"rate_{i}"] for i in range(2)]))
    assert rates[1] < 0.5 * rates[0]


def test_a_network_handed_over_comes_back_into_a_module(trained, config):
    path = trained.folder / "last.pt"
    with pytest.raises(CheckpointError, match=r"\.Skipping that was handed over in Python: load_network\("):
        load_network(path)
    again, _, _ = load_network(path, network=skipping(5))
    want = trained.network.state_dict()
    assert all(torch.equal(value, want[name]) for name, value in again.state_dict().items())
    with pytest.raises(CheckpointError, match="holds another architecture"):
        load_network(path, network=Skipping(8, 2, 10.0, hidden=5))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (Skipping(8, 2, 5.0), r"trained with a = \(lif, dt=10, .*\), not \(lif, dt=5, "),
        (
            Skipping(8, 2, 10.0, max_delay=7),
            r"trained with first = \(max_delay=6, .*\), not \(max_delay=7",
        ),
    ],
)
def test_a_module_whose_weights_fit_and_that_is_another_is_named(trained, task, changed, message):
    path = trained.folder / "last.pt"
    with pytest.raises(CheckpointError, match=message):
        load_network(path, network=changed)
    again = Trainer(trained.config, task, trained.folder, network=changed, progress=False)
    with pytest.raises(CheckpointError, match=message):
        again.fit(resume=True)


def test_it_resumes_to_the_same_bits(task, config, tmp_path):
    made = config(train={"epochs": 4})
    want = Trainer(made, task, tmp_path / "a", network=skipping(), progress=False).fit().state_dict()
    first = Trainer(made, task, tmp_path / "b", network=skipping(), progress=False)
    first.epochs = 2
    first.fit()
    again = Trainer(made, task, tmp_path / "b", network=skipping(9), progress=False).fit(resume=True)
    assert all(torch.equal(value, want[name]) for name, value in again.state_dict().items())


TOML = """
[data]
name = "spoken_digits"
[train]
epochs = 6
batch = 32
threads = 1
weights = { lr_max = 0.02 }
"""


def test_the_commands_take_one_that_is_named(task, tmp_path, monkeypatch):
    from snnkit.commands import evaluate as evaluating
    from snnkit.commands import train as training
    from snnkit.training import run

    for module in (run, evaluating, training):
        monkeypatch.setattr(module, "load_data", lambda config, progress=True: task)
    (tmp_path / "c.toml").write_text(TOML)
    out = tmp_path / "run"
    done = train_run(tmp_path / "c.toml", out, [f"model.network={NAMED}"], progress=False)
    assert evaluate_run(out / "last.pt")["accuracy"] == done["valid_accuracy"]
    found = simulate_on_data(out / "graph.h5", against=out / "last.pt", dtype="float64")
    assert found["equal_cells"] == 1
    assert found["accuracy"] == done["valid_accuracy"]
    assert isinstance(load_network(out / "last.pt")[0], Skipping)


def test_its_folder_holds_its_graph(trained, task):
    """As that of `snnkit train`: the best network's, with what the run knows."""
    graph = Graph.load(trained.folder / "graph.h5")
    assert trained.no_graph is None
    assert graph.metadata["trained"] == trained.record["started"]
    assert graph.metadata["synthetic"] is task.synthetic
    found = agreement(trained.network, graph, task.valid, "float64", trained.config.model)
    assert found["equal_cells"] == 1
    assert found["spikes"] > 0


def test_one_that_no_graph_can_hold_is_trained_all_the_same(task, config, tmp_path, monkeypatch, caplog):
    from snnkit.commands import train as training

    monkeypatch.setattr(training, "load_data", lambda config, progress=True: task)
    (tmp_path / "c.toml").write_text(TOML.replace("epochs = 6", "epochs = 1"))
    named = "tests.helpers.own_networks:build_squared"
    done = train_run(tmp_path / "c.toml", tmp_path / "run", [f"model.network={named}"], progress=False)
    assert done["graph"] is None
    assert "multiplies spikes with spikes" in done["no_graph"]
    assert f"no {tmp_path / 'run' / 'graph.h5'}: " in caplog.text
    assert done["no_graph"] in caplog.text
    assert not (tmp_path / "run" / "graph.h5").exists()
    assert (tmp_path / "run" / "last.pt").exists()


def test_images_reach_it_in_their_shape(config, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(48) % 2
    x = (rng.random((48, 8, 2, 5, 5)) < 0.1).astype(np.float32)
    x[y == 1, :, 0] += rng.random((24, 8, 5, 5)) < 0.4
    x[y == 0, :, 1] += rng.random((24, 8, 5, 5)) < 0.4
    data = Splits.from_arrays(train=(x[:32], y[:32]), valid=(x[32:], y[32:]), dt=10.0)
    made = config(train={"epochs": 8, "weights": {"lr_max": 0.02}})
    network = Convolving((2, 5, 5), 2, 10.0)
    trainer = Trainer(made, data, tmp_path, network=network, progress=False)
    trainer.fit()
    assert trainer.best_accuracy > 0.9
    found = agreement(trainer.network, trainer.graph(), data.valid, "float64", made.model)
    assert found["equal_cells"] == 1


def test_one_of_ours_may_be_handed_over(task, config, tmp_path):
    torch.manual_seed(0)
    network = build(config().model, 8, 2, 10.0)
    want = Trainer(config(), task, tmp_path / "a", progress=False).fit().state_dict()
    got = Trainer(config(), task, tmp_path / "b", network=network, progress=False).fit().state_dict()
    assert got.keys() == want.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[-1], r"gave a tensor \[32, 2\]; expected \[T, B, C\] = \[\d+, 32, 2\]"),
        (lambda y: y.transpose(0, 1), r"a tensor \[32, \d+, 2\]; .*time and batch are swapped"),
        (lambda y: torch.cat([y, y], 2), r"a tensor \[\d+, 32, 4\]; expected"),
        (lambda y: (y, None), r"gave a tuple of 2; expected"),
        (lambda y: None, r"gave a NoneType; expected"),
    ],
)
def test_a_wrong_shape_is_named_with_the_right_one(task, config, tmp_path, change, message):
    trainer = Trainer(config(), task, tmp_path, network=Wrong(8, 2, change), progress=False)
    with pytest.raises(ShapeError, match=message):
        trainer.fit()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", r"model\.network = 'nothing' should read package\.module:name"),
        ("no.such:build", r"no\.such can't be imported"),
        (
            "tests.helpers.own_netwroks:build",
            r"can't be imported \(No module.*\), did you mean 'tests\.helpers\.own_networks'\?",
        ),
        ("tests.hlepers.own_networks:build", r"did you mean 'tests\.helpers\.own_networks'\?"),
        ("tetss.helpers.own_networks:build", r"did you mean 'tests\.helpers\.own_networks'\?"),
        ("tests.helpers.own_networks:biuld", r"has no function 'biuld', did you mean 'build'"),
        ("tests.helpers.own_networks:no_module", r"should give a torch\.nn\.Module, got a tensor \[2\]"),
    ],
)
def test_a_name_of_no_network_says_what_is_missing(task, config, tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        Trainer(config(model={"network": name}), task, tmp_path, progress=False)


def test_what_can_not_be_trained_is_refused(task, config, tmp_path):
    with pytest.raises(ParameterError, match="give one of network=, make= and"):
        Trainer(config(model={"network": NAMED}), task, tmp_path, network=skipping(), progress=False)
    with pytest.raises(ParameterError, match=r"compiled by torch\.compile"):
        Trainer(config(), task, tmp_path, network=torch.compile(skipping(), backend="eager"), progress=False)
    with pytest.raises(ParameterError, match=r"network of one's own: give model=config\.model"):
        evaluate(skipping(), task.valid)


def test_neurons_of_a_step_by_step_layer_count_once(task):
    from snnkit.delays import RecurrentDelayedLinear

    network = nn.Sequential(
        nn.Linear(8, 6), RecurrentDelayedLinear(6, LIF(tau_mem=20.0, dt=10.0), max_delay=3), nn.Linear(6, 2),
        LIF(tau_mem=20.0, dt=10.0),
    )  # fmt: skip
    x, lengths, _ = (torch.from_numpy(a) for a in task.valid.batch(np.arange(5)))
    out = runner(network, Model(readout="spike_count"), (8,), 2)(x, lengths)
    assert [s.shape[2] for s in out.spikes] == [6]


def test_it_survives_copies(trained):
    for again in (copy.deepcopy(trained.network), pickle.loads(pickle.dumps(trained.network))):
        x = torch.rand(12, 3, 8)
        assert torch.equal(again(x), trained.network(x))


def test_a_run_of_another_network_is_not_resumed(trained, task):
    class Other(Skipping):
        """The same weights, and another computation."""

    with pytest.raises(CheckpointError, match=r"was trained with the network .*Skipping, not .*Other"):
        Trainer(trained.config, task, trained.folder, network=Other(8, 2, 10.0), progress=False).fit(
            resume=True
        )


class Fails(nn.Module):
    """A layer inside asks for another number of inputs than it is given."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 6), LIF(tau_mem=20.0, dt=10.0))
        self.last = nn.Linear(7, 2)

    def forward(self, x):
        return self.last(self.inner(x))


class Raises(Skipping):
    def forward(self, x):
        raise RuntimeError("the weather")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Skipping, r"network = Skipping is the class; give a module that it makes, Skipping\(…\)"),
        ([nn.Linear(8, 2)], r"should be a torch\.nn\.Module, got a list of 1; several are one"),
        ("mine", r"should be a torch\.nn\.Module, got a str"),
        (nn.Identity(), "Identity has no parameter that is learned"),
    ],
)
def test_what_is_no_network_is_named(task, config, tmp_path, network, message):
    with pytest.raises(ParameterError, match=message):
        Trainer(config(), task, tmp_path, network=network, progress=False)
    if not isinstance(network, nn.Module):
        with pytest.raises(ParameterError, match=message):
            evaluate(network, task.valid, model=Model())


def test_a_network_without_parameters_is_evaluated(task):
    class First(nn.Module):
        def forward(self, x):
            return x[..., :2]

    result = evaluate(First(), task.valid, model=Model(readout="mean"))
    x, _, labels = task.valid.batch(np.arange(len(task.valid)))
    assert result.accuracy == (x[..., :2].sum(0).argmax(1) == labels).mean()


def test_the_layer_that_does_not_fit_is_named_with_its_line(task, config, tmp_path):
    trainer = Trainer(config(), task, tmp_path, network=Fails(), progress=False)
    said = r"Fails\.last, Linear\(in_features=7, .*return self\.last\(self\.inner\(x\)\).*shape \[8\]"
    with pytest.raises(ShapeError, match=said) as caught:
        trainer.fit()
    lines = Path(__file__).read_text().splitlines()
    line = next(k for k, text in enumerate(lines, 1) if "return self.last(self.inner(x))" in text)
    assert f"{__file__}, line {line}:" in str(caught.value)
    with pytest.raises(RuntimeError, match="the weather"):  # of its own, which says nothing of shapes
        Trainer(config(), task, tmp_path / "b", network=Raises(8, 2, 10.0), progress=False).fit()
