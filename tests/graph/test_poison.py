"""Memory that is full of NaN when it is handed out: whatever is read before it was written shows."""

from __future__ import annotations

import os

import numpy as np
import pytest
from alone import alone
from networks import NAMES, network
from orders import labels, normal, training_step
from tape import check
from test_drawn import sound
from test_effects import EVERY_LAYOUT, Program, near
from test_slices import PATTERNS, ForwardBackward, built, dense

from fastcnn import _core


@alone(300)
def patterns() -> None:
    assert os.environ["FASTCNN_POISON"] == "1"
    for pattern, _ in PATTERNS.values():
        check(built(pattern, (17, 3, 5, 4)), threads=(1,))
        check(built(pattern, (1, 3, 4, 4)), threads=(1,), sections=False)


@alone(300)
def drawn_networks() -> None:
    for seed in range(5000, 5012):
        network = sound(seed, 16)
        if network is not None:
            check(network, threads=(1, 3), error=1e-4, sections=bool(seed % 2))


@alone(300)
def programs() -> None:
    for seed in range(500, 508):
        program = Program(seed)
        want, state = program.in_order("auto")
        for layout in EVERY_LAYOUT:
            plan, after = program.planned(layout)
            for a, b in zip(program.run(plan), want, strict=True):
                near(a, b, f"program {seed} {layout}")
            for name, b in state.items():
                near(after[name].numpy(), b, f"program {seed} {layout}: {name}")


@alone(300)
def networks() -> None:
    net, x = network(), normal(5, 3, 8, 8)
    assert all(np.isfinite(v).all() for v in net.features_at(x, NAMES).values())
    assert np.isfinite(net.gradients_at(x, NAMES)["input"]).all()
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for layout in EVERY_LAYOUT:
            step = training_step(net, layout, momentum=0.9)
            assert np.isfinite([step.step(x, labels(5, 4))[0] for _ in range(3)]).all()
            for join in ("nested", "flat"):
                deep, image = dense(12, join, growth=5, bottleneck=7), normal(9, 2, 5, 6)
                both = ForwardBackward(deep, [image.shape], layout)
                y, run = both.forward([image])
                (dx,) = both.backward(run, np.ones_like(y))
                assert all(np.isfinite(a).all() for a in (y, dx, *[p.grad for p in deep.parameters()]))


@pytest.mark.parametrize("what", [patterns, drawn_networks, programs, networks], ids=lambda f: f.__name__)
def test_with_poisoned_memory(what, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCNN_POISON", "1")
    what()
