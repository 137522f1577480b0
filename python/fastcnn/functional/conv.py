"""Two-dimensional convolution."""

from __future__ import annotations

from fastcnn.functional import _arguments as args
from fastcnn.functional._arguments import AttrValue, Ints, Operand, Padding

__all__ = ["conv2d", "conv2d_backward"]


def conv2d(
    x: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """Two-dimensional convolution (cross-correlation, as in every framework).

    Parameters
    ----------
    x : (N, IC, H, W)
    weight : (OC, IC / groups, KH, KW)
    bias : (OC,), optional
    stride, dilation : int or pair
    padding : int, pair, (top, left, bottom, right), "same" or "valid"
    groups : int
        Splits the channels into as many independent convolutions; IC groups make it depthwise.

    Returns
    -------
    array (N, OC, OH, OW)
        ``OH = (H + top + bottom - dilation * (KH - 1) - 1) // stride + 1``, OW alike.

    Raises
    ------
    ValueError
        Channels do not match, or the (dilated) kernel is larger than the padded image.
    TypeError
        An array is not float32.

    Examples
    --------
    >>> conv2d(np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32))[0, 0].tolist()
    [[4.0, 4.0], [4.0, 4.0]]

    Source: LeCun et al. 1998, section II.A.
    """
    op = "conv2d"
    args.check_arrays(op, x=x, weight=weight, bias=bias)
    attrs = _attrs(op, x, weight, stride, padding, dilation, groups)
    return args.record_or_run(op, [x, weight, bias], attrs, layout, implementation)[0]


def conv2d_backward(
    dy: Operand,
    x: Operand,
    weight: Operand,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> tuple[Operand, Operand, Operand]:
    """Gradients of :func:`conv2d`: dx (N, IC, H, W), dweight (OC, IC / groups, KH, KW), dbias (OC,).

    dy is (N, OC, OH, OW); the other arguments are those of the forward call.

    Examples
    --------
    >>> ones = np.ones((1, 1, 2, 2), np.float32)
    >>> [g.ravel().tolist() for g in conv2d_backward(ones[:, :, :1, :1], 2 * ones, 3 * ones)]
    [[3.0, 3.0, 3.0, 3.0], [2.0, 2.0, 2.0, 2.0], [1.0]]
    """
    op = "conv2d_backward"
    args.check_arrays(op, dy=dy, x=x, weight=weight)
    attrs = _attrs(op, x, weight, stride, padding, dilation, groups)
    data = {**attrs, "input_size": list(x.shape[2:])}
    (dx,) = args.record_or_run("conv2d_backward_data", [dy, weight], data, layout, implementation)
    args.check_input_gradient(op, dx, x, weight, dy)
    weights = {**attrs, "kernel_size": list(weight.shape[2:])}
    dweight, dbias = args.record_or_run("conv2d_backward_weights", [x, dy], weights, layout, implementation)
    return dx, dweight, dbias


def _attrs(
    op: str, x: Operand, weight: Operand, stride: Ints, padding: Padding, dilation: Ints, groups: int
) -> dict[str, AttrValue]:
    op, groups = args.who(op, x), args.integer(op, "groups", groups)
    channels = weight.shape[1] * groups if len(weight.shape) == 4 else None
    operands = f"input {args.shape_text(x.shape)}, weight {args.shape_text(weight.shape)}"
    if len(x.shape) != 4 or channels is None:
        hint = "" if channels is None else args.image_hint(x.shape, channels)
        raise ValueError(
            f"{op}: expected input (N, C, H, W) and weight (OC, IC / groups, KH, KW), got {operands}{hint}"
        )
    if hint := args.image_hint(x.shape, channels) if x.shape[1] != channels else "":
        raise ValueError(f"{op}: expected {channels} input channels, got {x.shape[1]} ({operands}){hint}")
    s, d = args.pair(op, "stride", stride), args.pair(op, "dilation", dilation)
    pads = args.padding4(op, padding, x.shape[2:], weight.shape[2:], s, d)
    return {"stride": s, "padding": pads, "dilation": d, "groups": groups}
