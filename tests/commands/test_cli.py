"""The command goes from data to price, says what it did as JSON, and refuses in one line."""

import ast
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from snnkit import cli
from snnkit.commands import data, evaluate, train, tune
from snnkit.training import Trainer
from snnkit.training import run as runs

TOML = """
[data]
name = "spoken_digits"
[model]
hidden = [12, 10]
max_delay = 8
dropout = 0.1
[train]
epochs = 12
batch = 32
"""


@pytest.fixture
def snnkit(task, monkeypatch):
    """Run a command on the timing task; its JSON."""
    for module in (data, evaluate, train, tune, runs):
        monkeypatch.setattr(module, "load_data", lambda config, progress=True: task)

    def run(*arguments, code=0):
        done = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run


def test_from_data_to_price(snnkit, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(TOML)
    out = tmp_path / "run"

    said = snnkit("data", "spoken_digits")
    assert (said["train"]["clips"], said["test"]["clips"]) == (96, 40)
    trained = snnkit("train", config, "--out", out, "-s", "train.epochs=14")
    assert trained["epochs"] == 14
    checkpoint, net = out / "last.pt", out / "graph.h5"

    valid = snnkit("evaluate", checkpoint)
    assert valid["accuracy"] == trained["valid_accuracy"] > 0.6
    simulated = snnkit("simulate", net, "--against", checkpoint, "--dtype", "float64")
    assert simulated["equal_spikes"] == 1
    assert simulated["accuracy"] == valid["accuracy"]
    assert simulated["spikes_per_inference"] == pytest.approx(valid["spikes_per_inference"])
    limited = snnkit("simulate", net, "--limit", 7)
    assert limited["samples"] == 7

    netx = snnkit("export", net, "--to", "netx", "-o", out / "loihi.net")
    assert netx["bytes"] == (out / "loihi.net").stat().st_size
    snnkit("export", net, "--to", "graph", "-o", out / "loihi.h5", "--bits", 6)
    snnkit("export", net, "--to", "nir", "-o", out / "net.nir")
    ladder = snnkit("verify", out / "loihi.net", "--against", net, "--tolerance", 0.2)
    assert ladder["rungs"][0]["accuracy"] == valid["accuracy"]
    assert ladder["status"] == 0
    assert {r["name"] for r in ladder["rungs"]} >= {"rounded", "integer"}

    page = tmp_path / "energy.html"
    priced = snnkit("energy", net, "--profile", "cmos45", "--profile", "loihi1_sanafe", "--html", page)
    assert priced["spikes_per_inference"] > 0
    assert all(value > 0 for value in priced["energy_pj"].values())
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")


def test_data_that_moved_are_named_by_their_root(snnkit, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(TOML)
    out = tmp_path / "run"
    snnkit("train", config, "--out", out, "-s", "train.epochs=2")
    moved = ("-s", "data.root=elsewhere")
    assert snnkit("evaluate", out / "last.pt", *moved) == snnkit("evaluate", out / "last.pt")
    assert snnkit("simulate", out / "graph.h5", *moved)["samples"] == 40
    again = snnkit("train", config, "--out", out, "--resume", "-s", "train.epochs=2", *moved)
    assert again["epochs"] == 2


def test_a_drop_past_the_tolerance_is_exit_code_1(snnkit, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(TOML)
    snnkit("train", config, "--out", tmp_path)
    snnkit("export", tmp_path / "graph.h5", "--to", "graph", "-o", tmp_path / "int.h5")
    ladder = snnkit(
        "verify", tmp_path / "int.h5", "--against", tmp_path / "graph.h5", "--tolerance", -2, code=1
    )
    assert ladder["status"] == 1


def test_resume_of_a_finished_run_trains_nothing(snnkit, tmp_path, monkeypatch):
    config = tmp_path / "c.toml"
    config.write_text(TOML)
    first = snnkit("train", config, "--out", tmp_path / "a", "-s", "train.epochs=2")
    monkeypatch.setattr(Trainer, "_train_batch", None)
    again = snnkit("train", config, "--out", tmp_path / "a", "--resume", "-s", "train.epochs=2")
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "none.toml", "--out", "x"], "none.toml does not exist"),
        (["evaluate", "none.pt"], "none.pt does not exist"),
        (["simulate", "none.h5"], "none.h5 does not exist"),
        (["data", "no_such_data"], "unknown dataset 'no_such_data'"),
        (["data", "shd", "-s", "chanels=3"], "[data] unknown key 'chanels', did you mean 'channels'?"),
        (["data", "shd", "-s", "dt=inf"], "dt = inf"),
        (["verify", "--vectors", "none"], "none is no folder of vectors"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "snnkit", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_hardware_aware_training_goes_through_every_command(snnkit, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(TOML + 'hardware_aware = "loihi2"\n')
    out = tmp_path / "run"
    trained = snnkit("train", config, "--out", out, "-s", "train.epochs=3")
    assert snnkit("evaluate", out / "last.pt")["accuracy"] == trained["valid_accuracy"]
    assert snnkit("simulate", out / "graph.h5", "--against", out / "last.pt")["equal_cells"] >= 0.999


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_says_what_was_saved_and_ends_with_130(tmp_path, recordings):
    config = tmp_path / "c.toml"
    config.write_text(TOML.replace("epochs = 12", "epochs = 10000").replace("[model]", "limit = 1\n[model]"))
    command = [sys.executable, "-m", "snnkit", "train", str(config), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "SNNKIT_DATA": str(recordings)}
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    for _ in range(1200):
        if (tmp_path / "run" / "last.pt").exists():
            break
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "last.pt holds all of it; go on with --resume" in said


def test_help_names_every_command():
    done = CliRunner().invoke(cli.app, ["--help"])
    for name in ("data", "train", "evaluate", "simulate", "export", "verify", "energy"):
        assert name in done.output
        assert CliRunner().invoke(cli.app, [name, "--help"]).exit_code == 0


FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
ELSEWHERE = {"--porcelain", "--force-reinstall"}
"""Options of git and pip."""


def test_an_option_that_a_message_names_is_one_of_the_command():
    """And has the name that is in the message beside it, where Python calls it by another."""
    commands = typer.main.get_command(cli.app).commands.values()
    known = {flag for command in commands for p in command.params for flag in p.opts} | {"--version"}
    named = {}
    for path in Path(cli.__file__).parent.rglob("*.py"):
        if "report" in path.parts:
            continue  # of style sheets
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= dict.fromkeys(FLAG.findall(node.value), path)
    assert {flag: path for flag, path in named.items() if flag not in known | ELSEWHERE} == {}
    assert {"--clip-delays", "--relay-delays", "--unroll", "--data"} <= named.keys()


def test_limit_spreads_over_the_split(task, monkeypatch):
    from snnkit.commands.data import data_of
    from snnkit.graph import Graph

    monkeypatch.setattr(runs, "load_data", lambda config, progress=True: task)
    graph = Graph({}, [], metadata={"data": {"name": "spoken_digits"}})
    part = data_of(graph, "test", [], limit=3)
    np.testing.assert_array_equal(part.labels, task.test.labels[[0, 19, 39]])


def test_tune_leaves_a_front_and_resumes(snnkit, tmp_path, monkeypatch):
    tuning = importlib.import_module("snnkit.energy.tune")
    small = {"hidden": [6, 12], "bits": [4, 8], "rate_regularisation": {"low": 0.1, "high": 1.0}}
    monkeypatch.setattr(tuning, "SPACE", small)
    config = tmp_path / "c.toml"
    config.write_text(TOML.replace("epochs = 12", "epochs = 1"))
    said = snnkit("tune", config, "--out", tmp_path / "study", "--trials", 2)
    assert said["trials"] == 2
    assert 1 <= said["front"] <= 2
    again = snnkit("tune", config, "--out", tmp_path / "study", "--trials", 1)
    assert again["trials"] == 3
    assert json.loads((tmp_path / "study" / "study.json").read_text())
    assert (tmp_path / "study" / "front.html").stat().st_size > 1000


def test_data_of_other_classes_is_refused(task, monkeypatch):
    from snnkit.errors import DataError
    from snnkit.graph import Graph

    asked = []
    monkeypatch.setattr(runs, "load_data", lambda config, progress=True: asked.append(config.data) or task)
    known = {"name": "spoken_digits", "dt": 5.0, "held_out": "jackson"}
    graph = Graph({}, [], metadata={"data": known, "classes": ["a", "b", "c"]})
    with pytest.raises(DataError, match=r"classes \['a', 'b', 'c'\]… \(3\), spoken_words has"):
        runs.graph_data(graph, "test", {"name": "spoken_words"})
    assert (asked[0].name, asked[0].dt, asked[0].held_out) == ("spoken_words", 5.0, None)
