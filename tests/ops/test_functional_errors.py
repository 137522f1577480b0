"""What fastcnn.functional says to wrong arguments: what was expected and what came, with shapes."""

from __future__ import annotations

import numpy as np
import pytest
from op_table import OPS, example

import fastcnn.functional as F


@pytest.mark.parametrize(
    "dtype", [np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_, np.complex64]
)
@pytest.mark.parametrize("name", OPS)
def test_other_types_are_refused(name, dtype, rng):
    spec, inputs, options = example(name, rng)
    for k in range(len(inputs)):
        wrong = [a.astype(dtype) if i == k else a for i, a in enumerate(inputs)]
        with pytest.raises(
            TypeError, match=f"{name}: expected a float32 array for .*, got {np.dtype(dtype)} "
        ):
            spec.forward(F, wrong, options)


@pytest.mark.parametrize("name", OPS)
def test_lists_are_refused(name, rng):
    spec, inputs, options = example(name, rng)
    inputs[0] = inputs[0].tolist()
    with pytest.raises(TypeError, match=r"expected a float32 NumPy array for .*, got list"):
        spec.forward(F, inputs, options)


def zeros(*shape):
    return np.zeros(shape, np.float32)


X = zeros(2, 3, 8, 8)
ERRORS = {
    "conv2d-channels": (
        lambda: F.conv2d(X, zeros(4, 5, 3, 3)),
        ["conv2d", "expected 5 input channels, got 3", "input 2x3x8x8", "weight 4x5x3x3"],
    ),
    "conv2d-rank": (
        lambda: F.conv2d(zeros(3, 8, 8), zeros(4, 3, 3, 3)),
        ["conv2d", "expected input (N, C, H, W)", "3x8x8"],
    ),
    "conv2d-weight-rank": (
        lambda: F.conv2d(X, zeros(4, 27)),
        ["conv2d", "weight (OC, IC / groups, KH, KW)", "weight 4x27"],
    ),
    "conv2d-kernel": (
        lambda: F.conv2d(X, zeros(4, 3, 9, 3)),
        ["conv2d", "kernel height 9", "padded input's 8", "weight 4x3x9x3"],
    ),
    "conv2d-dilated-kernel": (
        lambda: F.conv2d(X, zeros(4, 3, 3, 3), padding=1, dilation=5),
        ["kernel height 11 (dilated)", "padded input's 10"],
    ),
    "conv2d-bias": (lambda: F.conv2d(X, zeros(4, 3, 3, 3), zeros(3)), ["conv2d", "bias", "4", "3"]),
    "conv2d-stride-0": (
        lambda: F.conv2d(X, zeros(4, 3, 3, 3), stride=0),
        ["conv2d", "strides of at least 1", "[0, 0]"],
    ),
    "conv2d-stride-3": (
        lambda: F.conv2d(X, zeros(4, 3, 3, 3), stride=(1, 2, 3)),
        ["conv2d", "one or two integers for stride", "(1, 2, 3)"],
    ),
    "conv2d-padding": (
        lambda: F.conv2d(X, zeros(4, 3, 3, 3), padding=-1),
        ["conv2d", "padding of at least 0", "-1"],
    ),
    "conv2d-padding-3": (
        lambda: F.conv2d(X, zeros(4, 3, 3, 3), padding=(1, 2, 3)),
        ["padding of one, two (height, width) or four", "(1, 2, 3)"],
    ),
    "conv2d-padding-text": (
        lambda: F.conv2d(X, zeros(4, 3, 3, 3), padding="full"),
        ["'same' or 'valid'", "'full'"],
    ),
    "conv2d-groups": (
        lambda: F.conv2d(X, zeros(4, 1, 3, 3), groups=2),
        ["expected 2 input channels, got 3", "2 groups"],
    ),
    "conv2d-groups-out": (
        lambda: F.conv2d(X, zeros(4, 1, 3, 3), groups=3),
        ["out channels divisible by 3 groups, got 4"],
    ),
    "conv2d-empty-weight": (
        lambda: F.conv2d(X, zeros(0, 3, 3, 3)),
        ["weight without empty dimensions", "0x3x3x3"],
    ),
    "conv2d-layout": (lambda: F.conv2d(X, zeros(4, 3, 3, 3), layout="nchw4"), ["layout", "nchw4"]),
    "conv2d-implementation": (
        lambda: F.conv2d(X, zeros(4, 3, 3, 3), implementation="magic"),
        ["no implementation named 'magic'", "direct"],
    ),
    "conv2d-overflow": (lambda: F.conv2d(X, zeros(4, 3, 3, 3), padding=2**40), ["conv2d", "padding"]),
    "conv2d_backward-dy": (
        lambda: F.conv2d_backward(zeros(2, 4, 5, 6), X, zeros(4, 3, 3, 3)),
        ["output gradient of 2x4x6x6, got 2x4x5x6"],
    ),
    "conv2d_backward-x": (
        lambda: F.conv2d_backward(zeros(2, 4, 6, 6), zeros(2, 5, 8, 8), zeros(4, 3, 3, 3)),
        ["conv2d_backward", "expected input 2x3x8x8, got 2x5x8x8"],
    ),
    "linear": (lambda: F.linear(zeros(2, 5), zeros(3, 4)), ["linear", "4", "5", "input 2x5", "weight 3x4"]),
    "linear-rank": (lambda: F.linear(zeros(2, 5, 1), zeros(3, 5)), ["linear", "2x5x1"]),
    "linear-bias": (lambda: F.linear(zeros(2, 5), zeros(3, 5), zeros(4)), ["linear", "bias", "3", "4"]),
    "linear_backward-x": (
        lambda: F.linear_backward(zeros(2, 3), zeros(2, 4), zeros(3, 5)),
        ["expected input 2x5, got 2x4"],
    ),
    "max_pool2d-kernel": (lambda: F.max_pool2d(X, 9), ["max_pool2d", "9", "8"]),
    "max_pool2d-rank": (
        lambda: F.max_pool2d(zeros(8, 8), 2),
        ["max_pool2d", "4 dimensions (N, C, H, W)", "8x8"],
    ),
    "max_pool2d-padding": (lambda: F.max_pool2d(X, 2, padding=2), ["max_pool2d", "padding", "2"]),
    "max_pool2d-zero": (lambda: F.max_pool2d(X, 0), ["max_pool2d", "kernel", "0"]),
    "max_pool2d_backward-dy": (
        lambda: F.max_pool2d_backward(zeros(2, 3, 3, 3), X, 2),
        ["max_pool2d_backward", "2x3x4x4", "2x3x3x3"],
    ),
    "avg_pool2d-stride": (lambda: F.avg_pool2d(X, 2, 0), ["avg_pool2d", "stride", "0"]),
    "avg_pool2d_backward-shape": (
        lambda: F.avg_pool2d_backward(zeros(2, 3, 4, 4), (2, 4, 8, 8), 2),
        ["avg_pool2d_backward", "expected an input shape (2, 3, H, W)", "2x4x8x8"],
    ),
    "adaptive-size": (lambda: F.adaptive_avg_pool2d(X, 0), ["adaptive_avg_pool2d", "0"]),
    "batch_norm-mean": (
        lambda: F.batch_norm(X, zeros(4), zeros(3)),
        ["batch_norm", "running_mean", "3", "4"],
    ),
    "batch_norm-weight": (lambda: F.batch_norm(X, zeros(3), zeros(3), zeros(2)), ["batch_norm", "3", "2"]),
    "batch_norm-one-value": (
        lambda: F.batch_norm(zeros(1, 3, 1, 1), zeros(3), zeros(3), training=True),
        ["batch_norm", "more than one value per channel", "1x3x1x1"],
    ),
    "batch_norm-backward": (
        lambda: F.batch_norm_backward(X, X, training=False),
        ["running_mean and running_var when not training"],
    ),
    "relu_backward": (lambda: F.relu_backward(X, zeros(2, 3, 8, 7)), ["2x3x8x8", "2x3x8x7"]),
    "leaky_relu_backward": (
        lambda: F.leaky_relu_backward(X, zeros(2, 3, 8, 7)),
        ["2x3x8x8", "2x3x8x7"],
    ),
    "silu_backward": (lambda: F.silu_backward(X, zeros(2, 3, 8, 7)), ["2x3x8x8", "2x3x8x7"]),
    "softmax-rank": (lambda: F.softmax(X), ["softmax", "2x3x8x8"]),
    "cross_entropy-label": (
        lambda: F.cross_entropy(zeros(3, 4), [0, 4, -1]),
        ["labels from 0 to 3, got labels[1] = 4"],
    ),
    "cross_entropy-negative": (lambda: F.cross_entropy_backward(zeros(3, 4), [0, 1, -1]), ["labels[2] = -1"]),
    "cross_entropy-count": (lambda: F.cross_entropy(zeros(3, 4), [0, 1]), ["logits 3x4", "labels 2"]),
    "cross_entropy-reduction": (
        lambda: F.cross_entropy(zeros(1, 4), [0], "none"),
        ["'mean' or 'sum'", "'none'"],
    ),
    "add": (lambda: F.add(X, zeros(2, 3, 8, 1)), ["add", "2x3x8x8", "2x3x8x1"]),
    "concat": (lambda: F.concat([X, zeros(2, 3, 8, 7)]), ["concat", "2x3x8x8", "2x3x8x7"]),
    "concat-none": (lambda: F.concat([]), ["at least one array"]),
    "concat_backward": (lambda: F.concat_backward(X, [1, 1]), ["add up to 3", "[1, 1]"]),
    "flatten_backward": (lambda: F.flatten_backward(zeros(2, 5), (2, 2, 2, 2)), ["unflatten", "8", "5"]),
    "pad_channels": (lambda: F.pad_channels(X, -1, 0), ["pad_channels", "-1"]),
    "slice_channels": (lambda: F.slice_channels(X, 2, 5), ["slice_channels", "5", "3"]),
    "subsample": (lambda: F.subsample(X, 0), ["subsample", "0"]),
    "subsample_backward": (
        lambda: F.subsample_backward(zeros(2, 3, 4, 4), 2, (2, 3, 9, 8)),
        ["subsample_backward", "2x3x5x4", "2x3x4x4"],
    ),
    "sgd-shape": (lambda: F.sgd_step(zeros(3), zeros(4), lr=0.1), ["sgd", "3", "4"]),
    "sgd-buffer": (lambda: F.sgd_step(zeros(3), zeros(3), zeros(4), lr=0.1, momentum=0.9), ["sgd", "3", "4"]),
    "sgd-strided": (
        lambda: F.sgd_step(zeros(6)[::2], zeros(3), lr=0.1),
        ["param is updated in place", "non-contiguous"],
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS.keys())
def test_errors_say_what_was_expected_and_what_came(case):
    call, texts = case
    with pytest.raises(ValueError) as error:
        call()
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize("bad", [1.5, "2", None, [1.0, 2.0], True])
def test_sizes_are_integers(bad):
    with pytest.raises(TypeError, match="expected integers for stride"):
        F.conv2d(X, zeros(4, 3, 3, 3), stride=bad)


def test_an_extra_positional_argument_does_not_slip_into_a_flag():
    """PyTorch's max_pool2d takes a dilation after the padding."""
    with pytest.raises(TypeError, match="max_pool2d: expected True or False for ceil_mode, got 1"):
        F.max_pool2d(X, 2, 2, 0, 1)


def test_labels_are_integers():
    with pytest.raises(TypeError, match="cross_entropy: expected integer labels, got float64"):
        F.cross_entropy(zeros(2, 3), [0.0, 1.0])


def test_running_statistics_must_be_writable():
    mean, var = zeros(3), np.ones(3, np.float32)
    mean.flags.writeable = False
    with pytest.raises(ValueError, match=r"running_mean is updated in place: .* read-only"):
        F.batch_norm(X, mean, var, training=True)
    with pytest.raises(ValueError, match=r"running_var is updated in place: .* non-contiguous"):
        F.batch_norm(X, zeros(3), zeros(6)[::2], training=True)
    F.batch_norm(X, mean, np.ones(6, np.float32)[::2])  # only read


def test_nothing_is_updated_when_an_argument_is_wrong():
    mean, var = zeros(3), np.ones(3, np.float32)
    with pytest.raises(ValueError):
        F.batch_norm(X + 1, mean, var, zeros(4), training=True)
    assert (mean == 0).all() and (var == 1).all()
