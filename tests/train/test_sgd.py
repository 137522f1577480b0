"""The parameter update against PyTorch's, step by step, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import _core

# momentum, weight decay, dampening, nesterov
SETTINGS = [
    (0, 0, 0, 0),
    (0, 0.1, 0, 0),
    (0.9, 0, 0, 0),
    (0.9, 0.01, 0.3, 0),
    (0.9, 0.01, 0, 1),
]


@pytest.mark.parametrize("n", [1, 7, 16, 100, 40_000])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_steps_are_pytorchs(setting, n, rng):
    torch = pytest.importorskip("torch")
    momentum, decay, dampening, nesterov = setting
    start = rng.standard_normal(n).astype(np.float32)
    grads = rng.standard_normal((4, n)).astype(np.float32)
    p = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = torch.optim.SGD(
        [p], lr=0.1, momentum=momentum, weight_decay=decay, dampening=dampening, nesterov=bool(nesterov)
    )
    for g in grads:
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
    results = []
    for isa in _core.available_isas():
        _core.select_isa(isa)
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            mine, buffer = start.copy(), np.full(n, np.nan, np.float32)  # the first step must not read it
            for step, g in enumerate(grads):
                hyper = np.float32([0.1, momentum, decay, dampening, nesterov, step == 0])
                _core.run("sgd", [mine, g, buffer if momentum else None, hyper])
            assert np.allclose(mine, p.detach().numpy(), rtol=1e-6, atol=1e-6)
            results.append((isa, mine.tobytes()))
    assert len(set(results)) == len(_core.available_isas())


def test_arguments_are_checked():
    v, hyper = np.zeros(4, np.float32), np.zeros(6, np.float32)
    with pytest.raises(ValueError, match=r"gradient of shape 4 .*got 5"):
        _core.run("sgd", [v, np.zeros(5, np.float32), None, hyper])
    with pytest.raises(ValueError, match=r"buffer of shape 4 .*got 5"):
        _core.run("sgd", [v, v, np.zeros(5, np.float32), hyper])
    with pytest.raises(ValueError, match="6 hyper values"):
        _core.run("sgd", [v, v, None, np.zeros(5, np.float32)])
