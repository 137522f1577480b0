"""Ops that move, join or scale values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fastcnn.functional import _arguments as args
from fastcnn.functional._arguments import AttrValue, Ints, Operand

__all__ = [
    "add", "add_backward", "concat", "concat_backward", "flatten", "flatten_backward", "pad_channels",
    "pad_channels_backward", "scale", "slice_channels", "slice_channels_backward", "subsample",
    "subsample_backward",
]  # fmt: skip


def flatten(
    x: Operand,
    start_dim: int = 1,
    end_dim: int = -1,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """(N, C, H, W) -> (N, C*H*W), channels outermost, then rows, then columns; (N, F) stays as it is.

    The batch stays: ``start_dim`` is 1 and ``end_dim`` the last dimension.

    Examples
    --------
    >>> flatten(np.zeros((2, 3, 4, 5), np.float32)).shape
    (2, 60)
    """
    args.check_arrays("flatten", x=x)
    name = args.who("flatten", x)
    args.only(name, "start_dim", start_dim, 1)
    args.only(name, "end_dim", end_dim, -1, len(x.shape) - 1)
    if len(x.shape) == 2:
        return x
    return args.record_or_run("flatten", [x], {}, layout, implementation)[0]


def flatten_backward(
    dy: Operand, input_shape: Sequence[int], *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """(N, C*H*W) -> the given shape (N, C, H, W).

    Examples
    --------
    >>> flatten_backward(np.zeros((2, 60), np.float32), (2, 3, 4, 5)).shape
    (2, 3, 4, 5)
    """
    op = "flatten_backward"
    args.check_arrays(op, dy=dy)
    shape = list(args.shape_of(op, input_shape))
    if len(dy.shape) != 2 or len(shape) != 4 or shape[0] != dy.shape[0]:
        raise ValueError(
            f"{op}: expected an output gradient (N, C*H*W) and an input shape (N, C, H, W), "
            f"got {args.shape_text(dy.shape)} and {args.shape_text(shape)}"
        )
    return args.record_or_run("unflatten", [dy], {"shape": shape[1:]}, layout, implementation)[0]


def add(a: Operand, b: Operand, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """``a + b`` of equal shapes (no broadcasting).

    Examples
    --------
    >>> add(np.float32([1]), np.float32([2])).tolist()
    [3.0]
    """
    return args.call("add", {"a": a, "b": b}, {}, layout, implementation)


def add_backward(dy: Operand) -> tuple[Operand, Operand]:
    """Gradients of :func:`add`: dy for both (the same array).

    Examples
    --------
    >>> da, db = add_backward(np.float32([1]))
    >>> da is db
    True
    """
    args.check_arrays("add_backward", dy=dy)
    return dy, dy


def scale(x: Operand, factor: float, *, layout: str = "auto", implementation: str | None = None) -> Operand:
    """``factor * x`` with one number for the whole array; its gradient is ``scale(dy, factor)``.

    Examples
    --------
    >>> scale(np.float32([1, 2]), 3.0).tolist()
    [3.0, 6.0]
    """
    number = np.array([args.number(args.who("scale", x), "factor", factor)], np.float32)
    return args.call("scale", {"x": x, "factor": number}, {}, layout, implementation)


def concat(
    xs: Sequence[Operand], dim: int = 1, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """Joins images along their channels, dimension 1: (N, C_k, H, W) each -> (N, sum of C_k, H, W).

    Raises
    ------
    ValueError
        There is none, or batch, height or width differ.

    Examples
    --------
    >>> concat([np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 5, 3, 3), np.float32)]).shape
    (1, 7, 3, 3)
    """
    if isinstance(xs, np.ndarray) or not isinstance(xs, Iterable):
        raise TypeError(f"concat: expected a list of arrays, got {type(xs).__name__}; write concat([a, b])")
    inputs = {f"xs[{i}]": x for i, x in enumerate(xs)}
    args.only(args.who("concat", *inputs.values()), "dim", dim, 1)
    if not inputs:
        raise ValueError("concat: expected at least one array, got none")
    first = next(iter(inputs.values()))
    if len(inputs) == 1 and args.is_symbolic(first) and len(first.shape) >= 2:
        return first  # a join of one would want memory of its own
    return args.call("concat", inputs, {"axis": 1}, layout, implementation)


def concat_backward(
    dy: Operand, channels: Sequence[int], *, layout: str = "auto", implementation: str | None = None
) -> list[Operand]:
    """Cuts dy into pieces of the given numbers of channels, those of the inputs of :func:`concat`.

    Examples
    --------
    >>> [piece.shape for piece in concat_backward(np.zeros((1, 7, 3, 3), np.float32), [2, 5])]
    [(1, 2, 3, 3), (1, 5, 3, 3)]
    """
    op = "concat_backward"
    args.check_arrays(op, dy=dy)
    args.image_size(op, dy, "output gradient")
    sizes = [args.integer(op, "channels", c) for c in channels]
    if sum(sizes) != dy.shape[1]:
        raise ValueError(f"{op}: expected channels that add up to {dy.shape[1]}, got {sizes}")
    ends = np.cumsum(sizes).tolist()
    return [
        slice_channels(dy, end - c, end, layout=layout, implementation=implementation)
        for c, end in zip(sizes, ends, strict=True)
    ]


def pad_channels(
    x: Operand, before: int, after: int, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """Zero channels in front and behind: (N, C, H, W) -> (N, before + C + after, H, W).

    Examples
    --------
    >>> pad_channels(np.ones((1, 1, 1, 1), np.float32), 1, 2).ravel().tolist()
    [0.0, 1.0, 0.0, 0.0]

    Source: He et al. 2016, section 3.3 (shortcut A).
    """
    op = "pad_channels"
    attrs = {"before": args.integer(op, "before", before), "after": args.integer(op, "after", after)}
    return args.call(op, {"x": x}, attrs, layout, implementation)


def pad_channels_backward(
    dy: Operand, before: int, after: int, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """Gradient of :func:`pad_channels`: the channels of dy that were there before.

    Examples
    --------
    >>> pad_channels_backward(np.float32([[[[1]], [[2]], [[3]]]]), 1, 1).ravel().tolist()
    [2.0]
    """
    args.image_size("pad_channels_backward", dy, "output gradient")
    return slice_channels(dy, before, dy.shape[1] - after, layout=layout, implementation=implementation)


def slice_channels(
    x: Operand, begin: int, end: int, *, layout: str = "auto", implementation: str | None = None
) -> Operand:
    """Channels from begin up to, not including, end: (N, C, H, W) -> (N, end - begin, H, W).

    Examples
    --------
    >>> slice_channels(np.float32([[[[1]], [[2]], [[3]]]]), 1, 3).ravel().tolist()
    [2.0, 3.0]
    """
    op = "slice_channels"
    attrs = {"begin": args.integer(op, "begin", begin), "end": args.integer(op, "end", end)}
    return args.call(op, {"x": x}, attrs, layout, implementation)


def slice_channels_backward(
    dy: Operand,
    begin: int,
    end: int,
    channels: int,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """Gradient of :func:`slice_channels` for an input with that many channels: zero where it was left out.

    Examples
    --------
    >>> slice_channels_backward(np.ones((1, 1, 1, 1), np.float32), 1, 2, 3).ravel().tolist()
    [0.0, 1.0, 0.0]
    """
    op = "slice_channels_backward"
    args.image_size(op, dy, "output gradient")
    if not (0 <= begin <= end <= channels and dy.shape[1] == end - begin):
        raise ValueError(
            f"{op}: expected an output gradient of {end - begin} channels (channels {begin} to {end} of "
            f"{channels}), got {args.shape_text(dy.shape)}"
        )
    return pad_channels(dy, begin, channels - end, layout=layout, implementation=implementation)


def subsample(
    x: Operand,
    stride: Ints,
    begin: Ints = 0,
    end: Ints | None = None,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """``x[:, :, begin:end:sh, begin:end:sw]`` of images (N, C, H, W).

    Of whole images it gives (N, C, ceil(H / sh), ceil(W / sw)).

    Parameters
    ----------
    x : (N, C, H, W)
    stride : int or (rows, columns)
    begin, end : int or (rows, columns)
        Of the pixels that are taken, not negative; None: up to the image's end.

    Examples
    --------
    >>> subsample(np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5), 2).ravel().tolist()
    [0.0, 2.0, 4.0]

    Source: He et al. 2016, section 3.3 (shortcut A).
    """
    return args.call("subsample", {"x": x}, _grid("subsample", stride, begin, end), layout, implementation)


def _grid(op: str, stride: Ints, begin: Ints, end: Ints | None) -> dict[str, AttrValue]:
    attrs: dict[str, AttrValue] = {"stride": args.pair(op, "stride", stride)}
    attrs["begin"] = args.pair(op, "begin", begin)
    return attrs if end is None else {**attrs, "end": args.pair(op, "end", end)}


def subsample_backward(
    dy: Operand,
    stride: Ints,
    input_shape: Sequence[int],
    begin: Ints = 0,
    end: Ints | None = None,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """Gradient of :func:`subsample`: dy at the pixels that were taken, zero at the others.

    Examples
    --------
    >>> subsample_backward(np.ones((1, 1, 1, 2), np.float32), 2, (1, 1, 1, 4)).ravel().tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    op = "subsample_backward"
    args.check_arrays(op, dy=dy)
    attrs = {**_grid(op, stride, begin, end), "input_size": args.input_size(op, dy, input_shape)}
    return args.record_or_run(op, [dy], attrs, layout, implementation)[0]
