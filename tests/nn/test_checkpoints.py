"""Weights from elsewhere, files of others, and the doors of save and load."""

import copy
import warnings

import numpy as np
import pytest
from safetensors.numpy import save as encode

import fastcnn
from fastcnn import data, io, models, nn
from fastcnn import functional as F
from fastcnn.data import Preprocessing


def net():
    fastcnn.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


X = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) for k in a)


# ---- load_state_dict


def test_prefixes_of_parallel_and_compiled_training_are_taken_off():
    state = net().state_dict()
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        other = net()
        other[0].weight.data[...] = 0
        assert other.load_state_dict({prefix + k: v for k, v in state.items()}) == ([], [])
        assert same(other, net())


def test_a_part_named_module_keeps_its_name():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(3, 2)

    Wrapped().load_state_dict(Wrapped().state_dict())


@pytest.mark.parametrize("entry", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_is_looked_into_one_level_deep(entry):
    other = net()
    other[0].weight.data[...] = 0
    checkpoint = {
        "epoch": 3,
        "optimizer": {"state": {}},
        entry: {f"module.{k}": v for k, v in net().state_dict().items()},
    }
    with pytest.warns(UserWarning, match=f"its entry '{entry}' is taken"):
        other.load_state_dict(checkpoint)
    assert same(other, net())


def test_what_is_no_state_is_told_so():
    for bad, text in ((net(), "got Sequential; pass its state_dict"), ("w.pth", "got str; read a file first"),
                      (None, "got NoneType"), ([1], "got list"), ({0: X}, "keys are no names")):  # fmt: skip
        with pytest.raises(TypeError, match=text):
            net().load_state_dict(bad)


def test_not_strict_says_what_did_not_fit_as_pytorch_does():
    state = net().state_dict()
    del state["4.bias"]
    state["head.weight"] = X
    result = net().load_state_dict(state, strict=False)
    assert result.missing_keys == ["4.bias"] and result.unexpected_keys == ["head.weight"]
    missing, unexpected = result
    assert (missing, unexpected) == (["4.bias"], ["head.weight"])


def test_long_lists_are_cut():
    big = models.create("resnet20_cifar")
    with pytest.raises(ValueError) as error:
        big.load_state_dict({f"x{i}": X for i in range(97)})
    text = str(error.value)
    assert len(text) < 500 and "and 91 more" in text and "x0, x1" in text


def test_tensors_of_pytorch_in_any_state():
    torch = pytest.importorskip("torch")
    own = net()
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(144, 3),
    )
    own.load_state_dict(
        {**dict(theirs.named_parameters()), **dict(theirs.named_buffers())}
    )  # these require gradients
    assert np.array_equal(own[4].weight.data, theirs[4].weight.detach().numpy())
    own.load_state_dict({k: v.half() if v.is_floating_point() else v for k, v in theirs.state_dict().items()})
    assert np.array_equal(own[4].weight.data, theirs[4].weight.detach().half().float().numpy())
    before = own.state_dict()
    with pytest.raises(ValueError, match=r"0\.weight is no array .*use \.float\(\)\.cpu\(\)"):
        own.load_state_dict({k: v.bfloat16() for k, v in theirs.state_dict().items()})
    assert all(np.array_equal(v, before[k]) for k, v in own.state_dict().items())


# ---- files


def test_files_of_others_are_named_with_the_way_in(tmp_path):
    for begin, text in ((b"PK\x03\x04", "a PyTorch file: torch.load it"), (b"\x80\x02}q", "a PyTorch file"),
                        (b"\x89HDF\r\n", "a Keras file"), (b"hello", "not a safetensors file")):  # fmt: skip
        (tmp_path / "x.pth").write_bytes(begin + bytes(100))
        for read in (fastcnn.load, lambda path: fastcnn.load_weights(net(), path)):
            with pytest.raises(ValueError, match=text):
                read(tmp_path / "x.pth")


def test_half_precision_weights_are_read_exactly(tmp_path):
    state = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in net().state_dict().items()}
    (tmp_path / "half").write_bytes(encode(state))
    other = net()
    fastcnn.load_weights(other, tmp_path / "half")
    for k, v in other.state_dict().items():
        assert np.array_equal(v, state[k].astype(v.dtype))


def test_bfloat16_weights_are_read_exactly(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save as encode_torch

    tensor = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    (tmp_path / "b").write_bytes(encode_torch({"weight": tensor, "bias": torch.zeros(2).bfloat16()}))
    layer = nn.Linear(3, 2)
    fastcnn.load_weights(layer, tmp_path / "b")
    assert np.array_equal(layer.weight.data, tensor.float().numpy())


# ---- save and read


def test_arguments_of_save_and_load_in_another_order_are_told(tmp_path):
    model, path = net(), tmp_path / "m"
    for call in (fastcnn.save, fastcnn.save_weights, fastcnn.load_weights):
        with pytest.raises(
            TypeError, match=rf"{call.__name__}: expected the model first.*{call.__name__}\(model, path\)"
        ):
            call(path, model)
        with pytest.raises(TypeError, match=r"\(model, path\), got int"):
            call(model, 3)
    with pytest.raises(TypeError, match="of a state_dict no architecture is known: pass the model"):
        fastcnn.save(model.state_dict(), path)
    with pytest.raises(TypeError, match=r"must be a fastcnn.data.Preprocessing"):
        fastcnn.save(model, path, preprocessing={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [net, lambda: models.create("lenet5", num_classes=3)])
def test_shapes_and_classes_that_do_not_fit_are_refused(make, tmp_path):
    model, path = make(), tmp_path / "m"
    for shape, error in (((4, 1, 8, 8), "without the batch"), ((3, 28, 28), "does not read inputs of shape 3x28x28"),
                         ((1.0, 8.5, 8), "expected an input shape"), ((1, -8, 8), "at least 0"), ("x", "input shape"),
                         ((2, 2), "does not read inputs")):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=error):
            fastcnn.save(model, path, input_shape=shape)
    good = (1, 8, 8) if make is net else (1, 28, 28)
    for classes, error in (("abc", "sequence of names"), (3, "sequence of names"), (list("abcdefgh"), "8 class names"),
                           (["cat", "dog"], "2 class names for a network with 3 outputs")):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=error):
            fastcnn.save(model, path, input_shape=good, classes=classes)
    assert list(tmp_path.iterdir()) == []
    fastcnn.save(model, path, input_shape=good, classes=(c for c in "abc"))
    assert io.read(path).classes == ("a", "b", "c")


def test_a_file_whose_names_do_not_fit_its_network_is_refused(tmp_path):
    path = tmp_path / "m"
    fastcnn.save(models.create("lenet5"), path, classes=list("0123456789"))
    path.write_bytes(path.read_bytes().replace(rb"\"0\", \"1\",", rb"\"0\"       ,"))
    with pytest.raises(ValueError, match="9 class names for a network with 10 outputs"):
        io.read(path)


def test_what_training_learned_is_saved_without_saying_it(tmp_path):
    model = models.create("lenet5")
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))
    digits = data.digits().subset(slice(0, 200))
    trainer.fit(digits, 1)
    model.save(tmp_path / "m")
    saved = io.read(tmp_path / "m")
    assert (saved.input_shape, saved.classes, saved.preprocessing) == (
        (1, 28, 28), tuple("0123456789"), digits.preprocessing,
    )  # fmt: skip
    assert saved.model.preprocessing == digits.preprocessing and saved.model.classes == saved.classes
    fastcnn.load(tmp_path / "m").save(tmp_path / "again")  # read and written, never run
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()
    clone = copy.deepcopy(model)
    assert clone.preprocessing == model.preprocessing and np.array_equal(
        clone.predict(digits.images), model.predict(digits.images)
    )


def test_a_network_of_the_registry_knows_its_input_before_it_ran(tmp_path):
    for name, shape in (("lenet5", (1, 28, 28)), ("resnet20_cifar", (3, 32, 32))):
        models.create(name).save(tmp_path / name)
        assert io.read(tmp_path / name).input_shape == shape
    changed = models.create("lenet5")
    changed.add_module("0", nn.Conv2d(3, 6, 5, padding=2))  # it has not run since
    changed.save(tmp_path / "changed")
    assert io.read(tmp_path / "changed").input_shape is None


def test_names_of_another_head_are_not_written(tmp_path):
    model = models.create("lenet5", num_classes=3)
    model.classes = ("a", "b", "c")
    model.add_module("11", nn.Linear(84, 2))
    with pytest.warns(UserWarning, match="has 3 names, the network 2 outputs: none are written"):
        model.save(tmp_path / "m")
    assert io.read(tmp_path / "m").classes is None


def test_old_files_without_the_newer_field_are_read(tmp_path):
    path = tmp_path / "m"
    fastcnn.save(models.create("lenet5"), path, preprocessing=Preprocessing(mean=(0.25,)))
    entry = rb"\"dtype\": \"uint8\", "
    raw = path.read_bytes()
    assert entry in raw
    raw = raw.replace(entry, b" " * len(entry))
    path.write_bytes(raw)
    assert io.read(path).preprocessing == Preprocessing(mean=(0.25,))


class OwnNorm(nn.Module):
    """batch_norm as a function, with statistics of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.mean, self.var = nn.Buffer(np.zeros(4, np.float32)), nn.Buffer(np.ones(4, np.float32))

    def forward(self, x):
        return F.batch_norm(self.conv(x), self.mean, self.var, training=self.training)


class Norm(nn.BatchNorm2d):
    """A class of its own, so that its forward is recorded."""


class WithNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), Norm(4)

    def forward(self, x):
        return self.norm(self.conv(x))


@pytest.mark.parametrize("make", [OwnNorm, WithNorm])
def test_batch_norm_in_a_forward_of_ones_own_is_saved(make, tmp_path):
    model = make()
    model(X)
    model.save(tmp_path / "m")
    read = fastcnn.load(tmp_path / "m")
    for batch in (5, 1, 3):
        model.train(), read.train()
        assert np.array_equal(model(X[:batch]), read(X[:batch]))
        a, b = model.state_dict(), read.state_dict()
        assert all(np.array_equal(a[k], b[k]) for k in a if not k.endswith("num_batches_tracked"))
        model.eval(), read.eval()
        assert np.array_equal(model(X), read(X))


def test_load_says_nothing_when_all_is_well(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = net()
        model(X)
        model.save(tmp_path / "m")
        assert same(fastcnn.load(tmp_path / "m"), model)


@pytest.mark.parametrize("name,value", [
    ("0.weight", np.full((2, 1, 1, 1), 1e300)),
    ("1.num_batches_tracked", np.asarray(np.nan)),
    ("1.num_batches_tracked", np.asarray(1e30)),
    ("1.num_batches_tracked", np.asarray(2**64 - 1, np.uint64)),
])  # fmt: skip
def test_values_that_would_become_others_are_refused_by_name(name, value):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    before = model.state_dict()
    with pytest.raises(ValueError, match=rf"too large, or not whole numbers: {name} \({value.dtype} as "):
        model.load_state_dict({**before, name: value})
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())


def test_values_that_stay_themselves_are_taken_from_any_type():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    state = model.state_dict()
    state["0.bias"] = np.array([np.inf, 1 / 3])
    state["1.num_batches_tracked"] = np.float32(7)
    model.load_state_dict(state)
    assert model[1].num_batches_tracked.data == 7
    assert model[0].bias.data.tolist() == [np.inf, np.float32(1 / 3)]
