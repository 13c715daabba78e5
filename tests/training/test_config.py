"""A configuration file is checked whole, and its mistakes are named."""

import re
import tomllib
from pathlib import Path

import pytest

from snnkit.chips import CHIPS
from snnkit.delays import VERSIONS
from snnkit.errors import ConfigError
from snnkit.hardware.cells import CELLS
from snnkit.neurons import NEURONS, RESETS, SURROGATES
from snnkit.readouts import READOUTS
from snnkit.training import build
from snnkit.training.config import load_config, parse_config, parse_overrides

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    "file", sorted(set(EXPERIMENTS.glob("*.toml")) - set(EXPERIMENTS.glob("iir_*"))), ids=lambda f: f.name
)
def test_every_experiment_fits_the_schema(file):
    load_config(file)


def test_the_manuals_architectures_fit_the_schema():
    text = (EXPERIMENTS.parent / "docs" / "training.md").read_text()
    blocks = [b for b in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[model" in b]
    assert [len(parse_config(tomllib.loads(b)).model.plan()) for b in blocks] == [2, 4]


def test_all_problems_of_a_file_are_reported_at_once_with_the_nearest_key():
    tree = {"train": {"epoch": 3, "batch": "many"}, "modle": {}, "model": {"tau_mem": -1.0}}
    with pytest.raises(ConfigError) as error:
        parse_config(tree, "x.toml")
    text = str(error.value)
    assert "4 problems" in text
    assert "unknown key 'epoch', did you mean 'epochs'?" in text
    assert "unknown key 'modle', did you mean 'model'?" in text
    assert "batch = 'many'" in text
    assert "tau_mem = -1.0" in text


def test_an_override_replaces_one_value(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("[train]\nepochs = 5\n")
    config = load_config(file, ["train.epochs=7", "model.hidden=[3]", "data.name=shd"])
    assert (config.train.epochs, config.model.hidden, config.data.name) == (7, (3,), "shd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train\n", "is no TOML"),
        ("[model]\nhidden = []\n", "hidden is empty"),
        ("[model]\ndelays = 'none'\nkernel_count = 2\n", "kernel_count > 1 needs delays"),
        ("[train]\nhardware_aware = 'loihi2'\n[model]\nreset = 'soft'\n", "needs model.reset = 'hard'"),
    ],
)
def test_a_wrong_file_says_why(tmp_path, text, message):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(file)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"model": {"network": "mine:build", "hidden": [32], "neuron": "adlif", "tail": 3}},
            r"hidden = \[32\] and neuron = 'adlif': without effect with model\.network = 'mine:build'.*only "
            "network, readout and tail concern it",
        ),
        ({"model": {"network": "mine:build", "layers": [{"size": 3}]}}, "layers = "),
        ({"model": {"network": "mine:build", "detach_reset": False}}, "detach_reset = false: without effect"),
        ({"model": {"readout": "spike_count", "tau_readout": 3.0}}, r"tau_readout = 3\.0: without effect"),
        ({"model": {"padding": "grow", "tail": 3}}, "tail = 3: without effect with model.padding = 'grow'"),
        (
            {"train": {"weights": {"lr": 0.01}}},
            r"weights: lr = 0\.01: without effect with schedule = 'onecyc",
        ),
        ({"train": {"positions": {"lr_max": 0.01, "schedule": "cosine"}}}, r"lr_max = 0\.01: without effect"),
        ({"train": {"rate_target": 0.1}}, r"rate_target = 0\.1: without effect with rate_strength = 0"),
    ],
)
def test_a_key_that_another_choice_leaves_without_effect_is_refused(tree, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"model": {"network": "mine:build", "readout": "mean", "tail": 3}},
        {"model": {"readout": "mean", "tau_readout": 3.0, "padding": "grow"}},
        {"train": {"weights": {"lr": 0.01, "schedule": "plateau"}, "positions": {"lr_max": 0.2}}},
        {"train": {"rate_target": 0.1, "rate_strength": 1.0}},
    ],
)
def test_a_record_which_names_every_key_is_read_again(tree):
    config = parse_config(tree)
    assert parse_config(config.model_dump(mode="json")) == config


TABLES = {
    "neuron": (NEURONS, "lif"),
    "surrogate": (SURROGATES, "atan"),
    "reset": (RESETS, "soft"),
    "version": (VERSIONS, "gauss"),
    "readout": (READOUTS, "mean"),
}


@pytest.mark.parametrize("key", TABLES)
def test_a_row_of_ones_own_is_a_value_of_its_key(key, monkeypatch):
    table, like = TABLES[key]
    with pytest.raises(ConfigError, match=f"{key} = 'my_own': is none of"):
        parse_config({"model": {key: "my_own"}})
    monkeypatch.setitem(table, "my_own", table[like])
    needed = {"parameters": {"decay": 0.5}} if key == "neuron" else {}
    assert getattr(parse_config({"model": {key: "my_own", **needed}}).model, key) == "my_own"


def test_augmentations_are_off_by_default_and_checked_by_name():
    assert not any(parse_config({}).augment.model_dump().values())
    tree = {"augment": {"shift": -1, "jitter": 0.5, "rotate": 200.0, "mirror": "left", "flip": True}}
    with pytest.raises(ConfigError) as error:
        parse_config(tree)
    for part in ("shift = -1", "jitter = 0.5", "rotate = 200.0", "mirror = 'left'", "unknown key 'flip'"):
        assert part in str(error.value)


def test_a_missing_file_and_a_wrong_override_are_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.toml")
    file = tmp_path / "a.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match="should read key=value"):
        load_config(file, ["epochs"])


ADLIF = {"neuron": "adlif", "parameters": {"tau_w": 60.0}}
CONV = {"conv": {"channels": 4}}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"surrogate": "atn"}, r"\[model\] surrogate = 'atn': is none of .*, did you mean 'atan'\?"),
        ({"neuron": "adif"}, r"\[model\] neuron = 'adif': is none of .*, did you mean 'adlif'\?"),
        ({"neuron": "li"}, r"neuron = 'li': is none of"),
        ({"readout": "softmax"}, r"readout = 'softmax': is none of .*, did you mean 'softmax_sum'\?"),
        ({"version": "gaus"}, r"version = 'gaus': is none of gauss, triangle, max, did you mean 'gauss'\?"),
        (
            {"neuron": "adlif", "parameters": {"tau_v": 3.0}},
            r"problem: model.parameters: neuron 'adlif' has no parameter 'tau_v', did you mean 'tau_w'\?",
        ),
        ({"neuron": "adlif"}, "neuron 'adlif' needs tau_w; give it in model.parameters"),
        ({"neuron": "cuba"}, "neuron 'cuba': give either tau_syn"),
        ({"neuron": "adlif", "parameters": {"tau_w": "long"}}, "model: neuron 'adlif': "),
        ({**ADLIF, "reset": "soft"}, "model.reset = 'soft' is set, and no neuron of the layers takes it"),
        ({"neuron": "if", "learn_tau": True}, "model.learn_tau = True is set, and no neuron"),
        ({"neuron": "if", "tau_spread": 0.5}, "neuron 'if' has no time constant that tau_spread could draw"),
        ({"hidden": [3], "layers": [{"size": 3}]}, "both say which layers there are"),
        ({"layers": [{"sise": 3}]}, r"\[model.layers.0\] unknown key 'sise', did you mean 'size'\?"),
        (
            {"layers": [{"size": 3}, {"conv": {"chanels": 3}}]},
            r"\[model.layers.1.conv\] unknown key 'chanels', did you mean 'channels'\?",
        ),
        (
            {"layers": [{"delays": "none"}]},
            "model.layers.0: one of size, conv, pool and flatten is needed, none",
        ),
        ({"layers": [{"size": 3, "pool": 2}]}, "layers.0: one of .* is needed, size and pool given"),
        ({"layers": [{"pool": 2}]}, "has no layer with neurons"),
        ({"layers": [{"size": 3}, {"pool": 2, "skip": 1}]}, "layers.1: pool has no neurons.*remove skip"),
        ({"layers": [{"size": 3, "skip": 2}]}, "skip = 2 goes beyond the input, which is 1 before"),
        ({"layers": [{"size": 3, "delays": "axonl"}]}, "delays = 'axonl'"),
        ({"layers": [{"size": 3, "delays": "none", "kernel_count": 2}]}, "layers.0: kernel_count > 1 needs"),
        ({"layers": [{**CONV, "delays": "axonal"}]}, "a convolution's delays are learned, random and none"),
        ({"layers": [{**CONV, "recurrent": "dense"}]}, "a convolution has no recurrent synapses"),
        ({"layers": [{"size": 3, "neuron": "if", "learn_tau": True}]}, "learn_tau is set, and neuron 'if'"),
        ({"recurrent": "delays", "max_delay": 0}, "recurrent = 'delays' needs max_delay ≥ 1"),
        ({"recurrent": "dense", "padding": "grow"}, "padding = 'grow' is for model.hidden"),
        ({"delays": "axonal", "kernel_count": 2}, "axonal delays have one tap"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_a_network_that_can_t_be_is_named(model, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"model": model})


def test_a_key_that_only_the_read_outs_neurons_take_is_taken():
    model = {"layers": [{"size": 3, "neuron": "if"}], "tau_mem": 30.0, "readout": "spike_count"}
    network = build(parse_config({"model": model}).model, 4, 2, 10.0)
    assert network.readout.tau_mem.item() == pytest.approx(30.0)
    with pytest.raises(ConfigError, match=r"tau_mem = 30.0 is set, and no neuron"):
        parse_config({"model": {**model, "neuron": "if"}})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ADLIF, "'loihi2': model has neurons 'adlif'; Loihi 2 has cells for lif, if, cuba, li"),
        ({"layers": [{"size": 3}, {"size": 3, **ADLIF}]}, "model.layers.1 has neurons 'adlif'"),
        ({"layers": [{"size": 3, "parameters": {"reset": "soft"}}]}, "model.layers.0 has reset = 'soft'"),
        ({"recurrent": "delays"}, "model is recurrent, and recurrent weights are not rounded"),
        ({"layers": [CONV, {"pool": 2}, {"size": 3}]}, "model.layers.1 pools"),
    ],
    ids=str,
)
def test_what_the_chip_can_t_train_for_is_said_before_data_are_read(model, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"model": model, "train": {"hardware_aware": "loihi2"}})


def test_the_chips_cells_are_those_that_its_export_knows():
    for chip in CHIPS.values():
        assert set(chip.cells) == set(CELLS)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {**ADLIF, "recurrent": "delays", "tau_spread": 0.5},
        {"neuron": "if"},
        {"layers": [{**CONV, "delays": "none"}, {"pool": 2}, {"flatten": True}, {"size": 4, **ADLIF}]},
        {"layers": [{"size": 4, "delays": "axonal"}, {"size": 4, "skip": 1, "recurrent": "dense"}]},
    ],
    ids=str,
)
def test_a_runs_record_gives_the_same_configuration(model):
    config = parse_config({"model": model})
    assert parse_config(config.model_dump(mode="json")) == config


def test_a_row_of_each_table_is_known_to_the_configuration(monkeypatch):
    from snnkit.delays import VERSIONS
    from snnkit.neurons import SURROGATES
    from snnkit.readouts import READOUTS

    for key, table in (("surrogate", SURROGATES), ("readout", READOUTS), ("version", VERSIONS)):
        monkeypatch.setitem(table, "mine", next(iter(table.values())))
        assert getattr(parse_config({"model": {key: "mine"}}).model, key) == "mine"


def test_a_folder_that_reads_as_a_number_is_a_folder():
    for name in ("nan", "inf", "2024", "1e3"):
        assert parse_overrides([f"data.root={name}"]).data.root == Path(name)
    assert parse_overrides(["train.epochs=3"]).train.epochs == 3
