"""What is minimised and chosen by: classes, steps, traces, functions of one's own, weights and sampling."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from snnkit.commands import evaluate as evaluating
from snnkit.commands.evaluate import evaluate_run
from snnkit.datasets.splits import Splits
from snnkit.errors import ConfigError, ParameterError
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
    assert seen[-1] == torch.float32  # validation


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
