"""Results know the run they came from: losses go backward, in any order that means something, and say which do not."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import warnings

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import nn


def net(seed: int = 0, width: int = 4) -> nn.Sequential:
    fastcnn.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 5)
    )


def sgd(*models, **options) -> fastcnn.optim.SGD:
    return fastcnn.optim.SGD([p for m in models for p in m.parameters()], **{"lr": 0.05, **options})


def batch(seed: int = 0, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 1, 8, 8)).astype(np.float32), rng.integers(0, 5, n)


def gradients(*models) -> list[np.ndarray | None]:
    return [None if p.grad is None else p.grad.copy() for m in models for p in m.parameters()]


def assert_same(a, b, tolerance: float = 0.0) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


criterion = nn.CrossEntropyLoss()


def by_hand(model, x, y) -> list[np.ndarray | None]:
    """The gradients of one batch, on the path that names everything."""
    model.zero_grad()
    criterion(model(x), y)
    model.backward(criterion.backward())
    got = gradients(model)
    model.zero_grad()
    return got


@pytest.mark.parametrize("loss_of", [criterion, F.cross_entropy], ids=["module", "function"])
def test_the_loop_that_people_type(loss_of) -> None:
    x, y = batch()
    typed, planned = net(), net()
    optimizer, trainer = sgd(typed, momentum=0.9), fastcnn.Trainer(planned, sgd(planned, momentum=0.9))
    for _ in range(4):
        loss = loss_of(typed(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert abs(loss.item() - trainer.train_step(x, y)) < 1e-5
    assert_same([p.data for p in typed.parameters()], [p.data for p in planned.parameters()], 1e-5)


def test_a_result_goes_back_along_its_own_run() -> None:
    (x1, y1), (x2, y2) = batch(1), batch(2, n=9)
    model = net()
    first, second = by_hand(model, x1, y1), by_hand(model, x2, y2)
    a, b = model(x1), model(x2)
    one, two = criterion(a, y1), criterion(b, y2)
    one.backward()
    assert_same(gradients(model), first)
    two.backward()
    assert_same(gradients(model), [p + q for p, q in zip(first, second, strict=True)])


def test_gradients_are_pytorchs_when_they_add_up() -> None:
    torch = pytest.importorskip("torch")
    model = nn.Linear(7, 5)
    peer = torch.nn.Linear(7, 5)
    peer.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((4, 7)).astype(np.float32), rng.integers(0, 5, 4)
        (criterion(model(x), y) / 2).backward()
        (torch.nn.functional.cross_entropy(peer(torch.tensor(x)), torch.tensor(y)) / 2).backward()
    assert_same(gradients(model), [p.grad.numpy() for p in peer.parameters()], 1e-6)


def test_losses_add_and_scale() -> None:
    (x1, y1), (x2, y2) = batch(1), batch(2)
    model = net()
    first, second = by_hand(model, x1, y1), by_hand(model, x2, y2)
    a, b = criterion(model(x1), y1), criterion(model(x2), y2)
    total = sum([a, b * 3]) - 0.25 * b / 2
    assert isinstance(total, float) and np.isclose(float(total), float(a) + 2.875 * float(b))
    total.backward()
    assert_same(
        gradients(model), [p + np.float32(2.875) * q for p, q in zip(first, second, strict=True)], 1e-6
    )


def test_two_losses_of_one_result() -> None:
    x, y = batch()
    model = net()
    want = [2 * g for g in by_hand(model, x, y)]
    logits = model(x)
    (criterion(logits, y) + F.cross_entropy(logits, y)).backward()
    assert_same(gradients(model), want, 1e-6)


def test_modules_called_in_turn_are_one_network() -> None:
    """Body, two heads, a reshaped result in between; the body's gradient is that of both."""
    x, y = batch()
    body, flat = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh()), nn.Flatten()
    heads = [nn.Linear(108, 5), nn.Linear(108, 5)]

    class Whole(nn.Module):
        def __init__(self, head):
            super().__init__()
            self.body, self.head = body, head

        def forward(self, x):
            return self.head(self.body(x).flatten(1))

    want = np.sum([by_hand(Whole(head), x, y)[0] for head in heads], axis=0)
    for p in [*body.parameters(), *heads[0].parameters(), *heads[1].parameters()]:
        p.grad = None
    h = body(x)
    (criterion(heads[0](flat(h)), y) + criterion(heads[1](h.reshape(6, -1)), y)).backward()
    np.testing.assert_allclose(next(body.parameters()).grad, want, rtol=1e-5, atol=1e-6)


def test_a_loss_of_something_else_has_no_way_back() -> None:
    x, y = batch()
    model = net()
    for logits in (model(x) * 2, np.asarray(model(x)).copy(), np.zeros((6, 5), np.float32)):
        with pytest.raises(ValueError, match="not computed from the result of a module in training mode"):
            criterion(logits, y).backward()
    changed = model(x)
    changed *= 2
    with pytest.raises(ValueError, match="unchanged since"):
        criterion(changed, y).backward()
    with pytest.raises(ValueError, match=r"model.train\(\)"):
        criterion(model.eval()(x), y).backward()
    with pytest.raises(ValueError, match="not computed from"):
        (criterion(model.train()(x), y) + criterion(np.zeros((6, 5), np.float32), y)).backward()
    assert gradients(model) == [None] * 6


def test_there_is_one_way_back_for_each_result() -> None:
    x, y = batch()
    model = net()
    logits = model(x)
    loss = criterion(logits, y)
    loss.backward()
    before = gradients(model)
    for again in (loss, criterion(logits, y), loss + 1.0):
        with pytest.raises(ValueError, match="gone back from already"):
            again.backward()
    with pytest.raises(ValueError, match="gone back from already"):
        model.backward(np.ones_like(logits))
    other = criterion(model(x), y)
    with pytest.raises(ValueError, match="gone back from already"):
        (other + loss).backward()
    assert_same(gradients(model), before)  # what failed left nothing
    other.backward()
    assert_same(gradients(model), [2 * g for g in before], 1e-6)


def test_parameters_that_were_updated_since_are_named() -> None:
    x, y = batch()
    model = net()
    optimizer = sgd(model)
    a, b = criterion(model(x), y), criterion(model(x), y)
    a.backward()
    optimizer.step()
    before = gradients(model)
    with pytest.raises(ValueError, match="parameters were updated after"):
        b.backward()
    late = criterion(model(x), y)
    fastcnn.Trainer(model, sgd(model)).train_step(x, y)
    with pytest.raises(ValueError, match="parameters were updated after"):
        late.backward()
    assert_same(gradients(model), before)
    criterion(model(x), y).backward()


def test_a_sum_over_an_epoch_holds_on_to_nothing() -> None:
    x, y = batch()
    model = net()
    total = 0.0
    for _ in range(50):
        loss = criterion(model(x), y)
        total += loss
        loss.backward()
    total += criterion(model.eval()(x), y)
    assert len(total._terms) <= 1 and np.isfinite(total)
    with pytest.raises(ValueError, match=r"gone back from already|not computed"):
        total.backward()


def test_many_results_wait_but_not_all() -> None:
    x, y = batch()
    model = net()
    losses = [criterion(model(x), y) for _ in range(20)]
    with pytest.raises(ValueError, match="at most 16 results wait"):
        losses[0].backward()
    sum(losses[-16:]).backward()
    assert model[0].weight.grad is not None


def test_results_without_a_loss_hold_one_arena_of_a_large_network() -> None:
    model, x = (
        nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Tanh(), nn.Flatten()),
        np.ones((48, 3, 64, 64), np.float32),
    )
    assert model.plan(x.shape).arena_bytes > 40 << 20
    results = [model(x) for _ in range(4)]
    with pytest.raises(ValueError, match="its memory went to a later call"):
        criterion(results[0], np.zeros(48, int)).backward()
    criterion(results[-1], np.zeros(48, int)).backward()


def test_results_are_plain_arrays_and_losses_plain_numbers() -> None:
    x, y = batch()
    model = net()
    logits = model(x)
    loss = criterion(logits, y)
    assert type(logits) is np.ndarray and logits.flags.writeable
    assert type(copy.deepcopy(loss)) is float and type(pickle.loads(pickle.dumps(loss))) is float
    assert f"{loss:.3f}" == f"{float(loss):.3f}" and loss < 100 and loss * loss == float(loss) ** 2
    assert loss / loss == 1 and type(loss.item()) is float and (2 - loss) == 2 - float(loss)


def test_the_memory_of_a_result_goes_with_it() -> None:
    from fastcnn import _results

    gc.collect()
    known, model = len(_results._made), net()
    for _ in range(3):
        model(batch()[0])
    assert len(_results._made) <= known + 1


def test_threads_go_back_along_their_own_runs() -> None:
    model, work, wrong = net(), [batch(k, n=3 + k) for k in range(4)], []
    want = [by_hand(model, *b) for b in work]

    def run(k: int) -> None:
        mine = copy.deepcopy(model)
        for _ in range(20):
            losses = [criterion(mine(work[j][0]), work[j][1]) for j in (k, (k + 1) % 4)]
            mine.zero_grad()
            losses[0].backward()
            if any(not np.array_equal(g, w) for g, w in zip(gradients(mine), want[k], strict=True)):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_frozen_part_stays_in_eval_mode_while_the_rest_trains() -> None:
    x, y = batch()
    model = net()
    model[1].eval()
    before = model[1].running_mean.data.copy()
    with model.in_mode(True):
        criterion(model(x), y).backward()
    fastcnn.Trainer(model, sgd(model)).fit((x, y), 1)
    np.testing.assert_array_equal(model[1].running_mean.data, before)
    with model.in_mode(False):
        assert not any(m.training for m in model.modules())
    assert model.training and not model[1].training


def test_what_a_backward_pass_lacks_is_said() -> None:
    x, _ = batch()
    dy = np.ones((6, 5), np.float32)
    model = net()
    with pytest.raises(ValueError, match=r"call the module on an input first$"):
        model.backward(dy)
    model.eval()(x)
    model.train()
    with pytest.raises(ValueError, match="eval mode keeps nothing"):
        model.backward(dy)
    model(x)
    model.backward(dy)
    with pytest.raises(ValueError, match="gone back from already"):
        model.backward(dy)


def test_results_changed_between_modules_are_refused() -> None:
    x, y = batch()
    a, b = nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), nn.Linear(8, 5)
    changed = a(x)
    np.maximum(changed, 0, out=changed)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 16))
    for h in (changed, wide(x)[:, :8], wide(x)[:, ::2]):
        with pytest.raises(
            ValueError, match="a part of another module's result, or one that was changed in place"
        ):
            criterion(b(h), y).backward()
        assert b.weight.grad is None
    model, big = nn.Linear(5, 3), np.ones((100_000, 5), np.float32)
    h = model(big)
    h *= 5
    with pytest.raises(ValueError, match="unchanged since"):
        criterion(h, np.zeros(100_000, int)).backward()


def test_a_result_that_is_fed_back_holds_no_chain() -> None:
    import weakref

    model, h = nn.Linear(4, 4), np.ones((2, 4), np.float32)
    first = None
    for _ in range(40):
        h = model(h)
        first = first or weakref.ref(model.runner()._here.last)
    assert first is not None and (first() is None or not first().sources)


def test_a_part_of_a_loaded_network_stays_frozen(tmp_path) -> None:
    """A whole in eval mode is trained in training mode; a part that was put into eval mode by itself is not."""
    x, y = batch()
    net().save(tmp_path / "m", input_shape=(1, 8, 8))
    model = fastcnn.load(tmp_path / "m")
    model[1].eval()
    for each in (model, copy.deepcopy(model)):
        before = each[1].running_mean.data.copy()
        trainer = fastcnn.Trainer(each, sgd(each))
        trainer.fit((x, y), 1)
        trainer.train_step(x, y)
        np.testing.assert_array_equal(each[1].running_mean.data, before)
        assert not each.training
    model.eval()
    fastcnn.Trainer(model, sgd(model)).train_step(x, y)
    assert not np.array_equal(model[1].running_mean.data, before)


def test_a_penalty_that_numpy_computed_is_not_forgotten() -> None:
    x, y = batch()
    model = net()
    scores = model(x)
    total = criterion(scores, y) + 0.1 * (scores**2).mean()
    assert total > 0
    with pytest.raises(ValueError, match="a number that NumPy computed was added"):
        total.backward()
    (criterion(scores, y) + 0.5).backward()
    assert model[0].weight.grad is not None


def test_a_mistyped_attribute_of_a_parameter_is_an_error() -> None:
    model = net()
    with pytest.raises(AttributeError):
        model[0].weight.require_grad = False
    assert model[0].weight.requires_grad and copy.deepcopy(model[0].weight).requires_grad


def test_a_way_back_that_ends_half_way_is_told_once() -> None:
    x, y = batch()
    a, b = nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), nn.Linear(8, 5)
    optimizer = sgd(a, b)
    criterion(b(np.maximum(a(x), 0)), y).backward()
    with pytest.warns(UserWarning, match="SGD: 2 of 4 parameters have no gradient, the first is '1.weight'"):
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        a.requires_grad_(False)
        sgd(a, b).step()


def test_a_forward_without_an_input_is_told() -> None:
    class Net(nn.Module):
        def forward(self):
            return None

    with pytest.raises(
        TypeError, match=r"Net.forward does not take 1 input .*: write def forward\(self, x\)"
    ):
        Net()(batch()[0])
