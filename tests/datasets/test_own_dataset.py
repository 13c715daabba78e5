"""A data set of one's own: one call from outside the package, and everything takes it as its own."""

from unittest import mock

import numpy as np
import pytest
from typer.testing import CliRunner

from snnkit import cli
from snnkit.commands.data import describe_data
from snnkit.commands.evaluate import evaluate_run
from snnkit.commands.train import train_run
from snnkit.compression.run import CompressionConfig
from snnkit.datasets import DATASETS, Dataset, Images, from_events, images, load, register
from snnkit.datasets.download import Unreachable
from snnkit.errors import ConfigError, DataError, ParameterError
from snnkit.events import EVENT_DTYPE
from snnkit.graph import Graph
from snnkit.training.config import load_config, parse_config
from snnkit.training.run import graph_data, load_data

TOML = """
[data]
name = "{name}"
width = 3
dt = 5.0
channels = 10
[model]
hidden = [12]
max_delay = 6
dropout = 0.0
[train]
epochs = 6
batch = 16
"""


def beeps(root=None, *, width: int = 2, loud: bool = False, seed=0):
    """Rising or falling runs of events over 20 channels, which of the two is the label."""
    rng = np.random.default_rng(seed)
    parts = {}
    for part, count in (("train", 60), ("test", 20)):
        labels = np.arange(count) % 2
        clips = []
        for label in labels:
            events = np.zeros(20 * width, EVENT_DTYPE)
            channel = np.repeat(np.arange(20), width)
            events["t"] = 1000 + 4000 * np.sort(channel) + rng.integers(0, 3000, len(channel))
            events["x"] = channel if label else 19 - channel
            events["p"] = 1
            clips.append(events)
        parts[part] = from_events(clips, labels, 20, classes=["falling", "rising"], name="beeps")
    return parts


@pytest.fixture
def mine():
    """`register`; what it added is gone after the test."""
    with mock.patch.dict(DATASETS):
        yield register


def test_one_call_makes_it_a_data_set_like_any_other(mine, tmp_path):
    mine(Dataset(name="beeps", title="Beeps", kind="events", read=beeps, attribution="Me, 2026."))

    splits = load("beeps", dt=5.0, channels=10, width=3)
    assert splits.sizes == {"train": 54, "valid": 6, "test": 20}
    assert splits.train.batch([0])[0].sum() == 60

    file = tmp_path / "c.toml"
    file.write_text(TOML.format(name="beeps"))
    about = describe_data("beeps", settings=["width=3", "dt=5.0", "channels=10"])
    assert (about["dataset"], about["test"]["clips"], about["attribution"]) == ("beeps", 20, "Me, 2026.")

    done = train_run(file, tmp_path / "run", progress=False)
    assert (done["train_clips"], done["chosen_on"]) == (54, "validation")
    graph = Graph.load(tmp_path / "run" / "graph.h5")
    assert graph.metadata["data"]["width"] == 3
    valid = graph_data(graph, "valid")
    np.testing.assert_array_equal(valid.batch(range(6))[0], splits.valid.batch(range(6))[0])
    wider = graph_data(graph, "valid", {"width": 4})
    assert wider.batch([0])[0].sum() == 80
    assert evaluate_run(tmp_path / "run" / "last.pt", "test")["accuracy"] > 0.8


def test_its_own_options_are_checked_by_name_and_type(mine, tmp_path):
    mine(Dataset(name="beeps", title="Beeps", kind="events", read=beeps))
    with pytest.raises(ParameterError, match=r"beeps: unknown option 'widht', did you mean 'width'\?"):
        load("beeps", channels=10, widht=3)
    with pytest.raises(ConfigError) as caught:
        parse_config({"data": {"name": "beeps", "widht": 3, "loud": "very", "dt": -1}, "tran": {}})
    for part in (
        "4 problems",
        "[data] unknown key 'widht', did you mean 'width'?",
        "[data] loud = 'very'",
        "[data] dt = -1",
        "unknown key 'tran', did you mean 'train'?",
    ):
        assert part in str(caught.value)
    with pytest.raises(ConfigError, match="unknown key 'width'"):
        parse_config({"data": {"name": "shd", "width": 3}})
    file = tmp_path / "c.toml"
    file.write_text(TOML.format(name="beeps"))
    assert load_config(file, ["data.width=7", "data.loud=true"]).data.model_dump()["width"] == 7


def test_a_record_can_be_read_where_its_data_set_is_not_registered(mine):
    mine(Dataset(name="beeps", title="Beeps", kind="events", read=beeps))
    record = parse_config({"data": {"name": "beeps", "width": 3}}).model_dump(mode="json")
    del DATASETS["beeps"]
    config = parse_config(record)
    assert config.model_dump(mode="json") == record
    with pytest.raises(ParameterError, match=r"unknown dataset 'beeps'; known are shd, .*\."):
        load_data(config)


def test_an_option_without_a_default_must_be_given(mine):
    def needy(*, files: tuple[str, ...], root=None):
        return beeps(root, width=len(files))

    mine(Dataset(name="needy", title="Needy", kind="events", read=needy))
    with pytest.raises(ParameterError, match="needy needs the option 'files'"):
        load("needy", channels=10)
    with pytest.raises(ConfigError, match=r"\[data\] files: Field required"):
        parse_config({"data": {"name": "needy"}})
    config = parse_config({"data": {"name": "needy", "files": ["a", "b"], "channels": 10}})
    assert load_data(config).train.batch([0])[0].sum() == 40


def test_images_of_ones_own_are_compressed_and_trained_on(mine):
    rng = np.random.default_rng(0)

    def spots(*, size: int = 4):
        x = rng.integers(0, 256, (40, 1, size, size), dtype=np.uint8)
        y = np.arange(40) % 2
        return Images(train=(x[:30], y[:30]), test=(x[30:], y[30:]), classes=["a", "b"])

    mine(Dataset(name="spots", title="Spots", kind="images", read=spots))
    config = CompressionConfig.model_validate({"data": {"name": "spots", "size": 5}})
    assert images.load(**config.data.model_dump()).train[0].shape == (26, 1, 5, 5)
    assert load("spots", channels=16, steps=2).test.batch([0])[0].shape == (2, 1, 16)
    with pytest.raises(
        ParameterError,
        match=r"spots: channels = 140, but an image of 1×4×4 has 16 values; take",
    ):
        load("spots")
    with pytest.raises(ParameterError, match="binary would have no effect; images are no events"):
        load("spots", channels=16, binary=True)
    with pytest.raises(ParameterError, match="duration would have no effect"):
        load("spots", channels=16, duration=50.0)


def test_recordings_are_no_images():
    with pytest.raises(ParameterError, match="shd has events, where images are needed; known are cifar"):
        images.load("shd")
    with pytest.raises(ValueError, match="gsc has sound, where images are needed"):
        CompressionConfig.model_validate({"data": {"name": "gsc"}})
    with pytest.raises(ValueError, match=r"unknown images 'cifra10'; known are .*, did you mean 'cifar10'\?"):
        CompressionConfig.model_validate({"data": {"name": "cifra10"}})


def test_another_set_stands_in_where_it_cannot_be_reached(mine, caplog):
    def away(root=None, *, tone: float = 1.0, fetch=True, progress=True):
        raise Unreachable("no network.")

    mine(Dataset(name="beeps", title="made beeps", kind="events", read=beeps, synthetic=True))
    mine(Dataset(name="real_beeps", title="Beeps", kind="events", read=away, stand_in="beeps"))
    config = parse_config({"data": {"name": "real_beeps", "channels": 10, "root": "/nowhere", "tone": 2}})
    splits = load_data(config)
    assert (splits.name, splits.synthetic) == ("beeps", True)
    assert "MADE BEEPS stand in for real beeps: made beeps, since no network." in caplog.text
    with pytest.raises(Unreachable):
        load("real_beeps")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "video"}, r"'mine': kind = 'video'; it is one of events, sound, images"),
        ({"validation": "auto"}, r"validation = 'auto'; it is one of official, speakers, random"),
        ({"paper": "speakers"}, r"paper = 'speakers'; it is one of official, test"),
    ],
)
def test_a_row_that_cannot_be_is_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        Dataset(**{"name": "mine", "title": "Mine", "kind": "events", "read": beeps, **change})


def test_a_name_is_given_once(mine):
    row = mine(Dataset(name="beeps", title="Beeps", kind="events", read=beeps))
    assert mine(row) is row
    with pytest.raises(ParameterError, match="there is already a dataset 'shd', Spiking Heidelberg Digits"):
        mine(Dataset(name="shd", title="Mine", kind="events", read=beeps))


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("events", [1, 2], r"mine is of kind 'events': its data should be a dictionary of EventDatasets"),
        ("sound", {}, r"mine is of kind 'sound': its data should be Recordings"),
        ("images", None, r"mine is of kind 'images': its data should be Images, got None"),
    ],
)
def test_data_of_another_kind_are_named(mine, kind, given, message):
    mine(Dataset(name="mine", title="Mine", kind=kind, read=lambda: given))
    with pytest.raises(DataError, match=message):
        load("mine")


def test_a_part_that_is_missing_is_named(mine):
    mine(Dataset(name="mine", title="Mine", kind="events", read=lambda: {"train": beeps()["train"]}))
    with pytest.raises(ParameterError, match="mine has no test part"):
        load("mine", channels=10)


def test_the_command_lists_the_table():
    text = " ".join(CliRunner().invoke(cli.app, ["data", "--help"]).output.replace("│", " ").split())
    assert ", ".join(DATASETS) in text
