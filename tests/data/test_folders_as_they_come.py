"""Folders and zips as systems, editors and people leave them: what is read, left out, and said."""

import io as stdio
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

import fastcnn
from fastcnn import data, io
from fastcnn.cli import main
from fastcnn.data import ImageFolder, Preprocessing, image_folder, sources
from fastcnn.data.files import FolderFiles


def png(colour=(200, 30, 30), size=(8, 6), mode="RGB", kind="PNG"):
    out = stdio.BytesIO()
    Image.new(mode, size, colour).save(out, kind)
    return out.getvalue()


def laid_out(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (root / name).write_bytes(content)
    return root


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)
    return path


def photos(parts=("",), count=5, classes=("cat", "dog")):
    return {
        f"{part}{'/' if part else ''}{c}/{i}.png": png((40 * i, 90, 10)) for part in parts for c in classes
        for i in range(count)
    }  # fmt: skip


HIDDEN = {
    ".ipynb_checkpoints/cat-checkpoint.png": png(),
    "cat/.ipynb_checkpoints/0-checkpoint.png": png(),
    "cat/._0.png": b"\0\5\x16\7resource fork",
    ".DS_Store": b"x",
    "__MACOSX/cat/._0.png": b"\0\5\x16\7resource fork",
}


@pytest.mark.parametrize("make", [laid_out, lambda root, files: zipped(root / "p.zip", files)])
def test_what_systems_and_editors_hide_is_no_class_and_no_image(tmp_path, make):
    d = ImageFolder(make(tmp_path, photos() | HIDDEN))
    assert d.classes == ("cat", "dog") and len(d) == 10


def test_a_zip_that_finder_made_trains(tmp_path):
    files = {f"photos/{k}": v for k, v in photos().items()} | {"__MACOSX/photos/cat/._1.png": b"\0\5\x16\7"}
    train, held_out = sources.open_parts(str(zipped(tmp_path / "photos.zip", files)), None, (3, 6, 8))
    assert len(train) == 8 and len(held_out) == 2 and train.classes == ("cat", "dog")


def test_validation_is_for_training_and_test_for_evaluating(tmp_path):
    files = photos(["train"], 5) | photos(["val"], 3) | photos(["test"], 2)
    path = str(laid_out(tmp_path, files))
    train, held_out = sources.open_parts(path, None, (3, 6, 8))
    assert (len(train), len(held_out)) == (10, 6)
    assert len(sources.open_held_out(path, None, (3, 6, 8), Preprocessing(mode="RGB"), None)) == 4


def test_a_part_may_lack_a_class_and_labels_are_the_models(tmp_path):
    path = str(laid_out(tmp_path, photos(["train"]) | photos(["test"], 2, ["dog"])))
    assert sources.open_parts(path, None, (3, 6, 8))[1].labels.tolist() == [1, 1]
    classes = ("owl", "dog", "cat")
    d = sources.open_held_out(path, None, (3, 6, 8), Preprocessing(mode="RGB"), classes)
    assert d.classes == classes and d.labels.tolist() == [1, 1]
    with pytest.raises(ValueError, match="class folders dog; the model knows the classes a, b"):
        sources.open_held_out(path, None, (3, 6, 8), Preprocessing(mode="RGB"), ("a", "b"))


def test_empty_class_folders_single_classes_and_other_formats_are_told(tmp_path):
    laid_out(tmp_path / "a", photos() | {"cat/live.heic": b"x", "dog/Thumbs.db": b"x"})
    (tmp_path / "a" / "bird").mkdir()
    with pytest.warns(UserWarning) as told:
        d = ImageFolder(tmp_path / "a")
    texts = sorted(str(w.message).split(": ", 1)[1] for w in told)
    assert texts[0].startswith("1 file with .heic left out") and texts[1] == "no images in bird: left out"
    assert d.classes == ("cat", "dog")
    one = laid_out(tmp_path / "one", photos(classes=["cat"]))
    with pytest.raises(ValueError, match="all images are of one class, 'cat'"):
        sources.open_parts(str(one), None, (3, 6, 8))


@pytest.mark.parametrize("bad", [b"<html>", b"", png(kind="JPEG")[:60]])
@pytest.mark.parametrize("make", [laid_out, lambda root, files: zipped(root / "p.zip", files)])
def test_unreadable_images_are_named_or_left_out(tmp_path, make, bad):
    path = make(tmp_path, photos() | {"cat/1.png": bad, "dog/zz.jpg": bad})
    with pytest.raises(ValueError, match=r"cat/1\.png: not a readable image .*on_error='skip'") as error:
        d = ImageFolder(path)
        d.batch(np.arange(len(d)))  # what is cut off shows when it is decoded
    assert "BytesIO" not in str(error.value)
    d = ImageFolder(path, on_error="skip")
    assert len(d) == 9 and d.skipped == ("cat/1.png", "dog/zz.jpg") and "2 left out" in d.describe()
    assert d.batch([0, 1, 8])[0].shape == (3, 3, 6, 8)
    with pytest.raises(ValueError, match="none of its 1 images"):
        ImageFolder(make(tmp_path / "none", {"c/1.png": bad}) if make is laid_out else
                    zipped(tmp_path / "n.zip", {"c/1.png": bad}), on_error="skip")  # fmt: skip


def test_the_first_unreadable_of_thousands_is_named_when_opened(tmp_path):
    path = laid_out(tmp_path, photos() | {"dog/3.png": b"no image", "dog/4.png": b"none"})
    with pytest.raises(
        ValueError, match=r"dog/3\.png: not a readable image \(JPEG, PNG.*\), and 1 more; on_error"
    ):
        ImageFolder(path)


def test_what_the_network_sees_is_said(tmp_path):
    path = laid_out(tmp_path, {f"{c}/1.jpg": png(size=(80, 60), kind="JPEG") for c in "ab"})
    grey = image_folder(path, size=(28, 28), preprocessing=Preprocessing(mode="L"))
    assert grey.describe() == "2 images 80x60 colour -> 28x28 grey, 2 classes"
    glyphs = image_folder(path, preprocessing=Preprocessing(mode="L")).subset([0])
    assert glyphs.describe() == "1 image 80x60 colour -> 80x60 grey, 2 classes"
    assert data.digits().describe() == "1,442 images 28x28 grey, 10 classes"


def test_data_sets_of_arrays_and_of_files_have_one_interface(tmp_path):
    folder = ImageFolder(laid_out(tmp_path, photos()))
    arrays = data.ArrayDataset(folder.images, folder.labels, folder.classes, folder.preprocessing)
    assert type(folder).__dict__.keys() >= {"images", "input_shape"}
    for a, b in (
        (folder, arrays),
        (folder.subset([7, 2]), arrays.subset([7, 2])),
        (folder.subset(slice(3)),) * 2,
    ):
        assert np.array_equal(a.images, b.images) and a.labels.tolist() == b.labels.tolist()
        assert a.input_shape == b.input_shape and a.classes == b.classes and len(a) == len(b)
        pairs = list(a)
        assert len(pairs) == len(a) and pairs[-1][1] == a[-1][1] and np.array_equal(pairs[0][0], b[0][0])
    for a, b in zip(folder.split(0.2), arrays.split(0.2), strict=True):
        assert np.array_equal(a.batch([0, 1])[0], b.batch([0, 1])[0]) and len(a) == len(b)
    assert len(folder.subset(folder.labels == 1)) == 5
    with pytest.raises(ValueError, match=r"size must be \(height, width\), such as \(32, 32\), got 32"):
        ImageFolder(tmp_path, size=32)
    with pytest.raises(ValueError, match="on_error must be"):
        ImageFolder(tmp_path, on_error="ignore")


def digit_page(image, rng):
    """As scanned: dark on light paper, larger, somewhere on the page."""
    page = Image.fromarray(255 - image).resize((84, 84))
    out = Image.new("L", (200, 160), 240)
    out.paste(page, (int(rng.integers(0, 110)), int(rng.integers(0, 70))))
    return out


def test_scans_are_evaluated_as_they_are_predicted(tmp_path, capfd, rng):
    fastcnn.manual_seed(0)
    model = fastcnn.models.create("lenet5")
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    trainer.fit(data.digits(), 6, 32)
    model.save(tmp_path / "m")
    held_out, paths = data.digits(train=False).subset(slice(0, 40)), []
    for i, (image, label) in enumerate(held_out):
        paths.append(tmp_path / "scans" / str(label) / f"{i}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        digit_page(image[0], rng).save(paths[-1])
    right = int(np.sum(io.read(tmp_path / "m").predict(paths) == held_out.labels))
    assert right > 32
    assert main(["evaluate", str(tmp_path / "m"), str(tmp_path / "scans")]) == 0
    out = capfd.readouterr().out
    assert f"({right} of 40)" in out and "40 images 200x160 grey -> 28x28 grey, glyphs centred" in out
    assert round(40 * trainer.evaluate(ImageFolder(tmp_path / "scans")).accuracy) == right
    # A blank page is an error in both, and left out of an evaluation on request.
    Image.new("L", (50, 50), 255).save(tmp_path / "scans" / "3" / "blank.png")
    for command in (["predict", str(tmp_path / "scans/3/blank.png")], ["evaluate", str(tmp_path / "scans")]):
        assert main([command[0], str(tmp_path / "m"), *command[1:]]) == 1
        assert "blank.png: no glyph found (a blank page?)" in capfd.readouterr().err
    assert main(["evaluate", str(tmp_path / "m"), str(tmp_path / "scans"), "--skip-unreadable"]) == 0
    assert f"({right} of 40)" in capfd.readouterr().out


def test_a_folder_without_parts_is_evaluated_as_a_whole(tmp_path, capfd):
    model = fastcnn.models.create("lenet5")
    model.preprocessing = Preprocessing()
    model.save(tmp_path / "m")
    for count in (4, 1):
        path = laid_out(tmp_path / f"of{count}", photos(count=count, classes=["3", "7"]))
        fastcnn.save(model, tmp_path / "m", classes=list("0123456789"))
        assert main(["evaluate", str(tmp_path / "m"), str(path)]) == 0
        assert f"of {2 * count})" in capfd.readouterr().out


def test_a_model_without_preprocessing_reads_no_pictures(tmp_path, capfd):
    fastcnn.save(fastcnn.models.create("lenet5"), tmp_path / "m")
    path = laid_out(tmp_path / "p", photos())
    for command in (["evaluate", str(path)], ["predict", str(path / "cat/0.png")]):
        assert main([command[0], str(tmp_path / "m"), *command[1:]]) == 1
        assert "model.preprocessing = fastcnn.data.Preprocessing(" in capfd.readouterr().err


def test_names_of_data_sets_in_every_spelling_mean_the_same():
    from fastcnn.train.recipes import recipe

    assert [sources.label(n) for n in ("Digits", "MNIST", "Fashion-MNIST", "a/b.zip")] == [
        "digits", "mnist", "fashion_mnist", "b",
    ]  # fmt: skip
    assert recipe("lenet5", sources.label("Digits")) == recipe("lenet5", "digits")


def test_glyphs_stay_where_they_are_in_training_on_folders(tmp_path):
    page = Image.new("L", (40, 40), 0)
    ImageDraw.Draw(page).rectangle((2, 2, 6, 12), fill=255)
    files = {}
    for c in "ab":
        for i in range(5):
            out = stdio.BytesIO()
            page.save(out, "PNG")
            files[f"{c}/{i}.png"] = out.getvalue()
    train, _ = sources.open_parts(str(laid_out(tmp_path, files)), None, (1, 20, 20))
    assert train.preprocessing.glyph == 0 and train.images[0, 0, :7, :4].max() > 200
    centred = train.assumed().fitted(Preprocessing(glyph=0.7))
    assert centred.images[0, 0, :3].max() == 0 and centred.images[0, 0, 9:11, 9:11].min() > 200


def test_links_to_a_parent_are_not_followed_and_others_are(tmp_path):
    for name in ("set/a", "set/b", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    try:
        for link, target in {"set/a/up": "..", "set/b/self": ".", "set/c": "../elsewhere"}.items():
            (tmp_path / link).symlink_to(target, target_is_directory=True)
        (tmp_path / "set/d").symlink_to("a", target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    names = FolderFiles(tmp_path / "set").names
    assert names == ["a/1.png", "b/1.png", "c/1.png", "d/1.png"]
    assert ImageFolder(tmp_path / "set").classes == ("a", "b", "c", "d")
