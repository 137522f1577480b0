"""Nothing kept between runs may be older than what it was made from, and no caller gets another one's numbers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from graphs import make_plan
from orders import EVERY_LAYOUT, HYPER, normal

import fastcnn
from fastcnn import _core, functional, nn
from fastcnn import reference as ref

RNG = np.random.default_rng(0)


def network() -> nn.Module:
    fastcnn.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


def images(n: int = 6) -> np.ndarray:
    return (RNG.standard_normal((n, 3, 9, 9)) * 3 + 2).astype(np.float32)


def predictions_of_a_copy(model: nn.Module, x: np.ndarray) -> np.ndarray:
    copy = network()
    copy.load_state_dict(model.state_dict())
    return copy.eval()(x)


def test_predictions_follow_running_statistics() -> None:
    """A forward pass in training mode moves them and nothing else; batch norm was folded into the weights before."""
    model, x = network(), images()
    before = model.eval()(x)
    model.train()(x)
    after = model.eval()(x)
    assert np.array_equal(after, predictions_of_a_copy(model, x)) and not np.array_equal(after, before)


def test_predictions_follow_whole_training_steps() -> None:
    model, x = network(), images()
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))
    for _ in range(2):
        trainer.train_step(x, np.arange(6) % 5)
        assert np.array_equal(trainer.predict_proba(x), functional.softmax(predictions_of_a_copy(model, x)))


@pytest.mark.parametrize("frozen", [0, 3])
def test_training_follows_changes_of_frozen_weights(frozen: int) -> None:
    """The packed weights of a frozen layer are kept between steps, those of the others are not."""
    x, y = images(), np.arange(6) % 5

    def step_after(change_early: bool) -> float:
        model = network()
        model[frozen].requires_grad_(False)
        trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.0))
        if change_early:
            model[frozen].weight.data[...] *= 0.5
        trainer.train_step(x, y)
        if not change_early:
            model[frozen].weight.data[...] *= 0.5
        return trainer.train_step(x, y)

    assert step_after(True) == step_after(False)


def test_folding_without_epsilon() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=0.0)).eval()
    x = images()
    want = functional.conv2d(x, model[0].weight.data, model[0].bias.data)
    np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-5)


def test_weights_cannot_differ_from_image_to_image() -> None:
    class Dynamic(nn.Module):
        def forward(self, x):
            return functional.conv2d(x, x)

    with pytest.raises(
        ValueError, match=r"Dynamic: conv2d: operand 1 must be a parameter or a constant, got .* 3x3x9x9"
    ):
        Dynamic()(images(3))


def test_threads_that_share_a_model_get_their_own_results() -> None:
    model, inputs = network().eval(), [images() for _ in range(4)]
    wanted = [model(x) for x in inputs]
    right = [0] * 4

    def predict(i: int) -> None:
        for _ in range(200):
            right[i] += np.array_equal(model(inputs[i]), wanted[i])

    threads = [threading.Thread(target=predict, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert right == [200] * 4


def test_a_changed_setting_is_seen() -> None:
    model, x = network().eval(), images()
    before = model(x)
    model[3].padding = 0
    model[1].eps = 0.5
    other = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16, eps=0.5), nn.ReLU(), nn.Conv2d(16, 16, 3),
        nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip
    other.load_state_dict(model.state_dict())
    assert np.array_equal(model(x), other.eval()(x)) and not np.array_equal(model(x), before)


def test_a_changed_reduction_is_seen() -> None:
    model, x, y = network(), images(), np.arange(6) % 5
    loss = nn.CrossEntropyLoss()
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=1e-4), loss)
    moved = []
    for loss.reduction in ("mean", "sum"):
        before = np.concatenate([p.data.ravel().copy() for p in model.parameters()])
        trainer.train_step(x, y)
        after = np.concatenate([p.data.ravel() for p in model.parameters()])
        moved.append(np.linalg.norm(after - before))
    assert moved[1] == pytest.approx(6 * moved[0], rel=0.01)


def test_what_forward_leaves_behind_does_not_record_it_again() -> None:
    class Remembering(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            self.last = x
            return functional.relu(x)

    model, x = Remembering(), images()
    for _ in range(3):
        model(x)
    assert model.calls == 1


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("way", ["another plan", "a kept array", "a new array"])
@pytest.mark.parametrize("changed", ["image", "weight", "bias"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_what_is_computed_once_follows_what_it_was_made_of(
    kernel: int, changed: str, way: str, layout: str
) -> None:
    """A convolution of constants, whose weights are packed, and one of it and of the run's input. It is read twice,
    for a sum of the input would be done by the first one."""
    x = normal(5, 40, 6, 6)
    arrays = {
        "image": normal(5, 40, 6, 6, seed=1),
        "weight": normal(40, 40, kernel, kernel, seed=2) / (9 * kernel),
    }
    arrays["bias"] = normal(40, seed=3)
    g, held = _core.Graph(), {k: _core.Tensor(a) for k, a in arrays.items()}
    given = g.input(x.shape)
    image, weight, bias = (g.tensor(t) for t in held.values())
    padding = {"padding": [kernel // 2] * 4}
    once = g.record("conv2d", [image, weight, bias], padding)[0]
    y = g.record("conv2d", [g.record("add", [given, once], {})[0], weight, bias], padding)[0]
    plan = make_plan(g, [g.record("add", [y, once], {})[0]], layout)
    assert any(s["section"] == -1 and s["op"] == "conv2d" for s in plan.steps)

    update = _core.Graph()
    hyper, step = _core.Tensor(HYPER), _core.Tensor(np.ones_like(arrays[changed]))
    operands = [update.tensor(held[changed]), update.tensor(step), None, update.tensor(hyper)]
    update.record("sgd", operands, {})
    other = make_plan(update, [update.record("relu", [operands[0]], {})[0]])
    array = held[changed].numpy() if way == "a kept array" else None
    for _ in range(3):
        image64, *filter64 = (a.astype(np.float64) for a in arrays.values())
        inner = ref.conv2d(image64, *filter64, 1, kernel // 2)
        want = ref.conv2d(x + inner, *filter64, 1, kernel // 2) + inner
        got = plan.run({0: x})[0]
        assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)
        if way == "another plan":
            other.run({})
        elif array is not None:
            array -= HYPER[0]
        else:
            held[changed].numpy()[...] -= HYPER[0]
        arrays[changed] = arrays[changed] - HYPER[0]
