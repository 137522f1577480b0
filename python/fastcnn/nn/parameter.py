"""Parameters and buffers: the tensors that a module owns."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import _core
from fastcnn.functional._arguments import shape_text
from fastcnn.nn import _state

__all__ = ["Buffer", "Parameter"]


class _Held:
    """A core tensor with the checks that writing to it needs."""

    __slots__ = ("__weakref__", "name", "tensor", "version")  # a mistyped attribute is an error

    def __init__(self, data: Any, dtype: Any = np.float32) -> None:
        self.tensor = _core.Tensor(np.array(data, dtype=dtype, order="C"))
        self.name = ""
        self.version = 0  # how often an optimizer has updated it

    @property
    def data(self) -> np.ndarray:
        """The values, without a copy: writing to the array changes the model."""
        return self.tensor.numpy()

    @data.setter
    def data(self, value: Any) -> None:
        self.assign(np.asarray(value))

    def assign(self, value: np.ndarray) -> None:
        if value.shape != self.shape:
            who = f"{type(self).__name__} '{self.name}'" if self.name else type(self).__name__
            raise ValueError(f"{who}: expected shape {shape_text(self.shape)}, got {shape_text(value.shape)}")
        if value.dtype.kind not in "fiu":
            raise TypeError(f"{type(self).__name__}: expected numbers, got {value.dtype}")
        self.tensor.numpy()[...] = value
        self.version += 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its dimensions."""
        return self.tensor.shape

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def numel(self) -> int:
        """Number of values, as PyTorch calls it."""
        return self.size

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def numpy(self) -> np.ndarray:
        """The values, without a copy."""
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype) if copy or dtype is not None else self.data

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.tensor.__dlpack_device__()

    def __getstate__(self) -> dict[str, Any]:
        own = {
            k: getattr(self, k)
            for c in type(self).__mro__
            for k in getattr(c, "__slots__", ())
            if k[0] != "_"
        }
        state = {**own, **getattr(self, "__dict__", {}), "tensor": self.tensor.numpy().copy()}
        return {**state, "_requires_grad": self._requires_grad} if isinstance(self, Parameter) else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in {**state, "tensor": _core.Tensor(state["tensor"])}.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({shape_text(self.shape)})"


class Parameter(_Held):
    """A tensor that training changes.

    Parameters
    ----------
    data : array
        Initial values, copied as float32.
    requires_grad : bool
        False freezes it: no gradient is computed, no optimizer changes it.

    Attributes
    ----------
    data : numpy.ndarray
        The values themselves (writing changes the model).
    grad : numpy.ndarray or None
        Set by ``backward``, of the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> Parameter(np.zeros((2, 3))).shape
    (2, 3)
    """

    __slots__ = ("_requires_grad", "grad")

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data)
        self.grad: np.ndarray | None = None
        self._requires_grad = bool(requires_grad)

    @property
    def requires_grad(self) -> bool:
        """Whether it gets gradients, and optimizers change it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._requires_grad = bool(value)
        _state.structure_changed()

    def requires_grad_(self, requires_grad: bool = True) -> Parameter:
        """Freeze (False) or unfreeze it."""
        self.requires_grad = requires_grad
        return self


class Buffer(_Held):
    """A tensor that belongs to the model but is not trained: running statistics, counters."""

    __slots__ = ()
