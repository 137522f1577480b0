"""A short tour of every kernel family, for a memory checker: odd shapes in each layout, then whole training steps.

    PYTHONMALLOC=malloc valgrind --error-limit=no python tools/memcheck.py

Valgrind has no AVX-512, so the AVX2 kernels run. Reports with a frame in _core are ours; the dynamic loader's are not.
"""

from __future__ import annotations

import numpy as np

import fastcnn
from fastcnn import _core, nn
from fastcnn import functional as F
from fastcnn.nn.engine import TrainingStep

# batch, channels, height, width, out channels, kernel, stride, padding, groups
CONVOLUTIONS = (
    (3, 3, 7, 9, 5, 3, 1, 1, 1),
    (2, 16, 9, 8, 16, 3, 1, 1, 1),
    (5, 6, 11, 7, 7, 5, 2, 2, 1),
    (1, 8, 6, 6, 8, 3, 1, 1, 8),
    (3, 8, 13, 5, 12, 1, 1, 0, 4),
)
RNG = np.random.default_rng(0)


def some(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ops(layout: str) -> None:
    for n, c, h, w, oc, k, s, p, g in CONVOLUTIONS:
        x, weight, bias = some(n, c, h, w), some(oc, c // g, k, k), some(oc)
        ways = ["direct", "winograd4x4"] if (k, g, layout) == (3, 1, "nhwc") else [None]
        for way in ways:
            y = F.conv2d(x, weight, bias, s, p, 1, g, layout=layout, implementation=way)
            F.conv2d_backward(some(*y.shape), x, weight, s, p, 1, g, layout=layout, implementation=way)
    x = some(3, 5, 9, 7)
    F.max_pool2d(x, 3, 2, 1, layout=layout)
    F.avg_pool2d(x, 2, 2, 0, True, layout=layout)
    F.adaptive_avg_pool2d(x, (2, 3), layout=layout)
    F.tanh(x, layout=layout)
    F.batch_norm(x, np.zeros(5, np.float32), np.ones(5, np.float32), training=True, layout=layout)
    F.linear(some(5, 13), some(7, 13), some(7))
    F.linear_backward(some(5, 7), some(5, 13), some(7, 13))
    F.cross_entropy(some(5, 7), np.arange(5))


def main() -> None:
    print("instruction set:", _core.isa())
    for layout in ("nhwc", "interleaved"):
        ops(layout)
    for name, shape, batch in (("lenet5", (1, 28, 28), 5), ("resnet20_cifar", (3, 32, 32), 3)):
        model = fastcnn.models.create(name)
        optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        step = TrainingStep(model, optimizer, nn.CrossEntropyLoss())
        print(name, step.step(some(batch, *shape), np.arange(batch)), model.eval()(some(batch, *shape)).shape)


if __name__ == "__main__":
    main()
