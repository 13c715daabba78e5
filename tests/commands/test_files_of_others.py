"""The commands take networks that others wrote, NIR and NetX, and data by name, as they take Graphs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from snnkit import cli, netx, quantise
from snnkit.commands.data import data_of
from snnkit.commands.formats import Reading, load
from snnkit.errors import DataError, ParameterError
from snnkit.graph import Graph
from tests.helpers.graphs import assert_same_graph
from tests.helpers.networks import network, spikes

PEERS = Path(os.environ.get("SNNKIT_DATA", "no such folder")) / "peers"


@pytest.fixture
def folder(tmp_path):
    """One network as net.h5, net.nir and net.net, and recordings that it can be shown."""
    pytest.importorskip("nir")
    from snnkit.interop import nir

    events = spikes(samples=40, steps=20)
    np.savez(
        tmp_path / "mine.npz", t=events.times * 10_000, x=events.neurons, offsets=events.offsets,
        labels=np.arange(40) % 3, shape=21,
    )  # fmt: skip
    graph = network(sizes=(21, 10, 3))
    graph.save(tmp_path / "net.h5")
    nir.write(graph, tmp_path / "net.nir")
    netx.write(quantise(graph, calibration=events), tmp_path / "net.net")
    return tmp_path


def asked(folder, command, *arguments, code=0):
    """The command's JSON, or its message where it must fail."""
    data = ["name=events", f"root={folder}", "file=mine.npz", "split=random", "channels=21"]
    given = [command, *map(str, arguments), *(a for pair in data for a in ("-d", pair)), "--json"]
    try:
        done = CliRunner().invoke(cli.app, given, catch_exceptions=False)
    except ParameterError as error:
        assert code == 2
        return str(error)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_simulate_says_of_a_nir_file_what_it_says_of_the_graph(folder):
    ours, theirs = (asked(folder, "simulate", folder / f"net.{end}") for end in ("h5", "nir"))
    same = ("accuracy", "readout", "samples", "spikes_per_inference", "synops_per_inference")
    assert {k: ours[k] for k in same} == {k: theirs[k] for k in same}
    chip = asked(folder, "simulate", folder / "net.net")
    assert chip["samples"] == ours["samples"]


@pytest.mark.filterwarnings("ignore")
def test_each_spike_of_a_sinabs_neuron_is_counted_and_its_step_is_a_name(folder):
    """Neurons that send counts, run by sinabs on the same steps; 10 ms a step are what the data get."""
    torch, nir = pytest.importorskip("torch"), pytest.importorskip("nir")
    sl, exchange = pytest.importorskip("sinabs.layers"), pytest.importorskip("sinabs.nir")
    torch.manual_seed(0)
    lif = sl.LIFSqueeze(batch_size=1, tau_mem=torch.full((3,), 6.0), spike_threshold=torch.full((3,), 0.5))
    net = torch.nn.Sequential(torch.nn.Linear(21, 3), lif)
    with torch.no_grad():
        net[0].weight.mul_(20).add_(3)
    nir.write(folder / "s.nir", exchange.to_nir(net, torch.zeros(1, 21)))
    found = asked(folder, "simulate", folder / "s.nir", "--convention", "sinabs:10", "--split", "train")
    data = ["name=events", f"root={folder}", "file=mine.npz", "split=random", "channels=21"]
    shown = data_of(load(folder / "s.nir", Reading.said("sinabs:10")), "train", data).events
    x = shown.to_dense(int(shown.lengths.max())).astype(np.float32)
    total = events = 0.0
    for sample, steps in enumerate(shown.lengths):
        lif.reset_states()
        with torch.no_grad():
            spikes = net(torch.from_numpy(x[:steps, sample]))
        total, events = total + float(spikes.sum()), events + float((spikes > 0).sum())
    assert total > 1.5 * events > 0
    assert found["spikes_per_inference"] == pytest.approx(total / found["samples"], rel=1e-6)


def test_energy_of_a_nir_and_a_netx_file(folder):
    ours, theirs = (
        asked(folder, "energy", folder / f"net.{end}", "--profile", "cmos45") for end in ("h5", "nir")
    )
    assert ours["profiles"] == theirs["profiles"]
    chip = asked(folder, "energy", folder / "net.net", "--profile", "loihi2_scaled")
    assert list(chip["profiles"]) == ["loihi2_scaled"]


def test_export_and_verify_take_a_nir_file(folder):
    for end in ("h5", "nir"):
        asked(folder, "export", folder / f"net.{end}", "--to", "graph", "-o", folder / f"{end}.out")
    ours, theirs = (Graph.load(folder / f"{end}.out") for end in ("h5", "nir"))
    assert_same_graph(ours, theirs)
    found = asked(folder, "verify", folder / "nir.out", "--against", folder / "net.nir", "--tolerance", "1")
    assert [rung["name"] for rung in found["rungs"]] == ["rounded", "quantised", "integer"]


def test_a_network_in_integers_is_written_as_it_is(folder):
    asked(folder, "export", folder / "net.net", "--to", "graph", "-o", folder / "again.h5")
    assert_same_graph(Graph.load(folder / "again.h5"), load(folder / "net.net"))


@pytest.mark.parametrize(
    ("convention", "step"), [("nir", 1e-1), ("norse", 1.0), ("snntorch:2", 2.0), ("nir:0.5", 0.5)]
)
def test_a_convention_and_a_step_are_said_by_one_option(convention, step):
    name = "braille_noDelay_bias_zero.nir" if convention.startswith("snntorch") else "lif_norse.nir"
    file = PEERS / "nir" / name
    if not file.is_file():
        pytest.skip(f"{name} is not in SNNKIT_DATA/peers/nir")
    graph = load(file, Reading.said(convention))
    assert graph.dt == pytest.approx(step)
    assert graph.metadata["convention"] == convention.partition(":")[0]


def test_what_a_file_does_not_leave_open_is_not_said(folder):
    message = asked(folder, "simulate", folder / "net.net", "--convention", "norse", code=2)
    assert "is a NetX file, which has its own steps; leave out convention, which are for NIR (nir)" in message
    message = asked(folder, "simulate", folder / "net.nir", "--convention", "norse:fast", code=2)
    assert "behind the colon stands the step in ms" in message
    message = asked(folder, "simulate", folder / "net.nir", "--convention", "nrose", code=2)
    assert "did you mean 'norse'?" in message
    message = asked(folder, "simulate", folder / "net.nir", "--readout", "spike_cuont", code=2)
    assert "did you mean 'spike_count'?" in message


@pytest.mark.parametrize("name", ["trained_mnist_network", "oxford_network", "nir_docs_lava_network"])
def test_an_output_that_spikes_is_read_by_its_spikes(name):
    file = PEERS / "netx" / f"{name}.net"
    if not file.is_file():
        pytest.skip(f"{name}.net is not in SNNKIT_DATA/peers/netx")
    assert load(file).metadata["readout"] == "spike_count"
    assert load(file, Reading(readout="mean")).metadata["readout"] == "mean"


def test_a_folder_of_a_run_is_its_graph(folder):
    (folder / "run").mkdir()
    (folder / "net.h5").rename(folder / "run" / "graph.h5")
    assert asked(folder, "simulate", folder / "run")["samples"] == 3
    with pytest.raises(DataError, match=r"graph\.h5 does not exist"):
        load(folder)


@pytest.mark.parametrize(
    ("net", "to", "option", "message"),
    [
        (
            "net.h5",
            "nir",
            ["--bits", "4"],
            "format 'nir' holds floats, so nothing is rounded; leave out bits",
        ),
        ("net.h5", "nir", ["--settled-bias"], "leave out settled_bias"),
        ("net.net", "graph", ["--clip-delays"], "is in integers already, so nothing is rounded"),
    ],
)
def test_what_is_said_of_integers_where_none_are_made_is_refused(folder, net, to, option, message):
    told = asked(folder, "export", folder / net, "--to", to, "-o", folder / "out", *option, code=2)
    assert message in told
