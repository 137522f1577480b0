"""Images in class folders, on disk and inside zip files."""

import copy
import io
import os
import pickle
import random
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from fastcnn.data import Preprocessing, batches, image_folder, read_image
from fastcnn.data.folders import class_parents


def encoded(colour, size=(6, 4), kind="PNG", mode="RGB"):
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, kind)
    return out.getvalue()


FILES = {
    "top/train/cat/1.png": encoded((255, 0, 0)),
    "top/train/cat/2.PNG": encoded((250, 0, 0)),
    "top/train/dog/1.png": encoded((0, 255, 0)),
    "top/test/dog/9.png": encoded((0, 0, 255)),
    "top/train/dog/notes.txt": b"not an image",
}


def as_folder(tmp_path, files=FILES):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def as_zip(tmp_path, files=FILES):
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)
    return path


@pytest.mark.parametrize("make", [as_folder, as_zip])
def test_reads_classes_and_pixels(tmp_path, make):
    d = image_folder(make(tmp_path), under="top/train")
    assert d.classes == ("cat", "dog") and d.labels.tolist() == [0, 0, 1] and d.input_shape == (3, 4, 6)
    x, y = d.batch(np.array([2, 0]))
    assert y.tolist() == [1, 0]
    assert x[:, :, 0, 0].tolist() == [[0, 1, 0], [1, 0, 0]]
    assert len(list(batches(d, 2, seed=0))) == 2


def test_lists_the_folders_that_hold_classes(tmp_path):
    assert class_parents(as_zip(tmp_path)) == ["top/test", "top/train"]
    with pytest.raises(ValueError, match="'top/test', 'top/train'"):
        image_folder(tmp_path / "images.zip")
    with pytest.raises(FileNotFoundError):
        image_folder(tmp_path / "none.zip")


def test_sizes_must_agree_unless_one_is_given(tmp_path):
    files = {"a/1.png": encoded("red"), "a/2.png": encoded("red", size=(8, 8))}
    path = as_zip(tmp_path, files)
    d = image_folder(path)
    with pytest.raises(ValueError, match=r"a/2\.png: 8x8 pixels, the first has 6x4"):
        d.batch(np.array([0, 1]))
    x, _ = image_folder(path, size=(10, 12)).batch(np.array([0, 1]))
    assert x.shape == (2, 3, 10, 12) and np.all(x[:, 0] == 1) and np.all(x[:, 1:] == 0)


@pytest.mark.parametrize("name", ["/a/x.png", "../a/x.png", "a/../../x.png", "C:/a/x.png", "a\\..\\x.png"])
def test_names_that_leave_the_zip_are_rejected(tmp_path, name):
    path = as_zip(tmp_path, {"a/1.png": encoded("red"), name: encoded("red")})
    with pytest.raises(ValueError, match="points outside"):
        image_folder(path)


def test_grey_transparency_palette_and_sixteen_bits():
    grey, rgb = Preprocessing(mode="L"), Preprocessing(mode="RGB")
    assert read_image(encoded(200, mode="L"), rgb, None).shape == (3, 4, 6)
    assert read_image(encoded((255, 255, 255)), grey, None).max() == 255
    assert read_image(encoded((0, 0, 0, 0), mode="RGBA"), rgb, None).min() == 255  # transparent shows white
    wide = io.BytesIO()
    Image.fromarray(np.full((4, 6), 0x8000, np.uint16)).save(wide, "PNG")
    assert np.all(read_image(wide.getvalue(), grey, None) == 0x80)


def test_damaged_images_and_zips_are_clean_errors(tmp_path):
    rng = random.Random(0)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    good_image = out.getvalue()
    good_zip = as_zip(tmp_path).read_bytes()
    errors = 0
    for _ in range(150):
        at = rng.randrange(len(good_image))
        bad = good_image[:at] if rng.random() < 0.5 else good_image[:at] + bytes(8) + good_image[at + 8 :]
        try:
            assert read_image(bad, Preprocessing(mode="RGB"), None).dtype == np.uint8
        except ValueError:
            errors += 1
        at = rng.randrange(len(good_zip))
        bad = bytearray(good_zip[:at] if rng.random() < 0.3 else good_zip)
        bad[min(at, len(bad) - 1)] ^= 1 << rng.randrange(8) if bad else 0
        (tmp_path / "bad.zip").write_bytes(bad)
        try:
            d = image_folder(tmp_path / "bad.zip", under="top/train")
            d.batch(np.arange(len(d)))
        except ValueError:
            errors += 1
    assert errors > 150


def test_a_glyph_is_found_inverted_and_centred(tmp_path):
    page = np.full((90, 70), 230, np.uint8)
    page[10:50, 5:15] = 20  # a dark bar in the upper left corner of a light page
    Image.fromarray(page).save(tmp_path / "bar.png")
    image = read_image(tmp_path / "bar.png", Preprocessing(glyph=20 / 28), (28, 28))[0]
    inked = image > 128
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    assert (rows[0], rows[-1]) == (4, 23) and len(columns) == 5 and abs(columns.mean() - 13.5) <= 1
    assert image[0].max() == 0


def test_an_image_of_the_right_size_keeps_its_pixels():
    digit = np.zeros((28, 28), np.uint8)
    digit[3:9, 2:5] = 200
    out = io.BytesIO()
    Image.fromarray(digit).save(out, "PNG")
    assert np.array_equal(read_image(out.getvalue(), Preprocessing(glyph=0.7), (28, 28))[0], digit)
    out = io.BytesIO()
    Image.fromarray(255 - digit).save(out, "PNG")
    assert np.array_equal(read_image(out.getvalue(), Preprocessing(glyph=0.7), (28, 28))[0], digit)
    assert np.array_equal(read_image(out.getvalue(), Preprocessing(), (28, 28))[0], 255 - digit)


def colours(count=40):
    """Files of two classes, whose first pixel is their number."""
    return {f"{'ab'[i % 2]}/{i:03}.png": encoded((i, 200, 90), size=(40, 30)) for i in range(count)}


def first_pixels(d, positions):
    return d.pixels(np.array(positions))[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("make", [as_folder, as_zip])
def test_can_be_copied_and_sent_to_another_process(tmp_path, make):
    d = image_folder(make(tmp_path, colours()))
    expected = [int(name[2:5]) for name in sorted(colours())]
    for other in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert other.is_assumed and other.classes == d.classes
        assert first_pixels(other, range(40)) == expected
    assert first_pixels(d, range(40)) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_zip_is_read_in_forked_processes_and_in_threads(tmp_path):
    d = image_folder(as_zip(tmp_path, colours()))
    expected = [int(name[2:5]) for name in sorted(colours())]
    parents = d._files._zip()
    if (child := os.fork()) == 0:
        right = False
        try:
            right = d._files._zip() is not parents and first_pixels(d, range(40)) == expected
        finally:
            os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0 and d._files._zip() is parents
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: first_pixels(d, [i])[0], range(40))) == expected


def test_a_file_that_is_gone_is_named(tmp_path):
    root = as_folder(tmp_path / "set", colours())
    d = image_folder(root)
    (root / "b/001.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"set.b.001\.png: gone since the folder was opened"):
        d.batch(np.arange(40))


def test_a_zip_that_is_gone_or_another_one_is_named(tmp_path):
    d = pickle.loads(pickle.dumps(image_folder(path := as_zip(tmp_path, colours()))))
    fewer = {k: v for k, v in colours().items() if k != "b/001.png"}
    as_zip(tmp_path, fewer)
    with pytest.raises(
        FileNotFoundError, match=r"images\.zip: b/001\.png is gone from it since it was opened"
    ):
        d.batch(np.arange(40))
    d = pickle.loads(pickle.dumps(d))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"images\.zip: gone since it was opened"):
        d.batch(np.arange(40))
