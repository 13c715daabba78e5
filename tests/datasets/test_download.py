"""A file arrives whole and checked, or not at all; the message says what to do by hand."""

import hashlib
import io
import socket
import tarfile
import zipfile

import pytest

from snnkit.datasets import download
from snnkit.datasets.download import Remote, Unreachable, fetch, unpack, unpack_member
from snnkit.errors import ChecksumError, DataError, ParameterError

BODY = bytes(range(256)) * 4096  # several blocks


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_arrives_whole_and_is_asked_for_once(server, tmp_path, capsys, algorithm):
    server.files["/a.bin"] = BODY
    remote = Remote(server.url("/a.bin"), hashlib.new(algorithm, BODY).hexdigest(), algorithm)
    path = fetch(remote, tmp_path / "new" / "a.bin", attribution="By A, CC BY 4.0.")
    assert path.read_bytes() == BODY
    assert "By A, CC BY 4.0." in capsys.readouterr().err

    fetch(remote, path, attribution="By A, CC BY 4.0.")
    assert server.asked == ["/a.bin"]
    assert capsys.readouterr() == ("", "")


def test_the_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    server.files["/a.bin"] = BODY
    with pytest.raises(
        ChecksumError, match=r"http://127.*/a\.bin: sha256 of what arrived is .*, expected 00"
    ):
        fetch(Remote(server.url("/a.bin"), "00" * 32), tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_already_is_checked(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"damaged")
    with pytest.raises(ChecksumError, match=r"a\.bin: sha256 is .*, expected .*Delete it and fetch it again"):
        fetch(Remote(server.url("/a.bin"), "00" * 32), tmp_path / "a.bin")
    assert server.asked == []


def test_a_connection_that_ends_early_leaves_nothing_behind(server, tmp_path):
    server.files["/a.bin"] = BODY
    server.missing = 1000  # announces more than it sends
    with pytest.raises(Unreachable, match=rf"ended after {len(BODY)} of {len(BODY) + 1000} bytes.*put the"):
        fetch(Remote(server.url("/a.bin")), tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_page_and_a_closed_port_name_url_and_target(server, tmp_path):
    with pytest.raises(Unreachable, match=r"/none\.zip can't be reached \(HTTP 404 Not Found\)"):
        fetch(Remote(server.url("/none.zip")), tmp_path / "a.zip")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.zip"
        with pytest.raises(Unreachable, match=r"can't be reached") as caught:
            fetch(Remote(url), tmp_path / "a.zip")
    assert url in str(caught.value)
    assert str(tmp_path / "a.zip") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_so_and_keeps_what_was_there(server, tmp_path, monkeypatch):
    server.files["/a.bin"] = BODY

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_stream", full)
    with pytest.raises(DataError, match=r"a\.bin could not be written .*No space left on device"):
        fetch(Remote(server.url("/a.bin")), tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_only_the_web_is_fetched_from(tmp_path):
    with pytest.raises(ParameterError, match="only http and https"):
        fetch(Remote((tmp_path / "x").as_uri()), tmp_path / "a")


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_are_unpacked_once_and_only_what_is_asked(tmp_path, pack):
    archive = pack(tmp_path / "a.pack", {"top/keep/a.wav": b"A", "top/other/b.wav": b"B"})
    folder = unpack(archive, tmp_path / "out", ("/keep/",))
    assert [p.name for p in folder.rglob("*.wav")] == ["a.wav"]
    archive.unlink()
    assert unpack(archive, tmp_path / "out") == folder


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_damaged_archive_leaves_no_folder(tmp_path, pack):
    archive = pack(tmp_path / "a.pack", {f"top/{i}.wav": bytes(range(256)) * 40 for i in range(30)})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.pack can't be unpacked (?s:.*)delete it and fetch it again"):
        unpack(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.pack"]


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    archive = tarred(tmp_path / "a.tar.gz", {"../outside.txt": b"!"})
    with pytest.raises(DataError, match="can't be unpacked"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "outside.txt").exists()


def test_one_member_of_an_archive(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"shd_train.h5": b"spikes"})
    assert unpack_member(archive, "shd_train.h5", tmp_path / "b.h5").read_bytes() == b"spikes"
    with pytest.raises(DataError, match=r"a\.zip holds no shd_test\.h5, only shd_train\.h5"):
        unpack_member(archive, "shd_test.h5", tmp_path / "c.h5")
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(DataError, match="can't be unpacked"):
        unpack_member(archive, "shd_train.h5", tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
