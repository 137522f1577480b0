"""Which forward pass a result came from, and losses that know it: what ``loss.backward()`` goes back along.

Results stay plain NumPy arrays; who made one is looked up by the array itself.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# Numbers of a result that are compared with what they were; of larger ones, evenly spaced ones.
_CHECKED = 1 << 16
_numbers = itertools.count()


class Pass:
    """One call of a module in training mode, with its memory, until its backward pass was made.

    Parameters
    ----------
    who : str
        The module, as messages name it.
    plan : ForwardBackward
    run : its run, whose first section is done
    inputs : arrays that the module was called on
    """

    def __init__(self, who: str, plan: Any, run: Any, inputs: Sequence[np.ndarray], y: np.ndarray) -> None:
        self.who, self.plan, self.run = who, plan, run
        self.wanted = False  # a loss or a later pass was computed from the result
        self._refusal = ""  # why its gradients would be wrong
        self.sources: list[Pass | None] = [self._source(x) for x in inputs]
        for source in self.sources:
            if source is not None:
                source.wanted = True
        self.number = next(_numbers)  # a pass comes after those that its inputs came from
        self._versions = plan.versions()
        self._sum = _checksum(y)
        key = id(y)
        self._result = weakref.ref(y, lambda _: _made.pop(key, None))
        self.spent = ""
        _made[key] = self

    def _source(self, x: np.ndarray) -> Pass | None:
        made = pass_of(x)
        of_part = made is None and isinstance(x.base, np.ndarray) and pass_of(x.base) is not None
        if of_part or (made is not None and not made.computed(x)):
            self._refusal = (
                "its input is a part of another module's result, or one that was changed in place, which gradients do "
                "not see: compute it in a forward"
            )
        return made

    def check_unspent(self) -> None:
        """Raise where it has no memory any more."""
        if self.spent:
            raise ValueError(f"{self.who}.backward: {self.spent}; call the module again")

    def check(self) -> None:
        """Raise where gradients of what it computed cannot be had any more."""
        self.check_unspent()
        if self._refusal:
            raise ValueError(f"{self.who}.backward: {self._refusal}")
        if self._versions != self.plan.versions():
            raise ValueError(
                f"{self.who}.backward: the parameters were updated after this result was computed, so its gradients "
                "would be of another network; call the module again"
            )

    def computed(self, values: np.ndarray) -> bool:
        """Whether these are still the numbers that it computed."""
        return _checksum(values) == self._sum

    def backward(self, dy: np.ndarray) -> list[np.ndarray]:
        """Gradients of the inputs; those of the parameters are added to their ``grad``."""
        self.check_unspent()
        run = self.run
        self.give_up("this result was gone back from already (add losses before, (a + b).backward())")
        return self.plan.backward(run, dy)

    @property
    def waits(self) -> bool:
        return not self.spent

    def give_up(self, why: str) -> None:
        """Release its memory, and what it came from."""
        self.spent, self.run, self.sources = why, None, []

    def leads_to(self, array: np.ndarray) -> bool:
        """Whether the array is the result, or its numbers in another shape."""
        y = self._result()
        if y is array or y is None:
            return y is array
        same = array.size == y.size and array.dtype == y.dtype and array.flags.c_contiguous
        return same and array.__array_interface__["data"][0] == y.__array_interface__["data"][0]


_made: dict[int, Pass] = {}  # by the id of the result, as long as that lives


def pass_of(array: np.ndarray) -> Pass | None:
    """The pass whose result the array is (or is in another shape); None for all other arrays."""
    for key in (id(array), id(array.base)):
        made = _made.get(key)
        if made is not None and made.leads_to(array):
            return made
    return None


def _checksum(y: np.ndarray) -> int:
    some = y if y.size <= _CHECKED else y.reshape(-1)[:: y.size // _CHECKED]
    return hash(some.tobytes())


def go_back(seeds: Iterable[tuple[Pass, np.ndarray]]) -> None:
    """Backward passes of all that these results were computed from, latest first; nothing changes where one cannot."""
    pending: dict[int, tuple[Pass, np.ndarray]] = {}

    def add(made: Pass, dy: np.ndarray) -> None:
        dy = dy.reshape(made.plan.result_shape)
        before = pending.get(made.number)
        pending[made.number] = (made, dy if before is None else before[1] + dy)

    for made, dy in seeds:
        add(made, dy)
    _check_all(made for made, _ in pending.values())
    while pending:
        made, dy = pending.pop(max(pending))
        sources = made.sources
        for source, dx in zip(sources, made.backward(dy), strict=True):
            if source is not None:
                add(source, dx)


def _check_all(passes: Iterable[Pass]) -> None:
    todo, seen = list(passes), set()
    while todo:
        made = todo.pop()
        if made.number not in seen:
            seen.add(made.number)
            made.check()
            todo += [source for source in made.sources if source is not None]


class Loss(float):
    """A loss: a number that knows the results it was computed from.

    Losses add, and can be multiplied and divided by numbers: ``(a + 0.5 * b).backward()``, ``(loss / 4).backward()``.

    Examples
    --------
    >>> import numpy as np, fastcnn
    >>> model = fastcnn.nn.Linear(3, 2)
    >>> loss = fastcnn.nn.CrossEntropyLoss()(model(np.ones((4, 3), np.float32)), [0, 1, 1, 0])
    >>> loss.backward()
    >>> model.weight.grad.shape
    (2, 3)
    """

    _terms: tuple[_Term, ...]
    _refusal: str  # why there is no way back; "" where there is one

    def __new__(cls, value: float, terms: Iterable[_Term] = (), refusal: str = "") -> Loss:
        self = super().__new__(cls, value)
        self._terms, self._refusal = tuple(terms), refusal
        return self

    @classmethod
    def of(cls, value: float, logits: np.ndarray, gradient: np.ndarray) -> Loss:
        """The loss of logits, with its gradient with respect to them."""
        made = pass_of(logits)
        if made is None or not made.computed(logits):
            return cls(value, refusal=_NO_RESULT)
        made.wanted = True
        return cls(value, [(made, gradient, 1.0)])

    def backward(self) -> None:
        """Add the gradients of this loss to ``grad`` of all parameters that it was computed with.

        Modules that were called one after another, each on the result of the one before, are gone back through in
        turn. Gradients add up until ``optimizer.zero_grad()``.

        Raises
        ------
        ValueError
            The logits are not the result of a module in training mode, were changed, the parameters were updated
            since, or this was done already. No gradient has changed then.
        """
        if self._refusal:
            raise ValueError(f"loss.backward: {self._refusal}")
        go_back((made, dy if k == 1 else dy * np.float32(k)) for made, dy, k in self._terms)

    def item(self) -> float:
        """The number alone."""
        return float(self)

    detach = item

    def _times(self, value: float, factor: float) -> Loss:
        return Loss(value, [(made, dy, k * factor) for made, dy, k in self._terms], self._refusal)

    def __add__(self, other: Any) -> Any:
        if not _is_number(other):
            return NotImplemented
        both = (self, other) if isinstance(other, Loss) else (self,)
        terms = [term for loss in both for term in loss._terms]
        # A sum over an epoch must not hold on to all of it.
        waiting = [term for term in terms if term[0].waits]
        refusals = [loss._refusal for loss in both if loss._refusal]
        if isinstance(other, np.generic):  # 0.1 * (y**2).mean(), not a plain constant
            refusals.append(_UNKNOWN)
        refusals += [
            f"a loss that it is made of has no way back: {t[0].spent}" for t in terms if not t[0].waits
        ][:1]
        return Loss(float(self) + float(other), waiting, (refusals or [""])[0])

    __radd__ = __add__

    def __pos__(self) -> Loss:
        return self

    def __neg__(self) -> Loss:
        return self._times(-float(self), -1.0)

    def __sub__(self, other: Any) -> Any:
        return self + -other if _is_number(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, factor: Any) -> Any:
        if not _is_number(factor):
            return NotImplemented
        product = float(self) * float(factor)
        return product if isinstance(factor, Loss) else self._times(product, float(factor))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Any:
        if not _is_number(divisor):
            return NotImplemented
        quotient = float(self) / float(divisor)
        return quotient if isinstance(divisor, Loss) else self._times(quotient, 1.0 / float(divisor))

    def __reduce__(self) -> Any:  # a copy, or what is stored, is a number
        return float, (float(self),)


# A pass, the loss's gradient with respect to its result, and a factor on that.
_Term = tuple[Pass, np.ndarray, float]
_UNKNOWN = (
    "a number that NumPy computed was added to it, whose gradient is not known: write loss.item() + number to show it, "
    "weight_decay= of the optimizer for a penalty of weights, and what a penalty of outputs needs in forward"
)
_NO_RESULT = (
    "the loss was not computed from the result of a module in training mode, unchanged since that module returned it: "
    "call model.train() before model(x), and compute what comes after the model in its forward"
)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number))
