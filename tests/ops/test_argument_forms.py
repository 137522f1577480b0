"""The forms in which people have shapes, and what refused labels are told."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn.functional as F
from fastcnn import nn
from fastcnn.functional import _arguments as args


@pytest.mark.parametrize(
    "value,shape",
    [
        ((1, 28, 28), (1, 28, 28)),
        ([1, 28, 28], (1, 28, 28)),
        ((np.int64(1), 28), (1, 28)),
        ("1x28x28", (1, 28, 28)),
        ("(1, 28, 28)", (1, 28, 28)),
        (784, (784,)),
        (np.int64(784), (784,)),
        (np.array([1, 28, 28]), (1, 28, 28)),
        (np.zeros((1, 28, 28), np.float32), (1, 28, 28)),
        (np.zeros(784, np.float32), (784,)),
    ],
)
def test_shapes_come_in_many_forms(value, shape) -> None:
    assert args.shape_of("summary", value) == shape


@pytest.mark.parametrize(
    "value", [None, "abc", "", (), (1, "2"), 1.5, (1, 2.5), [True], {"a": 1}, object(), np.zeros(())]
)
def test_what_is_no_shape_is_one_clear_line(value) -> None:
    with pytest.raises(TypeError, match=r"summary: expected an input shape such as \(1, 28, 28\)") as error:
        args.shape_of("summary", value)
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_negative_sizes() -> None:
    with pytest.raises(ValueError, match=r"plan: expected sizes of at least 0, got \(-1, 2\)"):
        args.shape_of("plan", (-1, 2))


@pytest.mark.parametrize(
    "labels,cure",
    [
        (np.eye(3), "labels.argmax(axis=1)"),
        (np.eye(3, dtype=int), "labels.argmax(axis=1)"),
        (np.zeros((3, 1), int), "use labels.ravel()"),
        (np.zeros((3, 1)), "use labels.ravel().astype(int)"),
        (np.array([0.0, 1.0]), "use labels.astype(int)"),
        (np.array([True, False]), "use labels.astype(int)"),
        (np.array([0.5, 1.0]), "not whole numbers"),
        (np.array([np.nan]), "not whole numbers"),
        (np.array(["cat", "dog"]), "numpy.unique(labels, return_inverse=True)"),
        (np.array(["cat", "dog"], object), "numpy.unique(labels, return_inverse=True)"),
        (np.array([b"cat"]), "numpy.unique(labels, return_inverse=True)"),
    ],
)
def test_refused_labels_are_told_the_way(labels, cure) -> None:
    hint = args.label_hint(labels)
    assert hint.startswith("; ") and cure in hint


@pytest.mark.parametrize("labels", [np.array([{}, []], object), np.zeros((2, 2, 2), int), np.zeros(2, int)])
def test_no_hint_where_nothing_is_known(labels) -> None:
    assert args.label_hint(labels) == ""


@pytest.mark.parametrize("labels", [np.eye(3), np.zeros((3, 1), int), np.zeros(3), ["a", "b", "c"]])
def test_cross_entropy_hints(labels) -> None:

    with pytest.raises((TypeError, ValueError), match="; "):
        F.cross_entropy(np.zeros((3, 4), np.float32), labels)


# ---- hints for images, with the layer's path


def zeros(*shape):
    return np.zeros(shape, np.float32)


class Net(nn.Module):
    def __init__(self, *layers) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return self.body(x)


CONV = "Conv2d 'body.0': expected"
LAST = "; images are (N, C, H, W): if this is (N, H, W, C), use x.transpose(0, 3, 1, 2)"


@pytest.mark.parametrize(
    "layer,shape,begin,end",
    [
        (lambda: nn.Conv2d(1, 8, 3), (8, 28, 28, 1), f"{CONV} 1 input channels, got 28", LAST),
        (lambda: nn.Conv2d(3, 8, 3), (8, 28, 28, 3), f"{CONV} 3 input channels, got 28", LAST),
        (lambda: nn.Conv2d(3, 8, 3), (8, 4, 28, 28), f"{CONV} 3 input channels, got 4", ")"),
        (lambda: nn.Conv2d(1, 8, 3), (1, 28, 28), f"{CONV} input (N, C, H, W)", "; x[None] adds the batch"),
        (lambda: nn.Conv2d(1, 8, 3), (8, 28, 28), CONV, "; x[:, None] adds the channel"),
        (lambda: nn.Conv2d(3, 8, 3), (3, 28, 28), CONV, "; x[None] adds the batch"),
        (lambda: nn.Conv2d(3, 8, 3), (28, 28, 3), CONV, "use x.transpose(2, 0, 1)[None]"),
        (
            lambda: nn.Conv2d(1, 8, 3),
            (28, 28),
            CONV,
            "a batch, of flat images (N, H * W) x.reshape(-1, 1, H, W)",
        ),
        (lambda: nn.Conv2d(3, 8, 3), (4, 192), CONV, "weight 8x3x3x3"),
        (lambda: nn.Conv2d(4, 4, 3, groups=2), (8, 9, 9, 4), f"{CONV} 4 input channels, got 9", LAST),
        (
            lambda: nn.MaxPool2d(2),
            (3, 8, 8),
            "MaxPool2d 'body.0': expected input of 4 dimensions",
            "the channel",
        ),
        (
            lambda: nn.AvgPool2d(2),
            (8, 8),
            "AvgPool2d 'body.0': expected input of 4",
            "x.reshape(-1, 1, H, W)",
        ),
        (lambda: nn.AdaptiveAvgPool2d(1), (3, 8, 8), "AdaptiveAvgPool2d 'body.0': expected", "the channel"),
        (lambda: nn.AdaptiveAvgPool2d(2), (3, 8, 8), "AdaptiveAvgPool2d 'body.0': expected", "the channel"),
        (lambda: nn.BatchNorm2d(4), (2, 3, 8, 8), "BatchNorm2d 'body.0': expected 4 channels, got 3", ")"),
        (lambda: nn.BatchNorm2d(3), (2, 8, 8, 3), "BatchNorm2d 'body.0': expected 3 channels, got 8", LAST),
        (
            lambda: nn.BatchNorm2d(3),
            (3, 8, 8),
            "BatchNorm2d 'body.0': expected 3 channels",
            "x[None] adds the batch",
        ),
        (
            lambda: nn.BatchNorm2d(4, affine=False),
            (2, 3, 8, 8),
            "BatchNorm2d 'body.0': expected 4 channels",
            ")",
        ),
        (lambda: nn.Linear(64, 8), (64,), "Linear 'body.0': expected input of 2", "x[None] adds the batch"),
        (
            lambda: nn.Linear(64, 8),
            (2, 1, 8, 8),
            "Linear 'body.0': expected input of 2",
            "nn.Flatten(), F.flatten(x)",
        ),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_images_laid_out_otherwise_get_the_hint_and_the_path(layer, shape, begin, end, training) -> None:
    net = Net(layer()).train(training)
    for _ in range(2):  # the second time as the first
        with pytest.raises(ValueError) as error:
            net(zeros(*shape))
        assert str(error.value).startswith(begin) and str(error.value).endswith(end)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda x: F.conv2d(x, zeros(4, 3, 3, 3), padding="full"), r"^Own: conv2d: expected padding 'same'"),
        (lambda x: F.conv2d(x, zeros(4, 3, 3, 3), stride=1.5), r"^Own: conv2d: expected integers for stride"),
        (lambda x: F.conv2d(x, zeros(4, 3, 9, 9)), r"^Own: conv2d: kernel height 9 is larger"),
        (lambda x: F.max_pool2d(x, 2, 2, 0, 1), r"^Own: max_pool2d: expected True or False for ceil_mode"),
        (lambda x: F.flatten(x, 0), r"^Own: flatten: start_dim can only be 1 here"),
        (lambda x: F.scale(x, None), r"^Own: scale: expected a number for factor, got None"),
        (lambda x: F.conv2d(x, None), r"conv2d: expected a float32 NumPy array for weight, got None"),
    ],
)
def test_errors_inside_a_forward_name_module_and_op(call, message) -> None:
    class Own(nn.Module):
        def forward(self, x):
            return call(x)

    with pytest.raises((TypeError, ValueError), match=message):
        Own()(zeros(2, 3, 8, 8))


X = zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda: F.scale(X, None), "scale: expected a number for factor, got None"),
        (lambda: F.scale(X, "2"), "scale: expected a number for factor, got '2'"),
        (lambda: F.scale(X, True), "scale: expected a number for factor, got True"),
        (lambda: F.scale(X, X), "scale: expected a number for factor"),
        (lambda: F.leaky_relu(X, None), "leaky_relu: expected a number for negative_slope"),
        (lambda: F.leaky_relu_backward(X, X, "a"), "leaky_relu_backward: expected a number"),
        (
            lambda: F.batch_norm(X, zeros(3), zeros(3), training="False"),
            "batch_norm: expected True or False for training, got 'False'",
        ),
        (lambda: F.batch_norm(X, zeros(3), zeros(3), training=1), "True or False for training, got 1"),
        (lambda: F.batch_norm(X, zeros(3), zeros(3), momentum=None), "expected a number for momentum"),
        (lambda: F.batch_norm(X, zeros(3), zeros(3), eps="1"), "expected a number for eps"),
        (lambda: F.batch_norm_backward(X, X, training="no"), "True or False for training"),
        (lambda: F.max_pool2d(X, 2, return_indices="yes"), "True or False for return_indices"),
        (lambda: F.relu(X, layout=5), "relu: expected names as layout and implementation, got 5"),
        (lambda: F.relu(X, implementation=3), "expected names as layout and implementation"),
        (lambda: F.relu(None), "relu: expected a float32 NumPy array for x, got None"),
        (lambda: F.conv2d(None, X), "conv2d: expected a float32 NumPy array for x, got None"),
        (lambda: F.linear(X, None), "linear: expected a float32 NumPy array for weight, got None"),
        (lambda: F.concat(X), r"concat: expected a list of arrays, got ndarray; write concat\(\[a, b\]\)"),
        (lambda: F.concat(5), "concat: expected a list of arrays, got int"),
        (lambda: F.cross_entropy(zeros(2, 3), None), "expected integer labels, got object"),
        (lambda: F.relu(np.ma.masked_array(X, X == 0)), r"relu: x is masked.*use x\.filled\(value\)"),
        (
            lambda: F.cross_entropy(zeros(2, 3), np.ma.masked_array([0, 1], [True, False])),
            "labels are masked",
        ),
        (lambda: nn.ReLU()(np.ma.masked_array(X, X == 0)), "ReLU: input is masked"),
    ],
)
def test_wrong_kinds_of_arguments_are_one_clear_line(call, message) -> None:
    with pytest.raises(TypeError, match=message) as error:
        call()
    assert "\n" not in str(error.value) and "incompatible function arguments" not in str(error.value)


def test_class_weights_are_no_reduction() -> None:
    for bad in (None, np.ones(3, np.float32)):
        with pytest.raises(ValueError, match="expected reduction 'mean' or 'sum'"):
            F.cross_entropy(zeros(2, 3), [0, 1], bad)


def test_numbers_of_numpy_are_numbers() -> None:
    x = np.float32([[-2, 2]])
    np.testing.assert_array_equal(F.leaky_relu(x, np.float32(0.25)), [[-0.5, 2]])
    np.testing.assert_array_equal(F.scale(x, np.float64(2)), F.scale(x, np.int8(2)))
    np.testing.assert_array_equal(F.leaky_relu_backward(x, x, np.float16(0.5)), [[-1, 2]])
