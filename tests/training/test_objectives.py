"""What is minimised and chosen by: classes, steps, traces, functions of one's own, weights and sampling."""

import csv
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from snnkit.commands import evaluate as evaluating
from snnkit.commands.evaluate import evaluate_run
from snnkit.datasets import Binned
from snnkit.datasets.splits import Splits
from snnkit.errors import CheckpointError, ConfigError, ParameterError
from snnkit.events import EventBatch
from snnkit.training import Trainer, evaluate
from snnkit.training.losses import TARGETS, Target, balanced_order, class_weights, objective
from snnkit.training.network import Output
from tests.helpers import objectives

HERE = "tests.helpers.objectives"


def with_labels(task, change):
    """The task with other targets."""
    parts = {k: getattr(task, k) for k in ("train", "valid", "test")}
    made = {k: replace(p, labels=change(p)) for k, p in parts.items()}
    return Splits({k: lambda p=p: p for k, p in made.items()}, task.classes, task.dt, task.channels, "order")


def output(steps=5, batch=3, classes=2, lengths=(5, 2, 4)):
    g = torch.Generator().manual_seed(0)
    v = torch.randn(steps, batch, classes, generator=g)
    mask = torch.arange(steps)[:, None] < torch.tensor(lengths)
    return Output((v * mask[..., None]).sum(0), v, [], mask)


def test_a_class_in_every_step_is_learned_from_the_steps_that_count():
    out = output()
    targets = torch.tensor([[0, 1, 0, -1], [1, 1, 0, 0], [0, 0, 1, 1]])
    goal = objective(targets.numpy())
    losses, right = [], []
    for b, length in enumerate((4, 2, 4)):
        for t in range(length):
            if targets[b, t] >= 0:
                odds = out.v[t, b].softmax(0)
                losses.append(-odds[targets[b, t]].log())
                right.append(float(odds.argmax() == targets[b, t]))
    torch.testing.assert_close(goal.loss(out, targets), torch.stack(losses).mean())
    assert goal.metric(out, targets).item() == pytest.approx(np.mean(right))
    assert not goal.accuracy


def test_a_trace_is_learned_from_the_steps_that_count():
    out = output()
    targets = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    goal = objective(targets.numpy())
    errors = [(out.v[t, b] - targets[b, t]) ** 2 for b, n in enumerate((5, 2, 4)) for t in range(n)]
    torch.testing.assert_close(goal.loss(out, targets), torch.stack(errors).float().mean())
    assert goal.metric(out, targets) == -goal.loss(out, targets)


def test_another_kind_of_target_is_a_row(monkeypatch):
    labels = np.zeros((4, 2, 3, 5))
    with pytest.raises(ParameterError, match=r"shape \[4, 2, 3, 5\] .*a class, whole.*give train\.loss"):
        objective(labels)
    row = Target("maps", lambda axes, whole: axes == 4, lambda out, t: t.mean(), lambda out, t: -t.mean())
    monkeypatch.setitem(TARGETS, "maps", row)
    assert objective(labels).loss is row.loss


def test_steps_and_traces_are_trained_end_to_end(task, config, tmp_path):
    def traces(part):
        return np.repeat(np.eye(2, dtype=np.float32)[part.labels][:, None], 16, 1)

    for name, change in {"steps": lambda p: np.repeat(p.labels[:, None], 16, 1), "trace": traces}.items():
        data = with_labels(task, change)
        made = config(train={"epochs": 12, "weights": {"lr_max": 0.02}}, model={"readout": "mean"})
        trainer = Trainer(made, data, tmp_path / name, progress=False)
        trainer.fit()
        history = [row["valid_accuracy"] for row in trainer.history]
        assert trainer.best_accuracy == max(history) > history[0]
        result = evaluate(trainer.network, data.valid)
        assert result.metric == pytest.approx(trainer.best_accuracy)
        assert result.summary().keys() >= {"metric", "loss"}


def test_functions_of_ones_own_by_name_and_by_hand_are_the_same(task, config, tmp_path, monkeypatch):
    named = config(train={"loss": f"{HERE}:loss", "metric": f"{HERE}:margin", "epochs": 3})
    first = Trainer(named, task, tmp_path / "a", progress=False)
    first.fit()
    second = Trainer(
        config(train={"epochs": 3}), task, tmp_path / "b", progress=False,
        loss=objectives.loss, metric=objectives.margin,
    )  # fmt: skip
    second.fit()
    assert [r["train_loss"] for r in first.history] == [r["train_loss"] for r in second.history]
    assert first.best_accuracy == second.best_accuracy == max(r["valid_accuracy"] for r in first.history) < -1
    assert first.best is not None
    with pytest.raises(ParameterError, match=r"give one of loss= and train\.loss"):
        Trainer(named, task, tmp_path / "c", progress=False, loss=objectives.loss)
    monkeypatch.setattr(evaluating, "load_data", lambda config: task)
    content = torch.load(tmp_path / "a" / "last.pt")
    content["trained_on"]["named"] = True
    torch.save(content, tmp_path / "a" / "last.pt")
    assert evaluate_run(tmp_path / "a" / "last.pt")["metric"] == pytest.approx(first.best_accuracy)


def power(exponent, scale=1.0):
    """A loss that is a function within another."""

    def loss(out, targets):
        return scale * objectives.loss(out, targets) ** exponent

    return loss


class Powered:
    """A loss that is an object."""

    def __init__(self, exponent, weight=None):
        self.exponent, self.weight = exponent, torch.ones(2) if weight is None else weight

    def __call__(self, out, targets):
        return self.weight.sum() * objectives.loss(out, targets) ** self.exponent

    def method(self, out, targets):
        return self(out, targets)


def squared(out, targets):
    """As `objectives.loss`."""
    return objectives.loss(out, targets)


LOSSES = {
    "function": (lambda: objectives.loss, lambda: squared, r"objectives:loss, not .*:squared"),
    "lambda": (
        lambda: lambda out, y: objectives.loss(out, y),
        lambda: lambda out, y: 2 * objectives.loss(out, y),
        r"<lambda> \(code \w+\), not .*<lambda> \(code \w+\)",
    ),
    "closure": (lambda: power(2), lambda: power(3), r"power.<locals>.loss \(code"),
    "default": (lambda: power(2), lambda: power(2, 1.5), r"power.<locals>.loss \(code"),
    "partial": (
        lambda: functools.partial(squared), lambda: functools.partial(objectives.loss),
        "squared .*, not .*:loss",
    ),
    "object": (lambda: Powered(2), lambda: Powered(2, torch.tensor([1.0, 2.0])), r"Powered \(code"),
    "method": (lambda: Powered(2).method, lambda: Powered(3).method, r"Powered.method \(code"),
    "none": (lambda: squared, lambda: None, "loss = .*:squared, not that"),
    "one": (lambda: None, lambda: squared, "loss = that of its configuration, not .*:squared"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_of_another_loss_or_metric_is_not_resumed(task, config, tmp_path, name):
    first, second, message = LOSSES[name]
    made = config(train={"epochs": 1})
    Trainer(made, task, tmp_path, progress=False, loss=first()).fit()
    Trainer(made, task, tmp_path, progress=False, loss=first()).fit(resume=True)  # made anew, the same
    with pytest.raises(CheckpointError, match=rf"was trained with .*{message}.*resume with its own"):
        Trainer(made, task, tmp_path, progress=False, loss=second()).fit(resume=True)
    with pytest.raises(CheckpointError, match=r"metric = that of its configuration, not .*:margin"):
        Trainer(made, task, tmp_path, progress=False, loss=first(), metric=objectives.margin).fit(resume=True)


def test_a_loss_is_recognised_from_a_script_and_under_another_python(task, config, tmp_path, caplog):
    made = config(train={"epochs": 1})
    Trainer(made, task, tmp_path, progress=False, loss=power(2)).fit()

    def edited(change):
        content = torch.load(tmp_path / "last.pt")
        change(content)
        torch.save(content, tmp_path / "last.pt")
        Trainer(made, task, tmp_path, progress=False, loss=power(2)).fit(resume=True)

    edited(lambda c: c["scores"]["loss"].update(name="__main__:power.<locals>.loss"))
    assert not caplog.records
    edited(lambda c: c["scores"]["loss"].update(python="3.1", code="0"))
    assert "whether this is the same can't be told" in caplog.text
    edited(lambda c: c.pop("scores"))  # a checkpoint from before it was kept


def test_class_weights_are_those_of_a_weighted_mean():
    out, labels = output(), torch.tensor([0, 1, 1])
    goal = objective(labels.numpy(), weights=[3.0, 0.5])
    per = -out.scores.log_softmax(1)[torch.arange(3), labels]
    w = torch.tensor([3.0, 0.5, 0.5])
    torch.testing.assert_close(goal.loss(out, labels), (w * per).sum() / w.sum())
    assert class_weights("balanced", np.array([0, 0, 0, 1]), 2) == pytest.approx([4 / 6, 2.0])
    assert class_weights("balanced", np.array([0, 0, 2]), 4) == pytest.approx([0.75, 1.0, 1.5, 1.0])
    assert class_weights(None, labels.numpy(), 2) is None
    with pytest.raises(ParameterError, match="has 3 weights for 2 classes"):
        class_weights((1.0, 2.0, 3.0), labels.numpy(), 2)
    with pytest.raises(ParameterError, match="weigh the cross entropy"):
        objective(labels.numpy(), loss=objectives.loss, weights=[1.0, 1.0])


def test_balanced_sampling_gives_each_class_its_share_and_each_sample_its_turn():
    labels = np.repeat([0, 1, 4], [70, 20, 13])
    order = balanced_order(labels, np.random.default_rng(0))
    assert len(order) == 103
    assert sorted(np.bincount(labels[order])[[0, 1, 4]].tolist()) == [34, 34, 35]
    times = np.bincount(order, minlength=103)
    for label in (0, 1, 4):
        mine = times[labels == label]
        assert mine.max() - mine.min() <= 1
    assert not np.array_equal(order, balanced_order(labels, np.random.default_rng(1)))


def test_unbalanced_data_are_balanced(task, config, tmp_path):
    rows = np.concatenate(
        [np.flatnonzero(task.train.labels == 0), np.flatnonzero(task.train.labels == 1)[:6]]
    )
    task._made["train"] = task.train.subset(rows)
    for setting in ({"sampling": "balanced"}, {"class_weights": "balanced"}, {"class_weights": [1.0, 8.0]}):
        trainer = Trainer(
            config(train={"epochs": 1, **setting}), task, tmp_path / str(setting), progress=False
        )
        trainer.fit()
        share = task.train.labels[trainer._order].mean()
        assert share == (
            pytest.approx(0.5, abs=0.02) if "sampling" in setting else pytest.approx(6 / len(rows))
        )
    with pytest.raises(ParameterError, match="need targets that are classes"):
        Trainer(
            config(train={"sampling": "balanced"}),
            with_labels(task, lambda p: np.repeat(p.labels[:, None], 16, 1)),
            tmp_path / "no", progress=False,
        )  # fmt: skip


def weights(network):
    return {k: v.clone() for k, v in network.state_dict().items()}


@pytest.mark.parametrize(
    "train",
    [
        {"sampling": "balanced", "class_weights": "balanced"},
        {"gradient_accumulation": 2, "clip_grad": 1.0},
        {"precision": "bfloat16"},
        {"validate_every": 2},
        {"loss": f"{HERE}:loss", "metric": f"{HERE}:margin"},
    ],
    ids=lambda t: "+".join(t),
)
def test_a_run_with_it_resumes_to_the_same_bits(task, config, tmp_path, train):
    made = config(
        train={"epochs": 4, **train}, augment={"drop_event": 0.1}, model={"delays": "none", "max_delay": 0}
    )
    whole = Trainer(made, task, tmp_path / "a", progress=False)
    want = weights(whole.fit())
    stopped = Trainer(made, task, tmp_path / "b", progress=False)
    original, count = stopped._train_batch, 0

    def and_stop(index):
        nonlocal count
        original(index)
        count += 1
        stopped.stopping = count == 3

    stopped._train_batch = and_stop
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    resumed = Trainer(made, task, tmp_path / "b", progress=False)
    got = weights(resumed.fit(resume=True))
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert [{**r, "seconds": 0} for r in resumed.history] == [{**r, "seconds": 0} for r in whole.history]


def test_accumulated_gradients_are_those_of_the_whole_batch(task, config, tmp_path):
    """Without batch norm statistics and dropout a step over 2 × 16 samples is one over 32."""

    def steps(folder, **train):
        made = config(train={"epochs": 1, **train}, model={"dropout": 0.0})
        trainer = Trainer(made, task, tmp_path / folder, progress=False)
        trainer.network.eval()
        trainer.network.train = lambda mode=True: trainer.network
        gradients = []
        optimiser = trainer.groups["weights"][0]
        optimiser.register_step_pre_hook(
            lambda o, *_: gradients.append([p.grad.clone() for g in o.param_groups for p in g["params"]])
        )
        trainer.fit()
        return gradients

    one, two = steps("one", batch=32), steps("two", batch=16, gradient_accumulation=2)
    assert len(one) == len(two) == 3
    for a, b in zip(one[0], two[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def ragged(labels, number=48, steps=9):
    """Recordings of 8 inputs and different lengths, with these targets."""
    rng = np.random.default_rng(0)
    x, lengths = (rng.random((steps, number, 8)) < 0.4).astype(np.float32), rng.integers(2, steps + 1, number)
    x[np.arange(steps)[:, None] >= lengths] = 0
    events = EventBatch.from_dense(x, lengths)
    data = Binned(events, labels(rng, lengths), np.full(number, -1), ["a", "b"], 10.0, 8, "ragged")
    return Splits({part: lambda: data for part in ("train", "valid")}, data.classes, 10.0, 8, "ragged")


TARGETS_OF = {
    "weighted": lambda rng, lengths: (rng.random(len(lengths)) < 0.2).astype(int),
    "steps": lambda rng, lengths: rng.integers(-1, 2, (len(lengths), 9)),
    "trace": lambda rng, lengths: rng.normal(size=(len(lengths), 9, 2)),
}


def first_gradient(folder, config, data, **train):
    """Of a linear map in float64 with a tail of three steps: its gradient in the first step."""
    torch.manual_seed(1)
    made = config(train={"epochs": 1, **train}, model={"tail": 3, "readout": "mean"})
    network = torch.nn.Linear(8, 2, dtype=torch.float64)
    start = [p.detach().clone() for p in network.parameters()]
    trainer = Trainer(made, data, folder, network=network, progress=False)
    kept = []
    trainer.groups["weights"][0].register_step_pre_hook(
        lambda o, *_: kept.append([p.grad.clone() for g in o.param_groups for p in g["params"]])
    )
    trainer.fit()
    return {tuple(p.shape): p for p in kept[0]}, start, trainer


@pytest.mark.parametrize("kind", TARGETS_OF)
def test_the_mean_of_accumulated_batches_is_over_all_of_them(config, tmp_path, kind):
    data = ragged(TARGETS_OF[kind])
    weights = {"class_weights": [0.5, 4.0]} if kind == "weighted" else {}
    whole, (w, bias), _ = first_gradient(tmp_path / "one", config, data, batch=48, **weights)
    for batch, parts in ((16, 3), (5, 10)):
        some = {"batch": batch, "gradient_accumulation": parts, **weights}
        parted, _, _ = first_gradient(tmp_path / f"{batch}", config, data, **some)
        for shape, gradient in parted.items():
            torch.testing.assert_close(gradient, whole[shape], rtol=1e-12, atol=1e-15)
    x, lengths, y = (torch.from_numpy(a) for a in data.train.batch(np.arange(48)))
    x = torch.nn.functional.pad(x.double(), (0, 0, 0, 0, 0, 3))
    w, bias = w.requires_grad_(), bias.requires_grad_()
    v = x @ w.T + bias
    terms, count = [], 0.0
    for b, length in enumerate(lengths.tolist()):
        if kind == "weighted":
            c = [0.5, 4.0][int(y[b])]
            terms.append(-c * v[: length + 3, b].mean(0).log_softmax(0)[y[b]])
            count += c
        for t in range(length if kind != "weighted" else 0):
            if kind == "trace":
                terms.append((v[t, b] - y[b, t]).square().sum())
                count += 2
            elif y[b, t] >= 0:
                terms.append(-v[t, b].log_softmax(0)[y[b, t]])
                count += 1
    (torch.stack(terms).sum() / count).backward()
    torch.testing.assert_close(whole[(2, 8)], w.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(whole[(2,)], bias.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["steps", "trace"])
def test_targets_after_a_samples_end_count_nowhere(config, tmp_path, kind):
    """Neither in the network's tail nor in the padding, in training, validation and evaluation."""
    found = []
    for filler in (0, 1):

        def padded(rng, lengths, filler=filler):
            made = TARGETS_OF[kind](rng, lengths)
            made[np.arange(9) >= lengths[:, None]] = filler
            return made

        data = ragged(padded)
        made = config(train={"epochs": 2, "batch": 16}, model={"readout": "mean"})
        trainer = Trainer(made, data, tmp_path / f"{filler}", progress=False)
        network = trainer.fit()
        assert trainer.runner.tail > 0
        found.append(
            [weights(network), evaluate(network, data.valid, batch=7).summary()]
            + [{**row, "seconds": 0} for row in trainer.history]
        )
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name]), name


@pytest.mark.parametrize("kind", ["steps", "trace"])
def test_what_is_measured_does_not_depend_on_the_batches(config, tmp_path, kind):
    data = ragged(TARGETS_OF[kind])
    network = first_gradient(tmp_path, config, data)[2].network
    model = config(model={"tail": 3, "readout": "mean"}).model
    whole, parted = (evaluate(network, data.valid, batch, model=model) for batch in (48, 5))
    assert parted.loss == pytest.approx(whole.loss, rel=1e-12)
    assert parted.metric == pytest.approx(whole.metric, rel=1e-6)


def test_a_batch_in_which_no_step_counts_teaches_nothing(config, tmp_path):
    data = ragged(lambda rng, lengths: np.full((len(lengths), 9), -1))
    start = first_gradient(tmp_path, config, data, batch=16)
    assert all(not g.any() for g in start[0].values())
    assert start[2].history[0]["train_loss"] == 0


def test_bfloat16_multiplies_in_bfloat16_and_keeps_weights_and_neurons(task, config, tmp_path):
    made = config(train={"precision": "bfloat16", "epochs": 20, "weights": {"lr_max": 0.02}})
    trainer = Trainer(made, task, tmp_path, progress=False)
    trainer.fit()
    assert {p.dtype for p in trainer.network.parameters()} == {torch.float32}
    assert trainer.best_accuracy > 0.8
    plain = config(train={"precision": "bfloat16"}, model={"delays": "none", "max_delay": 0})
    trainer = Trainer(plain, task, tmp_path / "b", progress=False)
    seen = []
    trainer.network.layers[0].synapses.register_forward_hook(lambda m, i, y: seen.append(y.dtype))
    trainer.fit()
    assert set(seen[:3]) == {torch.bfloat16}
    assert [dtype for dtype in seen if dtype != torch.float64][-1] == torch.float32  # validation


def test_validation_every_few_epochs_and_in_the_last(task, config, tmp_path):
    made = config(train={"epochs": 5, "validate_every": 2, "weights": {"schedule": "plateau"}})
    trainer = Trainer(made, task, tmp_path, progress=False)
    trainer.fit()
    validated = [row["valid_accuracy"] is not None for row in trainer.history]
    assert validated == [False, True, False, True, True]
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["valid_accuracy"]) for row in rows] == validated
    assert [bool(row["rate_0"]) for row in rows] == validated
    with pytest.raises(ConfigError, match=r"patience = 3 epochs end before there is a validation every 4"):
        config(train={"patience": 3, "validate_every": 4})


def test_one_hot_labels_are_not_taken_for_a_class_in_every_step(task, config, tmp_path):
    one_hot = with_labels(task, lambda p: np.eye(2, dtype=int)[p.labels])
    with pytest.raises(ParameterError, match=r"one for each step.*one-hot, targets.argmax\(1\)"):
        Trainer(config(), one_hot, tmp_path, progress=False)


def test_a_class_in_every_step_that_there_is_not_is_named(task, config, tmp_path):
    data = with_labels(task, lambda p: np.full((len(p.labels), 16), 7))
    with pytest.raises(ParameterError, match="a target is 7, and there are 2 classes"):
        Trainer(config(), data, tmp_path, progress=False)


GIVEN = (
    r"called with an Output: out\.scores \[\d+, 2\], out\.v \[\d+, \d+, 2\].* targets \[\d+\] of torch\.int64"
)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": "mse"}, r"loss = 'mse' is no function f\(out, targets\).*goes to train\.loss"),
        ({"metric": "f1"}, r"metric = 'f1' is no function.*goes to train\.metric"),
        ({"loss": torch.nn.CrossEntropyLoss}, "CrossEntropyLoss'> is no function"),
        ({"loss": torch.nn.CrossEntropyLoss()}, f"loss CrossEntropyLoss failed .*not Output.*{GIVEN}"),
        (
            {"loss": lambda out, t: out.score.sum()},
            f"'score'.*test_objectives.py, line.*out.score.sum.*{GIVEN}",
        ),
        (
            {"loss": lambda out, t: out.scores.sum(1)},
            r"gave a tensor \[\d+\]; it should give a tensor of one",
        ),
        ({"loss": lambda out, t: 1.0}, "gave a float; it should give a tensor of one number that has a grad"),
        ({"loss": lambda out, t: out.scores.detach().sum()}, "the loss has no gradient"),
        ({"metric": lambda out, t: torch.ones(2)}, r"gave a tensor \[2\]; it should give one number"),
    ],
)
def test_a_loss_or_metric_that_can_not_be_is_named(task, config, tmp_path, given, message):
    with pytest.raises(ParameterError, match=message):
        Trainer(config(), task, tmp_path, progress=False, **given).fit()


def test_a_metric_may_give_a_number(task, config, tmp_path):
    trainer = Trainer(config(), task, tmp_path, progress=False, metric=lambda out, t: 0.25)
    trainer.fit()
    assert trainer.best_accuracy == 0.25
