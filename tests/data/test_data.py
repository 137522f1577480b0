"""Data sets in memory, batching, shuffling, the bundled digits, MNIST's files."""

import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from fastcnn import data
from fastcnn.data import ArrayDataset, Preprocessing, batches, write_idx
from fastcnn.data.download import fetch
from fastcnn.data.order import offsets, permutation

DATA = os.environ.get("FASTCNN_DATA")


def small(n=10, shift=0):
    images = np.arange(n * 4 * 5, dtype=np.uint8).reshape(n, 1, 4, 5)
    return ArrayDataset(images, np.arange(n) % 3, shift=shift)


def test_batches_cover_everything_once_in_order_without_a_seed():
    seen = list(batches(small(), 4))
    assert [len(y) for _, y in seen] == [4, 4, 2]
    x = np.concatenate([x for x, _ in seen])
    assert x.dtype == np.float32 and x.flags.c_contiguous
    assert np.allclose(x * 255, small().images)


def test_shuffling_follows_the_seed_and_the_epoch_alone():
    def order(seed, epoch, batch):
        return np.concatenate([x[:, 0, 0, 0] for x, _ in batches(small(), batch, seed=seed, epoch=epoch)])

    assert np.array_equal(order(3, 1, 4), order(3, 1, 7))
    assert not np.array_equal(order(3, 1, 4), order(3, 2, 4))
    assert not np.array_equal(order(3, 1, 4), order(4, 1, 4))
    assert np.array_equal(np.sort(order(3, 1, 4)), np.sort(order(0, 0, 10)))


def test_a_seed_means_the_same_thing_everywhere():
    """Fixed values: Philox's raw stream is the same for every NumPy version and platform."""
    first = hashlib.sha256(permutation((5, 2), 1000).astype("<i8").tobytes()).hexdigest()[:16]
    shifts = hashlib.sha256(offsets((5, 2), np.arange(1000), 2).astype("<i8").tobytes()).hexdigest()[:16]
    assert (first, shifts) == ("6f6265a5f6e4ac61", "135692d59994751d")


def test_shifts_belong_to_the_image_not_to_the_batch():
    d = small(shift=1)
    a, _ = d.batch(np.arange(10), (1, 2))
    b = np.concatenate([d.batch(np.array([i]), (1, 2))[0] for i in range(10)])
    assert np.array_equal(a, b)
    assert not np.array_equal(a, d.batch(np.arange(10), (1, 3))[0])
    assert np.array_equal(d.batch(np.arange(10))[0], small().batch(np.arange(10))[0])


def test_shifted_moves_the_image_by_whole_pixels():
    image = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
    down_left = data.stored.shifted(image, np.array([[1, -1]]))
    assert down_left[0, 0].tolist() == [[1, 2, 3, 3], [1, 2, 3, 3], [5, 6, 7, 7]]


def test_nothing_is_copied_or_converted_up_front():
    images = np.zeros((6, 1, 4, 4), np.uint8)
    labels = np.zeros(6, np.int64)
    d = ArrayDataset(images, labels)
    assert d.images is images and d.labels is labels


def test_labels_and_images_are_checked():
    images = np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(TypeError, match="float64"):
        ArrayDataset(images.astype(float), [0, 0, 0])
    with pytest.raises(TypeError, match="integers"):
        ArrayDataset(images, [0.5, 1, 1])
    with pytest.raises(ValueError, match="expected 3 labels"):
        ArrayDataset(images, [0, 1])
    with pytest.raises(ValueError, match="label 4 has no class"):
        ArrayDataset(images, [0, 4, 1], classes=["a", "b"])
    with pytest.raises(ValueError, match="negative"):
        ArrayDataset(images, [0, -1, 1])
    with pytest.raises(ValueError, match="shift"):
        ArrayDataset(images, [0, 1, 1], shift=4)
    with pytest.raises(ValueError, match="batch_size"):
        next(batches(small(), 0))


def test_normalising_per_channel():
    p = Preprocessing(scale=1 / 255, mean=(0.5, 0.0), std=(0.25, 2.0))
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4), dtype=np.uint8)
    want = (images / 255.0 - np.array([0.5, 0]).reshape(1, 2, 1, 1)) / np.array([0.25, 2]).reshape(1, 2, 1, 1)
    got = p.apply(images)
    assert got.dtype == np.float32 and np.abs(got - want).max() < 1e-6
    assert Preprocessing.from_dict(p.to_dict()) == p
    for bad in (
        {"mean": "x"},
        {"std": [0]},
        {"scale": float("nan")},
        {"mode": "P"},
        {"other": 1},
        {"mean": []},
        3,
    ):
        with pytest.raises(ValueError):
            Preprocessing.from_dict(bad)


def test_digits_are_the_published_ones():
    train, held_out = data.digits(train=True), data.digits(train=False)
    assert (len(train), len(held_out)) == (1442, 355)
    assert train.input_shape == (1, 28, 28) and train.classes == tuple("0123456789")
    assert (np.bincount(train.labels) + np.bincount(held_out.labels)).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert held_out.shift == 0
    x, _ = train.batch(np.arange(len(train)))
    assert abs(x.mean()) < 0.01 and abs(x.std() - 1) < 0.01


def write_mnist(folder: Path, mark="-", ending=".gz", n=20):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        write_idx(
            folder / f"{part}-images{mark}idx3-ubyte{ending}",
            rng.integers(0, 256, (n, 28, 28), dtype=np.uint8),
        )
        write_idx(folder / f"{part}-labels{mark}idx1-ubyte{ending}", (np.arange(n) % 10).astype(np.uint8))


@pytest.mark.parametrize(
    "mark, ending, under", [("-", ".gz", "."), (".", "", "mnist"), ("-", "", "MNIST/raw")]
)
def test_mnist_is_found_by_its_usual_names(tmp_path, mark, ending, under):
    write_mnist(tmp_path / under, mark, ending)
    d = data.mnist(tmp_path, train=False, download=False)
    assert len(d) == 20 and d.labels[:3].tolist() == [0, 1, 2] and d.input_shape == (1, 28, 28)


def test_mnist_files_must_fit_each_other(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(19, np.uint8))
    with pytest.raises(ValueError, match="19 labels for the 20 images"):
        data.mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.full(20, 10, np.uint8))
    with pytest.raises(ValueError, match="got 10"):
        data.mnist(tmp_path)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((20, 32, 32), np.uint8))
    with pytest.raises(ValueError, match="expected Nx28x28"):
        data.mnist(tmp_path)
    with pytest.raises(NotADirectoryError):
        data.mnist(tmp_path / "train-labels-idx1-ubyte.gz")


def test_absent_files_say_what_to_put_where(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(FileNotFoundError) as error:
        data.mnist(tmp_path / "new")
    for part in (
        "train-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
        str(tmp_path / "new"),
        "no network",
        "https://",
    ):
        assert part in str(error.value)
    text = str(error.value)
    assert text.count("https://") == 2 and len(text) < 450 + len(str(tmp_path)), text
    assert not (tmp_path / "new").exists()  # a mistyped folder is not made
    with pytest.raises(FileNotFoundError, match="switched off"):
        data.mnist(tmp_path, download=False)


def test_download_is_checked_and_tries_the_next_mirror(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "good").mkdir()
    (tmp_path / "bad/f").write_bytes(b"other")
    (tmp_path / "good/f").write_bytes(b"right")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    sha = hashlib.sha256(b"right").hexdigest()
    try:
        mirrors = [f"{url}/none/", f"{url}/bad/", f"{url}/good/"]
        assert fetch("f", mirrors, sha, 5, tmp_path / "out").read_bytes() == b"right"
        with pytest.raises(ConnectionError, match=r"not found.*SHA-256 differs"):
            fetch("f", mirrors[:2], sha, 5, tmp_path / "none_right")
        with pytest.raises(ConnectionError, match="expected 4 bytes, got more"):
            fetch("f", mirrors[2:], sha, 4, tmp_path / "none_right")
    finally:
        server.shutdown()
        server.server_close()
    assert not (tmp_path / "none_right").exists()


@pytest.mark.skipif(DATA is None, reason="FASTCNN_DATA is not set")
def test_real_mnist():
    if not (Path(DATA) / "mnist").is_dir():
        pytest.skip("no MNIST there")
    d = data.mnist(Path(DATA) / "mnist", download=False)
    assert len(d) == 60000 and d.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    x, _ = d.batch(np.arange(1000))
    assert abs(x.mean()) < 0.05
