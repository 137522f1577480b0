"""Every op and its backward function, directly on NumPy arrays.

Names, argument order and defaults are those of ``torch.nn.functional`` where it has the op. All arrays are
float32 (labels any integer type); nothing is converted silently, other types raise TypeError. Arrays need not
be contiguous: others are copied. Images are ``(N, C, H, W)``, weights ``(OC, IC / groups, KH, KW)``. An empty
batch is legal. Wrong shapes raise ValueError saying what was expected and what came.

``dy`` is the gradient of the loss with respect to an op's output ``y``; a backward function returns the
gradients of the op's inputs. On the symbolic values of a traced model the same functions record themselves.

Where an op takes them: ``padding`` is an int, (height, width), (top, left, bottom, right), ``"valid"`` or
``"same"`` (ceil(size / stride) outputs for any stride, the odd row or column at the bottom or right);
``layout`` ("auto", "nchw", "nhwc", "interleaved") and ``implementation`` force a way of computing, for tests
and timings.

The formulas stand in :mod:`fastcnn.reference`; where frameworks differ, see docs/semantics.md.
"""

from fastcnn.functional.conv import conv2d, conv2d_backward
from fastcnn.functional.linear import linear, linear_backward
from fastcnn.functional.loss import cross_entropy, cross_entropy_backward
from fastcnn.functional.norm import batch_norm, batch_norm_backward
from fastcnn.functional.optim import sgd_step
from fastcnn.functional.pointwise import (
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
from fastcnn.functional.pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    global_avg_pool2d,
    global_avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from fastcnn.functional.shape import (
    add,
    add_backward,
    concat,
    concat_backward,
    flatten,
    flatten_backward,
    pad_channels,
    pad_channels_backward,
    scale,
    slice_channels,
    slice_channels_backward,
    subsample,
    subsample_backward,
)

__all__ = [
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "add", "add_backward", "avg_pool2d",
    "avg_pool2d_backward", "batch_norm", "batch_norm_backward", "concat", "concat_backward", "conv2d",
    "conv2d_backward", "cross_entropy", "cross_entropy_backward", "flatten", "flatten_backward",
    "global_avg_pool2d", "global_avg_pool2d_backward", "leaky_relu", "leaky_relu_backward", "linear",
    "linear_backward", "max_pool2d", "max_pool2d_backward", "pad_channels", "pad_channels_backward", "relu",
    "relu_backward", "scale", "sgd_step", "sigmoid", "sigmoid_backward", "silu", "silu_backward",
    "slice_channels", "slice_channels_backward", "softmax", "softmax_backward", "subsample",
    "subsample_backward", "tanh", "tanh_backward",
]  # fmt: skip
