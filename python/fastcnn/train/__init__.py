"""Training as most people do it: `Trainer.fit` over a data set, with history, schedules and progress."""

from typing import TYPE_CHECKING

from fastcnn import _names
from fastcnn.train import schedule as schedule
from fastcnn.train.history import EpochRecord, Evaluation, History
from fastcnn.train.schedule import SCHEDULES, constant, cosine, step_decay, steps, warmup
from fastcnn.train.trainer import Trainer

__all__ = [
    "SCHEDULES", "EpochRecord", "Evaluation", "History", "Trainer", "constant", "cosine", "schedule", "step_decay",
    "steps", "warmup",
]  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = _names.of(__name__, __all__, {"names": __all__})
