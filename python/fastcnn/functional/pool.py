"""Pooling: maximum, average, adaptive and global average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.functional import _arguments as args
from fastcnn.functional._arguments import AttrValue, Ints, Operand, Padding

__all__ = [
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "avg_pool2d", "avg_pool2d_backward",
    "global_avg_pool2d", "global_avg_pool2d_backward", "max_pool2d", "max_pool2d_backward",
]  # fmt: skip


def max_pool2d(
    x: Operand,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    dilation: Ints = 1,
    layout: str = "auto",
    implementation: str | None = None,
) -> Any:
    """The largest element of each window: x (N, C, H, W) -> y (N, C, OH, OW).

    Parameters
    ----------
    x : (N, C, H, W)
    kernel_size, stride : int or pair
        A stride of None is the kernel's size.
    padding : int, pair, (top, left, bottom, right), "same" or "valid"
        Smaller than the kernel; never chosen as the maximum.
    ceil_mode : bool
        Also take the last window that sticks out, if it begins inside the image or the padding before it.
    return_indices : bool
        Also return where each maximum lies: int64 (N, C, OH, OW), in the flattened H*W image. Not while
        tracing.
    dilation : 1
        Windows have no gaps; PyTorch's argument, by name.

    Raises
    ------
    ValueError
        The kernel is larger than the padded image, or the padding too large for the kernel.

    Examples
    --------
    >>> y, index = max_pool2d(np.float32([[[[1, 3], [2, 0]]]]), 2, return_indices=True)
    >>> y.item(), index.item()
    (3.0, 1)

    Notes
    -----
    Of equal elements the first in row order counts; a NaN in a window makes its output NaN.
    """
    op = "max_pool2d"
    args.check_arrays(op, x=x)
    attrs = _attrs(args.who(op, x), args.image_size(op, x), kernel_size, stride, padding, ceil_mode)
    wanted = args.flag(op, "return_indices", return_indices)
    args.only(args.who(op, x), "dilation", dilation, 1, (1, 1))
    y, index = args.record_or_run(op, [x], attrs, layout, implementation)
    if not wanted:
        return y
    if args.is_symbolic(x):
        raise ValueError(f"{op}: return_indices is not available on a traced value")
    return y, _plane_index(index, x.shape, attrs)


def max_pool2d_backward(
    dy: Operand,
    x: Operand,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """Gradient of :func:`max_pool2d`: each dy goes to the element that its window chose.

    Examples
    --------
    >>> x = np.float32([[[[1, 3], [2, 0]]]])
    >>> max_pool2d_backward(np.float32([[[[5]]]]), x, 2).tolist()
    [[[[0.0, 5.0], [0.0, 0.0]]]]
    """
    op = "max_pool2d_backward"
    args.check_arrays(op, dy=dy, x=x)
    size = args.image_size(op, x)
    attrs = _attrs(op, size, kernel_size, stride, padding, ceil_mode)
    _, index = args.record_or_run("max_pool2d", [x], attrs, layout)
    attrs["input_size"] = list(size)
    return args.record_or_run(op, [dy, index], attrs, layout, implementation)[0]


def avg_pool2d(
    x: Operand,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """The mean of each window: x (N, C, H, W) -> y (N, C, OH, OW).

    Windows are those of :func:`max_pool2d`. ``count_include_pad`` counts the zeros of the padding as elements
    (never what ``ceil_mode`` lets stick out beyond it); without it the divisor is the window's number of
    pixels.

    Examples
    --------
    >>> avg_pool2d(np.float32([[[[1, 3], [2, 0]]]]), 2).item()
    1.5

    Source: LeCun et al. 1998, section II.B (without the trainable coefficient).
    """
    op = "avg_pool2d"
    args.check_arrays(op, x=x)
    attrs = _attrs(args.who(op, x), args.image_size(op, x), kernel_size, stride, padding, ceil_mode)
    attrs["count_include_pad"] = args.flag(op, "count_include_pad", count_include_pad)
    return args.record_or_run(op, [x], attrs, layout, implementation)[0]


def avg_pool2d_backward(
    dy: Operand,
    input_shape: Sequence[int],
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """Gradient of :func:`avg_pool2d` for an input of the given shape (N, C, H, W).

    Examples
    --------
    >>> avg_pool2d_backward(np.float32([[[[4]]]]), (1, 1, 2, 2), 2).ravel().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    op = "avg_pool2d_backward"
    size = args.input_size(op, dy, input_shape)
    attrs = _attrs(op, size, kernel_size, stride, padding, ceil_mode)
    attrs |= {"count_include_pad": args.flag(op, "count_include_pad", count_include_pad), "input_size": size}
    return args.record_or_run(op, [dy], attrs, layout, implementation)[0]


def adaptive_avg_pool2d(
    x: Operand,
    output_size: int | Sequence[int | None] | None,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """The mean over OH x OW nearly equal windows: x (N, C, H, W) -> y (N, C, OH, OW).

    Window p covers rows ``floor(p * H / OH)`` up to ``ceil((p + 1) * H / OH)``, columns alike. Where
    ``output_size`` is None the output has the size of the input.

    Examples
    --------
    >>> adaptive_avg_pool2d(np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5), (1, 2)).tolist()
    [[[[1.0, 3.0]]]]
    """
    op = "adaptive_avg_pool2d"
    args.check_arrays(op, x=x)
    size = args.image_size(op, x)
    out: Any = [None, None] if output_size is None else output_size
    if isinstance(out, Sequence) and len(out) == 2:
        out = [n if wanted is None else wanted for n, wanted in zip(size, out, strict=True)]
    attrs = {"output_size": args.pair(args.who(op, x), "output_size", out)}
    return args.record_or_run(op, [x], attrs, layout, implementation)[0]


def adaptive_avg_pool2d_backward(
    dy: Operand, input_shape: Sequence[int], *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """Gradient of :func:`adaptive_avg_pool2d` for an input of the given shape (N, C, H, W).

    Examples
    --------
    >>> adaptive_avg_pool2d_backward(np.float32([[[[3, 6]]]]), (1, 1, 1, 5)).ravel().tolist()
    [1.0, 1.0, 3.0, 2.0, 2.0]
    """
    op = "adaptive_avg_pool2d_backward"
    attrs = {"input_size": args.input_size(op, dy, input_shape), "output_size": list(dy.shape[2:])}
    return args.record_or_run(op, [dy], attrs, layout, implementation)[0]


def global_avg_pool2d(x: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """The mean of each channel's image: x (N, C, H, W) -> y (N, C, 1, 1).

    Examples
    --------
    >>> global_avg_pool2d(np.float32([[[[1, 3], [2, 0]]]])).item()
    1.5

    Source: Lin et al. 2014, "Network in network".
    """
    op = "global_avg_pool2d"
    args.check_arrays(op, x=x)
    args.image_size(op, x)
    return args.record_or_run(op, [x], {}, layout, implementation)[0]


def global_avg_pool2d_backward(
    dy: Operand, input_shape: Sequence[int], *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """Gradient of :func:`global_avg_pool2d`: dy / (H * W) at every pixel.

    Examples
    --------
    >>> global_avg_pool2d_backward(np.float32([[[[4]]]]), (1, 1, 1, 2)).ravel().tolist()
    [2.0, 2.0]
    """
    op = "global_avg_pool2d_backward"
    attrs = {"input_size": args.input_size(op, dy, input_shape)}
    return args.record_or_run(op, [dy], attrs, layout, implementation)[0]


def _attrs(
    op: str, size: Sequence[int], kernel_size: Ints, stride: Ints | None, padding: Padding, ceil_mode: bool
) -> dict[str, AttrValue]:
    kernel = args.pair(op, "kernel_size", kernel_size)
    s = kernel if stride is None else args.pair(op, "stride", stride)
    pads, ceil = args.padding4(op, padding, size, kernel, s, [1, 1]), args.flag(op, "ceil_mode", ceil_mode)
    return {"kernel_size": kernel, "stride": s, "padding": pads, "ceil_mode": ceil}


def _plane_index(index: Any, x_shape: Sequence[int], attrs: dict[str, Any]) -> Any:
    """Positions inside the windows (row-major) as positions in the flattened image."""
    (_, kw), (sh, sw), (top, left, _, _) = attrs["kernel_size"], attrs["stride"], attrs["padding"]
    i, j = np.divmod(index.astype(np.int64), kw)
    rows = np.arange(index.shape[2])[:, None] * sh - top + i
    return rows * x_shape[3] + np.arange(index.shape[3]) * sw - left + j
