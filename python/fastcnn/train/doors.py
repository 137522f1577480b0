"""What `Trainer` takes: other libraries' ways of saying it are understood, or refused with the way it goes here."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastcnn.data.arrays import Dataset
from fastcnn.nn import CrossEntropyLoss, Module
from fastcnn.optim import SGD
from fastcnn.train.history import EpochRecord

Callback = Callable[[EpochRecord], Any]

_BY_HAND = "go layer by layer: model(x), the loss, model.backward(dy), optimizer.step()"
_NAMES_SHOWN = 5
FROZEN = (
    "Trainer.fit: all parameters are frozen, so only running statistics can change; requires_grad_(True) "
    "unfreezes what is to be trained"
)


def check_model(model: Any) -> None:
    _check_kind("model", model, Module, "such as fastcnn.models.create('lenet5')")


def check_optimizer(model: Module, optimizer: Any) -> None:
    """It is one whose step a plan contains, and updates this model."""
    _check_kind("optimizer", optimizer, SGD, "such as fastcnn.optim.SGD(model.parameters(), lr=0.01)")
    if type(optimizer).step is not SGD.step:
        raise TypeError(
            f"Trainer: {type(optimizer).__name__} has a step() of its own, which a planned step would not call; "
            f"{_BY_HAND}"
        )
    own = {id(p) for p in model.parameters()}
    if own and not own & {id(p) for p in optimizer.parameters}:
        raise ValueError(
            "Trainer: none of the optimizer's parameters belong to the model (was the model made anew?); make the "
            "optimizer of model.parameters()"
        )


def check_loss(loss: Any) -> None:
    """It is one that a plan contains."""
    kind = CrossEntropyLoss
    _check_kind("loss", loss, kind, f"whose gradient a plan contains; with a loss of your own {_BY_HAND}")
    if type(loss).__call__ is not kind.__call__ and type(loss).record is kind.record:
        raise TypeError(
            f"Trainer: {type(loss).__name__} has a __call__() of its own, which a planned step would not call; "
            f"{_BY_HAND}"
        )


def _check_kind(what: str, given: Any, kind: type, hint: str) -> None:
    if isinstance(given, kind):
        return
    if isinstance(given, type):
        made = f"the class {given.__name__}"
        hint = f"write {given.__name__}(...)" if issubclass(given, kind) else hint
    else:
        made = repr(given) if isinstance(given, str) else f"{type(given).__module__}.{type(given).__name__}"
    wanted = "an SGD optimizer" if kind is SGD else f"a {kind.__name__} as {what}"
    raise TypeError(f"Trainer: expected {wanted}, got {made:.80}; {hint}")


def all_frozen(optimizer: SGD) -> bool:
    return bool(optimizer.parameters) and not any(p.requires_grad for p in optimizer.parameters)


def untrained(model: Module, optimizer: SGD) -> tuple[str, ...]:
    """Names of the model's trainable parameters that no step will change."""
    updated = {id(p) for p in optimizer.parameters}
    return tuple(name for name, p in model.named_parameters() if p.requires_grad and id(p) not in updated)


def untrained_text(names: tuple[str, ...]) -> str:
    more = f", and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    count = f"{len(names)} trainable parameter{'s' if len(names) > 1 else ''} of the model"
    return (
        f"Trainer: {count} will not be trained, for the optimizer does not have them: "
        f"{', '.join(names[:_NAMES_SHOWN])}{more}; make the optimizer of model.parameters(), or freeze them with "
        "requires_grad_(False)"
    )


def whole(name: str, value: Any, least: int = 1) -> int:
    """The integer that it is; nothing is rounded."""
    try:
        number = operator.index(value) if not isinstance(value, (bool, np.bool_)) else None
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name} must be a whole number of at least {least}, got {value!r:.80}")
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def labels_or_number(y: Any, name: str, number: Any) -> tuple[Any, Any]:
    """(labels, number) where the second argument may be either: ``fit(x, y, epochs=5)``, ``fit(data, 5)``."""
    if isinstance(y, str):
        raise TypeError(f"expected labels or {name} as the second argument, got the text {y!r:.80}")
    if y is None or np.ndim(y) > 0 or hasattr(y, "__len__"):
        return y, number
    if number is not None:
        raise TypeError(f"expected labels as the second argument beside {name}={number!r:.80}, got {y!r:.80}")
    return None, y


def callback_list(callbacks: Any) -> list[Callback]:
    """A function, several, or none (None)."""
    if callable(callbacks) and not isinstance(callbacks, type):
        callbacks = [callbacks]
    listed = list(callbacks) if isinstance(callbacks, Iterable) else [] if callbacks is None else [callbacks]
    for given in listed:
        if not callable(given) or isinstance(given, type):
            got = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
            raise TypeError(
                f"callbacks: expected functions that take an EpochRecord, got {got} "
                "(early stopping, best weights: see the examples of Trainer.fit)"
            )
        _check_takes_one(given)
    return listed


def _check_takes_one(callback: Callback) -> None:
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # of some in C nobody knows
        return
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"callbacks: expected functions that take an EpochRecord, got one of {signature}"
        ) from None


def progress_wanted(progress: bool | str | None, verbose: Any) -> bool | str | None:
    """Keras' verbose as this library's progress: 0 none, 1 a bar, 2 a line per epoch."""
    if verbose is None:
        return progress
    if progress is not None:
        raise TypeError(f"expected progress or verbose, got both ({progress!r:.40}, {verbose!r:.40})")
    meanings: dict[Any, bool | str | None] = {0: False, 1: True, 2: "lines", "auto": None}
    if not isinstance(verbose, (int, str)) or verbose not in meanings:
        raise ValueError(f"verbose: expected 0, 1, 2 or 'auto', got {verbose!r:.80}")
    return meanings[verbose]


class _Part:
    """Neighbouring images of a data set."""

    def __init__(self, data: Dataset, begin: int, end: int) -> None:
        self._data, self._begin, self._count = data, begin, end - begin
        for name in ("classes", "preprocessing", "input_shape"):  # what a data set may also say of itself
            if hasattr(data, name):
                setattr(self, name, getattr(data, name))

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: np.ndarray, key: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        return self._data.batch(np.asarray(indices) + self._begin, key)


def last_part_apart(data: Dataset, part: Any) -> tuple[Any, Any]:
    """As Keras' validation_split: the first ``floor(N * (1 - part))`` images, and the rest, in the order given."""
    if isinstance(part, str) or not hasattr(part, "__float__") or not 0 < float(part) < 1:
        raise ValueError(f"validation_split: expected a part above 0 and below 1, got {part!r:.80}")
    at = int(len(data) * (1.0 - float(part)))
    if at in (0, len(data)):
        raise ValueError(
            f"validation_split: {len(data)} images are too few to hold {float(part):g} of them out"
        )
    return _Part(data, 0, at), _Part(data, at, len(data))
