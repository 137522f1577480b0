"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, section II.B) as it is commonly built today.

28x28 input padded to the paper's 32x32, every C3 map connected to every S2 map, a softmax output.
"""

from __future__ import annotations

from fastcnn import nn


def lenet5(num_classes: int = 10, in_channels: int = 1) -> nn.Sequential:
    """LeNet-5: 61,706 parameters with ten classes and one input channel; input (N, C, 28, 28).

    Weights are drawn from Xavier's uniform distribution, which fits tanh (Glorot, Bengio 2010).
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2, init="xavier"),  # (N, 6, 28, 28)
        nn.Tanh(),
        nn.AvgPool2d(2),  # (N, 6, 14, 14)
        nn.Conv2d(6, 16, 5, init="xavier"),  # (N, 16, 10, 10)
        nn.Tanh(),
        nn.AvgPool2d(2),  # (N, 16, 5, 5)
        nn.Flatten(),
        nn.Linear(400, 120, init="xavier"),
        nn.Tanh(),
        nn.Linear(120, 84, init="xavier"),
        nn.Tanh(),
        nn.Linear(84, num_classes, init="xavier"),
    )
