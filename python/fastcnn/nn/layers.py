"""The layers: each is one line over a functional op."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn.functional import _arguments as args
from fastcnn.nn import init as initial
from fastcnn.nn.module import Module
from fastcnn.nn.parameter import Buffer, Parameter

__all__ = [
    "AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm2d", "Conv2d", "Flatten", "LeakyReLU", "Linear", "MaxPool2d",
    "ReLU", "SiLU", "Sigmoid", "Tanh",
]  # fmt: skip

Pair = int | Sequence[int]

# Arguments of PyTorch's layers that can only mean one thing here: accepted with these values, and nowhere kept.
_PLACE: dict[str, tuple[Any, ...]] = {"device": (None, "cpu"), "dtype": (None, "float32", np.float32)}
_HABITS: dict[str, tuple[Any, ...]] = {
    **_PLACE,
    "dilation": (1, (1, 1)),
    "divisor_override": (None,),
    "padding_mode": ("zeros",),
    "return_indices": (False,),
    "track_running_stats": (True,),
    "start_dim": (1,),
    "end_dim": (-1,),
}


def _habits(layer: str, **given: Any) -> None:
    for name, value in given.items():
        args.only(layer, name, value, *_HABITS[name])


def _at_least(layer: str, least: int, **values: Any) -> list[int]:
    """Integers of any kind as Python's, which a file can hold."""
    numbers = [args.integer(layer, name, v) for name, v in values.items()]
    for (name, v), n in zip(values.items(), numbers, strict=True):
        if n < least:
            raise ValueError(f"{layer}: expected {name} of at least {least}, got {v!r}")
    return numbers


def _pair(layer: str, name: str, value: Pair, least: int = 1) -> tuple[int, int]:
    height, width = args.pair(layer, name, value)
    if min(height, width) < least:
        raise ValueError(f"{layer}: expected {name} of at least {least}, got {value!r}")
    return height, width


def _padding(layer: str, value: args.Padding) -> str | int | tuple[int, ...]:
    form = args.padding(layer, value)
    if not isinstance(form, str) and min(form if isinstance(form, tuple) else (form,)) < 0:
        raise ValueError(f"{layer}: expected padding of at least 0, got {value!r}")
    return form


def _finite(layer: str, name: str, value: Any) -> float:
    number = args.number(layer, name, value)
    if not math.isfinite(number):
        raise ValueError(f"{layer}: expected a finite number for {name}, got {value!r}")
    return number


class Layer(Module):
    """Base of the library's layers: what the constructor was given is kept under the same names."""

    _unkept: tuple[str, ...] = ()  # arguments that change nothing

    def config(self) -> dict[str, Any]:
        kinds = (c for c in type(self).__mro__ if issubclass(c, Layer) and c.__module__ == __name__)
        made_by = next(kinds)  # a subclass has a signature of its own
        names = [name for name in inspect.signature(made_by).parameters if name not in made_by._unkept]
        options = {name: getattr(self, name) for name in names}
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
    padding_mode, device, dtype
        PyTorch's, with the only values there are: "zeros", None or "cpu", None or float32.

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

    _unkept = ("padding_mode", *_PLACE)

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
        *,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _habits("Conv2d", padding_mode=padding_mode, device=device, dtype=dtype)
        in_channels, out_channels, groups = _at_least(
            "Conv2d", 1, in_channels=in_channels, out_channels=out_channels, groups=groups
        )
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: expected in_channels and out_channels divisible by groups={groups}, "
                f"got {in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = _pair("Conv2d", "kernel_size", kernel_size)
        self.stride = _pair("Conv2d", "stride", stride)
        self.dilation = _pair("Conv2d", "dilation", dilation)
        self.padding = _padding("Conv2d", padding)
        self.init = init
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(initial.weight(shape, init))
        self.bias = Parameter(initial.bias(shape, init)) if args.flag("Conv2d", "bias", bias) else None

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
        if any(p >= k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise ValueError(
                f"{name}: expected padding smaller than the kernel {self.kernel_size}, got {padding!r}"
            )
        self.ceil_mode = bool(args.flag(name, "ceil_mode", ceil_mode))


class MaxPool2d(_Pool2d):
    """Largest value of each window, as torch.nn.MaxPool2d.

    Parameters
    ----------
    kernel_size, stride, padding : int or pair
        The stride defaults to the kernel size; padding is smaller than the kernel (PyTorch: at most half of it).
    ceil_mode : bool
        Also use windows that reach over the end.
    dilation, return_indices
        PyTorch's, with the only values there are (1, False), by name.
    """

    _unkept = ("dilation", "return_indices")

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        *,
        dilation: Pair = 1,
        return_indices: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        _habits("MaxPool2d", dilation=dilation, return_indices=return_indices)

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
    divisor_override : None
        PyTorch's, by name.
    """

    _unkept = ("divisor_override",)

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        divisor_override: None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        _habits("AvgPool2d", divisor_override=divisor_override)
        self.count_include_pad = bool(args.flag("AvgPool2d", "count_include_pad", count_include_pad))

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

    Source: Ioffe & Szegedy 2015.

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
    track_running_stats, device, dtype
        PyTorch's, with the only values there are: True, None or "cpu", None or float32.
    """

    _unkept = ("track_running_stats", *_PLACE)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _habits("BatchNorm2d", track_running_stats=track_running_stats, device=device, dtype=dtype)
        (self.num_features,) = (num_features,) = _at_least("BatchNorm2d", 1, num_features=num_features)
        self.eps, self.momentum = (
            _finite("BatchNorm2d", name, value) for name, value in (("eps", eps), ("momentum", momentum))
        )
        if self.eps < 0 or not 0 <= self.momentum <= 1:
            raise ValueError(
                f"BatchNorm2d: expected eps of at least 0 and momentum from 0 to 1, got {eps!r} and {momentum!r}"
            )
        learned = args.flag("BatchNorm2d", "affine", affine)
        self.weight = Parameter(np.ones(num_features)) if learned else None
        self.bias = Parameter(np.zeros(num_features)) if learned else None
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
        """Whether there are a factor and an offset per channel."""
        return self.weight is not None


class _InPlace(Layer):
    _unkept = ("inplace",)
    inplace: bool

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = bool(args.flag(type(self).__name__, "inplace", inplace))


class ReLU(_InPlace):
    """max(x, 0).

    Parameters
    ----------
    inplace : bool
        As PyTorch's, inside a network: x itself is the result from then on. It saves nothing: plans reuse memory
        by themselves. An array that a caller passes stays as it is, and files do not keep it.
    """

    def forward(self, x: Any) -> Any:
        return F.relu(x, self.inplace)


class LeakyReLU(_InPlace):
    """x where it is positive, else ``negative_slope * x``; ``inplace`` as in :class:`ReLU`."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = _finite("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(x, self.negative_slope, self.inplace)


class SiLU(_InPlace):
    """x / (1 + exp(-x)); ``inplace`` as in :class:`ReLU`."""

    def forward(self, x: Any) -> Any:
        return F.silu(x, self.inplace)


class Tanh(Layer):
    """Hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class Flatten(Layer):
    """(N, C, H, W) -> (N, C * H * W), in that order.

    Parameters
    ----------
    start_dim, end_dim : int
        PyTorch's, with the only values there are: 1 and -1.
    """

    _unkept = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        _habits("Flatten", start_dim=start_dim, end_dim=end_dim)

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
    device, dtype
        As for :class:`Conv2d`.

    Attributes
    ----------
    weight : Parameter (out_features, in_features)
    bias : Parameter (out_features,) or None
    """

    _unkept = tuple(_PLACE)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        init: str = "default",
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _habits("Linear", device=device, dtype=dtype)
        in_features, out_features = _at_least("Linear", 1, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features, self.init = in_features, out_features, init
        shape = (out_features, in_features)
        self.weight = Parameter(initial.weight(shape, init))
        self.bias = Parameter(initial.bias(shape, init)) if args.flag("Linear", "bias", bias) else None

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)
