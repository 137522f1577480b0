"""Optimizers: how a gradient changes a parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastcnn import _core
from fastcnn.nn.parameter import Parameter

_NUMBERS = ("lr", "momentum", "dampening", "weight_decay")
_STATE = (*_NUMBERS, "nesterov", "steps")


class SGD:
    """Stochastic gradient descent with momentum, Nesterov's variant and (coupled) weight decay, as torch.optim.SGD.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float
        Learning rate; may be changed between steps (``optimizer.lr = 0.01``).
    momentum, dampening, weight_decay : float
    nesterov : bool
        Needs momentum and no dampening.

    Raises
    ------
    ValueError
        A hyperparameter is out of range, or there are no parameters.

    Examples
    --------
    >>> import numpy as np
    >>> p = Parameter(np.ones(1))
    >>> p.grad = np.ones(1, np.float32)
    >>> SGD([p], lr=0.5).step()
    >>> p.data
    array([0.5], dtype=float32)

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
        self.parameters = list(params)
        if not self.parameters:
            raise ValueError("SGD: expected at least one parameter, got none")
        for p in self.parameters:
            if not isinstance(p, Parameter):
                raise TypeError(f"SGD: expected parameters, got {type(p).__name__}")
        if len({id(p) for p in self.parameters}) != len(self.parameters):
            raise ValueError("SGD: a parameter was given twice")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum > 0 and dampening 0, got {momentum} and {dampening}"
            )
        self.lr, self.momentum, self.dampening = float(lr), float(momentum), float(dampening)
        self.weight_decay, self.nesterov = float(weight_decay), bool(nesterov)
        self._check()
        self.buffers: dict[int, Any] = {}  # by id of the parameter: its momentum
        self.steps = 0

    def _check(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"SGD: expected {name} to be finite and not negative, got {value}")

    def key(self) -> tuple[Any, ...]:
        """What a plan with these updates depends on; the numbers themselves may change between runs."""
        return (id(self), self.momentum > 0, *(id(p) for p in self.parameters))

    def _buffer(self, p: Parameter) -> Any:
        if self.momentum <= 0:
            return None
        if id(p) not in self.buffers:  # setdefault: another thread may plan the same step
            self.buffers.setdefault(id(p), _core.Tensor(np.zeros(p.shape, np.float32)))
        return self.buffers[id(p)]

    def hyper(self) -> np.ndarray:
        """The numbers of the coming step, as the update reads them."""
        self._check()
        # Without dampening the first step is one like the others, from a momentum of zero.
        first = self.steps == 0 and self.dampening != 0
        numbers = [self.lr, self.momentum, self.weight_decay, self.dampening, self.nesterov, first]
        return np.array(numbers, np.float32)

    def end_step(self) -> None:
        self.steps += 1

    def record(self, trace: Any, parameters: list[Parameter], gradients: list[int | None]) -> None:
        """Append the updates of a training step to its trace; the numbers are its last input, bound per run."""
        hyper = trace.input((6,), "float32", "hyperparameters", batched=False).id
        for p, g in zip(parameters, gradients, strict=True):
            if g is None:
                continue
            value, buffer = trace.tensor(p), self._buffer(p)
            velocity = None if buffer is None else trace.tensor(buffer, f"momentum of {p.name}")
            trace.graph.record("sgd", [value, g, velocity, hyper], {}, p.name, f"SGD '{p.name}'")

    def step(self) -> None:
        """Update every parameter that has a gradient from its ``grad``."""
        hyper = self.hyper()
        updated = [(p, p.grad) for p in self.parameters if p.requires_grad and p.grad is not None]
        for p, grad in updated:
            if grad.shape != p.shape:
                raise ValueError(f"SGD: gradient of '{p.name}' has shape {grad.shape}, expected {p.shape}")
        for p, grad in updated:
            grad = np.ascontiguousarray(grad, np.float32)
            _core.run("sgd", [p.tensor, grad, self._buffer(p), hyper])
            p.version += 1
        self.end_step()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "buffers": self.state_dict()["buffers"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, buffers={})
        for p, b in zip(self.parameters, state["buffers"], strict=True):
            if b is not None:
                self.buffers[id(p)] = _core.Tensor(b)

    def zero_grad(self) -> None:
        for p in self.parameters:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Hyperparameters, the number of steps taken, and the momentum buffers in the order of the parameters."""
        held = [self.buffers.get(id(p)) for p in self.parameters]
        buffers = [None if buffer is None else buffer.numpy().copy() for buffer in held]
        return {**{name: getattr(self, name) for name in _STATE}, "buffers": buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        buffers = state["buffers"]
        if len(buffers) != len(self.parameters):
            raise ValueError(f"SGD: expected {len(self.parameters)} momentum buffers, got {len(buffers)}")
        for p, b in zip(self.parameters, buffers, strict=True):
            if b is not None and np.shape(b) != p.shape:
                raise ValueError(f"SGD: momentum of '{p.name}': expected shape {p.shape}, got {np.shape(b)}")
        for name in _STATE:
            setattr(self, name, state[name])
        for p, b in zip(self.parameters, buffers, strict=True):
            if b is not None:
                self._buffer(p).numpy()[...] = b
            elif id(p) in self.buffers:  # plans hold it: it starts anew where it lies
                self.buffers[id(p)].numpy()[...] = 0
