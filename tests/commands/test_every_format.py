"""What holds for every row of `FORMATS`, and what a row from outside the package gets."""

import gzip
import json

import h5py
import pytest
from typer.testing import CliRunner

from snnkit import cli
from snnkit.commands.export import export_network
from snnkit.commands.formats import FORMATS, Format, load
from snnkit.errors import DataError, ExportError, ParameterError
from snnkit.graph import Graph
from snnkit.hardware.quantise import quantise
from snnkit.training import run as runs
from tests.helpers.graphs import assert_same_graph
from tests.helpers.networks import network

EVERY = pytest.mark.parametrize("to", FORMATS)


@pytest.fixture
def net(tmp_path):
    """A graph file of floats."""
    network((8, 10, 2), longest=5).save(tmp_path / "net.h5")
    return tmp_path / "net.h5"


@pytest.fixture
def refused(tmp_path):
    """A graph file that no format takes: its neurons reset softly."""
    graph = network((8, 10, 2), longest=5)
    graph.populations["hidden0"].options["reset"] = "soft"
    graph.save(tmp_path / "soft.h5")
    return tmp_path / "soft.h5"


@EVERY
def test_what_is_exported_is_read_back_the_same(net, tmp_path, to):
    graph = Graph.load(net)
    written = export_network(net, to, tmp_path / "out", calibration=0)
    assert written["bytes"] == (tmp_path / "out").stat().st_size
    expected = graph if FORMATS[to].holds == "floats" else quantise(graph)
    assert_same_graph(load(tmp_path / "out"), expected, rtol=1e-12)


@EVERY
def test_a_file_is_of_one_format(net, tmp_path, to):
    export_network(net, to, tmp_path / "out", calibration=0)
    assert [name for name, form in FORMATS.items() if form.is_one(tmp_path / "out")] == [to]


@EVERY
def test_a_refused_network_leaves_no_file(refused, tmp_path, to):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ExportError, match="hidden0"):
        export_network(refused, to, tmp_path / "folder" / "out", calibration=0)
    assert not list((tmp_path / "folder").iterdir())


@EVERY
def test_a_file_survives_a_refused_write(net, refused, tmp_path, to):
    export_network(net, to, tmp_path / "out", calibration=0)
    before = (tmp_path / "out").read_bytes()
    with pytest.raises(ExportError):
        export_network(refused, to, tmp_path / "out", calibration=0)
    assert (tmp_path / "out").read_bytes() == before


@EVERY
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_named(net, tmp_path, to, share):
    export_network(net, to, tmp_path / "out", calibration=0)
    whole = (tmp_path / "out").read_bytes()
    (tmp_path / "short").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="short is no readable"):
        load(tmp_path / "short")


def test_a_file_that_is_no_network_is_named_with_what_it_could_be(tmp_path):
    with pytest.raises(DataError, match=r"none\.h5 does not exist"):
        load(tmp_path / "none.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    kinds = r"a graph \(attribute 'format'\), nor a NetX file \(/layer\), nor NIR \(/node\)"
    with pytest.raises(DataError, match=rf"other\.h5 is neither {kinds}"):
        load(tmp_path / "other.h5")


def test_an_unknown_format_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ParameterError, match="unknown format 'onnx'; known are graph, netx and nir"):
        export_network(tmp_path / "none.h5", "onnx", tmp_path / "out")


def write_gz(graph, path):
    graph.save(f"{path}.h5")
    with open(f"{path}.h5", "rb") as file, open(path, "wb") as out:
        out.write(gzip.compress(file.read()))


def read_gz(path):
    with open(path, "rb") as file, open(f"{path}.h5", "wb") as out:
        out.write(gzip.decompress(file.read()))
    return Graph.load(f"{path}.h5")


def is_gz(path):
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def test_a_format_from_outside_is_one_row(net, tmp_path, task, monkeypatch):
    """It is exported to by the command, and the commands after it read the file."""
    row = Format(
        title="a zipped graph",
        mark="gzip's first bytes",
        about="a graph file, smaller",
        suffix=".gz",
        holds="floats",
        write=write_gz,
        read=read_gz,
        is_one=is_gz,
    )
    monkeypatch.setattr(runs, "load_data", lambda config, progress=True: task)

    def snnkit(*arguments, code=0):
        done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [*map(str, arguments), "--json"])
        assert done.exit_code == code, done.output
        return done.output

    out = tmp_path / "net.gz"
    assert "'gz' is not one of 'graph', 'netx', 'nir'" in snnkit(
        "export", net, "--to", "gz", "-o", out, code=2
    )
    monkeypatch.setitem(FORMATS, "gz", row)
    written = json.loads(snnkit("export", net, "--to", "gz", "-o", out))
    assert written == {"format": "gz", "path": str(out), "bytes": out.stat().st_size}
    same = ("accuracy", "spikes_per_inference", "synops_per_inference")
    data = ("-d", "spoken_digits", "-d", "channels=8")
    direct, through = (json.loads(snnkit("simulate", path, *data)) for path in (net, out))
    assert {k: direct[k] for k in same} == {k: through[k] for k in same}
    assert direct["spikes_per_inference"] > 0
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(DataError, match="nor a zipped graph"):
        load(tmp_path / "other.h5")
