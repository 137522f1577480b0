"""Objects that belong together know it: an error where they do not; copies are whole and their own."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
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


@pytest.mark.parametrize("wrong", ["sgd", fastcnn.optim.SGD, 0.1])
def test_what_is_no_optimizer_is_named(wrong):
    with pytest.raises(TypeError, match="expected an SGD optimizer"):
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


def test_a_shallow_copy_does_not_answer_with_the_plans_of_the_original(rng):
    x, _ = batch(rng)
    pool = nn.MaxPool2d(2)
    pool(x)
    other = copy.copy(pool)
    other.kernel_size, other.stride = 4, 4
    assert other(x).shape[-1] == 2 and pool(x).shape[-1] == 4
    norm = nn.BatchNorm2d(1)
    norm(x)
    other = copy.copy(norm).eval()
    np.testing.assert_allclose(other(x), x / np.sqrt(1 + 1e-5), rtol=1e-2, atol=0.2)
    assert norm.training


def test_what_a_forward_cannot_see_is_refused(rng):
    class Baked(nn.Module):
        def __init__(self):
            super().__init__()
            self.const, self.conv = nn.Parameter(np.ones((1, 1, 8, 8))), nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return x + self.conv(self.const)

    with pytest.raises(TypeError, match="Conv2d: called on a Parameter inside a forward"):
        Baked()(batch(rng)[0])


@pytest.mark.parametrize("call", [lambda m: m(), lambda m: m(None), lambda m: m("x"), lambda m: m(3)])
def test_a_call_without_input_is_a_clear_error(call):
    with pytest.raises(
        TypeError, match=r"Sequential: expected (an input, got none|a float32 NumPy array for input)"
    ):
        call(net())
    with pytest.raises(TypeError, match=r"expected a float32 NumPy array for logits, got None"):
        nn.CrossEntropyLoss()(None, [0])


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("size", [2, 1])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["conv", "norm", "pool", "relu"])
def test_a_layer_on_a_join_of_one(rng, kind, training, size, channels):
    layers = {
        "conv": lambda: nn.Conv2d(channels, 4, 3, padding=1),
        "norm": lambda: nn.BatchNorm2d(channels),
        "pool": lambda: nn.MaxPool2d(1),
        "relu": nn.ReLU,
    }

    class Net(nn.Module):
        def __init__(self, joins):
            super().__init__()
            self.layer, self.joins = layers[kind](), joins

        def forward(self, x):
            return self.layer(F.concat([x]) if self.joins else x)

    x = rng.standard_normal((2, channels, size, size)).astype(np.float32)
    fastcnn.manual_seed(1)
    joined = Net(True).train(training)
    fastcnn.manual_seed(1)
    np.testing.assert_allclose(joined(x), Net(False).train(training)(x), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 16, 17])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("layout", ["auto", "nhwc", "interleaved"])
def test_a_parameter_is_added_to_images_from_either_side(rng, layout, behind, batch_size):
    class Net(nn.Module):
        def __init__(self, first):
            super().__init__()
            self.pos = nn.Parameter(np.random.default_rng(3).standard_normal((batch_size, 4, 5, 8)))
            self.conv, self.first = nn.Conv2d(4, 3, 3), first

        def forward(self, x):
            y = F.add(self.pos, x) if self.first else F.add(x, self.pos)
            return self.conv(y) if behind else y

    x = rng.standard_normal((batch_size, 4, 5, 8)).astype(np.float32)
    results = []
    for first in (True, False):
        fastcnn.manual_seed(1)
        model = Net(first).train()
        y = model(x)
        dx = model.backward(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape))
        plan = model.plan(x.shape, training=False, layout=layout)
        results.append((y, dx, model.pos.grad, plan.core.run({0: x})[0]))
        if not behind:
            np.testing.assert_allclose(y, x + model.pos.data, rtol=1e-6)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
