"""Every command in a process of its own, which knows nothing but its arguments and the files they name.

What only works after another module was imported, or with something left in a cache or a home folder,
fails here: HOME is empty and SNNKIT_CACHE new. The ordinary suite walks with a network trained for the
chip; the slow part repeats the walk with a plain one, in every format.
"""

import csv
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from snnkit.commands.formats import FORMATS
from tests.helpers.made_files import heidelberg

TOML = """
[data]
name = "ssc"
channels = 20
[model]
hidden = [12]
max_delay = 6
dropout = 0.0
[train]
epochs = 8
batch = 8
threads = 1
"""

COMPRESSION = """
[data]
name = "digits"
limit = 12
[ann]
width = 0.1
hidden = 12
epochs = 1
[snn]
stages = [2, 1]
epochs = 1
calibration_images = 16
calibration_steps = 2
"""


def clips(seed, number=24):
    """Spikes of 0.2 s; which third of the channels is busy is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, number)
    times = [np.sort(rng.uniform(0, 0.2, 60)) for _ in labels]
    units = [233 * label + rng.integers(0, 233, 60) for label in labels]
    return times, units, labels


class Shell:
    """Runs commands in a folder, and keeps what the first commands of the walk made."""

    def __init__(self, folder):
        self.folder = folder
        keep = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
        self.environment = {k: os.environ[k] for k in keep if k in os.environ}
        for name, variable in (("home", "HOME"), ("cache", "SNNKIT_CACHE")):
            (folder / name).mkdir()
            self.environment[variable] = str(folder / name)

    def __call__(self, *arguments, code=0):
        command = [sys.executable, "-m", "snnkit", *map(str, arguments), "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=self.environment, check=False
        )
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def snnkit(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("walk"))
    for seed, part in enumerate(("train", "valid", "test")):
        heidelberg(shell.folder / "recordings" / f"ssc_{part}.h5", *clips(seed))
    (shell.folder / "run.toml").write_text(TOML)
    return shell


CHIPS = ["loihi2", pytest.param("none", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=CHIPS)
def run(request, snnkit):
    """The folder of a trained run, and what `train` said."""
    aware = f"train.hardware_aware={request.param!r}"
    trained = snnkit("train", "run.toml", "--out", request.param, "-s", "data.root=recordings", "-s", aware)
    return request.param, trained


def test_data(snnkit):
    said = snnkit("data", "ssc", "--root", "recordings", "-s", "channels=20")
    assert [said[part]["clips"] for part in ("train", "valid", "test")] == [24, 24, 24]
    assert said["channels"] == 20


def test_a_run_is_evaluated_and_simulated_with_the_same_spikes(snnkit, run):
    name, trained = run
    valid = snnkit("evaluate", f"{name}/last.pt")
    assert valid["accuracy"] == trained["valid_accuracy"] > 0.5
    simulated = snnkit("simulate", f"{name}/graph.h5", "--against", f"{name}/last.pt")
    assert simulated["spikes"] > 100
    assert simulated["equal_cells"] >= 0.999
    assert simulated["accuracy"] == simulated["graph_accuracy"]


@pytest.mark.parametrize(
    "to", ["netx", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS if name != "netx")]
)
def test_an_export_is_read_by_the_commands_after_it(snnkit, run, to):
    name, _ = run
    written = snnkit("export", f"{name}/graph.h5", "--to", to, "-o", f"{name}/exported.{to}")
    assert written["format"] == to
    ladder = snnkit("verify", f"{name}/exported.{to}", "--against", f"{name}/graph.h5", "--tolerance", 1)
    assert ladder["status"] == 0
    assert ladder["rungs"][0]["accuracy"] > 0.5


def test_recordings_without_labels_are_given_their_classes(snnkit, run):
    name, _ = run
    with h5py.File(snnkit.folder / "recordings" / "ssc_valid.h5") as file:
        labels = file["labels"][()]
        names = [k.decode() for k in file["extra/keys"][()]]
        with h5py.File(snnkit.folder / "unlabelled.h5", "w") as bare:
            file.copy("spikes", bare)
    said = snnkit("predict", name, "unlabelled.h5", "--csv", f"{name}/answers.csv")
    right = np.mean([row["class"] == names[label] for row, label in zip(said, labels, strict=True)])
    assert right == snnkit("simulate", f"{name}/graph.h5")["accuracy"] > 0.5
    with open(snnkit.folder / name / "answers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["class"] for r in rows] == [r["class"] for r in said]
    assert all(float(r["decided_ms"] or 0) <= float(r["read_ms"]) for r in rows)
    again = snnkit("predict", f"{name}/last.pt", "unlabelled.h5")
    assert [r["class"] for r in again] == [r["class"] for r in said]


def test_energy_writes_its_page(snnkit, run):
    name, _ = run
    arguments = ("--profile", "cmos45", "--profile", "loihi1_sanafe", "--html", f"{name}/energy.html")
    priced = snnkit("energy", f"{name}/graph.h5", *arguments)
    assert all(value > 0 for value in priced["energy_pj"].values())
    assert (snnkit.folder / name / "energy.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("aware", CHIPS)
def test_tune(snnkit, aware):
    settings = ("data.root=recordings", "train.epochs=1", f"train.hardware_aware={aware!r}")
    folder = f"study-{aware}"
    options = [text for setting in settings for text in ("-s", setting)]
    said = snnkit("tune", "run.toml", "--out", folder, "--trials", 1, *options)
    assert said == {"trials": 1, "failed": 0, "front": 1}
    assert (snnkit.folder / folder / "front.html").stat().st_size > 1000


@pytest.mark.slow
def test_a_compressed_network_goes_on(snnkit):
    (snnkit.folder / "compress.toml").write_text(COMPRESSION)
    said = snnkit("compress", "compress.toml", "--out", "compressed")
    assert [row["T"] for row in said["stages"]][:2] == [2, 1]
    assert snnkit("simulate", "compressed/graph.h5", "--limit", 8)["samples"] == 8
    assert snnkit("energy", "compressed/graph.h5", "--limit", 2, "--profile", "lemaire45")["energy_pj"]
