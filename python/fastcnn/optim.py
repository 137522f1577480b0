"""Optimizers: how a gradient changes a parameter."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from fastcnn import _core
from fastcnn.functional._arguments import kind_of, shape_text
from fastcnn.nn.parameter import Parameter

__all__ = ["SGD"]

_NUMBERS = ("lr", "momentum", "dampening", "weight_decay")
_HYPER = (*_NUMBERS, "nesterov")
_STATE = (*_HYPER, "steps")
_ATTRIBUTES = {*_STATE, "parameters", "buffers", "begun", "late", "rate", "told"}
_BUFFER = "momentum_buffer."  # + the parameter's position: the names of a state's arrays


class SGD:
    """Stochastic gradient descent with momentum, Nesterov's variant and (coupled) weight decay, as torch.optim.SGD.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Learning rate; may be changed between steps (``optimizer.lr = 0.01``), as may the other numbers.
    momentum, dampening, weight_decay : float
    nesterov : bool
        Needs momentum and no dampening.

    Raises
    ------
    ValueError
        A hyperparameter is out of range, or there are no parameters.
    TypeError
        A hyperparameter is not a number, or something else than parameters was given.
    AttributeError
        An attribute is set that it does not have.

    Examples
    --------
    Gradients stay until they are cleared: ``backward`` adds to them.

    >>> import numpy as np
    >>> p = Parameter(np.ones(1))
    >>> p.grad = np.ones(1, np.float32)
    >>> optimizer = SGD([p], lr=0.5)
    >>> optimizer.step()
    >>> p.data, p.grad
    (array([0.5], dtype=float32), array([1.], dtype=float32))
    >>> optimizer.zero_grad()
    >>> p.grad is None
    True

    Source: Sutskever et al. 2013; the formula is PyTorch's.
    """

    def __init__(
        self,
        params: Iterable[Parameter],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.parameters = _parameters(params)
        self.lr, self.momentum, self.dampening = lr, momentum, dampening
        self.weight_decay, self.nesterov = weight_decay, nesterov
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum > 0 and dampening 0, got {momentum} and {dampening}"
            )
        self.buffers: dict[int, Any] = {}  # by id of the parameter: its momentum
        self.told = False  # that some parameters got no gradient
        self.begun: set[int] = set()  # ids of parameters whose momentum has had its first step
        self.late: Any = None  # the numbers of those that begin in a step where others go on
        self.rate: Any = None  # while a schedule moves lr: what knows it without the schedule's factor
        self.steps = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NUMBERS:
            value = _number(name, value)
        elif name == "nesterov":
            value = bool(value)
        elif name in ("step", "learning_rate") or (type(self) is SGD and name not in _ATTRIBUTES):
            hint = "the learning rate is lr" if name == "learning_rate" else f"it has {', '.join(_HYPER)}"
            raise AttributeError(f"SGD: {name!r} cannot be set; {hint}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        numbers = [
            f"{name}={getattr(self, name):g}" for name in _NUMBERS if getattr(self, name) or name == "lr"
        ]
        numbers += ["nesterov=True"] if self.nesterov else []
        return f"{type(self).__name__}({', '.join(numbers)}; parameters: {len(self.parameters)})"

    @property
    def param_groups(self) -> tuple[ParamGroup]:
        """The one group of parameters as PyTorch shows it: ``optimizer.param_groups[0]["lr"] *= 0.1``."""
        return (ParamGroup(self),)

    def add_param_group(self, group: Any) -> None:
        """Refused: there is one group, of all parameters."""
        raise NotImplementedError(
            "SGD: has one group of parameters with one learning rate; make it of all of them: "
            "SGD([*body.parameters(), *head.parameters()], lr=...)"
        )

    def key(self) -> tuple[Any, ...]:
        """What a plan with these updates depends on; the numbers themselves may change between runs."""
        begun = self._begun_of_trained() if self.momentum > 0 and self.dampening != 0 else []
        mixed = tuple(begun) if any(begun) and not all(begun) else ()
        return (id(self), self.momentum > 0, mixed, *(id(p) for p in self.parameters))

    def _begun_of_trained(self) -> list[bool]:
        return [id(p) in self.begun for p in self.parameters if p.requires_grad]

    def _buffer(self, p: Parameter) -> Any:
        if self.momentum <= 0:
            return None
        if id(p) not in self.buffers:  # setdefault: another thread may plan the same step
            self.buffers.setdefault(id(p), _core.Tensor(np.zeros(p.shape, np.float32)))
        return self.buffers[id(p)]

    def hyper(self) -> np.ndarray:
        """The numbers of the coming step of a plan, as the update reads them."""
        if self.late is not None:
            self.late.numpy()[...] = self._numbers(first=True)
        return self._numbers(first=self.dampening != 0 and not any(self._begun_of_trained()))

    def _numbers(self, first: bool) -> np.ndarray:
        # Without dampening the first step is one like the others, from a momentum of zero.
        first = first and self.dampening != 0
        numbers = [self.lr, self.momentum, self.weight_decay, self.dampening, self.nesterov, first]
        return np.array(numbers, np.float32)

    def end_step(self) -> None:
        """Count a step that a plan has made."""
        self.__dict__["steps"] += 1  # in every step: past the checks of what users set
        if self.momentum > 0 and len(self.begun) < len(self.buffers):
            self.begun.update(id(p) for p in self.parameters if p.requires_grad and id(p) in self.buffers)

    def record(self, trace: Any, parameters: list[Parameter], gradients: list[int | None]) -> None:
        """Append the updates of a training step to its trace; the numbers are its last input, bound per run."""
        hyper = trace.input((6,), "float32", "hyperparameters", batched=False).id
        mixed = self.key()[2]  # one flag for all parameters does not say which of them begin
        if mixed and self.late is None:
            self.late = _core.Tensor(self._numbers(first=True))
        late = trace.tensor(self.late, "hyperparameters of a first step") if mixed else hyper
        for p, g in zip(parameters, gradients, strict=True):
            if g is None:
                continue
            value, buffer = trace.tensor(p), self._buffer(p)
            velocity = None if buffer is None else trace.tensor(buffer, f"momentum of {p.name}")
            numbers = hyper if id(p) in self.begun else late
            trace.graph.record("sgd", [value, g, velocity, numbers], {}, p.name, f"SGD '{p.name}'")

    def step(self) -> None:
        """Update every parameter that has a gradient from its ``grad``, which stays (see :meth:`zero_grad`)."""
        later, first = self._numbers(first=False), self._numbers(first=True)
        updated = [(p, p.grad) for p in self.parameters if p.requires_grad and p.grad is not None]
        if not self.told and 0 < len(updated) < len(self.parameters):
            self._tell_of_missing()
        for p, grad in updated:
            if grad.shape != p.shape:
                raise ValueError(f"SGD: gradient of '{p.name}' has shape {grad.shape}, expected {p.shape}")
        for p, grad in updated:
            grad = np.ascontiguousarray(grad, np.float32)
            buffer = self._buffer(p)
            _core.run("sgd", [p.tensor, grad, buffer, later if id(p) in self.begun else first])
            if buffer is not None:
                self.begun.add(id(p))
            p.version += 1
        self.__dict__["steps"] += 1

    def _tell_of_missing(self) -> None:
        """Once: a way back that ended half way shows nowhere else."""
        missing = [p for p in self.parameters if p.requires_grad and p.grad is None]
        if missing:
            self.told = True
            first = f", the first is '{missing[0].name}'" if missing[0].name else ""
            warnings.warn(
                f"SGD: {len(missing)} of {len(self.parameters)} parameters have no gradient{first}: backward did not "
                "reach them (a result that NumPy changed on the way, a part in eval mode?); freeze what should stay "
                "(requires_grad_(False))",
                stacklevel=3,
            )

    def __getstate__(self) -> dict[str, Any]:
        own: dict[str, Any] = {"buffers": self._buffer_arrays(), "begun": set(), "late": None, "rate": None}
        return {**self.__dict__, **own, "lr": self._own_lr()}

    def _own_lr(self) -> float:
        """The learning rate without the factor of a schedule."""
        return self.lr if self.rate is None else float(self.rate.own)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, buffers={})
        self._set_buffers(state["buffers"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients; ``set_to_none=False`` makes those that there are zeros, which `step` applies."""
        for p in self.parameters:
            p.grad = None if set_to_none or p.grad is None else np.zeros(p.shape, np.float32)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the numbers, the count of steps and the momentum, as arrays by name.

        Momentum is ``momentum_buffer.0``, ``.1``, ... in the order of the parameters; those without have none.
        In a `Trainer.fit` with a schedule, the learning rate is that without the schedule's factor.

        Examples
        --------
        >>> import io, numpy as np
        >>> optimizer = SGD([Parameter(np.ones(3))], lr=0.5)
        >>> np.savez(file := io.BytesIO(), **optimizer.state_dict())
        >>> _ = file.seek(0)
        >>> optimizer.load_state_dict(np.load(file))
        """
        numbers = {name: np.asarray(getattr(self, name)) for name in _STATE}
        numbers["lr"] = np.asarray(self._own_lr())
        return {**numbers, **{f"{_BUFFER}{i}": b for i, b in self._buffer_arrays().items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set everything that :meth:`state_dict` gives; all or nothing.

        Raises
        ------
        ValueError
            Entries are missing, unexpected, out of range, or of another shape than the parameters.
        TypeError
            An entry is not a number.
        """
        self.apply_state(*self.checked_state(state))

    def checked_state(self, state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
        """Numbers by name and buffers by position from a state that fits; nothing is changed."""
        from fastcnn.nn.checkpoint import keeps

        places = {f"{_BUFFER}{i}": i for i in range(len(self.parameters))}
        missing = [name for name in _STATE if name not in state]
        unexpected = [name for name in state if name not in places and name not in _STATE]
        found = {name: np.asarray(state[name]) for name in state if name in places}
        misshapen = [
            f"{name} (expected {shape_text(self.parameters[i].shape)}, got {shape_text(found[name].shape)})"
            for name, i in places.items()
            if name in found and found[name].shape != self.parameters[i].shape
        ]
        problems = [("missing", missing), ("unexpected", unexpected), ("of the wrong shape", misshapen)]
        problems += [("not numbers", [k for k, a in found.items() if a.dtype.kind not in "fiu"])]
        problems += [("too large", [k for k, a in found.items() if not keeps(a, np.dtype(np.float32))])]
        if text := "; ".join(f"{what}: {', '.join(map(str, names))}" for what, names in problems if names):
            raise ValueError(
                f"load_state_dict: SGD of {len(self.parameters)} parameters does not fit: {text}"
            )
        numbers: dict[str, Any] = {name: _number(name, state[name]) for name in (*_NUMBERS, "steps")}
        numbers.update(nesterov=bool(state["nesterov"]), steps=int(numbers["steps"]))
        return numbers, {places[name]: array for name, array in found.items()}

    def apply_state(self, numbers: dict[str, Any], buffers: dict[int, np.ndarray]) -> None:
        """Set what :meth:`checked_state` gave."""
        for name, value in numbers.items():
            setattr(self, name, value)
        if self.rate is not None:
            self.rate.start_from(self)
        for buffer in self.buffers.values():  # plans hold them: what has no entry starts anew where it lies
            buffer.numpy()[...] = 0
        self.begun.clear()
        self._set_buffers(buffers)

    def _buffer_arrays(self) -> dict[int, np.ndarray]:
        held = {i: self.buffers.get(id(p)) for i, p in enumerate(self.parameters) if id(p) in self.begun}
        return {i: buffer.numpy().copy() for i, buffer in held.items() if buffer is not None}

    def _set_buffers(self, arrays: dict[int, np.ndarray]) -> None:
        for i, array in arrays.items():
            p = self.parameters[i]
            if id(p) not in self.buffers:
                self.buffers[id(p)] = _core.Tensor(np.zeros(p.shape, np.float32))
            self.buffers[id(p)].numpy()[...] = array
            self.begun.add(id(p))


class ParamGroup(MutableMapping[str, Any]):
    """An optimizer's numbers by name; writing one changes the optimizer."""

    def __init__(self, optimizer: SGD) -> None:
        self._optimizer = optimizer

    def __getitem__(self, name: str) -> Any:
        if name == "params":
            return self._optimizer.parameters
        self._check(name)
        return getattr(self._optimizer, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._check(name)
        setattr(self._optimizer, name, value)

    def __delitem__(self, name: str) -> None:
        raise TypeError("SGD: its numbers can be changed, not taken away")

    def __iter__(self) -> Iterator[str]:
        return iter(("params", *_HYPER))

    def __len__(self) -> int:
        return 1 + len(_HYPER)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name!r}: {self[name]!r}" for name in _HYPER)
        return f"{{'params': [{len(self._optimizer.parameters)} parameters], {numbers}}}"

    @staticmethod
    def _check(name: str) -> None:
        if name not in _HYPER:
            raise KeyError(f"SGD: a group has {', '.join(_HYPER)}; got {name!r}")


def _parameters(params: Any) -> list[Parameter]:
    if not isinstance(params, Iterable):
        raise TypeError(f"SGD: expected parameters, such as model.parameters(), got {type(params).__name__}")
    parameters = list(params)
    if not parameters:
        raise ValueError("SGD: expected at least one parameter, got none")
    for p in parameters:
        if not isinstance(p, Parameter):
            hint = "; there are no groups: one learning rate holds for all" if isinstance(p, dict) else ""
            got = kind_of(p)
            raise TypeError(f"SGD: expected parameters, such as model.parameters(), got a {got}{hint}")
    if len({id(p) for p in parameters}) != len(parameters):
        raise ValueError("SGD: a parameter was given twice")
    return parameters


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError):
        raise TypeError(f"SGD: expected {name} to be a number, got {value!r:.80}") from None
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"SGD: expected {name} to be a finite number and not negative, got {value!r:.80}")
    return number


def __getattr__(name: str) -> Any:
    if name == "lr_scheduler":
        hint = (
            "Trainer.fit takes schedule=, and optimizer.lr may be set at any time; see fastcnn.train.schedule"
        )
    else:
        hint = "optimizers: SGD"
    raise AttributeError(f"fastcnn.optim has no {name}; {hint}")
