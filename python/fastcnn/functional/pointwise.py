"""Activations and softmax. The backward functions take the output y, which is what a network keeps, or the
input x where y does not tell.

``inplace=True`` puts the result in the place of x, in its memory or, in a ``forward``, in the value that is traced:
whoever holds x has the result from then on, as in PyTorch. Nothing gets faster: plans reuse memory by themselves.
"""

from __future__ import annotations

from fastcnn.functional._arguments import AttrValue, Operand, call, in_place, number, only, who

__all__ = [
    "leaky_relu", "leaky_relu_backward", "offset", "offset_backward", "relu", "relu_backward", "sigmoid",
    "sigmoid_backward", "silu", "silu_backward", "softmax", "softmax_backward", "tanh", "tanh_backward",
]  # fmt: skip

_OP = "function_backward"  # of all the elementwise functions; its attribute "kind" says of which


def relu(
    x: Operand, inplace: bool = False, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``max(x, 0)`` of an array of any shape; NaN stays NaN.

    Examples
    --------
    >>> relu(np.float32([-1, 2])).tolist()
    [0.0, 2.0]

    Source: Nair & Hinton 2010.
    """
    return in_place("relu", x, call("relu", {"x": x}, {}, layout, implementation), inplace)


def relu_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """dy where the output y > 0, else 0.

    Examples
    --------
    >>> relu_backward(np.float32([5, 5]), np.float32([0, 2])).tolist()
    [0.0, 5.0]
    """
    return call("relu_backward", {"dy": dy, "y": y}, {"kind": "relu"}, layout, implementation, _OP)


def tanh(x: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """The hyperbolic tangent of an array of any shape.

    Examples
    --------
    >>> tanh(np.float32([0, 100])).tolist()
    [0.0, 1.0]
    """
    return call("tanh", {"x": x}, {}, layout, implementation)


def tanh_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``dy * (1 - y^2)`` with the output y.

    Examples
    --------
    >>> tanh_backward(np.float32([2]), np.float32([0.5])).tolist()
    [1.5]
    """
    return call("tanh_backward", {"dy": dy, "y": y}, {"kind": "tanh"}, layout, implementation, _OP)


def sigmoid(x: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """``1 / (1 + exp(-x))`` of an array of any shape.

    Examples
    --------
    >>> sigmoid(np.float32([0, 100])).tolist()
    [0.5, 1.0]
    """
    return call("sigmoid", {"x": x}, {}, layout, implementation)


def sigmoid_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``dy * y * (1 - y)`` with the output y.

    Examples
    --------
    >>> sigmoid_backward(np.float32([4]), np.float32([0.5])).tolist()
    [1.0]
    """
    return call("sigmoid_backward", {"dy": dy, "y": y}, {"kind": "sigmoid"}, layout, implementation, _OP)


def leaky_relu(
    x: Operand,
    negative_slope: float = 0.01,
    inplace: bool = False,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """x where it is positive, else ``negative_slope * x``, of an array of any shape.

    Examples
    --------
    >>> leaky_relu(np.float32([-2, 2]), 0.25).tolist()
    [-0.5, 2.0]

    Source: Maas et al. 2013.
    """
    attrs = {"negative_slope": number("leaky_relu", "negative_slope", negative_slope)}
    return in_place("leaky_relu", x, call("leaky_relu", {"x": x}, attrs, layout, implementation), inplace)


def leaky_relu_backward(
    dy: Operand,
    x: Operand,
    negative_slope: float = 0.01,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """dy where the input x > 0, else ``negative_slope * dy``.

    Examples
    --------
    >>> leaky_relu_backward(np.float32([4, 4]), np.float32([0, 2]), 0.25).tolist()
    [1.0, 4.0]
    """
    op = "leaky_relu_backward"
    slope = number(op, "negative_slope", negative_slope)
    attrs: dict[str, AttrValue] = {"kind": "leaky_relu", "negative_slope": slope}
    return call(op, {"dy": dy, "x": x}, attrs, layout, implementation, _OP)


def offset(
    x: Operand, amount: float = 0.0, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``x + amount`` with one number for the whole array.

    Examples
    --------
    >>> offset(np.float32([1, 2]), 0.5).tolist()
    [1.5, 2.5]
    """
    return call("offset", {"x": x}, {"amount": amount}, layout, implementation)


def offset_backward(
    dy: Operand, y: Operand, amount: float = 0.0, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """dy, whatever the output y was.

    Examples
    --------
    >>> offset_backward(np.float32([4]), np.float32([1])).tolist()
    [4.0]
    """
    attrs: dict[str, AttrValue] = {"kind": "offset", "amount": amount}
    return call("offset_backward", {"dy": dy, "y": y}, attrs, layout, implementation, _OP)


def silu(
    x: Operand, inplace: bool = False, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``x / (1 + exp(-x))`` of an array of any shape.

    Examples
    --------
    >>> silu(np.float32([0, 200])).tolist()
    [0.0, 200.0]

    Source: Elfwing et al. 2018.
    """
    return in_place("silu", x, call("silu", {"x": x}, {}, layout, implementation), inplace)


def silu_backward(
    dy: Operand, x: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``dy * s * (1 + x * (1 - s))`` with the input x and s = sigmoid(x).

    Examples
    --------
    >>> silu_backward(np.float32([4]), np.float32([0])).tolist()
    [2.0]
    """
    return call("silu_backward", {"dy": dy, "x": x}, {"kind": "silu"}, layout, implementation, _OP)


def softmax(x: Operand, dim: int = 1, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """``exp(x) / sum(exp(x))`` of each row of x (N, C): over the last dimension, ``dim`` 1 or -1.

    Examples
    --------
    >>> softmax(np.float32([[7, 7]])).tolist()
    [[0.5, 0.5]]
    """
    only(who("softmax", x), "dim", dim, 1, -1)
    return call("softmax", {"x": x}, {}, layout, implementation)


def softmax_backward(
    dy: Operand, y: Operand, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """``y * (dy - sum(dy * y))`` of each row, with the output y; dy, y (N, C).

    Examples
    --------
    >>> softmax_backward(np.float32([[1, 0]]), np.float32([[0.5, 0.5]])).tolist()
    [[0.25, -0.25]]
    """
    return call("softmax_backward", {"dy": dy, "y": y}, {}, layout, implementation)
