"""Every test finds the instruction set and the thread count as the import left them."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import _core


@pytest.fixture(autouse=True)
def restored_core():
    isa, threads = _core.isa(), _core.get_num_threads()
    yield
    _core.select_isa(isa)
    _core.set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
