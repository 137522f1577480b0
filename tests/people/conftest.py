"""A folder to work in, and a network that reads the digits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fastcnn

collect_ignore = ["scripts"]  # they are run, not collected


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A model file of LeNet-5 on the digits."""
    state = fastcnn.get_num_threads()
    fastcnn.set_num_threads(1)
    fastcnn.manual_seed(0)
    model = fastcnn.models.create("lenet5")
    trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    trainer.fit(fastcnn.data.digits(), 8, 32, schedule="cosine")
    fastcnn.set_num_threads(state)
    path = tmp_path_factory.mktemp("trained") / "lenet5-digits.safetensors"
    model.save(path)
    return path


@pytest.fixture
def folder(tmp_path, trained) -> Path:
    """Where a person sits: a folder with nothing in it but a trained network."""
    place = tmp_path / "work"
    place.mkdir()
    shutil.copy(trained, place)
    return place
