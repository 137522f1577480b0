"""Models of classes of one's own: what a file holds of their forward pass, and what it refuses to hold."""

import json
import random

import numpy as np
import pytest
from safetensors.numpy import save as encode

import fastcnn
from fastcnn import functional as F
from fastcnn import io, models, nn

RNG = np.random.default_rng(0)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.gain = nn.Parameter(np.full((channels, 1, 1, 1), 0.5))

    def forward(self, x):
        y = self.norm(self.conv(x))
        return F.relu(F.conv2d(y, self.gain, groups=y.shape[1]) + x)


class Network(nn.Module):
    """Branches, a layer called twice, a fixed filter without a name, a scaled value, a subclass of a layer."""

    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2.0

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding="same")
        self.blocks = nn.Sequential(Residual(8), nn.MaxPool2d(2), Residual(8))
        self.again = nn.Conv2d(8, 8, 1)
        self.offset = nn.Buffer(np.linspace(-1, 1, 8))
        self.linear = self.Doubled(2 * 8 * 4 * 4, 5)

    def forward(self, x):
        blur = np.full((8, 1, 3, 3), 1 / 9, np.float32)
        x = nn.Tanh()(self.stem(x))
        x = self.blocks(x)
        y = self.again(F.sigmoid(self.again(x)))
        z = F.conv2d(x, blur, self.offset, padding=1, groups=8)
        return self.linear(F.flatten(F.concat([y, z])))


def network(seed=3):
    fastcnn.manual_seed(seed)
    return Network()


def images(n=3, shape=(1, 8, 8)):
    return RNG.standard_normal((n, *shape)).astype(np.float32)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) for k in a)


def losses(model, x, y, steps=4):
    optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    trainer = fastcnn.Trainer(model.train(), optimizer)
    return [trainer.train_step(x, y) for _ in range(steps)]


def test_the_file_alone_predicts_and_trains_on(tmp_path):
    model, x, y = network(), images(16), np.arange(16) % 5
    losses(model, x, y)
    fastcnn.save(model, tmp_path / "m", input_shape=(1, 8, 8))
    loaded = fastcnn.load(tmp_path / "m")
    assert not isinstance(loaded, Network) and not loaded.training and same(loaded, model)
    assert np.array_equal(loaded(x), model.eval()(x))
    assert losses(loaded, x, y) == losses(model, x, y) and same(loaded, model)


def test_a_loaded_recording_can_be_saved_again(tmp_path):
    fastcnn.save(network(), tmp_path / "a", input_shape=(1, 8, 8))
    fastcnn.save(fastcnn.load(tmp_path / "a"), tmp_path / "b", input_shape=(1, 8, 8))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_input_shape_may_come_from_the_last_call(tmp_path):
    model = network()
    with pytest.raises(ValueError, match=r"Network is neither.*input_shape"):
        fastcnn.save(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    model(images())
    fastcnn.save(model, tmp_path / "m")
    assert io.read(tmp_path / "m").input_shape == (1, 8, 8)
    with pytest.raises(ValueError, match=r"recorded for inputs of shape 1x8x8 and a batch, got 2x1x9x9"):
        fastcnn.load(tmp_path / "m")(images(2, (1, 9, 9)))


def test_parts_keep_their_names_and_types(tmp_path):
    fastcnn.save(network(), tmp_path / "m", input_shape=(1, 8, 8))
    loaded = fastcnn.load(tmp_path / "m")
    assert [n for n, _ in loaded.named_modules()] == [n for n, _ in network().named_modules()]
    assert isinstance(loaded.blocks, nn.Sequential) and isinstance(loaded.blocks[0].norm, nn.BatchNorm2d)
    assert loaded.blocks[0].norm.num_batches_tracked.data.dtype == np.int64
    assert loaded.summary((1, 8, 8)).parameters == network().summary((1, 8, 8)).parameters


def test_modes_that_differ_are_recorded_apart(tmp_path):
    class Modes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return self.a(x) if self.training else self.b(x)

    model, x = Modes(), images(2, (4,))
    model.a.train(False)  # a part may have a mode of its own; saving leaves it as it is
    fastcnn.save(model, tmp_path / "m", input_shape=(4,))
    assert model.training and not model.a.training
    loaded = fastcnn.load(tmp_path / "m")
    assert np.array_equal(loaded(x), model.eval()(x))
    assert np.array_equal(loaded.train()(x), model.train()(x))
    assert not np.array_equal(loaded.train()(x), model.eval()(x))


def test_a_changed_network_of_the_registry_is_recorded(tmp_path):
    model = models.create("resnet20_cifar").eval()
    model.layer1 = nn.Sequential()
    x = images(1, (3, 32, 32))
    fastcnn.save(model, tmp_path / "m", input_shape=(3, 32, 32))
    assert np.array_equal(fastcnn.load(tmp_path / "m")(x), model(x))


@pytest.mark.parametrize("kind", ["sequential", "own"])
def test_shared_layers_and_tied_parameters_stay_shared(tmp_path, kind):
    twice, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.bias = twice.bias
    model = nn.Sequential(twice, nn.Tanh(), twice, other)
    if kind == "own":
        model.add_module("last", Network.Doubled(4, 4))
    x, y = images(6, (4,)), np.arange(6) % 4
    fastcnn.save(model, tmp_path / "m", input_shape=(4,))
    loaded = fastcnn.load(tmp_path / "m")
    assert np.array_equal(loaded(x), model.eval()(x))
    parts = dict(loaded.named_children())
    assert parts["2"] is parts["0"] and parts["3"].bias is parts["0"].bias
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    assert losses(loaded, x, y) == losses(model, x, y)
    fresh = nn.Sequential(twice, nn.Tanh(), twice, other)
    fresh.load_state_dict(fresh.state_dict())


class Batch(nn.Module):
    def forward(self, x):
        return F.scale(x, x.shape[0])


class Counting(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return F.scale(x, self.calls)


class Gradient(nn.Module):
    def forward(self, x):
        return F.relu_backward(x, F.relu(x))


class Several(nn.Module):
    def forward(self, x):
        return x, F.relu(x)


class Large(nn.Module):
    def forward(self, x):
        return F.conv2d(x, np.zeros((8, 1, 32, 32), np.float32), padding=16)


@pytest.mark.parametrize(
    "kind, message",
    [
        (Batch, "another batch size"),
        (Counting, "another call"),
        (Gradient, "uses function_backward"),
        (Several, "expected one value"),
        (Large, "keep it as a Buffer"),
    ],
)
def test_what_a_recording_cannot_say_is_refused(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message):
        fastcnn.save(kind(), tmp_path / "m", input_shape=(1, 8, 8))
    assert list(tmp_path.iterdir()) == []


def crafted(path, change):
    """A well-formed file whose recording has been changed."""
    fastcnn.save(network(), path, input_shape=(1, 8, 8))
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    entry = json.loads(header["__metadata__"]["fastcnn"])
    recording = entry["architecture"]
    change(recording)
    path.write_bytes(encode(dict(network().state_dict()), {"fastcnn": json.dumps(entry)}))
    return path


def step(recording, op):
    return next(s for s in recording["eval"]["steps"] if s.get("op") == op)


def child(recording, name):
    return next(c for c in recording["members"]["layers"] if c[0] == name)


HOSTILE = {
    "op by name": lambda r: step(r, "sigmoid").update(op="os.system"),
    "an op with an effect": lambda r: step(r, "sigmoid").update(op="sgd"),
    "itself": lambda r: r["eval"]["steps"][0].update(layer=""),
    "a module that is no layer": lambda r: r["eval"]["steps"][0].update(layer="blocks"),
    "no such layer": lambda r: r["eval"]["steps"][0].update(layer="none"),
    "no such value": lambda r: r["eval"]["steps"][0].update({"in": [7]}),
    "no such tensor": lambda r: step(r, "conv2d")["in"].__setitem__(1, {"tensor": "none"}),
    "operand": lambda r: step(r, "conv2d")["in"].__setitem__(1, "x"),
    "result": lambda r: r["eval"].update(result=10**9),
    "attribute": lambda r: step(r, "conv2d")["attrs"].update(groups=10**30),
    "attributes": lambda r: step(r, "conv2d").update(attrs=[1]),
    "huge value": lambda r: r["eval"]["steps"].append(
        {"op": "pad_channels", "attrs": {"before": 10**12, "after": 0}, "in": [0]}
    ),
    "no steps": lambda r: r.update(eval={}),
    "steps": lambda r: r["eval"].update(steps="abc"),
    "input shape": lambda r: r.update(input_shape=[1, -8, 8]),
    "members": lambda r: r.update(members=[]),
    "name of a part": lambda r: child(r, "stem").__setitem__(0, "a.b"),
    "name of an array": lambda r: r["members"]["buffers"].append("none"),
    "shared with nothing": lambda r: child(r, "stem").__setitem__(1, {"type": "shared", "with": "none"}),
    "tied to another shape": lambda r: r["members"].update(tied=[["stem.bias", "stem.weight"]]),
    "tied to nothing": lambda r: r["members"].update(tied=[["stem.bias", "none"]]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_recordings_are_clean_errors(tmp_path, name):
    path = crafted(tmp_path / "m", HOSTILE[name])
    with pytest.raises(ValueError):
        fastcnn.load(path)


def test_damaged_recordings_are_clean_errors(tmp_path):
    path = tmp_path / "m"
    fastcnn.save(network(), path, input_shape=(1, 8, 8))
    good = path.read_bytes()
    header_end = 8 + int.from_bytes(good[:8], "little")
    rng = random.Random(5)
    errors = 0
    for _ in range(400):
        bad = bytearray(good)
        at = rng.randrange(header_end)
        if rng.random() < 0.5:
            bad[at] ^= 1 << rng.randrange(8)
        else:
            bad[at : at + rng.randrange(1, 20)] = rng.randbytes(rng.randrange(20))
        path.write_bytes(bad)
        try:
            fastcnn.load(path)  # another digit can make another network
        except ValueError:
            errors += 1
    assert errors >= 300


class Block(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x) + x)


def test_own_blocks_in_a_plain_sequential_can_be_read_back(tmp_path, rng) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Block(), nn.Flatten(), nn.Linear(144, 3)).eval()
    x = rng.standard_normal((2, 1, 8, 8)).astype(np.float32)
    model.save(tmp_path / "m.safetensors", input_shape=(1, 8, 8))
    np.testing.assert_array_equal(fastcnn.load(tmp_path / "m.safetensors").eval()(x), model(x))


@pytest.mark.parametrize(
    "head", [lambda: nn.Linear(144, 5), lambda: nn.Sequential(nn.Linear(144, 7), nn.ReLU(), nn.Linear(7, 5))]
)
def test_the_head_of_a_loaded_network_can_be_replaced(tmp_path, rng, head) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Sequential(nn.Conv2d(1, 4, 3), Block()), nn.Linear(144, 3)

        def forward(self, x):
            return self.fc(F.flatten(self.body(x)))

    Net().save(tmp_path / "m.safetensors", input_shape=(1, 8, 8))
    loaded = fastcnn.load(tmp_path / "m.safetensors")
    loaded.fc = head()
    assert loaded(rng.standard_normal((2, 1, 8, 8)).astype(np.float32)).shape == (2, 5)


@pytest.mark.parametrize("name", ["x.y", "", 3])
def test_a_part_needs_a_name_that_can_be_saved(name) -> None:
    with pytest.raises(ValueError, match="name without dots"):
        nn.Sequential().add_module(name, nn.ReLU())
    with pytest.raises(TypeError, match="expected a Module"):
        nn.Sequential().add_module("a", "relu")


def test_a_branch_for_one_image_alone_is_refused(tmp_path):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            y = self.conv(x)
            return F.relu(y) if x.shape[0] == 1 else y

    with pytest.raises(ValueError, match="something else for another batch size"):
        fastcnn.save(Branching(), tmp_path / "m", input_shape=(1, 8, 8))
    assert not (tmp_path / "m").exists()


class FunctionalNorm(nn.Module):
    """Statistics by hand: their update counts the values of the batch."""

    def __init__(self, pooled=False):
        super().__init__()
        self.conv, self.pooled = nn.Conv2d(1, 3, 3), pooled
        self.mean, self.var = nn.Buffer(np.zeros(3)), nn.Buffer(np.ones(3))

    def forward(self, x):
        x = self.conv(x)
        x = F.global_avg_pool2d(x) if self.pooled else x
        return F.batch_norm(x, self.mean, self.var, training=self.training)


@pytest.mark.parametrize("pooled", [False, True])
def test_running_statistics_of_ones_own(tmp_path, pooled):
    model, x = FunctionalNorm(pooled), images(5)
    fastcnn.save(model, tmp_path / "m", input_shape=(1, 8, 8))
    loaded = fastcnn.load(tmp_path / "m").train()
    for batch in (5, 3, 2):
        assert np.array_equal(loaded(x[:batch]), model(x[:batch]))
    assert same(loaded, model) and model.mean.data.any()
    again = tmp_path / "again"
    fastcnn.save(loaded, again)
    assert np.array_equal(fastcnn.load(again)(x), model.eval()(x))


class Gate(nn.Module):
    """Does something else in training, without a layer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        x = self.norm(x)
        return x * 2.0 if self.training else x


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Gate()
        self.tail = nn.Sequential(nn.BatchNorm2d(1))

    def forward(self, x):
        return F.flatten(self.tail(self.body(x)))


def gated(tmp_path, **parts):
    model = Gated()
    for name, mode in parts.items():
        model.get_submodule(name).train(mode)
    io.save(model, tmp_path / "g.safetensors", input_shape=(1, 2, 2))
    return model, io.load(tmp_path / "g.safetensors").train()


def test_a_part_in_another_mode_than_the_recorded_network_is_an_error(tmp_path):
    _, loaded = gated(tmp_path)
    x = RNG.standard_normal((3, 1, 2, 2)).astype(np.float32)
    loaded.body.norm.eval()  # layers have modes of their own
    loaded.tail.eval()
    loaded(x)
    loaded.body.eval()
    with pytest.raises(
        ValueError, match=r"body is in eval mode, the network in training mode: .* the layers inside"
    ):
        loaded(x)
    loaded.eval()(x)
    loaded.body.train()
    with pytest.raises(ValueError, match="body is in training mode, the network in eval mode"):
        loaded(x)


def test_a_recording_is_that_of_all_parts_in_one_mode(tmp_path):
    model, loaded = gated(tmp_path, body=False)
    x = RNG.standard_normal((3, 1, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model.train()(x))
