"""Activations and softmax. The backward functions take the output y, which is what a network keeps."""

from __future__ import annotations

from fastcnn.functional._arguments import Operand, check_arrays, record_or_run


def relu(x: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """``max(x, 0)`` of an array of any shape; NaN stays NaN.

    Examples
    --------
    >>> relu(np.float32([-1, 2])).tolist()
    [0.0, 2.0]

    Source: Nair & Hinton 2010.
    """
    return _forward("relu", x, layout, implementation)


def relu_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """dy where the output y > 0, else 0.

    Examples
    --------
    >>> relu_backward(np.float32([5, 5]), np.float32([0, 2])).tolist()
    [0.0, 5.0]
    """
    return _backward("relu", dy, y, layout, implementation)


def tanh(x: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """The hyperbolic tangent of an array of any shape.

    Examples
    --------
    >>> tanh(np.float32([0, 100])).tolist()
    [0.0, 1.0]
    """
    return _forward("tanh", x, layout, implementation)


def tanh_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``dy * (1 - y^2)`` with the output y.

    Examples
    --------
    >>> tanh_backward(np.float32([2]), np.float32([0.5])).tolist()
    [1.5]
    """
    return _backward("tanh", dy, y, layout, implementation)


def sigmoid(x: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """``1 / (1 + exp(-x))`` of an array of any shape.

    Examples
    --------
    >>> sigmoid(np.float32([0, 100])).tolist()
    [0.5, 1.0]
    """
    return _forward("sigmoid", x, layout, implementation)


def sigmoid_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``dy * y * (1 - y)`` with the output y.

    Examples
    --------
    >>> sigmoid_backward(np.float32([4]), np.float32([0.5])).tolist()
    [1.0]
    """
    return _backward("sigmoid", dy, y, layout, implementation)


def softmax(x: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """``exp(x) / sum(exp(x))`` of each row of x (N, C).

    Examples
    --------
    >>> softmax(np.float32([[7, 7]])).tolist()
    [[0.5, 0.5]]
    """
    return _forward("softmax", x, layout, implementation)


def softmax_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``y * (dy - sum(dy * y))`` of each row, with the output y; dy, y (N, C).

    Examples
    --------
    >>> softmax_backward(np.float32([[1, 0]]), np.float32([[0.5, 0.5]])).tolist()
    [[0.25, -0.25]]
    """
    check_arrays("softmax_backward", dy=dy, y=y)
    dx: Operand = record_or_run("softmax_backward", [dy, y], {}, layout, implementation)[0]
    return dx


def _forward(op: str, x: Operand, layout: str, implementation: str | None) -> Operand:
    check_arrays(op, x=x)
    y: Operand = record_or_run(op, [x], {}, layout, implementation)[0]
    return y


def _backward(kind: str, dy: Operand, y: Operand, layout: str, implementation: str | None) -> Operand:
    check_arrays(f"{kind}_backward", dy=dy, y=y)
    dx: Operand = record_or_run("activation_backward", [dy, y], {"kind": kind}, layout, implementation)[0]
    return dx
