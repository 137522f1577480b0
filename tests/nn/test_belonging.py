"""Objects that belong together know it: an error where they do not; copies are whole and their own."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastcnn
from fastcnn import nn


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


def sgd(model) -> fastcnn.optim.SGD:
    return fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def batch(rng):
    return rng.standard_normal((6, 1, 8, 8)).astype(np.float32), rng.integers(0, 5, 6)


def test_the_optimizer_of_another_model_is_refused():
    with pytest.raises(ValueError, match="none of the optimizer's parameters belong to the model"):
        fastcnn.Trainer(net(), sgd(net()))


@pytest.mark.parametrize("wrong", ["sgd", fastcnn.optim.SGD, None])
def test_what_is_no_optimizer_is_named(wrong):
    with pytest.raises(TypeError, match="expected a SGD as optimizer"):
        fastcnn.Trainer(net(), wrong)


def test_an_optimizer_with_its_own_rule_is_refused():
    class Adam(fastcnn.optim.SGD):
        def step(self):
            raise AssertionError

    model = net()
    with pytest.raises(TypeError, match=r"Adam has a step\(\) of its own"):
        fastcnn.Trainer(model, Adam(model.parameters(), lr=0.1))


@pytest.mark.parametrize("labels", [[0.7, 1.9, 0, 0, 0, 0], list("012012"), [np.nan] * 6])
def test_labels_are_not_cut_to_integers(rng, labels):
    model = net()
    with pytest.raises(TypeError, match="labels: expected integers"):
        fastcnn.Trainer(model, sgd(model)).train_step(batch(rng)[0], labels)


def test_layers_in_a_plain_list_are_refused(rng):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Conv2d(1, 2, 3), nn.ReLU()]

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    with pytest.raises(
        ValueError, match=r"Conv2d with parameters that is no part of the network.*nn.Sequential"
    ):
        Net()(batch(rng)[0])


def test_a_deep_copy_has_weights_statistics_and_momentum_of_its_own(rng):
    x, y = batch(rng)
    model = net()
    optimizer = sgd(model)
    fastcnn.Trainer(model, optimizer).train_step(x, y)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    before = {k: v.copy() for k, v in model.state_dict().items()}
    for _ in range(3):  # the copy goes on as the original would, and leaves it alone
        twin_loss = fastcnn.Trainer(twin, twin_optimizer).train_step(x, y)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    for _ in range(3):
        loss = fastcnn.Trainer(model, optimizer).train_step(x, y)
    assert loss == twin_loss
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[name], err_msg=name)


def test_a_copy_after_prediction_sees_its_own_weights(rng):
    x, _ = batch(rng)
    model = net().eval()
    want = model(x)
    twin = copy.deepcopy(model)
    next(twin.parameters()).data[...] = 0
    assert not np.array_equal(twin(x), want)
    np.testing.assert_array_equal(model(x), want)


def test_shared_layers_stay_shared_in_a_copy():
    layer = nn.Linear(3, 3)
    twin = copy.deepcopy(nn.Sequential(layer, nn.ReLU(), layer))
    assert len(list(twin.parameters())) == 2


def test_names_may_come_from_a_generator(rng):
    x, _ = batch(rng)
    model = net()
    assert list(model.features_at(x, (name for name in ["0", "4"]))) == ["0", "4"]
    assert list(model.gradients_at(x, map(str, ["input"]))) == ["input"]
    for wrong in (3, [3], (n for n in [3])):
        with pytest.raises(TypeError, match="expected names of parts"):
            model.features_at(x, wrong)


def test_looking_inside_keeps_the_plans_of_inference(rng):
    x, _ = batch(rng)
    model = net().eval()
    model(x)
    plan = model.plan(x.shape)
    for size in range(1, 30):
        model.features_at(x[:1].repeat(size, 0), ["0"])
    assert model.plan(x.shape) is plan


def test_an_empty_batch_is_refused_before_the_step(rng):
    x, y = batch(rng)
    model = net()
    with pytest.raises(ValueError, match="the batch is empty"):
        fastcnn.Trainer(model, sgd(model)).train_step(x[:0], y[:0])
