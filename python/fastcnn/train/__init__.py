"""Training as most people do it: `Trainer.fit` over a data set, with history, schedules and progress."""

from fastcnn.train.history import EpochRecord, Evaluation, History
from fastcnn.train.schedule import SCHEDULES, constant, cosine, step_decay, steps, warmup
from fastcnn.train.trainer import Trainer

__all__ = [
    "SCHEDULES", "EpochRecord", "Evaluation", "History", "Trainer", "constant", "cosine", "step_decay", "steps",
    "warmup",
]  # fmt: skip
