"""What is known of each op: its calls, how wrong float32 may be, and PyTorch's call for the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastcnn.functional as F
from fastcnn import reference as ref

U = 2.0**-24  # float32's unit roundoff
Arrays = tuple[np.ndarray, ...]
_pair = ref.geometry.pair


def dot_bound(magnitude: Any, terms: int) -> Any:
    """Error of a float32 sum of that many products, in any order, whose absolute values add up to magnitude.

    The roundings are independent, so they add up like sqrt(terms), not like terms: Higham & Mary 2019, "A new
    approach to probabilistic rounding error analysis", theorem 2.4, with lambda = 6. 4 more units cover what
    is done to the sum afterwards: bias, scale, store.
    """
    return U * (6 * np.sqrt(terms) + 4) * magnitude


@dataclass(frozen=True)
class Spec:
    """An op as a pair of calls on fastcnn.functional or the reference (`m`), which have the same names."""

    forward: Callable[..., Arrays]  # (m, inputs, options) -> outputs
    backward: Callable[..., Arrays] | None = (
        None  # (m, dy, inputs, y, options) -> gradients, None where not given
    )
    # (dy, inputs, outputs, options) -> bounds of the outputs and of the gradients; None: they are copies
    bounds: Callable[..., tuple[list, list]] | None = None
    torch: Callable[..., Any] | None = (
        None  # (torch.nn.functional, tensors, options) -> y; None: it has no such call
    )
    exact: bool = True  # on integers: sums and products only
    core: tuple[
        str, ...
    ] = ()  # of several core ops in one call, the one behind each gradient; else every op matters
    draw: Callable[..., Arrays] | None = None  # (rng, shapes) -> inputs, where any numbers will not do


def _torch_pool(o: dict) -> bool:
    """PyTorch pools with equal padding on both sides, of half a window at most."""
    p = o.get("padding", 0)
    if isinstance(p, str) or (isinstance(p, tuple) and len(p) == 4):
        return False
    return all(2 * side <= k for side, k in zip(_pair(p), _pair(o["kernel_size"]), strict=True))


def _conv_torch(T: Any, a: Any, o: dict) -> Any:
    s, d = _pair(o.get("stride", 1)), _pair(o.get("dilation", 1))
    t, left, b, r = ref.padding4(o.get("padding", 0), tuple(a[0].shape[2:]), tuple(a[1].shape[2:]), s, d)
    return T.conv2d(T.pad(a[0], (left, r, t, b)), *a[1:], stride=s, dilation=d, groups=o.get("groups", 1))


def _conv_bounds(dy: np.ndarray, a: Arrays, y: Arrays, o: dict) -> tuple[list, list]:
    x, w = abs(a[0]), abs(a[1])
    g, pixels = o.get("groups", 1), y[0].shape[0] * y[0].shape[2] * y[0].shape[3]
    taps = w.shape[2] * w.shape[3]
    terms = [w.shape[0] // g * taps, pixels, pixels]
    sums = ref.conv2d_backward(abs(dy), x, w, **o)
    forward = dot_bound(ref.conv2d(x, w, *map(abs, a[2:]), **o), w.shape[1] * taps)
    return [forward], [dot_bound(m, k) for m, k in zip(sums, terms, strict=True)][: len(a)]


def _linear_bounds(dy: np.ndarray, a: Arrays, y: Arrays, o: dict) -> tuple[list, list]:
    x, w = abs(a[0]), abs(a[1])
    terms = [w.shape[0], x.shape[0], x.shape[0]]
    sums = ref.linear_backward(abs(dy), x, w)
    forward = dot_bound(ref.linear(x, w, *map(abs, a[2:])), w.shape[1])
    return [forward], [dot_bound(m, k) for m, k in zip(sums, terms, strict=True)][: len(a)]


def _sums(name: str, terms: Callable[[Arrays, dict], int]) -> Callable[..., tuple[list, list]]:
    """Bounds of an op that only adds and divides, so that its magnitude is itself on absolute values."""

    def bounds(dy: np.ndarray, a: Arrays, y: Arrays, o: dict) -> tuple[list, list]:
        spec, k = OPS[name], terms(a, o)
        absolute = tuple(abs(v) for v in a)
        forward = [dot_bound(m, k) for m in spec.forward(ref, absolute, o)]
        assert spec.backward is not None
        return forward, [dot_bound(m, k) for m in spec.backward(ref, abs(dy), absolute, y[0], o)]

    return bounds


def _pool_terms(a: Arrays, o: dict) -> int:
    return int(np.prod(_pair(o["kernel_size"])))


def _units(forward: float, backward: float) -> Callable[..., tuple[list, list]]:
    """Bounds of an elementwise function, in units of y's and of dy's last place."""
    return lambda dy, a, y, o: ([U * forward * abs(y[0])], [U * backward * abs(dy)])


def _bn_draw(rng: np.random.Generator, shapes: tuple) -> Arrays:
    c = shapes[0][1]
    a = [rng.standard_normal(shapes[0]), rng.standard_normal(c), rng.uniform(0.5, 2, c)]
    a += [rng.standard_normal(s) for s in shapes[1:]]
    return tuple(v.astype(np.float32) for v in a)


def _bn_forward(m: Any, a: Arrays, o: dict) -> Arrays:
    o = {k: v for k, v in o.items() if k != "momentum" or o.get("training")}
    if m is ref:
        y, mean, var = ref.batch_norm(a[0], *a[1:], **o)
    else:
        mean, var = a[1].copy(), a[2].copy()
        y = F.batch_norm(a[0], mean, var, *a[3:], **o)
    return (y, mean, var) if o.get("training") else (y,)


def _bn_backward(m: Any, dy: np.ndarray, a: Arrays, y: np.ndarray, o: dict) -> Arrays:
    o = {"training": False, **{k: v for k, v in o.items() if k != "momentum"}}
    grads = m.batch_norm_backward(dy, a[0], a[3] if len(a) > 3 else None, a[1], a[2], **o)
    return (grads[0], None, None, *grads[1:]) if len(a) > 4 else (grads[0],)


def _bn_bounds(dy: np.ndarray, a: Arrays, y: Arrays, o: dict) -> tuple[list, list]:
    """Mean, variance and the two sums of the backward pass are dot products over m values, all else is
    elementwise. A d in front of a name is that quantity's error.
    """
    c, axes, training = ref.norm._c, (0, 2, 3), o.get("training", False)
    x, mean, var = (v.astype(np.float64) for v in a[:3])
    gamma, beta = (
        (abs(v.astype(np.float64)) for v in a[3:5]) if len(a) > 4 else (np.ones_like(mean), 0 * mean)
    )
    m = max(x.shape[0] * x.shape[2] * x.shape[3], 1)
    dmean, dvar = 0 * mean, 0 * var
    if training:
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        dmean = dot_bound(abs(x).mean(axis=axes), m)
        dvar = dot_bound(2 * var, m) + dmean**2
    rstd = 1 / np.sqrt(var + o.get("eps", 1e-5))
    drstd = rstd * (0.5 * dvar * rstd**2 + 3 * U)
    xhat = abs(x - c(mean)) * c(rstd)
    dxhat = U * 2 * (abs(x) + c(abs(mean))) * c(rstd) + c(dmean * rstd) + xhat * c(drstd / rstd)
    forward = [c(gamma) * dxhat + U * 4 * (c(gamma) * xhat + c(beta))]
    if training:
        k = o.get("momentum", 0.1)
        forward += [k * dmean + U * 4 * (abs(a[1]) + abs(mean)), 2 * k * dvar + U * 4 * (abs(a[2]) + 2 * var)]
    dy = abs(dy)
    s1, s2 = dy.sum(axis=axes), (dy * xhat).sum(axis=axes)
    ds1, ds2 = dot_bound(s1, m), dot_bound(s2, m) + (dy * dxhat).sum(axis=axes)
    terms, dterms = dy, 0 * dy
    if training:
        terms = dy + c(s1 / m) + xhat * c(s2 / m)
        dterms = c(ds1 / m) + xhat * c(ds2 / m) + dxhat * c(s2 / m)
    dx = c(gamma * rstd) * (dterms + terms * c(drstd / rstd + 8 * U))
    return forward, [dx, None, None, ds2, ds1] if len(a) > 4 else [dx]


def _bn_torch(T: Any, a: Any, o: dict) -> Any:
    return T.batch_norm(a[0], a[1].detach().clone(), a[2].detach().clone(), *a[3:], **o)


def _softmax_bounds(dy: np.ndarray, a: Arrays, y: Arrays, o: dict) -> tuple[list, list]:
    """exp turns the absolute error of its argument into a relative one; the sum is a dot product."""
    x, p = a[0].astype(np.float64), y[0]
    k = max(x.shape[1], 1)
    shift = abs(x - x.max(axis=1, keepdims=True)) if x.size else x
    forward = (dot_bound(1, k) + U * (2 * shift + 8)) * p
    inner = abs(dy) + (abs(dy) * p).sum(axis=1, keepdims=True)
    return [forward], [dot_bound(p * inner, k)]


def _loss_bounds(dy: np.ndarray, a: Arrays, y: Arrays, o: dict) -> tuple[list, list]:
    x = a[0].astype(np.float64)
    n, k = max(x.shape[0], 1), max(x.shape[1], 1)
    spread = abs(x - x.max(axis=1, keepdims=True)) if x.size else x
    per_row = dot_bound(1, k) + U * (4 * spread.max(axis=1, initial=0) + 8)
    mean = o.get("reduction", "mean") == "mean"
    losses = per_row.sum() + dot_bound(abs(y[0]) * (n if mean else 1), n)
    p = ref.softmax(x) + ref.cross_entropy_backward(x, o["labels"], "sum").clip(max=0) * -1
    dlogits = (dot_bound(1, k) + U * (2 * spread + 8)) * p
    return [losses / (n if mean else 1)], [dlogits / (n if mean else 1)]


def _torch_labels(o: dict) -> Any:
    import torch

    return torch.as_tensor(np.asarray(o["labels"]))


def _of(name: str, from_input: bool = False) -> dict[str, Callable]:
    """forward and backward of an activation: its derivative is written in terms of y, or of x."""
    return dict(
        forward=lambda m, a, o: (getattr(m, name)(a[0], **o),),
        backward=lambda m, dy, a, y, o: (getattr(m, f"{name}_backward")(dy, a[0] if from_input else y, **o),),
    )


OPS: dict[str, Spec] = {
    "conv2d": Spec(
        forward=lambda m, a, o: (m.conv2d(*a, **o),),
        backward=lambda m, dy, a, y, o: m.conv2d_backward(dy, a[0], a[1], **o)[: len(a)],
        bounds=_conv_bounds,
        torch=_conv_torch,
        core=("conv2d_backward_data", "conv2d_backward_weights", "conv2d_backward_weights"),
    ),
    "linear": Spec(
        forward=lambda m, a, o: (m.linear(*a, **o),),
        backward=lambda m, dy, a, y, o: m.linear_backward(dy, a[0], a[1], **o)[: len(a)],
        bounds=_linear_bounds,
        torch=lambda T, a, o: T.linear(*a),
        core=("linear_backward_data", "linear_backward_weights", "linear_backward_weights"),
    ),
    "max_pool2d": Spec(
        forward=lambda m, a, o: m.max_pool2d(a[0], **o, **({} if m is ref else {"return_indices": True})),
        backward=lambda m, dy, a, y, o: (m.max_pool2d_backward(dy, a[0], **o),),
        bounds=lambda dy, a, y, o: (
            [np.zeros(y[0].shape), np.zeros(y[0].shape)],
            [dot_bound(ref.max_pool2d_backward(abs(dy), a[0], **o), _pool_terms(a, o))],
        ),
        torch=lambda T, a, o: T.max_pool2d(a[0], **o) if _torch_pool(o) else None,
    ),
    "avg_pool2d": Spec(
        forward=lambda m, a, o: (m.avg_pool2d(a[0], **o),),
        backward=lambda m, dy, a, y, o: (m.avg_pool2d_backward(dy, a[0].shape, **o),),
        bounds=_sums("avg_pool2d", _pool_terms),
        torch=lambda T, a, o: T.avg_pool2d(a[0], **o) if _torch_pool(o) else None,
        exact=False,
    ),
    "adaptive_avg_pool2d": Spec(
        forward=lambda m, a, o: (m.adaptive_avg_pool2d(a[0], **o),),
        backward=lambda m, dy, a, y, o: (m.adaptive_avg_pool2d_backward(dy, a[0].shape),),
        bounds=_sums("adaptive_avg_pool2d", lambda a, o: a[0].shape[2] * a[0].shape[3]),
        torch=lambda T, a, o: T.adaptive_avg_pool2d(a[0], o["output_size"]),
        exact=False,
    ),
    "global_avg_pool2d": Spec(
        forward=lambda m, a, o: (m.global_avg_pool2d(a[0]),),
        backward=lambda m, dy, a, y, o: (m.global_avg_pool2d_backward(dy, a[0].shape),),
        bounds=_sums("global_avg_pool2d", lambda a, o: a[0].shape[2] * a[0].shape[3]),
        torch=lambda T, a, o: T.adaptive_avg_pool2d(a[0], 1),
        exact=False,
    ),
    "batch_norm": Spec(
        forward=_bn_forward,
        backward=_bn_backward,
        bounds=_bn_bounds,
        torch=_bn_torch,
        exact=False,
        draw=_bn_draw,
    ),
    "relu": Spec(**_of("relu"), bounds=_units(0, 0), torch=lambda T, a, o: T.relu(a[0])),
    "tanh": Spec(**_of("tanh"), bounds=_units(8, 4), torch=lambda T, a, o: a[0].tanh(), exact=False),
    "sigmoid": Spec(
        **_of("sigmoid"),
        bounds=_units(8, 4),
        torch=lambda T, a, o: a[0].sigmoid(),
        exact=False,
    ),
    "leaky_relu": Spec(
        **_of("leaky_relu", True),
        bounds=_units(2, 2),
        torch=lambda T, a, o: T.leaky_relu(a[0], **o),
        exact=False,
    ),
    "offset": Spec(
        forward=lambda m, a, o: (m.offset(a[0], 0.75),),
        backward=lambda m, dy, a, y, o: (m.offset_backward(dy, y, 0.75),),
        bounds=_units(1, 0),
        torch=lambda T, a, o: a[0] + 0.75,
        exact=False,
    ),
    "silu": Spec(**_of("silu", True), bounds=_units(8, 16), torch=lambda T, a, o: T.silu(a[0]), exact=False),
    "softmax": Spec(
        **_of("softmax"),
        bounds=_softmax_bounds,
        torch=lambda T, a, o: T.softmax(a[0], dim=1),
        exact=False,
    ),
    "cross_entropy": Spec(
        forward=lambda m, a, o: (np.asarray(m.cross_entropy(a[0], **o)),),
        backward=lambda m, dy, a, y, o: (m.cross_entropy_backward(a[0], **o),),
        bounds=_loss_bounds,
        torch=lambda T, a, o: T.cross_entropy(a[0], _torch_labels(o), reduction=o.get("reduction", "mean")),
        exact=False,
    ),
    "add": Spec(
        forward=lambda m, a, o: (m.add(*a, **o),),
        bounds=lambda dy, a, y, o: ([U * abs(y[0])], []),
        torch=lambda T, a, o: a[0] + a[1],
    ),
    "concat": Spec(
        forward=lambda m, a, o: (m.concat(a, **o),),
        backward=lambda m, dy, a, y, o: tuple(m.concat_backward(dy, [x.shape[1] for x in a], **o)),
    ),
    "flatten": Spec(
        forward=lambda m, a, o: (m.flatten(a[0], **o),),
        backward=lambda m, dy, a, y, o: (m.flatten_backward(dy, a[0].shape, **o),),
        torch=lambda T, a, o: a[0].flatten(1),
    ),
    "pad_channels": Spec(
        forward=lambda m, a, o: (m.pad_channels(a[0], **o),),
        backward=lambda m, dy, a, y, o: (m.pad_channels_backward(dy, **o),),
        torch=lambda T, a, o: T.pad(a[0], (0, 0, 0, 0, o["before"], o["after"])),
    ),
    "slice_channels": Spec(
        forward=lambda m, a, o: (m.slice_channels(a[0], **o),),
        backward=lambda m, dy, a, y, o: (m.slice_channels_backward(dy, **o, channels=a[0].shape[1]),),
        torch=lambda T, a, o: a[0][:, o["begin"] : o["end"]],
    ),
    "subsample": Spec(
        forward=lambda m, a, o: (m.subsample(a[0], **o),),
        backward=lambda m, dy, a, y, o: (
            m.subsample_backward(dy, o["stride"], a[0].shape, o.get("begin", 0), o.get("end")),
        ),
        torch=lambda T, a, o: (
            a[0][
                :,
                :,
                o.get("begin", 0) : o.get("end") : o["stride"],
                o.get("begin", 0) : o.get("end") : o["stride"],
            ]
            if all(isinstance(v, int) for v in o.values())
            else None
        ),
    ),
}

# One small problem of each op: input shapes and options.
EXAMPLES: dict[str, tuple[tuple, dict]] = {
    "conv2d": (((2, 6, 7, 8), (4, 3, 3, 3), (4,)), dict(padding=1, groups=2)),
    "linear": (((5, 7), (3, 7), (3,)), {}),
    "max_pool2d": (((2, 3, 6, 7),), dict(kernel_size=2)),
    "avg_pool2d": (((2, 3, 6, 7),), dict(kernel_size=3, stride=2, padding=1)),
    "adaptive_avg_pool2d": (((2, 3, 6, 7),), dict(output_size=(2, 3))),
    "global_avg_pool2d": (((2, 3, 6, 7),), {}),
    "batch_norm": (((2, 3, 6, 7), (3,), (3,)), dict(training=False)),
    "relu": (((2, 3, 6, 7),), {}),
    "tanh": (((2, 3, 6, 7),), {}),
    "sigmoid": (((2, 3, 6, 7),), {}),
    "leaky_relu": (((2, 3, 6, 7),), dict(negative_slope=0.3)),
    "offset": (((2, 3, 6, 7),), {}),
    "silu": (((2, 3, 6, 7),), {}),
    "softmax": (((5, 7),), {}),
    "cross_entropy": (((3, 4),), dict(labels=[0, 3, 1])),
    "add": (((2, 3, 6, 7), (2, 3, 6, 7)), {}),
    "concat": (((2, 3, 6, 7), (2, 1, 6, 7)), {}),
    "flatten": (((2, 3, 6, 7),), {}),
    "pad_channels": (((2, 3, 6, 7),), dict(before=1, after=2)),
    "slice_channels": (((2, 3, 6, 7),), dict(begin=1, end=3)),
    "subsample": (((2, 3, 6, 7),), dict(stride=2)),
}


def example(name: str, rng: np.random.Generator) -> tuple[Spec, list, dict]:
    """The op, inputs and options of EXAMPLES."""
    (shapes, options), spec = EXAMPLES[name], OPS[name]
    inputs = (
        spec.draw(rng, shapes) if spec.draw else [rng.standard_normal(s).astype(np.float32) for s in shapes]
    )
    return spec, list(inputs), options
