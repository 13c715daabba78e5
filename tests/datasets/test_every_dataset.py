"""The battery that every row of `DATASETS` passes: a new row, and a maker of its files, has these tests."""

import re

import numpy as np
import pytest

from snnkit.datasets import DATASETS, Binned, cifar, images, load, mnist, spoken_digits, spoken_words, voices
from snnkit.errors import ConfigError, DataError, ParameterError
from snnkit.training.config import parse_config
from tests.helpers.made_files import MAKERS, synthesise_digits

OPTIONS = {
    "synthetic_digits": {"voices": 6, "takes": 2},
    **{name: {"channels": 3072} for name in ("cifar10_subset", "cifar10", "cifar100")},
    **{name: {"channels": 784} for name in ("mnist", "fashion_mnist")},
    "digits": {"channels": 64},
    "nmnist": {"channels": 2312},
    "events": {"train": "train.h5", "valid": "valid.h5", "test": "test.h5"},
    "audio": {"groups": r"_(\w+)_"},
}
each = pytest.mark.parametrize("name", list(DATASETS))
PARTS = ("train", "valid", "test")


@pytest.fixture
def made(tmp_path, cache, no_network, quick_cochlea, monkeypatch):
    """``made(name, **options)``: the data set, loaded from small files whose checksums nobody published."""
    for module in (spoken_digits, spoken_words):
        monkeypatch.setattr(module, "check_samples", lambda recordings, _: recordings)
    for module in (cifar, mnist):
        monkeypatch.setattr(module, "MD5", {})
    monkeypatch.setattr(voices, "synthesise_digits", synthesise_digits)

    def make(name, **options):
        if name == "digits":
            pytest.importorskip("sklearn")
        root = tmp_path / "data"
        if not root.is_dir():
            root.mkdir()
            MAKERS[name](root)
        given = {"root": root, "dt": 4.0, "channels": 70, **OPTIONS.get(name, {}), **options}
        return load(name, progress=False, **given)

    return make


def recordings_of(data):
    """What identifies each recording: its input, its label and who made it."""
    inputs = (data.batch([i])[0].tobytes() for i in range(len(data)))
    return list(zip(inputs, data.labels.tolist(), data.speakers.tolist(), strict=True))


@each
def test_steps_channels_and_labels_are_what_was_asked_for(made, name):
    splits = made(name)
    channels = OPTIONS.get(name, {}).get("channels", 70)
    assert (splits.name, splits.dt, splits.channels) == (name, 4.0, channels)
    assert len(splits.classes) == len(set(splits.classes)) > 1
    for part in PARTS:
        data = getattr(splits, part)
        assert len(data) == splits.sizes[part] > 0
        assert (data.dt, data.channels, data.classes) == (4.0, channels, splits.classes)
        assert (data.labels >= 0).all()
        assert (data.labels < len(splits.classes)).all()
        x, lengths, labels = data.batch(range(len(data)))
        assert x.shape == (lengths.max(), len(data), channels)
        assert x.any()
        assert (lengths > 0).all()
        assert labels.tolist() == data.labels.tolist()


@each
def test_no_recording_is_in_two_parts(made, name):
    splits = made(name)
    parts = [set(recordings_of(getattr(splits, part))) for part in PARTS]
    assert len(set.union(*parts)) == sum(len(part) for part in parts)


@each
def test_the_same_seed_gives_the_same_data(made, name, tmp_path, monkeypatch):
    first = {part: recordings_of(getattr(made(name, seed=3), part)) for part in PARTS}
    monkeypatch.setenv("SNNKIT_CACHE", str(tmp_path / "another cache"))
    again = made(name, seed=3)
    for part in PARTS:
        assert recordings_of(getattr(again, part)) == first[part]


@each
def test_a_limit_holds_for_every_class_speaker_and_part(made, name):
    whole, few = made(name), made(name, limit=1, validation="none")
    assert few.classes == whole.classes
    for part in ("train", "test"):
        data = getattr(few, part)
        groups = set(zip(data.labels.tolist(), data.speakers.tolist(), strict=True))
        assert len(data) == len(groups) > 0
        if part == "test":
            assert groups == {(label, who) for _, label, who in recordings_of(whole.test)}
            assert set(recordings_of(data)) <= set(recordings_of(whole.test))


@each
def test_the_row_says_what_is_so(made, name):
    row = DATASETS[name]
    splits = made(name)
    assert (splits.synthetic, splits.attribution) == (row.synthetic, row.attribution)
    if row.validation == "official":
        assert made(name, validation="official").sizes == splits.sizes
    else:
        with pytest.raises(ParameterError, match="no official valid part"):
            made(name, validation="official")
    assert bool(splits.speakers["train"]) == row.speakers
    if row.validation == "speakers":
        assert not set(splits.speakers["valid"]) & set(splits.speakers["train"])
    assert made(name, validation=row.paper).sizes["train"] >= splits.sizes["train"]
    for features in ("cochlea", "mel"):
        if features not in row.features:
            with pytest.raises(ParameterError, match=f"features = '{features}' for {name}"):
                made(name, features=features)
    if row.stand_in is not None:
        assert DATASETS[row.stand_in].kind == row.kind


@each
def test_what_its_licence_asks_for_is_said(name):
    row = DATASETS[name]
    if name in ("events", "audio"):
        pytest.skip("one's own")
    assert re.search(r"https?://|arXiv", row.attribution)
    licence = re.search(
        r"CC BY(-SA)? \d\.\d \(https://creativecommons\.org/licenses/by(-sa)?/", row.attribution
    )
    assert licence or row.name in ("synthetic_digits", "fashion_mnist") or "cifar" in row.name


@each
def test_a_folder_without_its_files_is_named(tmp_path, cache, no_network, name):
    if not DATASETS[name].files:
        pytest.skip("needs no files")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        load(name, root=tmp_path / "empty", progress=False)


@each
def test_an_option_that_there_is_not_is_refused_with_the_nearest(made, name):
    with pytest.raises(ParameterError, match=rf"{name}: unknown option 'chanels', did you mean 'channels'\?"):
        made(name, chanels=3)
    with pytest.raises(ConfigError, match=r"\[data\] unknown key 'chanels', did you mean 'channels'\?"):
        parse_config({"data": {"name": name, "chanels": 3}})


@each
def test_its_own_options_are_keys_of_the_configuration(name):
    for key, option in DATASETS[name].options().items():
        config = parse_config({"data": {"name": name, key: option.default}})
        assert getattr(config.data, key) == option.default
        assert parse_config(config.model_dump(mode="json")) == config
        misspelt = key[:-1]
        if misspelt in DATASETS[name].options():  # fold, of folds
            continue
        with pytest.raises(ConfigError, match=rf"unknown key '{misspelt}', did you mean '{key}'\?"):
            parse_config({"data": {"name": name, misspelt: option.default}})


@pytest.mark.parametrize("name", [row.name for row in DATASETS.values() if row.kind == "images"])
def test_images_over_time_are_the_images(made, name, tmp_path):
    """`load` and `images.load` divide alike, and every step shows the whole picture."""
    splits = made(name, steps=3, seed=2)
    pictures = images.load(name, tmp_path / "data", seed=2)
    assert not isinstance(splits.train, Binned)
    for part in PARTS:
        data, (want, labels) = getattr(splits, part), getattr(pictures, part)
        x, lengths, got = data.batch(range(len(data)))
        assert (lengths == 3).all()
        np.testing.assert_array_equal(got, labels)
        for step in x:
            np.testing.assert_array_equal(step, images.unit(want).reshape(len(want), -1))


def test_every_row_has_a_maker_of_its_files():
    assert MAKERS.keys() == DATASETS.keys()
