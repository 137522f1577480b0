"""The optimizer as users of other libraries take it in hand: its numbers, its state, what it refuses."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import nn, optim


def parameters(count=2):
    return [nn.Parameter(np.ones((2, i + 1))) for i in range(count)]


def stepped(optimizer, steps=1, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for p in optimizer.parameters:
            p.grad = rng.standard_normal(p.shape).astype(np.float32)
        optimizer.step()
    return optimizer


def through_npz(state):
    np.savez(file := io.BytesIO(), **state)
    file.seek(0)
    return np.load(file)


def test_groups_read_and_write_the_numbers():
    optimizer = optim.SGD(parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
        group["momentum"] = 0.5
    assert (optimizer.lr, optimizer.momentum) == (0.25, 0.5)
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == 0.01 and group["params"] is optimizer.parameters
    assert list(group) == ["params", "lr", "momentum", "dampening", "weight_decay", "nesterov"]
    assert "lr" in group and group.get("initial_lr") is None and len(optimizer.param_groups) == 1
    with pytest.raises(KeyError, match=r"a group has lr, .*got 'learning_rate'"):
        group["learning_rate"] = 0.1
    with pytest.raises(ValueError, match="lr to be a finite number"):
        group["lr"] = -1
    with pytest.raises(TypeError, match="not taken away"):
        del group["lr"]


@pytest.mark.parametrize("name", ["learning_rate", "step", "alpha", "betas", "parameter"])
def test_attributes_that_do_not_exist_cannot_be_set(name):
    with pytest.raises(AttributeError, match=f"SGD: '{name}' cannot be set"):
        setattr(optim.SGD(parameters(), lr=0.1), name, 0.5)
    with pytest.raises(AttributeError, match="the learning rate is lr"):
        optim.SGD(parameters()).learning_rate = 0.1


@pytest.mark.parametrize("name", ["lr", "momentum", "dampening", "weight_decay"])
@pytest.mark.parametrize("value", ["abc", "0.1", None, [0.1, 0.2], -0.1, np.nan, np.inf, lambda: 0.1])
def test_numbers_are_checked_where_they_are_set(name, value):
    optimizer = optim.SGD(parameters(), lr=0.5)
    for wrong in (
        lambda: setattr(optimizer, name, value),
        lambda: optim.SGD(parameters(), **{name: value}),
    ):
        with pytest.raises((ValueError, TypeError), match=f"SGD: expected {name} to be a"):
            wrong()
    assert optimizer.lr == 0.5
    stepped(optimizer)


@pytest.mark.parametrize(
    "given", [nn.Linear(2, 2), nn.Parameter(np.ones(2)), 3, [np.ones(2)], [{"params": []}]]
)
def test_what_are_no_parameters_is_named(given):
    with pytest.raises(TypeError, match=r"SGD: expected parameters, such as model.parameters\(\), got"):
        optim.SGD(given, lr=0.1)


def test_a_second_group_is_refused():
    with pytest.raises(NotImplementedError, match="make it of all of them"):
        optim.SGD(parameters()).add_param_group({"params": parameters()})


def test_gradients_stay_until_they_are_cleared():
    optimizer = stepped(optim.SGD(parameters(), lr=0.1))
    grads = [p.grad for p in optimizer.parameters]
    assert all(g is not None for g in grads)
    optimizer.parameters[0].grad = None
    optimizer.zero_grad(set_to_none=False)
    assert optimizer.parameters[0].grad is None and not optimizer.parameters[1].grad.any()
    optimizer.zero_grad(set_to_none=True)
    assert optimizer.parameters[1].grad is None


@pytest.mark.parametrize("zeros", [False, True])
def test_cleared_gradients_do_what_pytorchs_do(zeros):
    """Zeros are gradients: momentum and weight decay go on; None leaves a parameter alone."""
    torch = pytest.importorskip("torch")
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    p, q = nn.Parameter(np.ones(3)), torch.nn.Parameter(torch.ones(3))
    ours, theirs = optim.SGD([p], **options), torch.optim.SGD([q], **options)
    for _ in range(2):
        p.grad, q.grad = np.full(3, 2, np.float32), torch.full((3,), 2.0)
        for optimizer in (ours, theirs):
            optimizer.step()
            optimizer.zero_grad(set_to_none=not zeros)
            optimizer.step()
    np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.5, "dampening": 0.2}], ids=str)
def test_a_state_goes_through_npz_and_on_bit_for_bit(options):
    whole, half = (optim.SGD(parameters(), lr=0.3, weight_decay=0.01, **options) for _ in range(2))
    frozen = [optimizer.parameters[1] for optimizer in (whole, half)]
    for p in frozen:
        p.requires_grad = False  # no momentum of its own
    stepped(whole), stepped(half)
    rest = optim.SGD(half.parameters, lr=1.0)
    rest.load_state_dict(through_npz(half.state_dict()))
    assert repr(rest) == repr(half) and rest.steps == 1
    assert rest.state_dict().keys() == half.state_dict().keys()
    stepped(whole, 2, seed=1), stepped(rest, 2, seed=1)
    for a, b in zip(whole.parameters, rest.parameters, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_a_state_that_does_not_fit_changes_nothing():
    optimizer = stepped(optim.SGD(parameters(), lr=0.3, momentum=0.9))
    other = stepped(optim.SGD(parameters(3), lr=0.7, momentum=0.9))
    before = optimizer.state_dict()
    good = {**before, "lr": np.asarray(0.7)}
    for wrong, message in (
        (other.state_dict(), "unexpected: momentum_buffer.2"),
        ({**good, "momentum_buffer.1": np.zeros(5)}, r"momentum_buffer.1 \(expected 2x2, got 5\)"),
        ({**good, "momentum_buffer.1": np.full((2, 2), "x")}, "not numbers: momentum_buffer.1"),
        ({k: v for k, v in good.items() if k != "momentum"}, "missing: momentum"),
        ({**good, "weight_decay": -1}, "weight_decay to be a finite number"),
        ({"state": {}, "param_groups": []}, "missing: lr.*unexpected: state, param_groups"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(wrong)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_a_state_is_a_copy_and_loads_into_plans_that_run():
    model = nn.Sequential(nn.Linear(4, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = fastcnn.Trainer(model, optimizer)
    x, y = np.ones((2, 4), np.float32), np.array([0, 2])
    trainer.train_step(x, y)
    state, weights = optimizer.state_dict(), model.state_dict()
    plan = trainer.plan((2, 4))
    first = trainer.train_step(x, y)
    after = model.state_dict()
    optimizer.load_state_dict(state)
    model.load_state_dict(weights)
    assert trainer.train_step(x, y) == first and trainer.plan((2, 4)) is plan
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    optimizer.load_state_dict({k: v for k, v in state.items() if "buffer" not in k})
    assert not any(b.numpy().any() for b in optimizer.buffers.values())


def test_a_representation_is_one_line():
    assert repr(optim.SGD(parameters(1))) == "SGD(lr=0.001; parameters: 1)"
    optimizer = stepped(optim.SGD(parameters(), lr=0.05, momentum=0.9, nesterov=True))
    assert repr(optimizer) == "SGD(lr=0.05, momentum=0.9, nesterov=True; parameters: 2)"
    assert repr(optimizer.param_groups[0]).startswith("{'params': [2 parameters], 'lr': 0.05")


def test_optimizers_that_are_not_there_name_those_that_are():
    for name in ("Adam", "AdamW", "RMSprop", "Optimizer"):
        with pytest.raises(AttributeError, match=f"has no {name}; optimizers: SGD"):
            getattr(optim, name)
    with pytest.raises(AttributeError, match="takes schedule="):
        _ = optim.lr_scheduler.StepLR
    assert not hasattr(optim, "Adam")


def test_subclasses_may_have_attributes_of_their_own_and_copies_keep_them():
    class Noted(optim.SGD):
        def __init__(self, *args, **options):
            self.note = "mine"
            super().__init__(*args, **options)

    optimizer = stepped(Noted(parameters(), lr=0.1, momentum=0.9))
    twin = copy.deepcopy(optimizer)
    assert twin.note == "mine"
    stepped(optimizer, seed=1), stepped(twin, seed=1)
    for a, b in zip(optimizer.parameters, twin.parameters, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_each_parameter_has_a_first_step_of_its_own():
    """With dampening the first velocity is the gradient: also of what gets its first gradient later."""
    a, b = parameters()
    optimizer = optim.SGD([a, b], lr=1.0, momentum=0.5, dampening=0.5)
    ones = [np.ones(p.shape, np.float32) for p in (a, b)]
    a.grad = ones[0]
    optimizer.step()  # a: v = 1
    assert [k for k in optimizer.state_dict() if k.startswith("momentum_buffer")] == ["momentum_buffer.0"]
    b.grad = ones[1]
    optimizer.step()  # a: v = 0.5 + 0.5; b: v = 1
    assert a.data.ravel().tolist() == [-1] * 2 and b.data.ravel().tolist() == [0] * 4


def test_momentum_that_is_switched_on_later_begins_with_the_gradient():
    torch = pytest.importorskip("torch")
    p = nn.Parameter(np.ones(3))
    q = torch.nn.Parameter(torch.ones(3))
    ours, theirs = optim.SGD([p], lr=0.5, dampening=0.5), torch.optim.SGD([q], lr=0.5, dampening=0.5)
    for momentum in (0.0, 0.75, 0.75):
        ours.momentum = theirs.param_groups[0]["momentum"] = momentum
        p.grad, q.grad = np.ones(3, np.float32), torch.ones(3)
        ours.step()
        theirs.step()
    assert p.data.tolist() == q.tolist()


@pytest.mark.parametrize("through", ["one optimizer", "state", "copy"])
def test_planned_steps_begin_each_parameter_as_steps_by_hand_do(through):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 5)).astype(np.float32), np.arange(6) % 3

    def train(planned):
        fastcnn.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.75, dampening=0.5)
        trainer, loss, velocity = fastcnn.Trainer(model, optimizer), nn.CrossEntropyLoss(), {}
        trainer.plan((6, 5))  # a plan that has not run has begun nothing
        model[0].requires_grad_(False)
        for step in range(6):
            if step == 2:
                model[0].requires_grad_(True)
            if planned and step == 4 and through == "state":
                state = through_npz(optimizer.state_dict())
                optimizer.load_state_dict(state)
            if planned and step == 4 and through == "copy":
                model, optimizer = copy.deepcopy((model, optimizer))
                trainer = fastcnn.Trainer(model, optimizer)
            optimizer.lr = 0.1 * (1 + step)
            if planned:
                trainer.train_step(x, y)
            else:
                model.zero_grad()
                loss(model(x), y).backward()
                for name, p in model.named_parameters():
                    if p.grad is not None:
                        options = {"lr": optimizer.lr, "momentum": 0.75, "dampening": 0.5}
                        velocity[name] = F.sgd_step(p.data, p.grad, velocity.get(name), **options)
        return model.state_dict()

    by_hand, planned = train(False), train(True)
    for name, value in by_hand.items():
        np.testing.assert_allclose(planned[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


def test_momentum_that_float32_cannot_hold_is_refused():
    optimizer = stepped(optim.SGD(parameters(), lr=0.5, momentum=0.5))
    state = {**optimizer.state_dict(), "momentum_buffer.0": np.full((2, 1), 1e300)}
    with pytest.raises(ValueError, match=r"too large: momentum_buffer\.0$"):
        optimizer.load_state_dict(state)
