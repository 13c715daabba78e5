"""Files appear whole or not at all."""

import os

import pytest

from snnkit.errors import ChecksumError, DataError, MissingExtraError, require
from snnkit.files import atomic, atomic_h5, check_digest, open_h5


def test_a_file_is_replaced_only_when_all_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half" * (1 // 0))
    assert path.read_text() == "old"
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_a_named_error_and_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with atomic_h5(path) as file:
        file["x"] = 1
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(DataError, match=r"could not be written .*No space left.* is unchanged"),
        atomic_h5(path) as f,
    ):
        f["x"] = 2
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["a.h5"]


def test_writing_where_no_folder_can_be_made_is_a_named_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"), atomic(tmp_path / "file" / "x"):
        pass


def test_what_git_lfs_leaves_in_the_place_of_a_file_is_named(tmp_path):
    note = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"
    (tmp_path / "a.net").write_text(note)
    with (
        pytest.raises(DataError, match=r"a\.net is no file of data, but Git LFS's note.*git lfs pull"),
        open_h5(tmp_path / "a.net"),
    ):
        pass


def test_checksums(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    check_digest(path, "900150983cd24fb0d6963f7d28e17f72", "md5")
    with pytest.raises(ChecksumError, match="md5 is 900150983cd24fb0d6963f7d28e17f72, expected 00"):
        check_digest(path, "00", "md5")


def test_a_missing_extra_is_named():
    with pytest.raises(MissingExtraError, match=r"pip install 'snnkit\[voices\]'"):
        require("no_such_module_here", "voices")
