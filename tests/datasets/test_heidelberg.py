"""SHD and SSC: found in a folder, unpacked, or downloaded; md5 checked."""

import hashlib
import zipfile

import numpy as np
import pytest

from snnkit.datasets import SHD, SSC
from snnkit.datasets import heidelberg as module
from snnkit.datasets.download import Unreachable
from snnkit.errors import ChecksumError, ParameterError
from tests.helpers.made_files import heidelberg, random_clips


def packed(folder, stem, seed=0):
    """The archive as it is published, and its md5."""
    path = heidelberg(folder / f"{stem}.h5", *random_clips(seed))
    with zipfile.ZipFile(folder / f"{stem}.h5.zip", "w") as archive:
        archive.write(path, f"{stem}.h5")
    path.unlink()
    return hashlib.md5((folder / f"{stem}.h5.zip").read_bytes()).hexdigest()


@pytest.mark.parametrize("below", ["", "SHD", "shd", "hsd"])
def test_a_local_file_is_found_where_others_left_it(tmp_path, cache, no_network, below):
    heidelberg(tmp_path / below / "shd_test.h5", *random_clips(1))
    assert len(SHD(tmp_path, "test")) == 7


def test_snnkit_data_is_the_default_folder(tmp_path, cache, no_network, monkeypatch):
    heidelberg(tmp_path / "ssc_valid.h5", *random_clips(1))
    monkeypatch.setenv("SNNKIT_DATA", str(tmp_path))
    assert len(SSC(split="valid")) == 7


def test_an_archive_is_checked_and_unpacked(tmp_path, cache, no_network, monkeypatch):
    monkeypatch.setitem(module.MD5, "shd_train", packed(tmp_path, "shd_train", 3))
    times, _, labels = random_clips(3)
    dataset = SHD(tmp_path)
    assert dataset.labels.tolist() == labels.tolist()
    assert [len(e) for e, _ in dataset] == [len(t) for t in times]

    monkeypatch.setitem(module.MD5, "shd_test", "0" * 32)
    packed(tmp_path, "shd_test")
    with pytest.raises(ChecksumError, match=r"shd_test\.h5\.zip: md5 is .*, expected 0000"):
        SHD(tmp_path, "test")


def test_what_is_nowhere_is_downloaded_to_the_folder(tmp_path, cache, server, monkeypatch, capsys):
    monkeypatch.setattr(module, "BASE", server.url("/datasets/"))
    monkeypatch.setitem(module.MD5, "ssc_test", packed(tmp_path, "ssc_test", 4))
    (tmp_path / "ssc_test.h5.zip").rename(tmp_path / "up")
    server.files["/datasets/ssc_test.h5.zip"] = (tmp_path / "up").read_bytes()

    dataset = SSC(tmp_path / "mine", "test", progress=False)

    assert len(dataset) == 7
    assert (tmp_path / "mine" / "ssc_test.h5").is_file()
    assert "CC BY 4.0" in capsys.readouterr().err
    SSC(tmp_path / "mine", "test")
    assert server.asked == ["/datasets/ssc_test.h5.zip"]


def test_without_a_network_the_message_says_what_to_put_where(tmp_path, cache, no_network):
    with pytest.raises(Unreachable) as caught:
        SHD(tmp_path)
    assert "https://zenkelab.org/datasets/shd_train.h5.zip" in str(caught.value)
    assert str(tmp_path / "shd_train.h5.zip") in str(caught.value)
    with pytest.raises(
        Unreachable, match=r"shd_train\.h5 is not in .*fetch is False\. Fetch https://zenkelab"
    ):
        SHD(tmp_path, fetch=False)


def test_the_published_checksums_are_five_different_ones():
    assert sorted(module.MD5) == ["shd_test", "shd_train", "ssc_test", "ssc_train", "ssc_valid"]
    assert len(set(module.MD5.values())) == 5
    assert {len(bytes.fromhex(md5)) for md5 in module.MD5.values()} == {16}


def test_parts_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="shd has the parts train, test; got 'valid'"):
        SHD(tmp_path, "valid")


def test_events_reach_the_end_of_the_chain(tmp_path, cache):
    """From the file to a dense batch: every spike is there."""
    from snnkit.datasets import bin_events

    times, units, labels = random_clips(5)
    heidelberg(tmp_path / "shd_train.h5", times, units, labels, dtype="float64")
    x, lengths, got = bin_events(SHD(tmp_path), 10.0, 140).batch(range(7))
    assert x.sum(axis=(0, 2)).tolist() == [len(t) for t in times]
    assert lengths.tolist() == [int(t[-1] * 100) + 1 for t in times]
    np.testing.assert_array_equal(got, labels)
