"""Model files: round trips, what is refused, and damage of every kind."""

import json
import os
import random
import tracemalloc
import warnings

import numpy as np
import pytest
from safetensors.numpy import save as encode

import fastcnn
from fastcnn import io, models, nn
from fastcnn.data import Preprocessing


def small():
    fastcnn.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, (3, 3), stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten()),
        nn.Linear(16, 3),
    )


MODELS = {
    "layers": small,
    "lenet5": lambda: models.create("lenet5", num_classes=3),
    "resnet20": lambda: models.create("resnet20_cifar", num_classes=3),
}
SHAPES = {"layers": (1, 8, 8), "lenet5": (1, 28, 28), "resnet20": (3, 28, 28)}


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("make", MODELS)
def test_round_trip(tmp_path, make):
    model = MODELS[make]()
    path = tmp_path / "m.safetensors"
    p = Preprocessing(mean=(0.5,), std=(0.25,), glyph=0.5)
    fastcnn.save(model, path, input_shape=SHAPES[make], classes=["a", "b", "ü"], preprocessing=p)
    saved = io.read(path)
    assert same_weights(model, saved.model) and not saved.model.training
    assert saved.input_shape == SHAPES[make] and saved.classes == ("a", "b", "ü") and saved.preprocessing == p
    assert saved.version == fastcnn.__version__
    assert same_weights(fastcnn.load(path), model)


def test_a_loaded_model_predicts_the_same(tmp_path):
    model = small()
    model.eval()
    x = np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32)
    fastcnn.save(model, tmp_path / "m")
    assert np.array_equal(fastcnn.load(tmp_path / "m")(x), model(x))


@pytest.mark.parametrize("make", MODELS)
def test_saving_and_loading_leave_random_numbers_alone(tmp_path, make):
    def drawn(between):
        model = MODELS[make]()
        fastcnn.manual_seed(5)
        if between:
            fastcnn.save(model, tmp_path / "m")
            fastcnn.load(tmp_path / "m")
        return nn.Linear(3, 3).weight.data.copy()

    assert np.array_equal(drawn(True), drawn(False))


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in "ab":
        fastcnn.save(small(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_files_of_weights_alone(tmp_path):
    a, b = small(), small()
    fastcnn.save_weights(a, tmp_path / "w")
    b[0].weight.data[...] = 0
    fastcnn.load_weights(b, tmp_path / "w")
    assert same_weights(a, b)
    with pytest.raises(ValueError, match="load_weights"):
        fastcnn.load(tmp_path / "w")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        fastcnn.save(small(), path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(IsADirectoryError):
        fastcnn.save(small(), tmp_path)
    with pytest.raises(FileNotFoundError):
        fastcnn.save(small(), tmp_path / "none" / "m")
    with pytest.raises(FileNotFoundError):
        fastcnn.load(tmp_path / "none")


def crafted(path, change, tensors=None):
    """A well-formed file whose description has been changed."""
    model = small()
    fastcnn.save(model, path, input_shape=(1, 8, 8), classes=["a", "b", "c"])
    header = path.read_bytes()
    header = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    entry = json.loads(header["__metadata__"]["fastcnn"])
    entry = change(entry) or entry
    text = entry if isinstance(entry, str) else json.dumps(entry)
    path.write_bytes(encode(tensors or dict(model.state_dict()), {"fastcnn": text}))
    return path


def layer(entry, i):
    return entry["architecture"]["layers"][i][1]


HOSTILE = {
    "huge linear": lambda e: layer(e, 4)["config"].update(out_features=10**9, in_features=10**9),
    "huge conv": lambda e: layer(e, 0)["config"].update(kernel_size=[10**6, 10**6]),
    "huge batch norm": lambda e: layer(e, 1)["config"].update(num_features=10**12),
    "endless integer": lambda e: layer(e, 3)["layers"][0][1]["config"].update(kernel_size=10**40),
    "class by name": lambda e: layer(e, 2).update(type="os.system"),
    "dunder": lambda e: layer(e, 2).update(type="__init__"),
    "unknown option": lambda e: layer(e, 2)["config"].update(code="x"),
    "text for a number": lambda e: layer(e, 4)["config"].update(out_features="3"),
    "network": lambda e: e.update(architecture={"type": "network", "name": "resnet20_cifar", "options": {}}),
    "big network": lambda e: e.update(
        architecture={
            "type": "network",
            "name": "resnet20_cifar",
            "options": {"num_classes": 10**11, "in_channels": 3},
        }
    ),
    "no network": lambda e: e.update(architecture={"type": "network", "name": ["x"], "options": {}}),
    "layer name": lambda e: e["architecture"]["layers"][1].__setitem__(0, "../1"),
    "missing layer": lambda e: e["architecture"]["layers"].pop(),
    "deep": lambda e: json.dumps(e).replace('"ReLU"', '"Sequential", "layers": ' + "[" * 100000),
    "not an object": lambda e: "[1]",
    "not JSON": lambda e: "{",
    "format": lambda e: e.update(format=2),
    "extra field": lambda e: e.update(path="/etc/passwd"),
    "input shape": lambda e: e.update(input_shape=[1, -8, 8]),
    "input shape size": lambda e: e.update(input_shape=[1, 10**15, 8]),
    "classes": lambda e: e.update(classes=[1, 2]),
    "preprocessing": lambda e: e.update(preprocessing={"scale": "x"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_descriptions_are_clean_errors(tmp_path, name):
    path = crafted(tmp_path / "m", HOSTILE[name])
    tracemalloc.start()
    with pytest.raises(ValueError):
        fastcnn.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 << 20


def test_deep_nesting_of_layers(tmp_path):
    def nest(entry):
        tree = {"type": "ReLU", "config": {}}
        for _ in range(60):
            tree = {"type": "Sequential", "layers": [["0", tree]]}
        entry["architecture"] = tree

    with pytest.raises(ValueError, match="levels"):
        fastcnn.load(crafted(tmp_path / "m", nest))


def test_weights_of_another_type_or_shape(tmp_path):
    state = dict(small().state_dict())
    for change in (
        {"4.weight": state["4.weight"].astype(np.float64)},
        {"4.weight": state["4.weight"].astype(np.int64)},
        {"4.bias": np.zeros((3, 1), np.float32)},
        {"extra": np.zeros(3, np.float32)},
    ):
        path = crafted(tmp_path / "m", lambda e: None, {**state, **change})
        with pytest.raises(ValueError):
            fastcnn.load(path)


def test_200_damaged_files_are_clean_errors(tmp_path):
    """A changed weight cannot be seen; everything before the weights, and every cut, must be."""
    path = tmp_path / "m.safetensors"
    fastcnn.save(small(), path, input_shape=(1, 8, 8), classes=["a", "b", "c"], preprocessing=Preprocessing())
    good = path.read_bytes()
    header_end = 8 + int.from_bytes(good[:8], "little")
    rng = random.Random(3)
    errors = 0
    for _ in range(1000):
        bad = bytearray(good)
        kind = rng.randrange(4)
        if kind == 0:
            bad = bad[: rng.randrange(len(good))]
        elif kind == 1:
            at = rng.randrange(header_end)
            bad[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            at = rng.randrange(header_end)
            bad[at : at + rng.randrange(1, 40)] = rng.randbytes(rng.randrange(40))
        else:
            bad = bytearray(rng.randbytes(rng.randrange(300)))
        path.write_bytes(bad)
        try:
            fastcnn.load(path)  # a flipped letter of a class name leaves a good file
        except ValueError:
            errors += 1
    assert errors >= 600


@pytest.mark.parametrize("ending", [".h5", ".PTH", ".pt", ".keras", ".onnx"])
@pytest.mark.parametrize("save", [fastcnn.save, fastcnn.save_weights, lambda model, path: model.save(path)])
def test_endings_of_other_formats_are_warned_of_once(tmp_path, save, ending):
    with pytest.warns(
        UserWarning, match=rf"m\{ending}: written as safetensors, which .* does not read"
    ) as seen:
        save(small(), tmp_path / f"m{ending}")
    assert len(seen) == 1 and (tmp_path / f"m{ending}").exists()


@pytest.mark.parametrize("name", ["m.safetensors", "m", "m.bin", "m.v2"])
def test_other_endings_are_written_without_a_word(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastcnn.save(small(), tmp_path / name)
