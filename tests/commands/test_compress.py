"""`snnkit compress` as a user meets it: progress, table, files, resumption, refusals."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from snnkit import cli
from snnkit.commands import compress as reports
from snnkit.commands.compress import stage_cost, stage_table
from snnkit.compression import convert, fitting, vgg
from snnkit.energy import load_profile, place

TINY = """
[data]
name = "digits"
limit = 12
[ann]
width = 0.1
hidden = 12
epochs = 2
[snn]
stages = [3, 1]
epochs = 1
calibration_images = 32
calibration_steps = 3
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "c.toml").write_text(TINY)
    return tmp_path / "c.toml"


def compress(*arguments):
    done = CliRunner(env={"COLUMNS": "200"}).invoke(
        cli.app, ["compress", *map(str, arguments)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done


def test_a_run_shows_each_stage_with_energy_and_latency(config, tmp_path):
    done = compress(config, "--out", tmp_path / "run", "-s", "snn.stage_epochs=[1, 2]")
    progress = done.stderr.splitlines()
    assert [line.split(":")[0] for line in progress] == [
        "ANN, epoch 1 of 2", "ANN, epoch 2 of 2", "T=3 from ann, epoch 1 of 1", "T=1 from T=3, epoch 1 of 2",
        "T=1 from T=3, epoch 2 of 2", *(f"T=1 from direct, epoch {k} of 3" for k in (1, 2, 3)),
    ]  # fmt: skip
    assert "loss" in progress[0]
    assert "valid 0." in progress[0]
    said = json.loads((tmp_path / "run" / "result.json").read_text())
    # in a narrow terminal a head may take two lines
    for word in ("T", "from", "valid", "test", "spikes", "paper", "memory", "loihi2", "µJ", "µs"):
        assert word in done.stdout
    for row in said["stages"]:
        assert row["latency_us_loihi2_scaled"] > 0
        assert f"{row['accuracy']:.4f}" in done.stdout
        assert f" {row['energy_ratio_memory']:.4g} " in done.stdout
    assert f"ANN {said['ann_accuracy']:.4f} on test" in done.stdout
    for name in ("ann.pt", "stage_T3.pt", "stage_T1.pt", "direct_T1.pt", "graph.h5", "result.json"):
        assert (tmp_path / "run" / name).exists(), name


def test_resuming_trains_nothing_again_and_says_the_same(config, tmp_path, monkeypatch):
    first = json.loads(compress(config, "--out", tmp_path / "run", "--json").stdout)
    monkeypatch.setattr(fitting, "augmented", None)  # whoever trains fails
    done = compress(config, "--out", tmp_path / "run", "--resume", "--json")
    again = json.loads(done.stdout)
    assert done.stderr == ""
    for a, b in zip(first["stages"], again["stages"], strict=True):
        assert {**a, "seconds": 0, "date": 0} == {**b, "seconds": 0, "date": 0}


def test_the_graph_of_a_run_goes_through_the_other_commands(config, tmp_path):
    said = json.loads(compress(config, "--out", tmp_path / "run", "--json", "-s", "ann.epochs=8").stdout)
    net = tmp_path / "run" / "graph.h5"

    def run(*arguments):
        done = CliRunner().invoke(cli.app, [*map(str, arguments), "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.strip().splitlines()[-1])

    last = said["stages"][1]
    assert run("simulate", net, "--split", "test")["accuracy"] == pytest.approx(last["accuracy"], abs=0.02)
    priced = run("energy", net, "--limit", 3, "--profile", "loihi2_scaled")
    assert priced["energy_pj"]["loihi2_scaled"] > 0
    for kind in ("netx", "nir"):
        run("export", net, "--to", kind, "--out", tmp_path / f"net.{kind}")
        assert (tmp_path / f"net.{kind}").stat().st_size > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_keeps_what_was_done(config, tmp_path):
    command = [
        *(sys.executable, "-m", "snnkit", "compress", str(config), "--out", str(tmp_path / "run")),
        *("-s", "ann.epochs=100000"),
    ]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ})
    for _ in range(1200):
        if (tmp_path / "run" / "ann.pt").exists():
            break
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "go on with --resume" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("snn.epoch=3", "[snn] unknown key 'epoch', did you mean 'epochs'?"),
        ("data.name=digit", "[data] name = 'digit': unknown images 'digit'; known are"),
        ("data.name=mnist", "is in none of"),
        ("snn.stages=[1, 3]", "[snn] stages = [1, 3]: stages [1, 3] must fall from stage to stage"),
        ("snn.stage_epochs=[1]", "give each of the 2 stages its number of epochs"),
        ("run.chip=loihi9", "loihi9"),
    ],
)
def test_wrong_input_is_one_line_before_anything_is_trained(
    config, tmp_path, monkeypatch, capsys, setting, message
):
    root = f"data.root={str(tmp_path)!r}"
    arguments = ["compress", str(config), "--out", str(tmp_path / "run"), "-s", setting, "-s", root]
    monkeypatch.setattr(sys, "argv", ["snnkit", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert message in said
    assert said.startswith("error:")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run" / "ann.pt").exists()


def test_a_network_larger_than_the_chip_is_priced_without_it(monkeypatch):
    torch.manual_seed(0)
    ann = vgg(5, 4, 1, 8, width=0.1, hidden=8)
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    ann(torch.from_numpy(x))
    network = convert(ann, x, 90, steps=1, calibration_steps=1)
    fits = stage_cost(1, chip="loihi1_sanafe")(network, x)
    assert fits.keys() > {"latency_us_loihi1_sanafe", "energy_pj_loihi1_sanafe"}
    small = replace(load_profile("loihi1_sanafe").chip, cores=2, cores_per_tile=2, mesh=(1, 1))
    monkeypatch.setattr(reports, "place", lambda graph, chip, strategy: place(graph, small, strategy))
    without = stage_cost(1, chip="loihi1_sanafe")(network, x)
    assert without == {k: v for k, v in fits.items() if "loihi" not in k}


def test_the_table_has_room_for_stages_without_a_price():
    row = {"case": "digits", "T": 2, "stage_from": "ann", "valid_accuracy": 0.5, "accuracy": 0.25,
           "spikes_per_neuron": 0.1, "energy_ratio_paper": 12.34}  # fmt: skip
    priced = {**row, "T": 1, "energy_ratio_memory": 2.5, "energy_pj_x": 3e6, "latency_us_x": 1500.0}
    result = {"stages": [row, priced], "ann_accuracy": 0.75, "stopped": "T = 1 is below the floor."}
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(stage_table(result))
    text = console.export_text()
    first, second = (
        [cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line
    )
    assert first == ["2", "ann", "0.5000", "0.2500", "0.100", "12.3", "", "", ""]
    assert second == ["1", "ann", "0.5000", "0.2500", "0.100", "12.3", "2.5", "3", "1500"]
    assert "T = 1 is below the floor." in text
