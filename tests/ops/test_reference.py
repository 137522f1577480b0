"""The oracle itself: its examples run, its gradients agree with finite differences and float64 PyTorch."""

from __future__ import annotations

import doctest
import importlib
import itertools
import pkgutil

import numpy as np
import pytest

from fastcnn import reference as ref

GEOMETRIES = [
    dict(),
    dict(stride=2),
    dict(stride=(1, 2), padding=(1, 2)),
    dict(padding=(0, 1, 2, 0)),
    dict(padding="same", stride=(2, 3)),
    dict(padding="valid", dilation=(2, 1)),
    dict(padding=2, dilation=2, stride=3),
]


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(ref.__path__)])
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"fastcnn.reference.{module}"))
    assert result.failed == 0 and result.attempted > 0


def check_gradient(f, grad, x, rng, step=1e-6):
    """<grad, v> equals the central difference of f along a random direction v."""
    v = rng.standard_normal(x.shape)
    slope = (f(x + step * v) - f(x - step * v)) / (2 * step)
    assert grad.shape == x.shape
    np.testing.assert_allclose(np.vdot(grad, v), slope, rtol=1e-6, atol=1e-7)


def check_gradients(f, backward, args, rng):
    """All gradients of sum(dy * f(*args)) for a random dy."""
    dy = rng.standard_normal(f(*args).shape)
    grads = backward(dy)
    grads = grads if isinstance(grads, (tuple, list)) else (grads,)
    for k, grad in enumerate(grads):

        def along(a, k=k):
            return np.vdot(dy, f(*args[:k], a, *args[k + 1 :]))

        check_gradient(along, grad, args[k], rng)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv2d_gradients(geometry, groups, rng):
    geometry = dict(geometry, groups=groups)
    x = rng.standard_normal((2, 4, 7, 9))
    w, b = rng.standard_normal((8, 4 // groups, 3, 2)), rng.standard_normal(8)
    check_gradients(
        lambda x, w, b: ref.conv2d(x, w, b, **geometry),
        lambda dy: ref.conv2d_backward(dy, x, w, **geometry),
        (x, w, b),
        rng,
    )


def test_conv2d_is_its_formula(rng):
    """Against the sum written out, index by index."""
    x, w = rng.standard_normal((1, 4, 5, 6)), rng.standard_normal((6, 2, 3, 2))
    (top, left, bottom, right), (sh, sw), (dh, dw) = (1, 0, 2, 1), (2, 1), (1, 2)
    y = ref.conv2d(x, w, None, (sh, sw), (top, left, bottom, right), (dh, dw), groups=2)
    assert y.shape == (1, 6, (5 + 3 - 3) // 2 + 1, 6 + 1 - 3 + 1)
    for o, p, q in np.ndindex(y.shape[1:]):
        total = 0.0
        for c, i, j in np.ndindex(w.shape[1:]):
            row, col = p * sh + i * dh - top, q * sw + j * dw - left
            if 0 <= row < 5 and 0 <= col < 6:
                total += w[o, c, i, j] * x[0, (o // 3) * 2 + c, row, col]
        np.testing.assert_allclose(y[0, o, p, q], total, rtol=1e-12)


POOLS = [
    dict(kernel_size=2),
    dict(kernel_size=3, stride=2),
    dict(kernel_size=(3, 2), stride=(1, 3), padding=1),
    dict(kernel_size=3, stride=2, padding=(1, 0, 2, 1), ceil_mode=True),
    dict(kernel_size=2, stride=5, ceil_mode=True),
    dict(kernel_size=3, stride=2, padding="same"),
]


@pytest.mark.parametrize("pool", POOLS)
def test_pool_gradients(pool, rng):
    x = rng.standard_normal((2, 3, 7, 8))
    check_gradients(
        lambda x: ref.max_pool2d(x, **pool)[0], lambda dy: ref.max_pool2d_backward(dy, x, **pool), (x,), rng
    )
    for include in (True, False):
        check_gradients(
            lambda x, k=include: ref.avg_pool2d(x, **pool, count_include_pad=k),
            lambda dy, k=include: ref.avg_pool2d_backward(dy, x.shape, **pool, count_include_pad=k),
            (x,),
            rng,
        )


@pytest.mark.parametrize("size", [1, (1, 8), (3, 5), (7, 8), (9, 11)])
def test_adaptive_and_global_pool_gradients(size, rng):
    x = rng.standard_normal((2, 3, 7, 8))
    check_gradients(
        lambda x: ref.adaptive_avg_pool2d(x, size),
        lambda dy: ref.adaptive_avg_pool2d_backward(dy, x.shape),
        (x,),
        rng,
    )
    check_gradients(ref.global_avg_pool2d, lambda dy: ref.global_avg_pool2d_backward(dy, x.shape), (x,), rng)
    np.testing.assert_allclose(ref.adaptive_avg_pool2d(x, 1), ref.global_avg_pool2d(x), rtol=1e-14)


def test_max_pool2d_takes_the_first_of_equals_and_nan():
    y, index = ref.max_pool2d(np.zeros((1, 1, 3, 3)), 3, padding=1)
    assert index.ravel().tolist() == [0]
    y, index = ref.max_pool2d(np.array([[[[5.0, np.nan], [7.0, 1.0]]]]), 2)
    assert np.isnan(y.item()) and index.item() == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_gradients(training, affine, rng):
    x, mean, var = rng.standard_normal((3, 4, 5, 2)), rng.standard_normal(4), rng.uniform(0.5, 2, 4)
    w, b = (rng.standard_normal(4), rng.standard_normal(4)) if affine else (None, None)

    def forward(x, w=None, b=None):
        return ref.batch_norm(x, mean, var, w, b, training, eps=1e-3)[0]

    def backward(dy):
        grads = ref.batch_norm_backward(dy, x, w, mean, var, training, eps=1e-3)
        return grads if affine else grads[:1]

    check_gradients(forward, backward, (x, w, b) if affine else (x,), rng)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "softmax"])
def test_activation_gradients(name, rng):
    x = rng.standard_normal((5, 7))
    forward, backward = getattr(ref, name), getattr(ref, f"{name}_backward")
    check_gradients(forward, lambda dy: backward(dy, forward(x)), (x,), rng)


@pytest.mark.parametrize(("name", "options"), [("leaky_relu", {"negative_slope": 0.3}), ("silu", {})])
def test_activation_gradients_from_the_input(name, options, rng):
    x = rng.standard_normal((5, 7))
    forward, backward = getattr(ref, name), getattr(ref, f"{name}_backward")
    check_gradients(lambda x: forward(x, **options), lambda dy: backward(dy, x, **options), (x,), rng)


def test_linear_and_shape_gradients(rng):
    x, w, b = rng.standard_normal((3, 4)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    check_gradients(ref.linear, lambda dy: ref.linear_backward(dy, x, w), (x, w, b), rng)
    x, z = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((2, 2, 5, 4))
    check_gradients(ref.flatten, lambda dy: ref.flatten_backward(dy, x.shape), (x,), rng)
    check_gradients(ref.add, ref.add_backward, (x, 2 * x), rng)
    check_gradients(lambda *xs: ref.concat(xs), lambda dy: ref.concat_backward(dy, [3, 2]), (x, z), rng)
    check_gradients(
        lambda x: ref.pad_channels(x, 2, 1), lambda dy: ref.pad_channels_backward(dy, 2, 1), (x,), rng
    )
    check_gradients(
        lambda x: ref.slice_channels(x, 1, 3), lambda dy: ref.slice_channels_backward(dy, 1, 3, 3), (x,), rng
    )
    check_gradients(
        lambda x: ref.subsample(x, (2, 3)), lambda dy: ref.subsample_backward(dy, (2, 3), x.shape), (x,), rng
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_gradient(reduction, rng):
    x, labels = 3 * rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    check_gradient(
        lambda x: ref.cross_entropy(x, labels, reduction),
        ref.cross_entropy_backward(x, labels, reduction),
        x,
        rng,
    )
    # Large logits neither overflow nor lose the loss.
    assert ref.cross_entropy(np.array([[1e4, 0.0]]), np.array([1]), reduction) == 1e4


# ---- PyTorch in float64 ----------------------------------------------------------------------------------


def close(mine, theirs):
    np.testing.assert_allclose(mine, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("groups", [1, 4])
def test_conv2d_torch(geometry, groups, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 4, 7, 9))
    w, b = rng.standard_normal((8, 4 // groups, 3, 2)), rng.standard_normal(8)
    stride, dilation = ref.geometry.pair(geometry.get("stride", 1)), geometry.get("dilation", 1)
    top, left, bottom, right = ref.padding4(geometry.get("padding", 0), (7, 9), (3, 2), stride, dilation)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    padded = torch.nn.functional.pad(tx, (left, right, top, bottom))
    ty = torch.nn.functional.conv2d(padded, tw, tb, stride, 0, dilation, groups)
    close(ref.conv2d(x, w, b, **geometry, groups=groups), ty)
    dy = rng.standard_normal(ty.shape)
    ty.backward(torch.tensor(dy))
    for mine, theirs in zip(
        ref.conv2d_backward(dy, x, w, **geometry, groups=groups), (tx, tw, tb), strict=True
    ):
        close(mine, theirs.grad)


@pytest.mark.parametrize("size", [(7, 8), (5, 5), (1, 4)])
def test_pool_torch(size, rng):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x = rng.standard_normal((2, 3, *size))
    tx = torch.tensor(x)
    for k, s, p, ceil in itertools.product([2, 3], [1, 2, 4], [0, 1], [False, True]):
        if min(size) + 2 * p < k:
            continue
        ty, tindex = f.max_pool2d(tx, k, s, p, ceil_mode=ceil, return_indices=True)
        y, index = ref.max_pool2d(x, k, s, p, ceil)
        close(y, ty)
        assert (index == tindex.numpy()).all()
        for include in (True, False):
            close(ref.avg_pool2d(x, k, s, p, ceil, include), f.avg_pool2d(tx, k, s, p, ceil, include))
    for out in (1, (2, 3), (3, 7)):
        close(ref.adaptive_avg_pool2d(x, out), f.adaptive_avg_pool2d(tx, out))


def test_batch_norm_torch(rng):
    torch = pytest.importorskip("torch")
    x, mean, var = rng.standard_normal((3, 4, 5, 2)), rng.standard_normal(4), rng.uniform(0.5, 2, 4)
    w, b = rng.standard_normal(4), rng.standard_normal(4)
    tmean, tvar = torch.tensor(mean), torch.tensor(var)
    ty = torch.nn.functional.batch_norm(
        torch.tensor(x), tmean, tvar, torch.tensor(w), torch.tensor(b), True, 0.3, 1e-4
    )
    for mine, theirs in zip(
        ref.batch_norm(x, mean, var, w, b, True, 0.3, 1e-4), (ty, tmean, tvar), strict=True
    ):
        close(mine, theirs)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(weight_decay=0.1),
        dict(momentum=0.9),
        dict(momentum=0.9, nesterov=True, weight_decay=0.1),
        dict(momentum=0.8, dampening=0.3),
    ],
)
def test_sgd_torch(options, rng):
    torch = pytest.importorskip("torch")
    p, v = rng.standard_normal(5), None
    tp = torch.nn.Parameter(torch.tensor(p))
    optimizer = torch.optim.SGD([tp], lr=0.1, **options)
    for _ in range(4):
        g = rng.standard_normal(5)
        tp.grad = torch.tensor(g)
        optimizer.step()
        p, v = ref.sgd_step(p, g, v, lr=0.1, **options)
        close(p, tp)


@pytest.mark.parametrize("shape", [(6, 4, 5, 5), (10, 84)])
def test_initialisation_torch(shape):
    """The largest of many uniform draws comes close to the bound, and normal draws have the deviation."""
    torch = pytest.importorskip("torch")
    assert ref.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    init = torch.nn.init
    torch.manual_seed(0)
    for fill, bound in (
        (lambda t: init.kaiming_uniform_(t, nonlinearity="relu"), ref.he_uniform_bound(shape)),
        (init.xavier_uniform_, ref.xavier_uniform_bound(shape)),
    ):
        draws = (
            torch.stack([fill(torch.empty(shape, dtype=torch.float64)) for _ in range(50)]).abs().max().item()
        )
        assert 0.995 * bound < draws <= bound
    for fill, std in (
        (
            lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"),
            ref.he_normal_std(shape, mode="fan_out"),
        ),
        (init.xavier_normal_, ref.xavier_normal_std(shape)),
    ):
        draws = torch.stack([fill(torch.empty(shape, dtype=torch.float64)) for _ in range(50)]).std().item()
        np.testing.assert_allclose(draws, std, rtol=0.03)
