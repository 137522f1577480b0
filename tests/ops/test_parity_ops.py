"""The functional ops beside PyTorch's functions of the same name: same arguments in, same numbers out.

PyTorch itself computes in float64 here, so that the only rounding is fastcnn's; tolerances are those of
float32 sums of a few hundred terms. The reference is held against PyTorch in test_reference.py and
by check_op.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastcnn.functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def double(a):
    return torch.tensor(a, dtype=torch.float64, requires_grad=True)


def close(mine, theirs, scale=1.0):
    theirs = theirs.detach().numpy()
    assert mine.dtype == np.float32 and mine.shape == theirs.shape
    np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5 * scale)


@pytest.mark.parametrize(
    "stride, padding, dilation, groups", list(itertools.product([1, 2], [0, (1, 2)], [1, 2], [1, 4]))
)
def test_conv2d(stride, padding, dilation, groups):
    x, w, b = normal(3, 8, 13, 12), normal(12, 8 // groups, 3, 3), normal(12)
    tx, tw, tb = map(double, (x, w, b))
    ty = T.conv2d(tx, tw, tb, stride, padding, dilation, groups)
    close(F.conv2d(x, w, b, stride, padding, dilation, groups), ty, 5)
    dy = normal(*ty.shape, seed=1)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    for mine, t in zip(
        F.conv2d_backward(dy, x, w, stride, padding, dilation, groups), (tx, tw, tb), strict=True
    ):
        close(mine, t.grad, 10)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel, dilation", [(3, 1), (4, 1), ((2, 5), (3, 1))])
def test_conv2d_padding_by_name(padding, kernel, dilation):
    """PyTorch has "same" for stride 1 only, and puts the odd row and column at the same side."""
    k = (kernel, kernel) if isinstance(kernel, int) else kernel
    x, w = normal(2, 3, 10, 11), normal(4, 3, *k)
    close(
        F.conv2d(x, w, padding=padding, dilation=dilation),
        T.conv2d(double(x), double(w), None, 1, padding, dilation),
        5,
    )


@pytest.mark.parametrize(
    "kernel, stride, padding, ceil_mode", list(itertools.product([2, 3], [None, 1, 3], [0, 1], [False, True]))
)
def test_pooling(kernel, stride, padding, ceil_mode):
    x = normal(2, 5, 10, 11)
    tx = double(x)
    ty, tindex = T.max_pool2d(tx, kernel, stride, padding, ceil_mode=ceil_mode, return_indices=True)
    y, index = F.max_pool2d(x, kernel, stride, padding, ceil_mode, return_indices=True)
    assert (y == ty.detach().numpy()).all() and (index == tindex.numpy()).all() and index.dtype == np.int64
    dy = normal(*ty.shape, seed=1)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    close(F.max_pool2d_backward(dy, x, kernel, stride, padding, ceil_mode), tx.grad)
    for include in (True, False):
        tx = double(x)
        ty = T.avg_pool2d(tx, kernel, stride, padding, ceil_mode, include)
        close(F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include), ty)
        ty.backward(torch.tensor(dy, dtype=torch.float64))
        close(F.avg_pool2d_backward(dy, x.shape, kernel, stride, padding, ceil_mode, include), tx.grad)


@pytest.mark.parametrize("size", [1, 4, (3, 7), (None, 5)])
def test_adaptive_avg_pool2d(size):
    x = normal(2, 5, 10, 11)
    close(F.adaptive_avg_pool2d(x, size), T.adaptive_avg_pool2d(double(x), size))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training):
    x, w, b = normal(4, 6, 5, 7), normal(6), normal(6)
    mean, var = normal(6, seed=2), np.abs(normal(6, seed=3)) + 0.5
    tx, tw, tb = map(double, (x, w, b))
    tmean, tvar = (torch.tensor(a, dtype=torch.float64) for a in (mean, var))
    ty = T.batch_norm(tx, tmean, tvar, tw, tb, training, 0.2, 1e-3)
    before = mean.copy(), var.copy()
    close(F.batch_norm(x, mean, var, w, b, training, 0.2, 1e-3), ty)
    close(mean, tmean)
    close(var, tvar)
    dy = normal(*x.shape, seed=1)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    grads = F.batch_norm_backward(dy, x, w, *before, training=training, eps=1e-3)
    for mine, t in zip(grads, (tx, tw, tb), strict=True):
        close(mine, t.grad, 5)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
def test_activations(name):
    x, dy = 4 * normal(3, 5, 6, 7), normal(3, 5, 6, 7, seed=1)
    tx = double(x)
    ty = getattr(torch, name)(tx)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    y = getattr(F, name)(x)
    close(y, ty)
    close(getattr(F, f"{name}_backward")(dy, y), tx.grad)


@pytest.mark.parametrize(
    ("name", "options"), [("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.3}), ("silu", {})]
)
def test_activations_whose_gradient_reads_the_input(name, options):
    x, dy = 4 * normal(3, 5, 6, 7), normal(3, 5, 6, 7, seed=1)
    tx = double(x)
    ty = getattr(T, name)(tx, **options)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    close(getattr(F, name)(x, **options), ty)
    close(getattr(F, f"{name}_backward")(dy, x, **options), tx.grad)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_softmax_and_cross_entropy(reduction):
    x, labels = 3 * normal(19, 10), np.random.default_rng(1).integers(0, 10, 19)
    tx = double(x)
    close(F.softmax(x), tx.softmax(1))
    loss = T.cross_entropy(tx, torch.tensor(labels), reduction=reduction)
    loss.backward()
    np.testing.assert_allclose(F.cross_entropy(x, labels, reduction), loss.item(), rtol=1e-6)
    close(F.cross_entropy_backward(x, labels, reduction), tx.grad)


def test_linear():
    x, w, b, dy = normal(7, 33), normal(11, 33), normal(11), normal(7, 11, seed=1)
    tx, tw, tb = map(double, (x, w, b))
    ty = T.linear(tx, tw, tb)
    ty.backward(torch.tensor(dy, dtype=torch.float64))
    close(F.linear(x, w, b), ty, 5)
    for mine, t in zip(F.linear_backward(dy, x, w), (tx, tw, tb), strict=True):
        close(mine, t.grad, 5)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(momentum=0.9),
        dict(momentum=0.9, weight_decay=5e-4, nesterov=True),
        dict(momentum=0.5, dampening=0.2, weight_decay=0.01),
    ],
    ids=str,
)
def test_sgd_step(options):
    p, buffer = normal(6, 5), None
    tp = torch.nn.Parameter(torch.tensor(p, dtype=torch.float64))
    optimizer = torch.optim.SGD([tp], lr=0.05, **options)
    for step in range(5):
        g = normal(6, 5, seed=step + 1)
        tp.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        buffer = F.sgd_step(p, g, buffer, lr=0.05, **options)
        close(p, tp)
