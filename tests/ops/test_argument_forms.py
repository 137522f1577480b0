"""The forms in which people have shapes, and what refused labels are told."""

from __future__ import annotations

import numpy as np
import pytest

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
    import fastcnn.functional as F

    with pytest.raises((TypeError, ValueError), match="; "):
        F.cross_entropy(np.zeros((3, 4), np.float32), labels)
