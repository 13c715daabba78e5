"""Images in the layouts others leave on disk, exactly; what is damaged is named."""

import gzip
import pickle

import h5py
import numpy as np
import pytest

from snnkit.datasets import DATASETS, cifar, images, mnist
from snnkit.errors import ChecksumError, DataError, ParameterError
from tests.helpers.made_files import cifar10, cifar100, idx, subset_file


@pytest.fixture
def unchecked(monkeypatch):
    """Without the md5 of the published files."""
    monkeypatch.setattr(cifar, "MD5", {})
    monkeypatch.setattr(mnist, "MD5", {})


def test_cifar10_has_every_pixel_in_its_place(tmp_path, unchecked):
    content = cifar10(tmp_path)
    got = images.load("cifar10", tmp_path)
    assert (got.train[0].shape, got.valid[0].shape, got.test[0].shape) == (
        (90, 3, 32, 32),
        (10, 3, 32, 32),
        (10, 3, 32, 32),
    )
    x, y = content["test_batch"]
    assert got.test[0][7, 1, 5, 9] == x[7, 1024 + 5 * 32 + 9]
    assert got.test[1].tolist() == y
    # every training image is in exactly one of train and valid
    all_of_it = np.concatenate([x for name, (x, _) in content.items() if name != "test_batch"])
    both = np.concatenate([got.train[0], got.valid[0]]).reshape(100, -1)
    assert sorted(map(bytes, both)) == sorted(map(bytes, all_of_it))
    assert (np.bincount(got.valid[1]) == 1).all()
    assert got.classes[3] == "cat"
    values = got.train[0] / 255
    np.testing.assert_allclose(got.mean, values.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(got.std, values.std(axis=(0, 2, 3)), rtol=1e-12)
    x, y = got.normalised("train")
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_cifar100_has_fine_labels(tmp_path, unchecked):
    names = cifar100(tmp_path)
    got = images.load("cifar100", tmp_path, valid_fraction=1 / 3)
    assert got.classes == names
    assert (np.bincount(got.train[1]).tolist(), np.bincount(got.valid[1]).tolist()) == ([2] * 100, [1] * 100)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_read_plain_and_packed(tmp_path, unchecked, name, folder, packed):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    x = np.random.default_rng(0).integers(0, 256, (60, 28, 28))
    for stem, n in (("train", 40), ("t10k", 20)):
        part, y = x[40 - n : 40] if stem == "train" else x[40:], np.arange(n) % 10
        for file, body in ((f"{stem}-images-idx3-ubyte", idx(part)), (f"{stem}-labels-idx1-ubyte", idx(y))):
            (raw / f"{file}{'.gz' if packed else ''}").write_bytes(gzip.compress(body) if packed else body)
    got = images.load(name, tmp_path)
    np.testing.assert_array_equal(got.test[0][:, 0], x[40:])
    assert got.test[1].tolist() == (np.arange(20) % 10).tolist()
    assert got.train[0].shape == (30, 1, 28, 28)
    assert got.classes[9] == ("9" if name == "mnist" else "Ankle boot")

    file = raw / f"t10k-images-idx3-ubyte{'.gz' if packed else ''}"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"t10k-images-.* (bytes, expected 15696|can't be unpacked)"):
        images.load(name, tmp_path)
    file.write_bytes(gzip.compress(b"wrong magic") if packed else b"wrong magic")
    with pytest.raises(DataError, match="no IDX file of bytes with 3 axes"):
        images.load(name, tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is missing, and so is"):
        images.load(name, tmp_path)


def test_packed_mnist_has_published_checksums(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((1, 28, 28)))))
    with pytest.raises(ChecksumError, match=r"train-images-idx3-ubyte\.gz: md5 is .*, expected f68b3c2dcbea"):
        images.load("mnist", tmp_path)


def test_the_digits_of_scikit_learn_need_no_folder():
    sklearn = pytest.importorskip("sklearn.datasets").load_digits()
    got = images.load("digits")
    assert got.test[0].shape == (359, 1, 8, 8)
    assert len(got.train[1]) + len(got.valid[1]) + 359 == 1797
    np.testing.assert_array_equal(got.test[0][2, 0], sklearn.images[14] / 16)
    assert got.train[0].max() == 1
    np.testing.assert_allclose(got.mean, got.train[0].mean(dtype=np.float64), rtol=1e-6)
    said, own = DATASETS["digits"].attribution, sklearn.DESCR
    for fact in ("E. Alpaydin", "C. Kaynak", "1998", "UCI", "test set"):
        assert fact in own
        assert fact.replace("test set", "Test part") in said


def test_the_subset_is_decoded_and_checked(tmp_path):
    kept = subset_file(tmp_path / "cifar10" / "cifar10_subset.h5")
    got = images.load("cifar10_subset", tmp_path)
    np.testing.assert_array_equal(got.test[0], kept["test"])
    assert len(got.train[1]) == 30
    with h5py.File(tmp_path / "cifar10" / "cifar10_subset.h5", "a") as file:
        file["test/images_residual"][3, 1, 4, 5] ^= 1
    with pytest.raises(ChecksumError, match=r"sha256 of the decoded test images is .*the file is damaged"):
        images.load("cifar10_subset", tmp_path)


@pytest.mark.slow
def test_the_real_subset_is_what_its_readme_says(recordings):
    if not (recordings / "cifar10" / "cifar10_subset.h5").is_file():
        pytest.skip("no cifar10/cifar10_subset.h5 beside the recordings")
    got = images.load("cifar10_subset", recordings, valid_fraction=0.1)
    assert (len(got.train[1]), len(got.valid[1]), len(got.test[1])) == (18_000, 2_000, 10_000)
    np.testing.assert_allclose(got.mean, [0.4926, 0.4828, 0.4471], atol=1e-3)
    np.testing.assert_allclose(got.std, [0.2457, 0.2435, 0.2611], atol=1e-3)


def test_a_limit_keeps_the_classes_balanced_and_the_seed_chooses_valid(tmp_path, unchecked):
    cifar10(tmp_path)
    got = images.load("cifar10", tmp_path, limit=5, valid_fraction=0.4)
    assert (np.bincount(got.train[1]) == 3).all()
    assert (np.bincount(got.valid[1]) == 2).all()
    assert (np.bincount(got.test[1]) == 1).all()
    again = images.load("cifar10", tmp_path, limit=5, valid_fraction=0.4)
    other = images.load("cifar10", tmp_path, limit=5, valid_fraction=0.4, seed=1)
    np.testing.assert_array_equal(again.valid[0], got.valid[0])
    assert (other.valid[0] != got.valid[0]).any()
    np.testing.assert_array_equal(other.test[0], got.test[0])


def test_files_that_are_wrong_are_named(tmp_path, monkeypatch, cache):
    with pytest.raises(DataError, match=r"cifar-10-batches-py is in none of .*; set root or SNNKIT_DATA"):
        images.load("cifar10")
    cifar10(tmp_path)
    with pytest.raises(ChecksumError, match=r"data_batch_1: md5 is .*, expected c99cafc152244af753f"):
        images.load("cifar10", tmp_path)
    monkeypatch.setattr(cifar, "MD5", {})
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    good = pickle.loads(batch.read_bytes())
    for content, message in (
        ({**good, "labels": [11, *good["labels"][1:]]}, r"train labels run from 0 to 11, expected 0\.\.9"),
        ({**good, "labels": good["labels"][1:]}, r"100 train images and 99 labels"),
        ({**good, "data": good["data"].astype(float)}, r"data is float64 \[20, 3072\], expected uint8"),
        ({"labels": []}, r"data_batch_3 has \['labels'\], expected data and labels"),
        ([1, 2], r"data_batch_3 holds a list, expected a dictionary"),
        ({"data": images.load}, r"snnkit\.datasets\.images\.load has no place in a file of images"),
    ):
        batch.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(DataError, match=message):
            images.load("cifar10", tmp_path)
    batch.write_bytes(pickle.dumps(good)[:1000])
    with pytest.raises(DataError, match="data_batch_3 is no file of CIFAR images"):
        images.load("cifar10", tmp_path)
    batch.unlink()
    with pytest.raises(DataError, match="data_batch_3 is missing; unpack the whole archive"):
        images.load("cifar10", tmp_path)


def test_a_pickle_cannot_run_code(tmp_path, unchecked):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({"data": Evil()}, protocol=2))
    with pytest.raises(DataError, match="has no place in a file of images"):
        images.load("cifar10", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar", {}, r"unknown images 'cifar'; known are .*, did you mean 'cifar10'\?"),
        ("digits", {"valid_fraction": 0}, "valid_fraction = 0; it must lie between 0 and 1"),
        ("digits", {"limit": 1}, "limit = 1; it must be at least 2"),
    ],
)
def test_arguments_without_meaning_are_refused(name, options, message):
    with pytest.raises(ParameterError, match=message):
        images.load(name, **options)
