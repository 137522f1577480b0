"""What the command line trains with when it is not told: the settings of docs/accuracy.md."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of one training run with SGD."""

    epochs: int = 12
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    lr_decay: str = "cosine"
    shift: int = 0


_RECIPES: dict[tuple[str, str], Recipe] = {
    ("lenet5", "digits"): Recipe(epochs=40, batch_size=32, weight_decay=5e-4, shift=2),
    ("lenet5", "mnist"): Recipe(),
    ("lenet5", "fashion_mnist"): Recipe(),
}
_NETWORKS: dict[str, Recipe] = {
    # He et al. 2015, section 4.2, with fewer epochs and a cosine.
    "resnet20_cifar": Recipe(epochs=30, batch_size=128, lr=0.1, weight_decay=1e-4, shift=4),
}


def recipe(network: str, data: str) -> Recipe:
    """The settings for a network on a data set; general ones where none were chosen.

    >>> recipe("lenet5", "mnist").epochs
    12
    """
    return _RECIPES.get((network, data)) or _NETWORKS.get(network) or Recipe()
