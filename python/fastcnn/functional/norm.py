"""Batch normalisation."""

from __future__ import annotations

import math

from fastcnn.functional import _arguments as args
from fastcnn.functional._arguments import AttrValue, Operand

__all__ = ["batch_norm", "batch_norm_backward"]


def batch_norm(
    x: Operand,
    running_mean: Operand,
    running_var: Operand,
    weight: Operand | None = None,
    bias: Operand | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> Operand:
    """``y = weight * (x - mean) / sqrt(var + eps) + bias`` per channel.

    Parameters
    ----------
    x : (N, C, H, W)
    running_mean, running_var : (C,)
        Used when not training. In training mean and variance are the batch's (over N*H*W), and these are
        updated in place: ``running = (1 - momentum) * running + momentum * batch``, with the unbiased
        variance (over N*H*W - 1).
    weight, bias : (C,), optional
    training : bool
    momentum, eps : float

    Returns
    -------
    array (N, C, H, W)

    Raises
    ------
    ValueError
        A (C,) array has another shape; in training, fewer than two values per channel, or running statistics
        that cannot be updated in place (read-only or non-contiguous).

    Examples
    --------
    >>> mean, var = np.zeros(1, np.float32), np.ones(1, np.float32)
    >>> y = batch_norm(np.float32([[[[1, 3]]]]), mean, var, training=True, momentum=0.5, eps=0.0)
    >>> y.tolist(), mean.item()
    ([[[[-1.0, 1.0]]]], 1.0)

    Source: Ioffe & Szegedy 2015.
    """
    op = "batch_norm"
    args.check_arrays(op, x=x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    name = args.who(op, x)
    momentum = args.number(name, "momentum", momentum)
    attrs: dict[str, AttrValue] = {"eps": args.number(name, "eps", eps)}
    _check_channels(name, x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not args.flag(name, "training", training):
        inputs = [x, running_mean, running_var, weight, bias]
        return args.record_or_run("batch_norm_inference", inputs, attrs, layout, implementation)[0]
    if not args.is_symbolic(x):
        args.image_size(op, x)
        args.check_in_place(op, running_mean=running_mean, running_var=running_var)
    mean, rstd, moments = args.record_or_run("batch_norm_stats", [x], attrs, layout)
    y = args.record_or_run("batch_norm_apply", [x, mean, rstd, weight, bias], {}, layout, implementation)[0]
    count = math.prod(x.shape) // max(x.shape[1], 1)
    attrs = {"momentum": momentum, "count": count}
    args.record_or_run("running_statistics", [running_mean, running_var, moments], attrs)
    return y


def batch_norm_backward(
    dy: Operand,
    x: Operand,
    weight: Operand | None = None,
    running_mean: Operand | None = None,
    running_var: Operand | None = None,
    training: bool = True,
    eps: float = 1e-5,
    *,
    layout: str = "auto",
    implementation: str | None = None,
) -> tuple[Operand, Operand, Operand]:
    """Gradients of :func:`batch_norm`: dx (N, C, H, W), dweight (C,), dbias (C,).

    The running statistics are needed only when not training, and are never changed.

    Examples
    --------
    >>> dy, x = np.float32([[[[1, 0]]]]), np.float32([[[[1, 3]]]])
    >>> [g.ravel().tolist() for g in batch_norm_backward(dy, x, eps=0.0)]
    [[0.0, 0.0], [-1.0], [1.0]]
    """
    op = "batch_norm_backward"
    args.check_arrays(op, dy=dy, x=x, weight=weight, running_mean=running_mean, running_var=running_var)
    args.image_size(op, x)
    attrs: dict[str, AttrValue] = {"eps": args.number(op, "eps", eps)}
    if args.flag(op, "training", training):
        mean, rstd, _ = args.record_or_run("batch_norm_stats", [x], attrs, layout)
        used, inputs, attrs = op, [dy, x, mean, rstd, weight], {}
    elif running_mean is None or running_var is None:
        raise ValueError(f"{op}: expected running_mean and running_var when not training, got none")
    else:
        used, inputs = "batch_norm_inference_backward", [dy, x, running_mean, running_var, weight]
    dx, dweight, dbias = args.record_or_run(used, inputs, attrs, layout, implementation)
    return dx, dweight, dbias


def _check_channels(op: str, x: Operand, **vectors: Operand | None) -> None:
    """Every vector has a number for each channel of x; before any statistics are updated."""
    if len(x.shape) < 2:
        return
    for name, v in vectors.items():
        if v is not None and len(v.shape) == 1 and v.shape != x.shape[1:2]:
            raise ValueError(
                f"{op}: expected {v.shape[0]} channels, got {x.shape[1]} (input {args.shape_text(x.shape)}, "
                f"{name} {args.shape_text(v.shape)}){args.image_hint(x.shape, v.shape[0])}"
            )
