"""Pictures in every form that people have them in: one preprocessing, one result, or an error that names the cure."""

import io as stdio
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn import data, io, nn
from fastcnn.data import Preprocessing, read_image
from fastcnn.data.pictures import arranged

GLYPH, GREY, RGB = Preprocessing(glyph=20 / 28), Preprocessing(), Preprocessing(mode="RGB")


def saved(image, kind="PNG", **options):
    out = stdio.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def digit():
    """A 9, large, light on dark."""
    d = data.digits(train=False)
    return np.asarray(Image.fromarray(d.images[list(d.labels).index(9), 0]).resize((90, 90)))


# ---- files


def test_many_bits_show_what_eight_bits_show(digit):
    plain = read_image(saved(Image.fromarray(digit)), GLYPH, (28, 28))
    for bits in (10, 12, 14, 16):
        wide = (digit.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
        seen = read_image(saved(Image.fromarray(wide)), GLYPH, (28, 28))
        assert np.abs(seen.astype(int) - plain).max() <= 4, bits
    floats = Image.fromarray(digit.astype(np.float32) / 255)
    assert np.abs(read_image(saved(floats, "TIFF"), GLYPH, (28, 28)).astype(int) - plain).max() <= 2
    with pytest.raises(
        ValueError, match="pixels are floats, whose range nothing states: save it with 8 or 16"
    ):
        read_image(saved(floats, "TIFF"), GREY, (28, 28))
    with pytest.raises(ValueError, match="floats"):
        read_image(saved(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"), GLYPH, (28, 28))


@pytest.mark.parametrize("page", [
    Image.new("L", (100, 80), 255), Image.new("L", (28, 28), 0), Image.new("L", (1, 1), 7), Image.new("RGBA", (60, 60)),
    Image.fromarray(np.random.default_rng(0).integers(238, 250, (90, 90), dtype=np.uint8)),
], ids=["white", "black", "1x1", "transparent", "paper"])  # fmt: skip
def test_a_page_without_ink_shows_no_glyph(page):
    with pytest.raises(ValueError, match=r"no glyph found \(a blank page\?\)"):
        read_image(saved(page), GLYPH, (28, 28))
    assert read_image(saved(page), GREY, (28, 28)).shape == (1, 28, 28)  # nothing is looked for


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\0\0\0\x18ftypheic" + bytes(90),
        saved(Image.new("L", (32, 32)), "ICO"),
    ],
)
def test_what_is_no_image_is_told_what_is(content, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_image(tmp_path / "x.png", GREY, (28, 28))
    assert str(error.value) == (
        f"{tmp_path / 'x.png'}: not a readable image (JPEG, PNG, BMP, GIF, WebP, TIFF and PPM are read)"
    )


def test_large_images_have_a_limit_of_ours(recwarn):
    before = Image.MAX_IMAGE_PIXELS
    large = saved(Image.new("1", (9500, 9500)))
    assert read_image(large, GREY, (28, 28)).shape == (1, 28, 28)  # Pillow would warn
    with pytest.raises(ValueError, match="13000x13000 pixels, at most 134,217,728 are read"):
        read_image(saved(Image.new("1", (13000, 13000))), GREY, (28, 28))
    assert not recwarn.list and before == Image.MAX_IMAGE_PIXELS


# ---- predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    fastcnn.manual_seed(0)
    net = fastcnn.models.create("lenet5")
    trainer = fastcnn.Trainer(net, fastcnn.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))
    trainer.fit(data.digits(), 5, 32)
    path = tmp_path_factory.mktemp("model") / "m"
    net.save(path)
    return io.read(path)


def test_one_picture_in_every_form(model, digit, tmp_path):
    path = tmp_path / "nine.png"
    Image.fromarray(digit).save(path)
    colour = np.repeat(digit[..., None], 3, axis=2)
    forms = [
        path, str(path), path.read_bytes(), Image.open(path), digit, colour, [path], [Image.open(path), digit], (path,),
        np.asfortranarray(colour), np.dstack([colour, np.full((90, 90), 255, np.uint8)]),
        Image.fromarray(255 - digit), iter([path]), tmp_path.glob("*.png"), [digit, colour, path, path.read_bytes()],
    ]  # fmt: skip
    for form in forms:
        result = model.predict(form)
        assert result.dtype == np.int64 and set(result.tolist()) == {9}
        assert model.classes[result[0]] == "9"
    p = model.predict_proba([path, digit])
    assert (
        p.shape == (2, 10)
        and np.array_equal(p[0], p[1])
        and np.array_equal(model.model.predict_proba(digit), p[:1])
    )


def test_arrays_of_the_networks_size_are_pixels_as_in_training(model):
    x = data.digits(train=False).images[:12]
    whole = model.predict_proba(x)
    assert np.array_equal(whole, fastcnn.functional.softmax(model.model(model.preprocessing.apply(x))))
    for form in (x[:, 0], list(x), list(x[:, 0]), [i[0][..., None] for i in x], model.preprocessing.apply(x)):
        assert np.allclose(model.predict_proba(form), whole, atol=1e-6)
    for one in (x[0], x[0, 0], x[0, 0][..., None], model.preprocessing.apply(x[:1])[0]):
        assert np.allclose(model.predict_proba(one), whole[:1], atol=1e-6)
    assert np.array_equal(model.predict_proba(x, batch_size=5).argmax(axis=1), whole.argmax(axis=1))


def test_axes_that_may_mean_two_things_are_asked_about():
    photo = np.zeros((60, 80, 3), np.uint8)
    assert [p.shape for p in arranged(photo.transpose(2, 0, 1), (3, 32, 32))] == [(60, 80, 3)]
    assert [p.shape for p in arranged(photo[..., 0], (1, 28, 28))] == [(60, 80)]
    assert len(arranged(np.zeros((7, 60, 80), np.uint8), (1, 28, 28))) == 7
    for odd in (photo.transpose(2, 0, 1), np.zeros((3, 60, 3), np.uint8)):
        with pytest.raises(ValueError, match="may be one picture or 3 grey ones"):
            arranged(odd, (1, 28, 28))


def test_predicting_leaves_the_mode_and_asks_for_what_it_lacks(digit):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    x = np.zeros((5, 1, 8, 8), np.float32)
    assert net.predict(x).shape == (5,) and net.training
    assert np.array_equal(net[1].running_mean.data, np.zeros(2))
    for pixels in (x.astype(np.uint8), digit, [digit]):
        with pytest.raises(
            ValueError, match=r"the model has no preprocessing.*model.preprocessing = fastcnn"
        ):
            net.predict(pixels)
    net.preprocessing = Preprocessing(scale=1.0, dtype="float32")
    with pytest.raises(ValueError, match="a preprocessing for float32 input"):
        net.predict(x.astype(np.uint8))
    net.preprocessing = Preprocessing()
    assert net.predict(digit).shape == (1,)
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    fresh.preprocessing = Preprocessing()
    with pytest.raises(ValueError, match=r"brought to the network's input \(C, H, W\), which is not known"):
        fresh.predict([digit])
    for nothing in ([], x[:0], x.astype(np.uint8)[:0]):
        with pytest.raises(ValueError, match="no images"):
            net.predict(nothing)
    for wrong in (None, 3, object(), [None], [1, 2], {"a": 1}):
        with pytest.raises(TypeError, match="predict: expected"):
            net.predict(wrong)
    with pytest.raises(TypeError, match=r"got float64; use images.astype\(numpy.float32\)"):
        net.predict(x.astype(float))
    with pytest.raises(FileNotFoundError):
        net.predict("none.png")
    with pytest.raises(ValueError, match="mode 'RGB' makes pictures of 3 channels, the network reads 1"):
        net.preprocessing = RGB
        net.predict(digit)
    with pytest.raises(ValueError, match=r"expected a network that gives \(N, classes\)"):
        nn.Conv2d(1, 2, 3).predict(x)


def test_a_part_may_be_named_predict():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.predict = nn.Linear(4, 2)

        def forward(self, x):
            return self.predict(x)

    net = Net()
    assert (
        net(np.zeros((3, 4), np.float32)).shape == (3, 2) and next(iter(net.state_dict())) == "predict.weight"
    )
    assert net.predict_proba(np.zeros((3, 4), np.float32)).shape == (3, 2)
    assert "paths, pictures" in nn.Module.predict_proba.__doc__


def test_floats_that_were_scaled_but_not_normalised_are_told(model):
    x = data.digits(train=False).images[:4]
    with pytest.warns(UserWarning, match="lie within 0..1") as told:
        model.predict(x.astype(np.float32) / 255)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(model.preprocessing.apply(x))
        net = fastcnn.models.create("lenet5")
        net.preprocessing = Preprocessing()  # 0..1 is what it makes of pixels
        net.predict(x.astype(np.float32) / 255)


def test_paths_of_any_kind(model, digit, tmp_path):
    path = Path(tmp_path) / "猫 [9].png"
    Image.fromarray(digit).save(path)
    assert model.predict(path).tolist() == [9]
    with pytest.raises(IsADirectoryError):
        model.predict(tmp_path)
