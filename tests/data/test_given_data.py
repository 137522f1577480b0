"""What people give as data: pairs, lists, PyTorch's data sets, generators, labels of all kinds."""

import warnings

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn import data, nn
from fastcnn.data import ArrayDataset, Loader, Preprocessing, as_dataset, batches


def net(classes=4):
    fastcnn.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


def trainer(model=None):
    model = net() if model is None else model
    return fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.1))


def quarters(n=40):
    """uint8 (n, 8, 8) whose bright quarter is the label."""
    y = np.arange(n) % 4
    x = np.random.default_rng(0).integers(0, 60, (n, 8, 8), dtype=np.uint8)
    for i, c in enumerate(y):
        x[i, 4 * (c // 2) :, 4 * (c % 2) :][:4, :4] += 150
    return x, y


class Items:
    """A data set as PyTorch's tutorials have it."""

    def __init__(self, form):
        self.x, self.y = quarters()
        self.form = form

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        return self.form(self.x[i]), int(self.y[i])


FORMS = {
    "H, W": lambda x: x,
    "C, H, W": lambda x: x[None],
    "H, W, C": lambda x: x[..., None],
    "Pillow": Image.fromarray,
    "float32": lambda x: x[None].astype(np.float32) / 255,
}


@pytest.mark.parametrize("form", FORMS)
def test_data_sets_of_single_items_train_as_arrays_do(form):
    a, b = trainer(), trainer()
    items, pair = Items(FORMS[form]), quarters()
    one = a.fit(items, 3, 8, items)
    two = b.fit(pair, 3, 8, pair)
    assert np.allclose([e.loss for e in one], [e.loss for e in two], rtol=1e-4)
    assert one[-1].validation == pytest.approx(two[-1].validation, rel=1e-4)
    assert a.predict(items).tolist() == b.predict(pair[0]).tolist()
    assert a.evaluate(items).accuracy == b.evaluate(pair).accuracy
    assert a.model.preprocessing.dtype == ("float32" if form == "float32" else "uint8")
    assert a.predict(list(items)).tolist() == b.predict(pair[0]).tolist()  # a list of pairs


def test_pytorch_data_sets_and_their_loaders():
    torch = pytest.importorskip("torch")
    x, y = quarters()
    floats = torch.from_numpy(x[:, None].astype(np.float32) / 255)
    tensors = torch.utils.data.TensorDataset(floats, torch.from_numpy(y))
    subset = torch.utils.data.Subset(tensors, range(40))
    results = []
    for given in (tensors, subset, (floats, torch.from_numpy(y))):
        t = trainer()
        results.append([e.loss for e in t.fit(given, 2, 8)])
    assert np.allclose(results[0], results[1]) and np.allclose(results[0], results[2])
    with pytest.raises(TypeError, match=r"got DataLoader, which makes batches itself: .*loader\.dataset"):
        trainer().fit(torch.utils.data.DataLoader(tensors, 8), 1)


def test_what_is_no_data_set_is_told_what_one_needs():
    x, y = quarters()
    cases = {
        "generator: a data set needs __len__, and __getitem__": (p for p in zip(x, y, strict=True)),
        "zip: a data set needs": zip(x, y, strict=True),
        r"ndarray without labels: give \(images, labels\)": x,
        "got dict": {"x": x},
        r"got the text 'photos': give fastcnn.data.digits\(\)": "photos",
        "got None": None,
    }
    for text, given in cases.items():
        with pytest.raises(TypeError, match=f"expected a data set or a pair .*{text}"):
            as_dataset(given)
    with pytest.raises(TypeError, match="labels str beside ArrayDataset, which has its own"):
        as_dataset(ArrayDataset(x, y), None, "5")
    with pytest.raises(TypeError, match=r"pairs .image, label., got a ndarray as item 0 of Bare"):
        as_dataset(type("Bare", (), {"__len__": lambda s: 3, "__getitem__": lambda s, i: x[i]})())
    with pytest.raises(TypeError, match="item 0 is a KeyError"):
        as_dataset(type("Frame", (), {"__len__": lambda s: 3, "__getitem__": lambda s, i: {}[i]})())
    with pytest.raises(TypeError, match=r"item 0 of the data set: .*float64.*astype\(numpy.float32\)"):
        as_dataset(Items(lambda x: x / 255))


@pytest.mark.parametrize("labels, hint", [
    (np.eye(4)[np.arange(40) % 4], r"labels\.argmax\(axis=1\)"),
    ((np.arange(40) % 4)[:, None], r"labels\.ravel\(\)"),
    ((np.arange(40) % 4).astype(float), r"labels\.astype\(int\)"),
    (np.arange(40) / 7, "whole numbers"),
    (np.array(["cat", "dog"] * 20), r"numpy\.unique\(labels, return_inverse=True\)"),
    (["cat", "dog"] * 20, r"numpy\.unique\(labels, return_inverse=True\)"),
])  # fmt: skip
def test_labels_that_are_none_name_the_way_to_some(labels, hint):
    x, _ = quarters()
    with pytest.raises((TypeError, ValueError), match=hint):
        trainer().fit((x, labels), 1)
    with pytest.raises((TypeError, ValueError), match=hint):
        trainer().train_step(x[:, None].astype(np.float32), np.asarray(labels))


def test_images_that_are_none_name_the_way_to_some():
    x, y = quarters()
    with pytest.raises(TypeError, match=r"got float64; use images\.astype\(numpy\.float32\)"):
        trainer().fit((x / 255.0, y), 1)
    with pytest.raises(TypeError, match=r"got int64; use images\.astype\(numpy\.uint8\)"):
        trainer().fit((x.tolist(), y), 1)
    with pytest.raises(ValueError, match="images must be one array"):
        trainer().fit(([[[1, 2]], [[1]]], [0, 1]), 1)
    trainer().fit((list(x), list(y)), 1)  # a list of arrays is an array


def test_vectors_are_data_too():
    x, y = quarters()
    flat = x.reshape(40, 64)
    a, b = trainer(), trainer()
    one = a.fit((flat, y), 2, 8, (flat, y))
    two = b.fit(((flat / 255).astype(np.float32), y), 2, 8)
    assert np.allclose([e.loss for e in one], [e.loss for e in two], rtol=1e-4)
    assert a.predict(flat).tolist() == a.predict(flat.astype(np.float32) / 255).tolist()
    assert ArrayDataset(flat, y).describe() == "40 images of 64 numbers, 4 classes"
    with pytest.raises(ValueError, match="shift"):
        ArrayDataset(flat, y, shift=1)


def test_a_data_set_needs_only_two_methods():
    x, y = quarters()

    class Own:
        def __len__(self):
            return 40

        def batch(self, indices, key=None):
            return x[indices, None].astype(np.float32) / 255, y[indices]

    t = trainer()
    t.fit(Own(), 2, 8, Own())
    assert t.predict(Own()).shape == (40,) and t.model.preprocessing is None


def test_validation_data_is_read_as_the_model_reads():
    """However it is given: the data's own defaults give way to what the model was trained on."""
    train, held_out = data.digits(), data.digits(train=False)
    model = fastcnn.models.create("lenet5")
    t = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    figures = set()
    pair = (held_out.images, held_out.labels)
    first = t.fit(train, 1, 32, pair)[-1].validation
    for given in (pair, held_out, ArrayDataset(*pair), list(zip(*pair, strict=True))):
        figures.add(t.evaluate(given))
    assert figures == {first}
    assert model.preprocessing == train.preprocessing and model.classes == tuple("0123456789")
    other = ArrayDataset(*pair, preprocessing=Preprocessing(mean=(0.5,)))
    with pytest.warns(UserWarning, match="another preprocessing than the model"):
        assert t.evaluate(other) == first
    # Trained on, on other data: the preprocessing stays the model's unless the data states one.
    t.fit((train.images[:64], train.labels[:64]), 1)
    assert model.preprocessing == train.preprocessing
    t.fit((train.preprocessing.apply(train.images[:64]), train.labels[:64]), 1)
    assert model.preprocessing == train.preprocessing
    t.fit(other, 1)
    assert model.preprocessing == other.preprocessing


def test_pixels_for_a_model_that_was_trained_on_floats():
    x, y = quarters()
    t = trainer()
    t.fit(((x[:, None] / 255).astype(np.float32), y), 2)
    for ask in (lambda: t.evaluate((x, y)), lambda: t.predict(x), lambda: t.fit((x, y), 1)):
        with pytest.raises(ValueError, match="a preprocessing for float32 input, so it does not know"):
            ask()


def test_a_failed_fit_leaves_what_the_model_knew():
    x, y = quarters()
    t = trainer()
    t.fit((x, y), 1)
    known = t.model.preprocessing
    for bad in ((x, y[:-1]), (x / 3, y), None, (x[:0], y[:0])):
        with pytest.raises((ValueError, TypeError)):
            t.fit(bad, 1)
    for bad in ((x, y[:-1]), (x / 3, y), "photos"):
        with pytest.raises((ValueError, TypeError)):
            t.fit(ArrayDataset(x, y, preprocessing=Preprocessing(mean=(0.3,))), 1, 8, bad)
    assert t.model.preprocessing is known and t.model.last_input_shape == (1, 8, 8)


def test_preprocessing_must_be_for_the_pixels():
    x, y = quarters()
    with pytest.raises(ValueError, match=r"for uint8 pixels, the images are float32: .*dtype='float32'"):
        ArrayDataset(x.astype(np.float32), y, preprocessing=Preprocessing(scale=1.0, mean=(0.1,)))
    p = Preprocessing(scale=1.0, mean=(0.1,), dtype="float32")
    t = trainer()
    t.fit(ArrayDataset((x / 255).astype(np.float32), y, preprocessing=p), 2)
    floats = (x[:, None] / 255).astype(np.float32)
    assert np.array_equal(
        t.predict_proba(floats), fastcnn.functional.softmax(t.model.eval()(p.apply(floats)))
    )
    with pytest.raises(TypeError, match=r"must be a fastcnn.data.Preprocessing, got {}"):
        ArrayDataset(x, y, preprocessing={})
    with pytest.raises(TypeError, match="classes must be a sequence of names, got the text 'abcd'"):
        ArrayDataset(x, y, classes="abcd")
    assert Preprocessing(mean=x.mean(axis=(1, 2))[:3], std=np.float32([1, 2, 3])).std == (1.0, 2.0, 3.0)


def test_single_pairs_and_loops_over_data():
    d = ArrayDataset(*quarters())
    image, label = d[-1]
    assert image.shape == (1, 8, 8) and image.dtype == np.uint8 and label == 3 and isinstance(label, int)
    assert [label for _, label in d] == d.labels.tolist()
    for bad, error in ((40, IndexError), (slice(3), TypeError), ([1, 2], TypeError), (True, TypeError)):
        with pytest.raises(error):
            d[bad]
    assert [len(part) for part in d.split(0.2)] == [32, 8]
    for bad in (0, 1.5, [1, 2], np.zeros(40, int), np.zeros(39, bool), True, "all"):
        with pytest.raises(ValueError, match=r"split: expected .*"):
            d.split(bad)
    with pytest.raises(TypeError, match="positions of images"):
        d.batch([0.5])
    assert d.batch([])[0].shape == (0, 1, 8, 8) and d.batch([3, 1], (0, 1))[1].tolist() == [3, 1]


def test_a_loader_has_another_order_in_each_epoch_and_the_same_in_each_run():
    pair = quarters()
    d = ArrayDataset(*pair, shift=1)

    def epochs(loader, n):
        return [np.concatenate([x.ravel() for x, _ in loader]) for _ in range(n)]

    a, b = epochs(Loader(d, 16, seed=3), 3), epochs(Loader(d, 16, seed=3), 3)
    assert all(map(np.array_equal, a, b)) and not np.array_equal(a[0], a[1])
    later = Loader(d, 16, seed=3)
    later.epoch = 2
    assert np.array_equal(epochs(later, 1)[0], a[2])
    expected = np.concatenate([x.ravel() for x, _ in batches(d, 16, seed=3, epoch=1)])
    assert np.array_equal(expected, a[1])
    plain = Loader(pair, 16)
    assert len(plain) == 3 and all(map(np.array_equal, *([epochs(plain, 2)] * 2)))
    assert [len(y) for _, y in batches(pair, 16)] == [16, 16, 8]
    for bad, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batch_size"):
            Loader(pair, bad)
    nested = Loader(d, 40, seed=0)  # two passes at once do not disturb each other
    one, two = iter(nested), iter(nested)
    assert not np.array_equal(next(one)[1], next(two)[1]) and nested.epoch == 2


def test_labels_of_a_part_of_the_classes_keep_the_models_names(tmp_path):
    """Data that lacks the last classes, or a head with more outputs: no wrong number of names is written."""
    x, y = quarters()
    t = trainer(net(classes=10))
    t.fit((x, y), 1)
    assert t.model.classes is None
    t.model.save(tmp_path / "m")
    assert fastcnn.io.read(tmp_path / "m").classes is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t.fit(ArrayDataset(x, y, classes=[f"c{i}" for i in range(10)]), 1)
    assert t.model.classes == tuple(f"c{i}" for i in range(10))
    t.fit((x, y), 1)  # a pair names no classes: those that are known stay
    assert t.model.classes == tuple(f"c{i}" for i in range(10))


def test_data_of_another_shape_leaves_what_the_model_knew():
    x, y = quarters()
    t = trainer()
    t.fit((x, y), 1)
    known = t.model.preprocessing, t.model.classes, t.model.last_input_shape
    with pytest.raises(ValueError, match="expected 64 input features"):
        t.fit(ArrayDataset(x[:, :4], y, list("abcd"), Preprocessing(mean=(0.5,))), 1)
    assert known == (t.model.preprocessing, t.model.classes, t.model.last_input_shape)


def named(labels, classes):
    images = (
        np.zeros((len(labels), 1, 28, 28), np.uint8)
        + np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    )
    return data.ArrayDataset(images, labels, classes=classes)


def test_labels_count_the_models_classes_by_name():
    model = fastcnn.models.create("lenet5", num_classes=3)
    model.classes, model.preprocessing = ("apple", "grass", "sky"), data.Preprocessing()
    trainer = fastcnn.Trainer(model)
    whole = named([0, 1, 2, 1, 2], ("apple", "grass", "sky"))
    want = trainer.evaluate(whole)
    assert trainer.evaluate(named([1, 2, 0, 2, 0], ("sky", "apple", "grass"))) == want
    part, same = named([0, 1, 0], ("grass", "sky")), named([1, 2, 1], ("apple", "grass", "sky"))
    assert trainer.evaluate(part) == trainer.evaluate(same)
    with pytest.raises(
        ValueError, match="the class tree, which the model does not know; it knows apple, grass, sky"
    ):
        trainer.evaluate(named([0, 1], ("sky", "tree")))
    assert len(model.predict(named([0, 1], ("sky", "tree")))) == 2


def test_other_names_in_training_are_told():
    model = fastcnn.models.create("lenet5", num_classes=2)
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.01))
    trainer.fit(named([0, 1], ("a", "b")), 1)
    with pytest.warns(
        UserWarning, match="the model's classes were a, b; trained on this data they are now c, d"
    ):
        trainer.fit(named([0, 1], ("c", "d")), 1)
    assert model.classes == ("c", "d")


def test_the_part_of_the_digits_is_a_truth_value():
    for wrong in ("test", None, 1):
        with pytest.raises(TypeError, match="digits: expected True or False for train"):
            data.digits(wrong)


def test_flat_rows_are_no_picture():
    model = fastcnn.models.create("lenet5")
    model.preprocessing = data.Preprocessing()
    for rows in (np.zeros((5, 784), np.uint8), np.zeros(784, np.uint8), np.zeros((5, 784), np.float32)):
        with pytest.raises(ValueError, match=r"reshape\(-1, 1, 28, 28\)"):
            model.predict(rows)


class Mixed:
    """Pairs whose images are not all of one type."""

    def __init__(self, *types):
        self.types = types

    def __len__(self):
        return len(self.types)

    def __getitem__(self, i):
        return np.ones((1, 8, 8), self.types[i]), i % 4


@pytest.mark.parametrize("types", [("uint8", "uint8", "float32"), ("float32", "uint8", "uint8")], ids=str)
@pytest.mark.parametrize("together", [True, False])
def test_items_of_another_type_than_the_first_are_named(types, together):
    items = as_dataset(Mixed(*types))
    bad = types.index("float32" if types[0] == "uint8" else "uint8")
    text = f"item {bad} of the data set: an image of {types[bad]}, the first one is {types[0]}: pixels are scaled"
    with pytest.raises(TypeError, match=text):
        items.batch([0, bad] if together else [bad])


def test_a_loader_is_not_data_to_fit_and_says_what_is():
    loader = Loader(quarters(), 10, seed=0)
    for give in (trainer().fit, trainer().evaluate):
        with pytest.raises(TypeError, match=r"got Loader, which makes batches itself: give .*loader\.data"):
            give(loader)
    assert len(trainer().fit(loader.data, 1)) == 1


@pytest.mark.parametrize(
    "seed,error", [("a", TypeError), (1.5, TypeError), (True, TypeError), (-1, ValueError)]
)
def test_a_seed_is_a_whole_number_when_it_is_given(seed, error):
    with pytest.raises(error, match=f"seed must .*got {seed!r}"):
        Loader(quarters(), 10, seed=seed)
    with pytest.raises(error, match=f"seed must .*got {seed!r}"):
        batches(quarters(), 10, seed=seed)
    with pytest.raises(error, match=f"seed must .*got {seed!r}"):
        trainer().fit(quarters(), 1, seed=seed)
    assert Loader(quarters(), 10, seed=np.int64(3)).seed == 3


def test_unknown_names_in_validation_leave_what_the_model_knew():
    model = fastcnn.models.create("lenet5", num_classes=2)
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.01))
    trainer.fit(named([0, 1], ("a", "b")), 1)
    with pytest.raises(ValueError, match="validation_data: the data has the class z"):
        trainer.fit(named([0, 1], ("a", "b")), 1, validation_data=named([0, 1], ("a", "z")))
    assert model.classes == ("a", "b")
