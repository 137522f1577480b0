"""What the public modules say of names they do not have, and which names they show."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Names of other libraries that go by another name here, or are written another way.
_HERE = {
    "AveragePooling2D": "nn.AvgPool2d",
    "BatchNormalization": "nn.BatchNorm2d",
    "Conv1d": "nn.Conv2d with kernel_size=(1, k) on (N, C, 1, W)",
    "Conv2D": "nn.Conv2d",
    "DataLoader": "fastcnn.data.Loader",
    "Dense": "nn.Linear",
    "Dropout": "against overfitting weight_decay of optim.SGD and shift of the data",
    "EarlyStopping": "callbacks=, as in the example of Trainer.fit",
    "FashionMNIST": "fastcnn.data.fashion_mnist",
    "GlobalAveragePooling2D": "nn.AdaptiveAvgPool2d(1)",
    "Identity": "nn.Sequential() without layers",
    "MNIST": "fastcnn.data.mnist",
    "MSELoss": "model.backward(dy) with the gradient of a loss of your own",
    "MaxPooling2D": "nn.MaxPool2d",
    "ModuleDict": "nn.Sequential({name: layer}) or an attribute for each layer",
    "ModuleList": "nn.Sequential(*layers) or an attribute for each layer",
    "Softmax": "F.softmax (in training it is part of nn.CrossEntropyLoss)",
    "TensorDataset": "fastcnn.data.ArrayDataset",
    "callbacks": "fit's callbacks= takes functions, as in the example of Trainer.fit",
    "compile": "nothing to call: every model is planned and fused",
    "cuda": "it computes on the CPU",
    "from_numpy": "the array itself: models take NumPy arrays",
    "kaiming_normal_": "init='he_normal' of a layer",
    "kaiming_uniform_": "init='he_uniform' of a layer",
    "lenet5": "fastcnn.models.create('lenet5')",
    "no_grad": "model.eval(): nothing is kept for a backward pass then",
    "resnet20_cifar": "fastcnn.models.create('resnet20_cifar')",
    "swish": "F.silu",
    "tensor": "a NumPy array",
    "xavier_normal_": "init='xavier_normal' of a layer",
    "xavier_uniform_": "init='xavier_uniform' of a layer",
}
# Methods of other libraries' models.
_OF_MODELS = {
    **dict.fromkeys(("fit", "compile", "evaluate"), "fastcnn.Trainer(model, optimizer) has fit and evaluate"),
    "count_params": "parameter_count()",
    "get_weights": "state_dict()",
    "register_forward_hook": "model.features_at(x, names) gives what parts put out",
    "register_full_backward_hook": "model.gradients_at(x, names) gives gradients of what parts put out",
    "set_weights": "load_state_dict(state)",
    "weights": "state_dict()",
}
_PLACES = ("nn", "functional", "optim", "data", "train", "models")


def missing(module: str, name: str, names: Mapping[str, Iterable[str]]) -> AttributeError:
    """The error for a name that a module does not have: another place or spelling of it, and what there is.

    Parameters
    ----------
    names : by what they are ("layers")
    """
    if name.startswith("_") or _is_file(module, name):  # Python itself asks
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    import difflib

    lower = {known.lower(): known for group in names.values() for known in group}
    places = (f"fastcnn.{place}" for place in _PLACES)
    found = next((p for p in places if name in getattr(importlib.import_module(p), "__all__", ())), None)
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.8)
    if name in _HERE:
        hint = f" (here: {_HERE[name]})"
    elif found is not None:
        hint = f" (it is {found}.{name})"
    else:
        hint = f" (did you mean {lower[near[0]]}?)" if near else ""
    listed = "".join(f"; {what}: {', '.join(group)}" for what, group in names.items())
    return AttributeError(f"{module} has no {name}{hint}{listed}")


def of_model(name: str) -> str:
    """What an error adds for an attribute of other libraries' models."""
    return f" (here: {_OF_MODELS[name]})" if name in _OF_MODELS else ""


def _is_file(module: str, name: str) -> bool:
    """Whether it is a file of this package, which ``from package import file`` first asks the package for."""
    import importlib.util

    package = hasattr(sys.modules.get(module), "__path__")
    return package and importlib.util.find_spec(f"{module}.{name}") is not None


def of(
    module: str, shown: Iterable[str], names: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module that shows these names and describes them so in errors."""

    def unknown(name: str) -> Any:
        raise missing(module, name, names)

    return unknown, lambda: sorted(shown)
