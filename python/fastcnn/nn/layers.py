"""The layers: each is one line over a functional op."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn.nn import init as initial
from fastcnn.nn.module import Module
from fastcnn.nn.parameter import Buffer, Parameter

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm2d", "Conv2d", "Flatten", "LeakyReLU", "Linear", "MaxPool2d",
    "ReLU", "SiLU", "Sigmoid", "Tanh",
]  # fmt: skip

Pair = int | Sequence[int]


def _pair(layer: str, name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    items = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value, value)
    if len(items) != 2 or not all(isinstance(v, (int, np.integer)) and v >= least for v in items):
        raise ValueError(
            f"{layer}: expected {name} to be one or two integers of at least {least}, got {value!r}"
        )
    return int(items[0]), int(items[1])


def _positive(layer: str, **values: Any) -> None:
    for name, v in values.items():
        if not isinstance(v, (int, np.integer)) or v < 1:
            raise ValueError(f"{layer}: expected {name} to be a positive integer, got {v!r}")


class Layer(Module):
    """Base of the library's layers: what the constructor was given is kept under the same names."""

    def config(self) -> dict[str, Any]:
        made_by = next(c for c in type(self).__mro__ if c.__module__ == __name__)  # a subclass has its own
        options = {name: getattr(self, name) for name in inspect.signature(made_by).parameters}
        return {k: v is not None if k == "bias" else v for k, v in options.items()}


class Conv2d(Layer):
    """Two-dimensional convolution: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or pair
    padding : int, pair, (top, left, bottom, right), "same" or "valid"
    groups : int
    bias : bool
    init : str
        Of the weights: "default", "he", "xavier", ... (see :mod:`fastcnn.nn.init`).

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, KH, KW)
    bias : Parameter (out_channels,) or None

    Examples
    --------
    >>> import numpy as np
    >>> Conv2d(3, 8, 5, padding=2)(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 8, 32, 32)

    Source: LeCun et al. 1998, section II.A.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        init: str = "default",
    ) -> None:
        super().__init__()
        _positive("Conv2d", in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: expected in_channels and out_channels divisible by groups={groups}, "
                f"got {in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = _pair("Conv2d", "kernel_size", kernel_size)
        self.stride = _pair("Conv2d", "stride", stride)
        self.dilation = _pair("Conv2d", "dilation", dilation)
        self.padding = padding if isinstance(padding, (int, str)) else tuple(padding)
        self.init = init
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(initial.weight(shape, init))
        self.bias = Parameter(initial.bias(shape, init)) if bias else None

    def forward(self, x: Any) -> Any:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class _Pool2d(Layer):
    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = _pair(name, "kernel_size", kernel_size)
        self.stride = _pair(name, "stride", self.kernel_size if stride is None else stride)
        self.padding = _pair(name, "padding", padding, least=0)
        self.ceil_mode = bool(ceil_mode)


class MaxPool2d(_Pool2d):
    """Largest value of each window, as torch.nn.MaxPool2d.

    Parameters
    ----------
    kernel_size, stride, padding : int or pair
        The stride defaults to the kernel size; padding is at most half the kernel.
    ceil_mode : bool
        Also use windows that reach over the end.
    """

    def forward(self, x: Any) -> Any:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode)


class AvgPool2d(_Pool2d):
    """Mean of each window, as torch.nn.AvgPool2d.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode
        As for :class:`MaxPool2d`.
    count_include_pad : bool
        Count zeros of the padding in the mean's divisor.
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = bool(count_include_pad)

    def forward(self, x: Any) -> Any:
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


class AdaptiveAvgPool2d(Layer):
    """Mean pooling to a given output size, whatever the input's; 1 is the mean of each whole plane."""

    def __init__(self, output_size: Pair) -> None:
        super().__init__()
        self.output_size = _pair("AdaptiveAvgPool2d", "output_size", output_size)

    def forward(self, x: Any) -> Any:
        if self.output_size == (1, 1):
            return F.global_avg_pool2d(x)
        return F.adaptive_avg_pool2d(x, self.output_size)


class BatchNorm2d(Layer):
    """Batch normalisation per channel: by the batch's statistics in training, by the running ones in eval mode.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
        Added to the variance.
    momentum : float
        Weight of a new batch in the running statistics (PyTorch's convention).
    affine : bool
        Learn a factor (``weight``) and an offset (``bias``) per channel.

    Source: Ioffe & Szegedy 2015.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        _positive("BatchNorm2d", num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, float(eps), float(momentum)
        self.weight = Parameter(np.ones(num_features)) if affine else None
        self.bias = Parameter(np.zeros(num_features)) if affine else None
        self.running_mean = Buffer(np.zeros(num_features))
        self.running_var = Buffer(np.ones(num_features))
        self.num_batches_tracked = Buffer(0, dtype=np.int64)

    def forward(self, x: Any) -> Any:
        if self.training:
            x.trace.counters.append(self.num_batches_tracked)
        tensors = (self.running_mean, self.running_var, self.weight, self.bias)
        return F.batch_norm(x, *tensors, self.training, self.momentum, self.eps)

    @property
    def affine(self) -> bool:
        return self.weight is not None


class ReLU(Layer):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class LeakyReLU(Layer):
    """x where it is positive, else ``negative_slope * x``."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = float(negative_slope)

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(x, self.negative_slope)


class SiLU(Layer):
    """x / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        return F.silu(x)


class Tanh(Layer):
    """Hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class Flatten(Layer):
    """(N, C, H, W) -> (N, C * H * W), in that order."""

    def forward(self, x: Any) -> Any:
        return F.flatten(x)


class Linear(Layer):
    """Fully connected: (N, in_features) -> (N, out_features), ``y = x weight^T + bias``.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    init : str
        Of the weights (see :mod:`fastcnn.nn.init`).

    Attributes
    ----------
    weight : Parameter (out_features, in_features)
    bias : Parameter (out_features,) or None
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, init: str = "default") -> None:
        super().__init__()
        _positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features, self.init = in_features, out_features, init
        shape = (out_features, in_features)
        self.weight = Parameter(initial.weight(shape, init))
        self.bias = Parameter(initial.bias(shape, init)) if bias else None

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)
