"""What people write in forward(): operators, slices, views, methods. Each against NumPy (or PyTorch's own), planned,
layer by layer, and after a file; and what is refused says what to write."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import nn

IMAGES = (5, 4, 6, 7)


class Net(nn.Module):
    """The forward that it is given, between two layers with parameters."""

    def __init__(self, f) -> None:
        super().__init__()
        self.conv, self.f = nn.Conv2d(4, 4, 1), f

    def forward(self, x):
        return self.f(self.conv(x))


def relu(a):
    return np.maximum(a, 0)


# What is written, and what it means in NumPy.
SAME = {
    "minus": (lambda x: x - F.relu(x), lambda a: a - relu(a)),
    "minus a number": (lambda x: x - 1.5, lambda a: a - 1.5),
    "number minus": (lambda x: 1 - x, lambda a: 1 - a),
    "plus a number": (lambda x: np.float32(0.25) + x + 2, lambda a: a + 2.25),
    "negative": (lambda x: -x, lambda a: -a),
    "over": (lambda x: x / 4, lambda a: a / 4),
    "times": (lambda x: 3 * x * np.float64(0.5), lambda a: 1.5 * a),
    "sum": (lambda x: sum([x, x.relu(), x.tanh()]), lambda a: a + relu(a) + np.tanh(a)),
    "numpy's tanh": (lambda x: np.tanh(x), np.tanh),
    "numpy's operators": (lambda x: np.subtract(np.add(x, 1), F.relu(x)), lambda a: a + 1 - relu(a)),
    "channels": (lambda x: x[:, 1:3], lambda a: a[:, 1:3]),
    "rows": (lambda x: x[:, :, 1:], lambda a: a[:, :, 1:]),
    "a window": (lambda x: x[:, :, 1:-1, 2:6], lambda a: a[:, :, 1:-1, 2:6]),
    "every other": (lambda x: x[..., ::2, 1::3], lambda a: a[..., ::2, 1::3]),
    "all of it": (lambda x: x[:, 1:, 2:, -4:], lambda a: a[:, 1:, 2:, -4:]),
    "the same": (lambda x: x[:], lambda a: a),
    "view": (lambda x: x.view(x.size(0), -1), lambda a: a.reshape(5, -1)),
    "view -1": (lambda x: x.view(-1, 168), lambda a: a.reshape(5, -1)),
    "reshape": (lambda x: x.reshape((len(x), 2, 2, 42)), lambda a: a.reshape(5, 2, 2, 42)),
    "there and back": (lambda x: x.flatten(1).view(-1, *x.shape[1:]), lambda a: a),
    "flatten": (lambda x: x.contiguous().flatten(), lambda a: a.reshape(5, -1)),
    "columns": (lambda x: x.flatten(1)[:, 10:20], lambda a: a.reshape(5, -1)[:, 10:20]),
    "mean": (lambda x: x.mean((2, 3)), lambda a: a.mean((2, 3))),
    "mean kept": (lambda x: x.mean(dim=[-1, -2], keepdim=True), lambda a: a.mean((2, 3), keepdims=True)),
    "softmax": (
        lambda x: x.mean((2, 3)).softmax(dim=-1),
        lambda a: np.exp(a.mean((2, 3))) / np.exp(a.mean((2, 3))).sum(1, keepdims=True),
    ),
    "sigmoid": (lambda x: x.sigmoid(), lambda a: 1 / (1 + np.exp(-a))),
}  # fmt: skip


def reference(net, x, meaning):
    w, b = net.conv.weight.data.astype(np.float64)[:, :, 0, 0], net.conv.bias.data.astype(np.float64)
    return meaning(np.einsum("nchw,oc->nohw", x.astype(np.float64), w) + b[:, None, None])


@pytest.mark.parametrize("name", SAME)
def test_is_what_it_is_in_numpy(name, tmp_path, rng) -> None:
    written, meaning = SAME[name]
    net = Net(written)
    x = rng.standard_normal(IMAGES).astype(np.float32)
    want = reference(net, x, meaning)
    y = net(x)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(net.eval()(x), want, rtol=1e-5, atol=1e-5)
    fastcnn.save(net, tmp_path / "net", input_shape=IMAGES[1:])
    again = fastcnn.load(tmp_path / "net")
    np.testing.assert_allclose(again(x), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(again(x[:3]), want[:3], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SAME)
def test_gradient_is_the_derivative(name, rng) -> None:
    """Along one random direction of the input, by a central difference of the meaning in float64."""
    written, meaning = SAME[name]
    net = Net(written)
    x = rng.standard_normal(IMAGES).astype(np.float32)
    y = net(x)
    dy, along = rng.standard_normal(y.shape).astype(np.float32), rng.standard_normal(IMAGES)
    got = (net.backward(dy).astype(np.float64) * along).sum()
    h = 1e-6
    up, down = (reference(net, x.astype(np.float64) + s * h * along, meaning) for s in (1, -1))
    want = ((up - down) / (2 * h) * dy).sum()
    assert abs(got - want) < 2e-3 * (1 + abs(want)), (got, want)


REFUSED = {
    "product": (lambda x: x * F.relu(x), TypeError, "products and quotients of two"),
    "quotient": (lambda x: x / x, TypeError, "products and quotients"),
    "by zero": (lambda x: x / 0, ZeroDivisionError, "divided by 0"),
    "an array": (lambda x: x + np.ones(IMAGES, np.float32), TypeError, "arrays are not broadcast"),
    "an array first": (lambda x: np.ones(4, np.float32) * x, TypeError, "arrays are not broadcast"),
    "a parameter": (lambda x: x * nn.Parameter(np.ones(4)), TypeError, "nn.BatchNorm2d"),
    "a truth value": (lambda x: x + True, TypeError, "got a bool"),
    "numpy's function": (lambda x: np.exp(x), TypeError, "numpy.exp"),
    "numpy's other function": (lambda x: np.concatenate([x, x], 1), TypeError, "numpy.concatenate"),
    "float": (lambda x: float(x), TypeError, "holds no numbers"),
    "one channel": (lambda x: x[:, 0], TypeError, "x\\[:, 3:4\\]"),
    "some images": (lambda x: x[1:], ValueError, "not taken apart"),
    "backwards": (lambda x: x[:, :, ::-1], ValueError, "step of at least 1, got -1"),
    "channels apart": (lambda x: x[:, ::2], ValueError, "step of 1, got 2"),
    "nothing": (lambda x: x[:, :, 3:3], ValueError, "dimension 2, of size 6, is empty"),
    "mixed images": (lambda x: x.view(-1, 84), ValueError, "would mix images"),
    "another batch": (
        lambda x: x.reshape(10, -1),
        ValueError,
        "would mix images: the first size must stay 5",
    ),
    "no fit": (lambda x: x.view(-1, 4, 5), ValueError, "168 numbers"),
    "two unknown": (lambda x: x.view(-1, -1), ValueError, "one may be -1"),
    "all in one": (lambda x: x.flatten(0), ValueError, "expected dimensions 1 to -1, got 0"),
    "mean of all": (lambda x: x.mean(), ValueError, r"expected images and dim=\(2, 3\)"),
    "permute": (lambda x: x.permute(0, 2, 3, 1), AttributeError, "no 'permute': in forward"),
    "iteration": (lambda x: next(iter(x)), TypeError, "not taken apart"),
    "a branch": (lambda x: x if x else -x, TypeError, "must not branch on the data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_so(name, rng) -> None:
    written, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        Net(written)(rng.standard_normal(IMAGES).astype(np.float32))


def test_zero_plus_is_the_value_itself(rng) -> None:
    plan = Net(lambda x: 0 + x + 0).plan(IMAGES)
    assert not any("offset" in step["implementation"] for step in plan.steps)


def test_an_empty_batch(rng) -> None:
    net = Net(lambda x: x[:, :, 1:].view(-1, 4 * 5 * 7))
    assert net(np.zeros((0, 4, 6, 7), np.float32)).shape == (0, 140)


def test_what_speaks_dlpack_is_an_input(rng) -> None:
    net, x = Net(lambda x: x).eval(), rng.standard_normal(IMAGES).astype(np.float32)
    want = net(x)
    np.testing.assert_array_equal(net(fastcnn.Tensor(x)), want)
    np.testing.assert_array_equal(net(fastcnn.from_dlpack(x)), want)
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(net(torch.from_numpy(x)), want)
    with pytest.raises(TypeError, match="expected a float32 array for input, got float64"):
        net(torch.from_numpy(x).double())


def test_inputs_by_name(rng) -> None:
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, a, b):
            return self.conv(x=b) + a

    net = Two()
    x, y = (rng.standard_normal(IMAGES).astype(np.float32) for _ in range(2))
    np.testing.assert_array_equal(net(b=y, a=x), net(x, y))
    with pytest.raises(TypeError, match="Two: missing a required argument: 'b'"):
        net(a=x)
    with pytest.raises(TypeError, match="Two: got an unexpected keyword argument 'mask'"):
        net(x, y, mask=None)


@pytest.mark.parametrize("result", [lambda x: (x, x), lambda x: {"a": x}, lambda x: None])
def test_one_result_is_expected(result, rng) -> None:
    with pytest.raises(
        TypeError,
        match=r"Net.forward: expected one traced value as result, got (tuple; model.feat|dict; |None)",
    ):
        Net(result)(rng.standard_normal(IMAGES).astype(np.float32))


IN_PLACE = {
    "plus": lambda x: plus_in_place(x, 1),
    "zero first": lambda x: zero_first(x),
    "times": lambda x: times_in_place(x),
}


def plus_in_place(x, n):
    y = x
    y += n
    return x + y


def zero_first(x):
    y = x + 0
    F.relu(y, inplace=True)
    return x + y


def times_in_place(x):
    y = x
    y *= 2
    y -= 0.5
    y /= 4
    return x


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_is_what_it_is_in_pytorch(name, rng) -> None:
    torch = pytest.importorskip("torch")
    written = IN_PLACE[name]
    x = rng.standard_normal(IMAGES).astype(np.float32)
    if name == "zero first":
        t = torch.tensor(x)
        want = t + torch.relu(t)
    else:
        want = written(torch.tensor(x))

    class Plain(nn.Module):
        def forward(self, x):
            return written(x)

    np.testing.assert_allclose(Plain()(x), want.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("base_first", [True, False])
def test_a_view_of_what_was_changed_in_place_is_refused(base_first, rng) -> None:
    def written(x):
        y = x.flatten(1)
        F.relu(x if base_first else y, inplace=True)
        return (y if base_first else x.flatten(1)) + 1

    with pytest.raises(ValueError, match="was changed in place"):
        Net(written)(rng.standard_normal(IMAGES).astype(np.float32))
    fine = Net(lambda x: F.relu(x.view(-1, 168), inplace=True))  # nobody else looks
    assert fine(rng.standard_normal(IMAGES).astype(np.float32)).min() == 0
