"""features_at and gradients_at: named values and gradients of an inference, which leave the model as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import NAMES, SHAPE, Net, network
from orders import in_threads, labels, normal, training_step
from tape import Tape, Var

import fastcnn
from fastcnn import _core, nn


def on_tape(net: Net, x: np.ndarray) -> tuple[Tape, dict[str, Var]]:
    """The network in float64, in inference: values by name."""
    t, b = Tape(), net.block

    def conv(m: nn.Conv2d, x: Var) -> Var:
        bias = None if m.bias is None else t.leaf(m.bias.data.copy())
        return t.conv(x, t.leaf(m.weight.data.copy()), bias, padding=[m.weight.shape[2] // 2] * 4)

    def pool(x: Var) -> Var:
        return t.avg_pool(x, kernel_size=[2, 2])

    image = t.leaf(x, True)
    v = {"input": image, "block.conv": conv(b.conv, image)}
    held = (b.norm.running_mean, b.norm.running_var, b.norm.weight, b.norm.bias)
    v["block.norm"] = t.norm_inference(v["block.conv"], *(t.leaf(h.data.copy()) for h in held), eps=1e-5)
    v["block.act"] = t.function("tanh", v["block.norm"])
    v["block.pool:0"], v["block.pool:1"] = pool(v["block.act"]), pool(v["block.act"])
    v["block.side"] = conv(b.side, v["block.pool:1"])
    v["block"] = v["block.pool:2"] = pool(t.add(v["block.pool:0"], v["block.side"]))
    rows = t.flatten(t.avg_pool(v["block"]))
    v["head"] = v[""] = t.linear(rows, t.leaf(net.head.weight.data.copy()), t.leaf(net.head.bias.data.copy()))
    return t, v


def near(got: np.ndarray, want: np.ndarray, error: float = 1e-5) -> None:
    assert got.shape == want.shape and got.dtype == np.float32
    assert np.linalg.norm(got - want) <= error * max(float(np.linalg.norm(want)), 1e-30)


def state_of(net: nn.Module) -> dict[str, Any]:
    """All that a probe might touch."""
    return {
        **{f"value of {k}": v.tobytes() for k, v in net.state_dict().items()},
        **{f"grad of {k}": None if p.grad is None else p.grad.tobytes() for k, p in net.named_parameters()},
        **{f"{k} is trained": p.requires_grad for k, p in net.named_parameters()},
        **{f"mode of {k}": m.__dict__["training"] for k, m in net.named_modules()},
    }


# ---- values


def test_features_are_the_values_in_inference() -> None:
    net, x = network(), normal(*SHAPE)
    _, want = on_tape(net, x)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for mode in (True, False):
            got = net.train(mode).features_at(x, [*NAMES, ""])
            assert list(got) == [*NAMES, ""]
            for name, value in got.items():
                near(value, want[name].array)
            np.testing.assert_array_equal(got["input"], x)
            np.testing.assert_array_equal(got[""], got["head"])
    near(net.eval()(x), want[""].array)


def test_features_equal_the_parts_run_by_hand() -> None:
    net, x = network().eval(), normal(*SHAPE)
    got = net.features_at(x, NAMES)
    np.testing.assert_allclose(got["block.conv"], net.block.conv(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["block.norm"], net.block.norm(got["block.conv"]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["block.side"], net.block.side(got["block.pool:1"]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got["block"], net.block(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("names", [[n] for n in NAMES] + [["block.norm", "block.conv"], []], ids=str)
def test_asking_for_some_changes_none(names: list[str]) -> None:
    """What is asked for cannot be fused away or folded, and need not be for others' sake."""
    net, x = network(), normal(*SHAPE)
    _, want = on_tape(net, x)
    got = net.features_at(x, names)
    assert list(got) == names
    for name in names:
        near(got[name], want[name].array)


def test_a_name_may_come_twice_and_results_are_the_callers_own() -> None:
    net, x = network(), normal(*SHAPE)
    first = net.features_at(x, ["block", "block.conv", "block"])
    assert list(first) == ["block", "block.conv"]
    kept = {k: v.copy() for k, v in first.items()}
    second = net.features_at(2 * x, ["block", "block.conv", "block"])
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
        assert not np.array_equal(second[name], value)
        first[name][...] = np.nan
    third = net.features_at(x, ["block", "block.conv", "block"])
    for name, value in kept.items():
        np.testing.assert_array_equal(third[name], value)


@pytest.mark.parametrize("n", [0, 1, 17])
def test_batches_of_any_size(n: int) -> None:
    net, x = network(), normal(n, *SHAPE[1:])
    got = net.features_at(x, NAMES)
    if n == 0:
        assert got["head"].shape == (0, 4) and got["block.conv"].shape == (0, 6, 8, 8)
        assert net.gradients_at(x)["input"].shape == x.shape
        return
    _, want = on_tape(net, x)
    for name in NAMES:
        near(got[name], want[name].array)
    many = network().features_at(np.concatenate([x, x]), NAMES)
    for name in NAMES:
        near(many[name][n:], want[name].array)


def test_a_registered_network() -> None:
    net = fastcnn.models.create("resnet20_cifar")
    x, net_names = normal(2, 3, 32, 32), [k for k, m in net.named_modules() if k and not list(m.children())]
    counted = []
    for name in net_names:
        try:
            net.features_at(x, [name])
            counted.append(name)
        except ValueError as error:
            first = f"{name}:0"
            assert first in str(error)
            counted.append(first)
    got = net.features_at(x, [*counted, ""])
    np.testing.assert_allclose(got[""], net.eval()(x), rtol=1e-4, atol=1e-5)
    assert all(np.isfinite(v).all() and len(v) == 2 for v in got.values())


# ---- gradients


@pytest.mark.parametrize("seed", [None, 0, 3, np.int64(2), "array"], ids=str)
def test_gradients_of_the_result(seed: Any) -> None:
    net, x = network(), normal(*SHAPE)
    given = np.random.default_rng(4).standard_normal((5, 4)).astype(np.float32) if seed == "array" else seed
    rows = np.ones((5, 4)) if seed is None else np.eye(4)[[seed] * 5] if seed != "array" else given
    t, want = on_tape(net, x)
    t.differentiate(want[""], rows)
    for isa in _core.available_isas():
        _core.select_isa(isa)
        got = net.gradients_at(x, NAMES, seed=given)
        assert list(got) == list(NAMES)
        for name in NAMES:
            near(got[name], want[name].grad, 1e-4)
        np.testing.assert_allclose(
            net.gradients_at(x, seed=given)["input"], got["input"], rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize("of", ["block.conv", "block.norm", "block.pool:1", "block.side", "block", "input"])
def test_gradients_of_an_inner_value(of: str) -> None:
    net, x = network(), normal(*SHAPE)
    t, want = on_tape(net, x)
    seed = normal(*want[of].array.shape, seed=7)
    t.differentiate(want[of], seed)
    reached = [name for name in NAMES if want[name].grad is not None]
    got = net.gradients_at(x, reached, of=of, seed=seed)
    for name in reached:
        near(got[name], want[name].grad, 1e-4)
    for name in ("head", "block.side" if of != "block.side" and of != "block" else "head"):
        with pytest.raises(ValueError, match="does not depend on"):
            net.gradients_at(x, [name], of=of, seed=seed)
    if of != "input":  # the sum of all, where nothing else is asked for
        near(net.gradients_at(x, ["input"], of=of)["input"], ones_gradient(net, x, of), 1e-4)


def ones_gradient(net: Net, x: np.ndarray, of: str) -> np.ndarray:
    t, want = on_tape(net, x)
    t.differentiate(want[of], np.ones(want[of].array.shape))
    assert want["input"].grad is not None
    return want["input"].grad


def test_gradients_are_slopes() -> None:
    """Against a central difference of the model's own predictions, along random directions."""
    net, x = network().eval(), normal(*SHAPE)
    gradient = net.gradients_at(x, seed=1)["input"].astype(np.float64)
    for i in range(3):
        v = normal(*SHAPE, seed=10 + i)
        ends = [on_tape(net, x + h * v)[1][""].array[:, 1].sum() for h in (1e-5, -1e-5)]
        slope = (ends[0] - ends[1]) / 2e-5
        assert abs(slope - np.vdot(gradient, v)) <= 1e-3 * np.linalg.norm(gradient) * np.linalg.norm(v)


def test_gradients_equal_pytorch() -> None:
    torch = pytest.importorskip("torch")
    net, x = network(), normal(*SHAPE)
    conv = torch.nn.Conv2d(3, 6, 3, padding=1)
    norm, side, head = torch.nn.BatchNorm2d(6), torch.nn.Conv2d(6, 6, 1, bias=False), torch.nn.Linear(6, 4)
    ours = {"conv": (conv, net.block.conv), "norm": (norm, net.block.norm), "side": (side, net.block.side)}
    for theirs, mine in (*ours.values(), (head, net.head)):
        theirs.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in mine.state_dict().items()})
        theirs.double().eval()
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    act = torch.tanh(norm(conv(t)))
    pool = torch.nn.functional.avg_pool2d
    y = head(pool(pool(act, 2) + side(pool(act, 2)), 2).mean((2, 3)))
    act.retain_grad()
    y[:, 2].sum().backward()
    got = net.gradients_at(x, ["input", "block.act"], seed=2)
    near(got["input"], t.grad.numpy(), 1e-4)
    near(got["block.act"], act.grad.numpy(), 1e-4)


# ---- the model stays as it was


@pytest.mark.parametrize("mode", ["train", "eval", "mixed", "frozen"])
def test_the_model_is_not_touched(mode: str) -> None:
    net, x = network(), normal(*SHAPE)
    net.train(mode != "eval")
    if mode == "mixed":
        net.block.norm.eval()
    if mode == "frozen":
        net.requires_grad_(False)
        net.head.weight.requires_grad = True
    for p in net.parameters():
        p.grad = np.ones(p.shape, np.float32)
    before = state_of(net)
    result = net(x)
    after_call = state_of(net)  # a call in training moves the running statistics
    net.load_state_dict({k.removeprefix("value of "): np.array(v) for k, v in network().state_dict().items()})
    assert state_of(net) == before
    _, want = on_tape(net, x)
    near(net.features_at(x, NAMES)["head"], want["head"].array)
    t, want = on_tape(net, x)
    t.differentiate(want[""], np.ones((5, 4)))
    near(net.gradients_at(x)["input"], want["input"].grad, 1e-4)
    assert state_of(net) == before
    np.testing.assert_array_equal(net(x), result)
    assert state_of(net) == after_call


def test_a_backward_pass_goes_on_after_a_probe() -> None:
    net, x, dy = network(), normal(*SHAPE), normal(5, 4)
    net(x)
    want = net.backward(dy), *[None if p.grad is None else p.grad.copy() for p in net.parameters()]
    net.zero_grad()
    net(x)
    net.features_at(x, NAMES)
    net.gradients_at(2 * x, seed=0)
    got = net.backward(dy), *[p.grad for p in net.parameters()]
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b)


def test_plans_of_the_model_stay() -> None:
    net, x = network(), normal(*SHAPE)
    plans = [net.plan(SHAPE, training=t) for t in (True, False)]
    net.features_at(x, NAMES)
    net.gradients_at(x)
    assert [net.plan(SHAPE, training=t) for t in (True, False)] == plans


def test_probes_between_training_steps_change_no_bit() -> None:
    x, y = normal(*SHAPE), labels(5, 4)

    def trained(probed: bool) -> tuple[list[float], dict[str, np.ndarray]]:
        net = network()
        step, losses = training_step(net, momentum=0.9), []
        for _ in range(4):
            losses.append(step.step(x, y)[0])
            if probed:
                _, want = on_tape(net, x)
                got = net.features_at(x, NAMES)
                for name in NAMES:
                    near(got[name], want[name].array)
                net.gradients_at(x, ["input", "block.act"], seed=1)
        return losses, net.state_dict()

    (losses, state), (wanted, wanted_state) = trained(True), trained(False)
    assert losses == wanted
    for k, v in wanted_state.items():
        np.testing.assert_array_equal(state[k], v)


@pytest.mark.parametrize("change", ["weight", "kept array", "running_var", "loaded", "replaced", "frozen"])
def test_values_are_those_of_the_weights_now(change: str) -> None:
    net, x = network(), normal(*SHAPE)
    held = net.block.side.weight.data
    old = net.features_at(x, NAMES)["head"], net.gradients_at(x)["input"]
    if change == "weight":
        net.block.conv.weight.data[...] *= 2
    elif change == "kept array":
        held[...] += 1
    elif change == "running_var":
        net.block.norm.running_var.data[...] = 4
    elif change == "loaded":
        net.load_state_dict({k: v + 0.25 for k, v in net.state_dict().items()})
    elif change == "replaced":
        net.head = nn.Linear(6, 4)
    else:
        net.requires_grad_(False)
        net.block.conv.bias.data[...] += 1
    t, want = on_tape(net, x)
    t.differentiate(want[""], np.ones((5, 4)))
    got = net.features_at(x, NAMES)["head"], net.gradients_at(x)["input"]
    near(got[0], want["head"].array)
    near(got[1], want["input"].grad, 1e-4)
    for a, b in zip(got, old, strict=True):
        assert not np.array_equal(a, b)


def test_probes_from_threads_beside_training() -> None:
    """What each gets are the values before or after a step; gradients of one call belong to one state."""
    x, y = normal(*SHAPE), labels(5, 4)
    net = network()
    step, states = training_step(net), []

    def seen() -> tuple[bytes, bytes]:
        return net.features_at(x, ["head"])["head"].tobytes(), net.gradients_at(x, seed=1)["input"].tobytes()

    for _ in range(12):
        states.append(seen())
        step.step(x, y)
    states.append(seen())
    net.load_state_dict(network().state_dict())
    done, got = threading.Event(), [[], []]

    def train() -> None:
        try:
            for _ in range(12):
                step.step(x, y)
        finally:
            done.set()

    def watch(i: int) -> Callable[[], None]:
        def body() -> None:
            while True:  # at least once, however fast the training
                got[i].append(seen()[i])
                if done.is_set():
                    break

        return body

    in_threads(train, watch(0), watch(1))
    for i in range(2):
        known = {state[i] for state in states}
        assert len(known) == 13 and got[i] and set(got[i]) <= known
    assert seen() == states[-1]


# ---- refusals


@pytest.mark.parametrize(
    "name, message",
    [
        ("block.covn", "no part named 'block.covn'.*'block.conv'"),
        ("block.pool", "'block.pool' is called 3 times: ask for 'block.pool:0'"),
        ("block.pool:3", "no part named 'block.pool:3'"),
        ("block.pool:-1", "no part named"),
        ("block.pool:x", "no part named"),
        ("nothing like it", "no part named 'nothing like it'; there are"),
    ],
)
def test_names_that_are_not_there(name: str, message: str) -> None:
    net, x = network(), normal(*SHAPE)
    for call in (
        lambda: net.features_at(x, [name]),
        lambda: net.gradients_at(x, [name]),
        lambda: net.gradients_at(x, of=name),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    near(net.features_at(x, ["head"])["head"], on_tape(net, x)[1]["head"].array)


def test_a_part_called_once_may_be_counted() -> None:
    net, x = network(), normal(*SHAPE)
    np.testing.assert_array_equal(net.features_at(x, ["head:0"])["head:0"], net.features_at(x, [""])[""])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"seed": 4}, "no column 4 in a value of shape 5x4"),
        ({"seed": -1}, "no column -1"),
        ({"seed": 0, "of": "block.conv"}, "no column 0 in a value of shape 5x6x8x8"),
        ({"seed": np.ones((5, 3), np.float32)}, "expected shape 5x4, got 5x3"),
        ({"names": ["unread"]}, "the result does not depend on 'unread'"),
        ({"names": ["head"], "of": "block"}, "block does not depend on 'head'"),
    ],
)
def test_scalars_that_are_not_there(options: dict[str, Any], message: str) -> None:
    net, x = network(), normal(*SHAPE)
    with pytest.raises(ValueError, match=message):
        net.gradients_at(x, **options)


def test_inputs_are_checked() -> None:
    net = network()
    for call in (lambda x: net.features_at(x, ["head"]), lambda x: net.gradients_at(x)):
        with pytest.raises(TypeError, match="float32"):
            call(np.zeros(SHAPE))
        with pytest.raises(ValueError, match="expected 3 input channels, got 2"):
            call(np.zeros((5, 2, 8, 8), np.float32))
