"""PyTorch's spellings: accepted with the one meaning they can have here, refused with a cure otherwise."""

from __future__ import annotations

import collections
import importlib

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import nn

X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


# ---- arguments that change nothing


@pytest.mark.parametrize(
    "ours,plain",
    [
        (lambda: nn.ReLU(inplace=True), nn.ReLU),
        (lambda: nn.ReLU(True), nn.ReLU),
        (lambda: nn.LeakyReLU(0.2, inplace=True), lambda: nn.LeakyReLU(0.2)),
        (lambda: nn.LeakyReLU(0.2, True), lambda: nn.LeakyReLU(0.2)),
        (lambda: nn.SiLU(inplace=True), nn.SiLU),
        (lambda: nn.Flatten(1), nn.Flatten),
        (lambda: nn.Flatten(start_dim=1, end_dim=-1), nn.Flatten),
        (lambda: nn.MaxPool2d(2, dilation=1, return_indices=False), lambda: nn.MaxPool2d(2)),
        (lambda: nn.AvgPool2d(2, divisor_override=None), lambda: nn.AvgPool2d(2)),
        (
            lambda: nn.Conv2d(3, 4, 3, padding_mode="zeros", device=None, dtype=None),
            lambda: nn.Conv2d(3, 4, 3),
        ),
        (lambda: nn.Conv2d(3, 4, 3, device="cpu", dtype=np.float32), lambda: nn.Conv2d(3, 4, 3)),
        (lambda: nn.BatchNorm2d(3, track_running_stats=True), lambda: nn.BatchNorm2d(3)),
        (lambda: nn.BatchNorm2d(3, 1e-5, 0.1, True, True), lambda: nn.BatchNorm2d(3)),
    ],
)
def test_habitual_arguments_compute_and_save_as_without(ours, plain, tmp_path) -> None:
    fastcnn.manual_seed(0)
    a = ours()
    fastcnn.manual_seed(0)
    b = plain()
    np.testing.assert_array_equal(a(X), b(X))
    assert a.config() == b.config() and repr(a) == repr(b)
    path = tmp_path / "net.safetensors"
    fastcnn.save(nn.Sequential(a), path)
    np.testing.assert_array_equal(fastcnn.load(path)(X), b.eval()(X))


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: nn.Flatten(0), "Flatten: start_dim can only be 1 here, got 0"),
        (lambda: nn.Flatten(1, 2), "Flatten: end_dim can only be -1 here, got 2"),
        (lambda: nn.MaxPool2d(2, dilation=2), r"MaxPool2d: dilation can only be 1 or \(1, 1\) here, got 2"),
        (lambda: nn.MaxPool2d(2, return_indices=True), "MaxPool2d: return_indices can only be False here"),
        (lambda: nn.AvgPool2d(2, divisor_override=3), "AvgPool2d: divisor_override can only be None here"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="reflect"), "Conv2d: padding_mode can only be 'zeros' here"),
        (lambda: nn.Conv2d(3, 4, 3, device="cuda"), "Conv2d: device can only be None or 'cpu' here"),
        (lambda: nn.Linear(3, 4, dtype=np.float64), "Linear: dtype can only be None or 'float32'"),
        (lambda: nn.BatchNorm2d(3, track_running_stats=False), "track_running_stats can only be True here"),
        (
            lambda: nn.CrossEntropyLoss(label_smoothing=0.1),
            "CrossEntropyLoss: label_smoothing can only be 0.0",
        ),
        (lambda: nn.CrossEntropyLoss(weight=X), "CrossEntropyLoss: weight can only be None here"),
    ],
)
def test_habitual_arguments_that_mean_something_else_are_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "build,message",
    [
        (lambda: nn.ReLU(inplace=1), "ReLU: expected True or False for inplace, got 1"),
        (lambda: nn.MaxPool2d(3, 2, 1, 1), "MaxPool2d: expected True or False for ceil_mode, got 1"),
        (lambda: nn.Conv2d(3, 4, 3, bias="False"), "Conv2d: expected True or False for bias"),
        (lambda: nn.Conv2d(3, 4, 3, 1, 0, 1, 1, True, "zeros"), "expected one of .*got 'zeros'"),
    ],
)
def test_positions_of_other_signatures_do_not_slip(build, message) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()


def test_a_loss_takes_pytorchs_defaults_by_name() -> None:
    assert nn.CrossEntropyLoss(weight=None, label_smoothing=0, reduction="sum").reduction == "sum"


def test_parameters_answer_to_pytorchs_words() -> None:
    layer = nn.Linear(3, 4)
    assert (layer.weight.numel(), layer.weight.ndim, layer.bias.numel(), layer.bias.ndim) == (12, 2, 4, 1)
    assert layer.bias.requires_grad_(False) is layer.bias and not layer.bias.requires_grad
    assert layer.bias.requires_grad_().requires_grad


@pytest.mark.parametrize(
    "name,cure", [("register_forward_hook", "features_at"), ("register_full_backward_hook", "gradients_at")]
)
def test_hooks_are_refused_with_what_there_is(name, cure) -> None:
    with pytest.raises(AttributeError, match=rf"Linear has no attribute '{name}' .here: model\.{cure}"):
        getattr(nn.Linear(3, 4), name)


# ---- in place


def _torch_of(kind):
    torch = pytest.importorskip("torch")
    return torch, {
        "relu": lambda v: torch.nn.functional.relu(v, inplace=True),
        "leaky_relu": lambda v: torch.nn.functional.leaky_relu(v, 0.3, inplace=True),
        "silu": lambda v: torch.nn.functional.silu(v, inplace=True),
    }[kind]


OURS = {
    "relu": lambda v: F.relu(v, inplace=True),
    "leaky_relu": lambda v: F.leaky_relu(v, 0.3, inplace=True),
    "silu": lambda v: F.silu(v, inplace=True),
}


@pytest.mark.parametrize("kind", OURS)
def test_what_is_in_place_is_seen_by_whoever_holds_the_value(kind) -> None:
    """x + f(x) with f in place adds the result twice, as in PyTorch."""
    torch, theirs = _torch_of(kind)

    class Net(nn.Module):
        def forward(self, x):
            y = x * 2.0
            return F.add(OURS[kind](y), y)

    net = Net()
    t = torch.from_numpy(X.copy()).requires_grad_()
    u = t * 2.0
    want = theirs(u) + u
    np.testing.assert_allclose(net(X), want.detach().numpy(), rtol=1e-5, atol=1e-6)
    want.sum().backward()
    np.testing.assert_allclose(net.backward(np.ones_like(X)), t.grad.numpy(), rtol=1e-5, atol=1e-6)


class Residual(nn.Module):
    """The first ReLU of the block changes what is added, where it is in place."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.ReLU(inplace), nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.ReLU(True))

    def forward(self, x):
        return x + self.block(x)


@pytest.mark.parametrize("inplace", [True, False])
def test_a_residual_block_that_begins_in_place(inplace, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    net = Residual(inplace)
    before = X.copy()
    weight = torch.from_numpy(net.block[1].weight.data.copy())
    t = torch.from_numpy(X.copy()).requires_grad_()
    v = t * 1
    first = torch.relu_(v) if inplace else torch.relu(v)
    want = v + torch.relu(torch.nn.functional.conv2d(first, weight, padding=1))
    np.testing.assert_allclose(net(X), want.detach().numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(X, before)  # the caller's array is the caller's
    want.sum().backward()
    np.testing.assert_allclose(net.backward(np.ones_like(X)), t.grad.numpy(), rtol=1e-4, atol=1e-5)
    path = tmp_path / "net.safetensors"
    fastcnn.save(net, path, input_shape=(3, 8, 8))
    loaded = fastcnn.load(path)
    np.testing.assert_array_equal(loaded(X), net.eval()(X))
    assert net.features_at(X, ["input"])["input"].tolist() == X.tolist()


def test_in_place_on_an_array_writes_into_it() -> None:
    a = X.copy()
    assert F.relu(a, inplace=True) is a and (a == np.maximum(X, 0)).all()
    closed = X.copy()
    closed.flags.writeable = False
    with pytest.raises(ValueError, match="x is updated in place: expected a writable contiguous array"):
        F.relu(closed, inplace=True)
    assert (closed == X).all()


# ---- functions


def test_nn_functional_is_functional() -> None:
    module = importlib.import_module("fastcnn.nn.functional")
    assert nn.functional is module
    assert all(getattr(module, name) is getattr(F, name) for name in F.__all__)
    assert dir(module) == dir(F)


def test_functions_of_torch_itself() -> None:
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(X)
    rows = X.reshape(6, 64)
    for name in ("relu", "tanh", "sigmoid"):
        np.testing.assert_allclose(
            getattr(fastcnn, name)(X), getattr(torch, name)(t).numpy(), rtol=1e-5, atol=1e-6
        )
    for dim in (1, -1):
        want = torch.softmax(torch.from_numpy(rows), dim=dim).numpy()
        np.testing.assert_allclose(fastcnn.softmax(rows, dim=dim), want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(F.softmax(rows, dim), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fastcnn.flatten(X, 1), torch.flatten(t, 1).numpy())
    np.testing.assert_array_equal(F.flatten(X, 1), torch.flatten(t, 1).numpy())
    np.testing.assert_array_equal(F.flatten(X, start_dim=1, end_dim=3), torch.flatten(t, 1, 3).numpy())
    for join in (fastcnn.cat, fastcnn.concat):
        np.testing.assert_array_equal(join([X, X], dim=1), torch.cat([t, t], 1).numpy())


@pytest.mark.parametrize(
    "call",
    [
        lambda: fastcnn.flatten(X),  # PyTorch: one dimension for everything
        lambda: fastcnn.cat([X, X]),  # PyTorch: along the batch
        lambda: F.flatten(X, 0),
        lambda: F.flatten(X, 1, 2),
        lambda: F.softmax(X.reshape(6, 64), dim=0),
        lambda: F.concat([X, X], 2),
        lambda: F.max_pool2d(X, 2, dilation=2),
    ],
)
def test_other_dimensions_are_refused(call) -> None:
    with pytest.raises(ValueError, match="can only be"):
        call()


# ---- members of modules


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.Flatten())


def test_members_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    t = torch.nn
    ours = _net()
    theirs = t.Sequential(t.Conv2d(3, 4, 3), t.Sequential(t.BatchNorm2d(4), t.ReLU()), t.Flatten())
    for arguments in ({}, {"prefix": "net"}, {"recurse": False}, {"prefix": "net", "recurse": False}):
        for call in ("named_parameters", "named_buffers"):
            names = [k for k, _ in getattr(ours, call)(**arguments)]
            assert names == [k for k, _ in getattr(theirs, call)(**arguments)], (call, arguments)
    assert [k for k, _ in ours[0].named_parameters("conv", recurse=False)] == ["conv.weight", "conv.bias"]
    assert len(list(ours.parameters(recurse=False))) == 0 and len(list(ours.parameters())) == 4
    assert [k for k, _ in ours.named_children()] == [k for k, _ in theirs.named_children()]
    seen: tuple[list, list] = [], []
    assert ours.apply(lambda m: seen[0].append(type(m).__name__)) is ours
    theirs.apply(lambda m: seen[1].append(type(m).__name__))
    assert seen[0] == seen[1]
    assert ours.get_submodule("1.0") is ours[1][0] and ours.get_submodule("") is ours
    with pytest.raises(AttributeError, match="Sequential '1' has no part '7'; there are: 0, 1"):
        ours.get_submodule("1.7")


def test_zero_grad_forgets_or_clears() -> None:
    layer = nn.Linear(3, 2)
    layer(np.ones((4, 3), np.float32))
    layer.backward(np.ones((4, 2), np.float32))
    layer.bias.grad = None
    layer.zero_grad(set_to_none=False)
    assert (layer.weight.grad == 0).all() and layer.bias.grad is None
    layer.zero_grad(set_to_none=True)
    assert layer.weight.grad is None
    with pytest.raises(TypeError, match="set_to_none"):
        layer.zero_grad("yes")


def test_parameter_count_of_frozen_networks() -> None:
    net = _net()
    total = net.parameter_count()
    net[0].requires_grad_(requires_grad=False)
    assert net.parameter_count() == total == 3 * 4 * 9 + 4 + 8
    assert net.parameter_count(trainable=True) == 8
    with pytest.raises(TypeError, match="requires_grad_: expected True or False"):
        net.requires_grad_("no")


def test_mode_is_a_truth_value() -> None:
    net = _net()
    with pytest.raises(TypeError, match=r"Sequential\.train: expected True or False for mode, got 'False'"):
        net.train("False")
    assert net.training and net.train(np.bool_(False)).training is False


def test_devices_and_types() -> None:
    net = _net()
    assert net.to("cpu") is net.cpu() is net.float() is net.to(np.float32) is net.to(device="cpu") is net
    for call in (
        lambda: net.to("cuda"),
        lambda: net.to("cuda:0", non_blocking=True),
        lambda: net.cuda(),
        lambda: net.half(),
        lambda: net.double(),
        lambda: net.bfloat16(),
        lambda: net.to(np.float64),
        lambda: net.to(X),
    ):
        with pytest.raises(ValueError, match="fastcnn computes in float32 on the CPU") as error:
            call()
        assert "\n" not in str(error.value)
    torch = pytest.importorskip("torch")
    assert net.to(torch.device("cpu")) is net.to(torch.float32) is net
    with pytest.raises(ValueError, match="float64"):
        net.to(torch.float64)


def test_registered_buffers_and_parameters(tmp_path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", np.full((3, 4), 0.5))
            self.register_buffer("count", np.array([3, 4]))
            self.register_buffer("nothing", None)
            self.register_parameter("weight", nn.Parameter(np.ones((5, 4))))
            self.register_parameter("bias", None)

        def forward(self, x):
            return F.linear(F.add(x, self.mean), self.weight, self.bias)

    net = Net()
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(net(x), np.full((3, 5), 6, np.float32))
    assert net.nothing is None and net.bias is None and net.count.data.dtype == np.int64
    assert list(net.state_dict()) == ["weight", "mean", "count"]
    net.register_buffer("mean", np.zeros((3, 4)))  # again: the new one is seen
    np.testing.assert_array_equal(net(x), np.full((3, 5), 4, np.float32))
    for call, message in (
        (lambda: net.register_buffer("a.b", x), "a name without dots"),
        (lambda: net.register_buffer("weight", x), "already has something named 'weight'"),
        (lambda: net.register_buffer("forward", x), "already has something named 'forward'"),
        (lambda: net.register_buffer("other", x, persistent=False), "persistent can only be True here"),
        (lambda: net.register_buffer("other", "text"), "expected numbers as 'other'"),
        (lambda: net.register_parameter("other", x), "expected a Parameter as 'other', got ndarray"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    assert list(net.state_dict()) == ["weight", "mean", "count"]


# ---- Sequential


def _same(ours, theirs) -> None:
    assert [(k, type(m).__name__) for k, m in ours.named_children()] == [
        (k, type(m).__name__) for k, m in theirs.named_children()
    ]


def test_sequential_changes_like_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    made = [n.Sequential(n.Conv2d(3, 4, 3), n.ReLU(), n.Tanh()) for n in (nn, torch.nn)]
    for change in (
        lambda s, n: s.append(n.Sigmoid()),
        lambda s, n: s.insert(1, n.BatchNorm2d(4)),
        lambda s, n: s.insert(-1, n.SiLU()),
        lambda s, n: s.insert(len(s), n.Flatten()),
        lambda s, n: s.__setitem__(2, n.LeakyReLU()),
        lambda s, n: s.__setitem__(-1, n.ReLU()),
        lambda s, n: s.extend([n.Tanh(), n.ReLU()]),
        lambda s, n: s.__delitem__(0),
        lambda s, n: s.__delitem__(slice(1, 3)),
        lambda s, n: s.pop(1),
        lambda s, n: s.pop(-1),
    ):
        for s, n in zip(made, (nn, torch.nn), strict=True):
            change(s, n)
        _same(*made)


def test_a_changed_sequential_computes_what_it_now_is() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Tanh())
    np.testing.assert_allclose(net(X), np.tanh(np.maximum(X, 0)), atol=1e-6)
    net.insert(0, nn.Sigmoid())
    np.testing.assert_allclose(net(X), np.tanh(1 / (1 + np.exp(-X))), atol=1e-6)
    tanh = net.pop()
    np.testing.assert_allclose(net(X), 1 / (1 + np.exp(-X)), atol=1e-6)
    net[0] = tanh
    np.testing.assert_allclose(net(X), np.maximum(np.tanh(X), 0), atol=1e-6)
    net.extend(net)
    assert [k for k, _ in net.named_children()] == ["0", "1", "2", "3"]
    for call, error in (
        (lambda: net.insert(9, tanh), IndexError),
        (lambda: net[9], IndexError),
        (lambda: net.pop(-9), IndexError),
        (lambda: net.__setitem__(0, X), TypeError),
        (lambda: net.extend([tanh, None]), TypeError),
        (lambda: net.append(nn.ReLU), TypeError),
        (lambda: net["0"], TypeError),
    ):
        with pytest.raises(error, match="Sequential: expected"):
            call()
        assert len(net) == 4


def test_named_sequential(tmp_path) -> None:
    layers = collections.OrderedDict(conv=nn.Conv2d(3, 4, 3), act=nn.ReLU(), flat=nn.Flatten())
    net = nn.Sequential(layers)
    assert list(net.state_dict()) == ["conv.weight", "conv.bias"] and net.act is net[1]
    assert [k for k, _ in net[1:].named_children()] == ["act", "flat"]
    net.insert(1, nn.BatchNorm2d(4))
    assert [k for k, _ in net.named_children()] == ["conv", "1", "act", "flat"]
    del net[1]
    assert [k for k, _ in net.named_children()] == ["conv", "act", "flat"]
    path = tmp_path / "net.safetensors"
    net(X)
    fastcnn.save(net, path)
    np.testing.assert_array_equal(fastcnn.load(path)(X), net.eval()(X))
    with pytest.raises(TypeError, match=r"unpack it: Sequential\(\*layers\)"):
        nn.Sequential([nn.ReLU()])
    with pytest.raises(TypeError, match=r"at position 0; did you mean ReLU\(\)\?"):
        nn.Sequential(nn.ReLU)
    with pytest.raises(ValueError, match="without dots"):
        nn.Sequential({"a.b": nn.ReLU()})


def test_slices_of_a_sequential_count_anew() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    assert [k for k, _ in net[1:].named_children()] == ["0", "1"] and net[1:][0] is net[1]


def test_files_of_layers_hold_no_habits() -> None:
    """A reader of before knows every name that is written."""
    known = {
        "Conv2d": "in_channels out_channels kernel_size stride padding dilation groups bias init",
        "Linear": "in_features out_features bias init",
        "BatchNorm2d": "num_features eps momentum affine",
        "MaxPool2d": "kernel_size stride padding ceil_mode",
        "AvgPool2d": "kernel_size stride padding ceil_mode count_include_pad",
        "AdaptiveAvgPool2d": "output_size",
        "LeakyReLU": "negative_slope",
    }
    made = [nn.Conv2d(1, 1, 1), nn.Linear(1, 1), nn.BatchNorm2d(1), nn.MaxPool2d(1), nn.AvgPool2d(1)]
    made += [
        nn.AdaptiveAvgPool2d(1),
        nn.LeakyReLU(),
        nn.ReLU(),
        nn.SiLU(),
        nn.Tanh(),
        nn.Sigmoid(),
        nn.Flatten(),
    ]
    for layer in made:
        assert list(layer.config()) == known.get(type(layer).__name__, "").split()
