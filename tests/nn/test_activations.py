"""The activation layers: value, gradient, place in a network that trains, is saved, loaded and recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from orders import EVERY_LAYOUT, labels, normal, sgd, training_step

import fastcnn
from fastcnn import _core, nn
from fastcnn import functional as F
from fastcnn import reference as ref
from fastcnn.nn.engine import ForwardBackward, Inference

# Layer, its text, the reference's value and gradient (of dy and x).
ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], str, Callable, Callable]] = {
    "relu": (nn.ReLU, "ReLU()", ref.relu, lambda dy, x: ref.relu_backward(dy, ref.relu(x))),
    "tanh": (nn.Tanh, "Tanh()", ref.tanh, lambda dy, x: ref.tanh_backward(dy, ref.tanh(x))),
    "sigmoid": (nn.Sigmoid, "Sigmoid()", ref.sigmoid, lambda dy, x: ref.sigmoid_backward(dy, ref.sigmoid(x))),
    "leaky_relu": (
        nn.LeakyReLU, "LeakyReLU(negative_slope=0.01)", ref.leaky_relu, lambda dy, x: ref.leaky_relu_backward(dy, x),
    ),
    "steep leaky_relu": (
        lambda: nn.LeakyReLU(0.3), "LeakyReLU(negative_slope=0.3)", lambda x: ref.leaky_relu(x, 0.3),
        lambda dy, x: ref.leaky_relu_backward(dy, x, 0.3),
    ),
    "silu": (nn.SiLU, "SiLU()", ref.silu, ref.silu_backward),
}  # fmt: skip
U = 2.0**-24
every = pytest.mark.parametrize("name", ACTIVATIONS)


def network(name: str) -> nn.Module:
    """Activations behind a convolution, a norm and a linear layer."""
    fastcnn.manual_seed(4)
    act = ACTIVATIONS[name][0]
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), act(), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), act(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 8), act(), nn.Linear(8, 3),
    )  # fmt: skip


@every
@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_value_and_gradient(name: str, layout: str) -> None:
    make, _, value, gradient = ACTIVATIONS[name]
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for shape in [(0, 3, 2, 2), (1, 1, 1, 1), (5, 7, 6, 5), (17, 33, 2, 3), (19, 10)]:
            layer, x, dy = make(), 3 * normal(*shape), normal(*shape, seed=1)
            both = ForwardBackward(layer, [x.shape], layout)
            y, run = both.forward([x])
            (dx,) = both.backward(run, dy)
            np.testing.assert_allclose(y, value(x.astype(np.float64)), rtol=2e-6, atol=1e-7)
            want = gradient(dy.astype(np.float64), x.astype(np.float64))
            assert (abs(dx - want) <= 24 * U * np.maximum(abs(dy), 1)).all()  # it starts from the rounded y
            alone, _ = Inference(layer, [x.shape], layout).forward([x])
            assert alone.tobytes() == y.tobytes()


@every
def test_text_and_what_is_in_it(name: str) -> None:
    layer = ACTIVATIONS[name][0]()
    assert repr(layer) == ACTIVATIONS[name][1]
    assert layer.parameter_count() == 0 and not layer.state_dict()


@every
def test_networks_train_alike_in_every_layout_and_for_any_number_of_threads(name: str) -> None:
    x, y = normal(19, 2, 6, 6), labels(19, 3)
    curves = {}
    for layout in EVERY_LAYOUT:
        bits = set()
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            step = training_step(network(name), layout, lr=0.3, momentum=0.5)
            losses = [step.step(x, y)[0] for _ in range(30)]
            bits.add(np.float64(losses).tobytes())
        assert len(bits) == 1
        curves[layout] = losses
        assert losses[-1] < losses[0] - 0.05
    for losses in curves.values():
        np.testing.assert_allclose(losses[:5], curves["nhwc"][:5], rtol=1e-4)


@every
def test_layer_by_layer_equals_the_training_step(name: str) -> None:
    x, y = normal(6, 2, 6, 6), labels(6, 3)
    by_hand, whole = network(name), network(name)
    step, criterion, optimizer = training_step(whole, lr=0.1), nn.CrossEntropyLoss(), sgd(by_hand, 0.1)
    for _ in range(3):
        criterion(by_hand(x), y)
        by_hand.backward(criterion.backward())
        optimizer.step()
        optimizer.zero_grad()
        step.step(x, y)
    for p, q in zip(by_hand.parameters(), whole.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-6)


class Own(nn.Module):
    """A class that only a recording can save; the functions beside the layers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(2, 4, 3), ACTIVATIONS[name][0]()
        self.function = name.split()[-1]

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        return self.act(y) + getattr(F, self.function)(y)


@every
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    for model, x in ((network(name), normal(3, 2, 6, 6)), (Own(name), normal(3, 2, 5, 4))):
        model.eval()
        y = model(x)
        model.save(tmp_path / "m", input_shape=x.shape[1:])
        again = fastcnn.load(tmp_path / "m")
        assert again(x).tobytes() == y.tobytes()
        assert [repr(m) for m in again.modules()][1:] == [repr(m) for m in model.modules()][1:]


def test_bad_arguments() -> None:
    for slope in ("steep", None, [0.1, 0.2]):
        with pytest.raises((TypeError, ValueError)):
            nn.LeakyReLU(slope)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        nn.SiLU(0.1)  # type: ignore[call-arg]
    for layer, said in ((nn.LeakyReLU(), "LeakyReLU"), (nn.SiLU(), "SiLU")):
        for dtype in (np.float64, np.int32):
            with pytest.raises(
                TypeError, match=f"{said}: expected a float32 array .*, got {np.dtype(dtype)} "
            ):
                layer(np.zeros((2, 3), dtype))
    with pytest.raises(TypeError, match="leaky_relu: expected a number for negative_slope, got 'steep'"):
        F.leaky_relu(np.zeros((2, 3), np.float32), "steep")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="leaky_relu: expected a float32 array for x, got float64"):
        F.leaky_relu(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="silu: expected a float32 array for x, got int64"):
        F.silu(np.zeros((2, 3), np.int64))
