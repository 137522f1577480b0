"""The same networks as PyTorch modules, for comparison: what a user would run instead of fastcnn."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcnn


def torch_here() -> Any:
    """PyTorch with as many threads as fastcnn; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(fastcnn.get_num_threads())
    return torch


def lenet5() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def resnet20_cifar() -> Any:
    """He et al. 2015, section 4.2, shortcut A; parameters in the order of fastcnn's."""
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.stride, self.grow = stride, (outputs - inputs) // 2

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            if self.grow:
                x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.grow, self.grow))
            return F.relu(y + x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(3)])
            self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
            self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
            self.linear = nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))

    return Net()


NETS = {"lenet5": (lenet5, (1, 28, 28)), "resnet20_cifar": (resnet20_cifar, (3, 32, 32))}
MODES = ("eager", "channels_last", "compile", "compile_channels_last")


class TorchTraining:
    """PyTorch's training step of a network in one mode, on given weights and one batch."""

    def __init__(
        self, name: str, mode: str, state: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray, lr: float
    ) -> None:
        import torch

        net = NETS[name][0]()
        net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        net.train()
        self.x, self.y = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
        if mode.endswith("channels_last"):
            net = net.to(memory_format=torch.channels_last)
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, foreach=True)
        self.run = torch.compile(net) if mode.startswith("compile") else net
        self.loss = torch.nn.functional.cross_entropy

    def step(self) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.run(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())
