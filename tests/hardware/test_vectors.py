"""Golden vectors: what is right passes, what is wrong is found, and where."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from snnkit.errors import DataError
from snnkit.hardware import loihi, vectors

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("form", "count"), [("lava", 26), ("netx", 4)])
def test_a_folder_of_vectors_is_run_and_counted(form, count):
    lines = []
    assert vectors.vectors(GOLDEN / form, lines.append, loihi.reference) == 0
    assert lines[-1] == f"{count} of {count} equal"
    assert len(lines) == count + 1


def test_one_wrong_number_is_found_and_named(tmp_path):
    shutil.copy(GOLDEN / "lava" / "04_two_layer.npz", tmp_path / "right.npz")
    with np.load(GOLDEN / "lava" / "04_two_layer.npz") as file:
        arrays = dict(file)
    arrays["L1_v"][37, 2] += 1
    np.savez(tmp_path / "wrong.npz", **arrays)
    lines = []
    assert vectors.vectors(tmp_path, lines.append, loihi.reference) == 1
    assert lines[0] == "right.npz: equal"
    assert lines[1].startswith("wrong.npz: layer1, step 37, neuron 2: v is ")
    assert lines[2] == "1 of 2 equal"


def test_an_empty_folder_proves_nothing(tmp_path):
    lines = []
    assert vectors.vectors(tmp_path, lines.append) == 1
    assert lines == ["0 of 0 equal"]


def test_files_that_are_no_vectors_count_as_unequal(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)))
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    shutil.copy(GOLDEN / "netx" / "n1_dense_delay.npz", tmp_path / "n1.npz")
    (tmp_path / "n1.net").write_bytes(b"no HDF5")
    lines = []
    assert vectors.vectors(tmp_path, lines.append) == 1
    assert lines[0] == f"a.npz: {tmp_path / 'a.npz'}: array 'L0_w' is missing."
    assert "b.npz is no readable vector file" in lines[1]
    assert "n1.net is no readable HDF5 file" in lines[2]


def test_unknown_options_of_the_reader_are_refused(tmp_path):
    shutil.copy(GOLDEN / "netx" / "n3_dense_rec.net", tmp_path)
    with np.load(GOLDEN / "netx" / "n3_dense_rec.npz") as file:
        arrays = dict(file)
    meta = json.loads(str(arrays["meta"])) | {"network_kwargs": {"spike_exp": 3}}
    np.savez(tmp_path / "n3_dense_rec.npz", **(arrays | {"meta": np.array(json.dumps(meta))}))
    with pytest.raises(DataError, match=r"\['spike_exp'\] are not supported"):
        vectors.read_vector(tmp_path / "n3_dense_rec.npz")
