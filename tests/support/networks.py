"""A small network with everything that has a name of its own: parts, a part called three times, one not read."""

from __future__ import annotations

from typing import Any

from orders import normal

import fastcnn
import fastcnn.functional as F
from fastcnn import nn


class Block(nn.Module):
    """Convolution, norm, and the same pooling twice; a part that is called with two values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh()
        self.pool = nn.AvgPool2d(2)
        self.side = nn.Conv2d(6, 6, 1, bias=False)

    def forward(self, x: Any) -> Any:
        y = self.act(self.norm(self.conv(x)))
        return self.pool(self.pool(y) + self.side(self.pool(y)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Block(), nn.Linear(6, 4)
        self.unread = nn.Conv2d(3, 2, 1)

    def forward(self, x: Any) -> Any:
        self.unread(x)
        return self.head(F.flatten(F.global_avg_pool2d(self.block(x))))


SHAPE = (5, 3, 8, 8)
NAMES = (
    "input", "block.conv", "block.norm", "block.act", "block.pool:0", "block.pool:1", "block.pool:2", "block.side",
    "block", "head",
)  # fmt: skip


def network() -> Net:
    """With running statistics and norms that are not those of a new network."""
    fastcnn.manual_seed(2)
    net = Net()
    for i, held in enumerate([*net.parameters(), *net.buffers()]):
        if held.data.ndim == 1:
            held.data[...] = 0.5 + abs(normal(*held.shape, seed=i)) if i % 2 else normal(*held.shape, seed=i)
    net.block.norm.running_var.data[...] = 0.5 + abs(normal(6, seed=8))
    return net
