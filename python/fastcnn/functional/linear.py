"""The fully connected layer."""

from __future__ import annotations

from fastcnn.functional._arguments import (
    Operand,
    check_arrays,
    check_input_gradient,
    record_or_run,
    shape_text,
    who,
)

__all__ = ["linear", "linear_backward"]


def linear(
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """``y = x weight^T + bias``: x (N, I), weight (O, I), bias (O,) -> y (N, O).

    Raises
    ------
    ValueError
        x is not (N, I) with the I of the weight.

    Examples
    --------
    >>> linear(np.float32([[1, 2]]), np.float32([[3, 4]])).tolist()
    [[11.0]]
    """
    check_arrays("linear", x=x, weight=weight, bias=bias)
    if len(x.shape) == 1 or len(x.shape) > 2:
        cure = (
            "x[None] adds the batch" if len(x.shape) == 1 else "flatten it first: nn.Flatten(), F.flatten(x)"
        )
        raise ValueError(
            f"{who('linear', x)}: expected input of 2 dimensions (N, features), got {len(x.shape)} "
            f"(input {shape_text(x.shape)}); {cure}"
        )
    return record_or_run("linear", [x, weight, bias], {}, layout, implementation)[0]


def linear_backward(
    dy: Operand, x: Operand, weight: Operand, *, layout: str = "auto", implementation: str | None = None
) -> tuple[Operand, Operand, Operand]:
    """Gradients of :func:`linear`: dx = dy weight (N, I), dweight = dy^T x (O, I), dbias = sum of dy (O,).

    Examples
    --------
    >>> a = np.float32([[1, 2]])
    >>> [g.tolist() for g in linear_backward(a[:, :1], a, 3 * a)]
    [[[3.0, 6.0]], [[1.0, 2.0]], [1.0]]
    """
    op = "linear_backward"
    check_arrays(op, dy=dy, x=x, weight=weight)
    (dx,) = record_or_run("linear_backward_data", [dy, weight], {}, layout, implementation)
    check_input_gradient(op, dx, x, weight, dy)
    dweight, dbias = record_or_run("linear_backward_weights", [x, dy], {}, layout, implementation)
    return dx, dweight, dbias
