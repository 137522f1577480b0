"""Networks by name: structure, parameter counts, names, errors."""

import numpy as np
import pytest

import fastcnn
from fastcnn import models, nn


def parameter_count(model):
    return sum(p.data.size for p in model.parameters())


def test_available_and_errors():
    assert models.available() == ["lenet5", "resnet20_cifar"]
    with pytest.raises(ValueError, match=r"did you mean 'lenet5'.*available: lenet5, resnet20_cifar"):
        models.create("lenet")
    with pytest.raises(ValueError, match="no option 'width'; it has num_classes, in_channels"):
        models.create("lenet5", width=3)
    for bad in (0, -1, 1.5, True, "10"):
        with pytest.raises(ValueError, match="num_classes must be a whole number"):
            models.create("lenet5", num_classes=bad)


def test_lenet5():
    model = models.create("lenet5")
    assert parameter_count(model) == 61706
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        "0.weight": (6, 1, 5, 5),
        "0.bias": (6,),
        "3.weight": (16, 6, 5, 5),
        "3.bias": (16,),
        "7.weight": (120, 400),
        "7.bias": (120,),
        "9.weight": (84, 120),
        "9.bias": (84,),
        "11.weight": (10, 84),
        "11.bias": (10,),
    }
    assert model(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)
    other = models.create("lenet5", num_classes=3, in_channels=2)
    assert other(np.zeros((1, 2, 28, 28), np.float32)).shape == (1, 3)


def test_resnet20():
    model = models.create("resnet20_cifar")
    assert parameter_count(model) == 269722
    names = set(model.state_dict())
    for name in (
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer3.2.bn2.bias",
        "linear.bias",
    ):
        assert name in names
    assert not any("shortcut" in n for n in names)
    model.eval()
    assert model(np.zeros((2, 3, 32, 32), np.float32)).shape == (2, 10)


def test_a_seed_decides_the_weights():
    def drawn(seed):
        fastcnn.manual_seed(seed)
        return models.create("lenet5").state_dict()["7.weight"].copy()

    assert np.array_equal(drawn(3), drawn(3))
    assert not np.array_equal(drawn(3), drawn(4))


def test_initial_weights_have_the_papers_variance():
    fastcnn.manual_seed(0)
    xavier = models.create("lenet5").state_dict()["7.weight"]
    assert abs(xavier.std() / np.sqrt(2 / (400 + 120)) - 1) < 0.05
    he = models.create("resnet20_cifar").state_dict()["layer3.1.conv1.weight"]
    assert abs(he.std() / np.sqrt(2 / (64 * 9)) - 1) < 0.05


def test_layers_are_nn_modules():
    assert isinstance(models.create("lenet5"), nn.Sequential)
    assert isinstance(models.create("resnet20_cifar"), nn.Module)
