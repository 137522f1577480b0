"""Views as results, memory that is given back, weights that are packed once."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable

import numpy as np
import pytest
from alone import alone
from graphs import run_graph
from orders import (
    EVERY_LAYOUT,
    convolutions,
    labels,
    normal,
    sgd,
)

import fastcnn
from fastcnn import _core

# ---- views as results


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("first", [None, "relu"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 2), (3, 4, 5, 2, 2)])
def test_a_view_as_result_is_written(shape: tuple[int, ...], first: str | None, layout: str) -> None:
    """A conversion that has nothing to convert is a view of its operand."""
    x = np.abs(normal(*shape)) + 1

    def build(g: _core.Graph, ids: list[int]) -> list[int]:
        y = ids[0] if first is None else g.record(first, ids, {})[0]
        return [*g.record("convert", [y], {}), y] if first else g.record("convert", [y], {})

    for got in run_graph(build, [x], layout)[0]:
        np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_flattened_values_and_back_as_results(layout: str) -> None:
    x = normal(5, 3, 4, 2)

    def build(g: _core.Graph, ids: list[int]) -> list[int]:
        flat = g.record("flatten", ids, {})[0]
        back = g.record("unflatten", [flat], {"shape": [3, 4, 2]})[0]
        return [
            flat,
            back,
            *g.record("flatten", [back], {}),
            *g.record("unflatten", [flat], {"shape": [24, 1, 1]}),
        ]

    flat, back, again, column = run_graph(build, [x], layout)[0]
    for got in (flat, back, again, column):
        np.testing.assert_array_equal(got.ravel(), x.ravel())


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 2, 5, 7)])
def test_other_ranks_are_right_or_refused(shape: tuple[int, ...], layout: str) -> None:
    """One that an op does not know must not be taken for images."""
    x, axes = normal(*shape), (0, *range(2, len(shape)))
    checks: list[tuple[Callable[[], np.ndarray], np.ndarray]] = [
        (lambda: _core.run("batch_norm_stats", [x], {}, layout)[0], x.mean(axes)),
        (lambda: _core.run("concat", [x, x], {"axis": 1}, layout)[0], np.concatenate([x, x], 1)),
        (lambda: _core.run("slice_channels", [x], {"begin": 1, "end": 3}, layout)[0], x[:, 1:3]),
        (lambda: _core.run("convert", [x], {}, layout)[0], x),
        (lambda: _core.run("relu", [x], {}, layout)[0], np.maximum(x, 0)),
        (lambda: _core.run("add", [x, x], {}, layout)[0], x + x),
        (lambda: _core.run("global_avg_pool2d", [x], {}, layout)[0].reshape(4, 3), x.mean(axes[1:])),
    ]
    for compute, want in checks:
        try:
            got = compute()
        except ValueError as refused:
            assert "dimensions" in str(refused)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


# ---- memory and packed weights


def resident_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@alone()
def test_a_second_forward_needs_no_second_arena() -> None:
    model, x = convolutions(64, norm=True), normal(32, 64, 48, 48)
    arena = model.plan(x.shape).arena_bytes
    assert arena > 50 << 20
    model(x)
    before = resident_peak()
    for _ in range(3):
        model(x)
    grown = resident_peak() - before
    assert grown < arena / 2, f"{grown / 2**20:.0f} MB more, the arena has {arena / 2**20:.0f}"
    model.backward(np.ones((32, 10), np.float32))
    model(x)
    assert resident_peak() - before < arena / 2


@alone()
def test_predicting_gives_the_forward_pass_back() -> None:
    """Forward in training mode keeps an arena for backward; forward in eval mode needs no other."""
    model, x = convolutions(64, norm=True), normal(32, 64, 48, 48)
    arena = model.plan(x.shape).arena_bytes
    model(x)
    before = resident_peak()
    model.eval()
    for _ in range(3):
        model(x)
    assert resident_peak() - before < arena / 2


def overwrite_unseen(address: int, count: int) -> None:
    """Zeros where the weights are, without the core's knowledge: what was packed before must stay in use, and
    what is packed again shows them."""
    (ctypes.c_float * count).from_address(address)[:] = [0.0] * count


@pytest.mark.parametrize("norm", [False, True])
def test_forward_in_training_mode_packs_unchanged_weights_once(norm: bool) -> None:
    model, x = convolutions(64, norm), normal(3, 64, 9, 9)
    plain = convolutions(64).plan(x.shape).core.persistent_bytes
    assert model.plan(x.shape).core.persistent_bytes >= plain > 0
    weight = model[0].weight
    old, address = np.array(weight.data), weight.data.ctypes.data
    y = model(x)
    np.testing.assert_array_equal(model(x), y)
    overwrite_unseen(address, weight.size)
    np.testing.assert_array_equal(model(x), y)
    weight.data[...] = old[::-1]
    assert not np.array_equal(model(x), y)


@pytest.mark.parametrize("norm", [False, True])
def test_training_packs_frozen_weights_once(norm: bool) -> None:
    """The rate and the other layers' weights are written meanwhile."""
    model, x, y = convolutions(64, norm), normal(3, 64, 9, 9), labels(3)
    model[0].requires_grad_(False)
    weight = model[0].weight
    address = weight.data.ctypes.data
    trainer = fastcnn.Trainer(model, sgd(model, lr=0.0))
    assert trainer.plan(x.shape).core.persistent_bytes >= 64 * 64 * 9 * 4
    loss = trainer.train_step(x, y)
    overwrite_unseen(address, weight.size)
    for _ in range(2):
        assert trainer.train_step(x, y) == loss
