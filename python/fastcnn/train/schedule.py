"""Learning-rate schedules: the factor on the learning rate for the part of the training that is done.

A schedule is a function of one number from 0 to 1, or a name of `SCHEDULES`; `Trainer.fit(..., schedule=cosine)` asks
it before each step, and gives the optimizer its own learning rate back at the end. What other libraries offer, here:

| elsewhere                     | here                                                               |
| ----------------------------- | ------------------------------------------------------------------ |
| CosineAnnealingLR(epochs)     | ``schedule="cosine"``, which moves in every step                   |
| StepLR, MultiStepLR([a, b])   | ``step_decay(0.1, at=(a / epochs, b / epochs))``                   |
| LambdaLR(f) of epochs         | ``lambda done: f(int(done * epochs + 1e-9))``                      |
| ExponentialLR(gamma)          | ``lambda done: gamma ** int(done * epochs + 1e-9)``                |
| warm-up from 0, then x        | ``warmup(x, part)``                                                |
| LearningRateScheduler (Keras) | ``lambda epoch, lr: ...``: two arguments mean what they mean there |
| ReduceLROnPlateau             | a callback that sets ``optimizer.lr``, which stays (below)         |

A learning rate that falls to a tenth when the held-out loss has not improved for three epochs:

>>> class Plateau:
...     best, bad = float("inf"), 0
...
...     def __init__(self, optimizer):
...         self.optimizer = optimizer
...
...     def __call__(self, record):
...         self.bad = 0 if record.validation.loss < self.best else self.bad + 1
...         self.best = min(self.best, record.validation.loss)
...         if self.bad == 3:
...             self.optimizer.lr, self.bad = self.optimizer.lr * 0.1, 0
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

__all__: list[str] = []  # they are shown in fastcnn.train

Schedule = Callable[[float], float]
EpochSchedule = Callable[[int, float], float]  # Keras: epoch (from 0) and learning rate to learning rate


def constant(done: float) -> float:
    """1, always."""
    return 1.0


def cosine(done: float) -> float:
    """From 1 down to 0 along half a cosine (Loshchilov, Hutter 2017, equation 5, without restarts).

    >>> [round(cosine(d), 3) for d in (0, 0.5, 1)]
    [1.0, 0.5, 0.0]
    """
    return 0.5 * (1.0 + math.cos(math.pi * done))


def steps(done: float) -> float:
    """A tenth after half of the training, a hundredth after three quarters (He et al. 2015, section 4.2).

    >>> [steps(d) for d in (0.49, 0.5, 0.75)]
    [1.0, 0.1, 0.01]
    """
    return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01


SCHEDULES: dict[str, Schedule] = {"none": constant, "cosine": cosine, "steps": steps}
"""Schedules by the names that `Trainer.fit` and the command line take."""


def step_decay(factor: float, at: tuple[float, ...]) -> Schedule:
    """``factor`` once more from each of the parts ``at`` (0 to 1) of the training on.

    >>> [step_decay(0.5, at=(0.3, 0.6))(d) for d in (0.29, 0.3, 0.9)]
    [1.0, 0.5, 0.25]
    """
    if not all(0 <= part <= 1 for part in at):
        raise ValueError(f"step_decay: expected parts of the training from 0 to 1, got {at!r:.80}")
    return lambda done: float(factor ** sum(done >= part for part in at))


def warmup(schedule: str | Schedule = cosine, part: float = 0.05) -> Schedule:
    """From 0 up to 1 along a line over the first ``part`` (0 to 1) of the training, then a schedule over the rest.

    >>> [round(warmup(cosine, 0.2)(d), 3) for d in (0, 0.1, 0.2, 0.6, 1)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if not 0 < part < 1:
        raise ValueError(f"warmup: expected a part of the training above 0 and below 1, got {part!r:.80}")
    after, by_epoch = resolved(schedule)
    if by_epoch:
        raise TypeError(
            "warmup: expected a schedule of the part of the training that is done, got one of epochs"
        )

    def both(done: float) -> float:
        return done / part if done < part else after((done - part) / (1 - part))

    return both


def resolved(schedule: Any) -> tuple[Any, bool]:
    """The function that a user's ``schedule`` stands for, and whether it takes (epoch, lr) as Keras' do.

    Raises
    ------
    ValueError
        There is no schedule of that name.
    TypeError
        It is no function of one number or of (epoch, lr), or takes an epoch alone, whose meaning would differ.
    """
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise ValueError(
                f"schedule: expected one of {', '.join(SCHEDULES)}, or a function, got {schedule!r}"
            )
        return SCHEDULES[schedule], False
    wanted = "a function of the part of the training that is done (0 to 1), or of (epoch, lr)"
    if not callable(schedule) or isinstance(schedule, type):
        raise TypeError(f"schedule: expected {wanted}, or a name of SCHEDULES, got {schedule!r:.80}")
    names = _required(schedule)
    if names is not None and len(names) not in (1, 2):
        raise TypeError(f"schedule: expected {wanted}, got one of ({', '.join(names)})")
    if names in (["epoch"], ["step"]):
        raise TypeError(
            f"schedule: expected {wanted}, got one of ({names[0]}); write lambda done: f(int(done * epochs + 1e-9))"
        )
    return schedule, names is not None and len(names) == 2


def _required(function: Any) -> list[str] | None:
    """Names of the arguments that a call must give by position; None when nobody knows."""
    try:
        arguments = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if any(a.kind is inspect.Parameter.VAR_POSITIONAL for a in arguments):
        return None
    return [a.name for a in arguments if a.kind in kinds and a.default is a.empty]


class ScheduledRate:
    """The optimizer's learning rate while a schedule moves it.

    A schedule of the part done multiplies the rate that the optimizer had at the start, which comes back at the
    end; a rate that something else sets meanwhile takes its place, and stays. A schedule of (epoch, lr) sets the rate
    at the start of each epoch, and that stays.

    Parameters
    ----------
    optimizer : SGD
    schedule : str, callable or None
    first, total : int
        Epochs of the whole training that are done before, and all of them.
    steps_per_epoch : int
    """

    def __init__(self, optimizer: Any, schedule: Any, first: int, total: int, steps_per_epoch: int) -> None:
        self._optimizer = optimizer
        self._schedule: Any = None
        self._by_epoch = False
        if schedule is not None:
            self._schedule, self._by_epoch = resolved(schedule)
        self._per_epoch, self._done, self._steps = (
            steps_per_epoch,
            first * steps_per_epoch,
            total * steps_per_epoch,
        )
        self._own = self._set = optimizer.lr

    @property
    def own(self) -> float:
        """The learning rate without the schedule's factor."""
        return self._own if self._optimizer.lr == self._set else self._optimizer.lr

    def before_step(self) -> None:
        """Move the rate to that of the coming step."""
        done, self._done = self._done, self._done + 1
        if self._schedule is None:
            return
        self._own = self.own
        if not self._by_epoch:
            self._assign(self._own * self._number(self._schedule(done / self._steps)))
        elif done % self._per_epoch == 0:
            self._assign(self._number(self._schedule(done // self._per_epoch, self._own)))
            self._own = self._set

    def start_from(self, optimizer: Any) -> None:
        """Move the rate that this optimizer has now from here on; another one gets its own back."""
        if optimizer is not self._optimizer:
            self._optimizer.lr, self._optimizer.rate = self.own, None
            self._optimizer, optimizer.rate = optimizer, self
        self._own = self._set = optimizer.lr

    def _assign(self, rate: float) -> None:
        self._optimizer.lr = self._set = rate

    def _number(self, value: Any) -> float:
        if (
            not isinstance(value, (str, bytes))
            and hasattr(value, "__float__")
            and 0 <= float(value) < math.inf
        ):
            return float(value)
        raise ValueError(f"schedule: expected a finite number that is not negative, got {value!r:.80}")

    def __enter__(self) -> ScheduledRate:
        self._optimizer.rate = self
        return self

    def __exit__(self, *error: object) -> None:
        self._optimizer.lr, self._optimizer.rate = self.own, None
