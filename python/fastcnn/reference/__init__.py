"""The definition of every operation, in plain NumPy and float64.

Written from the formulas and never optimised: start here to learn what an operation computes. The tests
hold every fast implementation against these functions. Nothing is checked here beyond what NumPy checks
itself, and nothing is changed in place: what an operation updates, it returns.

All images are ``(N, C, H, W)``: batch, channels, height, width. ``dy`` is the gradient of the loss with
respect to an output ``y``; a backward function returns the gradients of the inputs, in their order.
"""

from .conv import conv2d, conv2d_backward
from .geometry import output_size, padding4
from .init import fans, he_normal_std, he_uniform_bound, xavier_normal_std, xavier_uniform_bound
from .linear import linear, linear_backward
from .loss import correct, cross_entropy, cross_entropy_backward
from .norm import batch_norm, batch_norm_backward, batch_norm_stats
from .optim import sgd_step
from .pointwise import (
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from .pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from .shape import (
    add,
    add_backward,
    concat,
    concat_backward,
    flatten,
    flatten_backward,
    pad_channels,
    pad_channels_backward,
    slice_channels,
    slice_channels_backward,
    subsample,
    subsample_backward,
)

__all__ = [
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "add", "add_backward", "avg_pool2d",
    "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "batch_norm_stats", "concat",
    "concat_backward", "conv2d", "conv2d_backward", "correct", "cross_entropy", "cross_entropy_backward",
    "fans", "flatten", "flatten_backward", "global_avg_pool2d", "global_avg_pool2d_backward",
    "he_normal_std", "he_uniform_bound", "leaky_relu", "leaky_relu_backward", "linear", "linear_backward",
    "max_pool2d", "max_pool2d_backward", "output_size", "pad_channels", "pad_channels_backward", "padding4",
    "relu", "relu_backward", "sgd_step", "sigmoid", "sigmoid_backward", "silu", "silu_backward",
    "slice_channels", "slice_channels_backward", "softmax", "softmax_backward", "subsample",
    "subsample_backward", "tanh", "tanh_backward", "xavier_normal_std", "xavier_uniform_bound",
]  # fmt: skip
