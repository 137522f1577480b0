"""Where a model computes and in which numbers: there is one answer, and PyTorch's calls for it are accepted."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import numpy as np

P = TypeVar("P", bound="OnTheCpu")


class OnTheCpu:
    """What asks for float32 on the CPU is done already; everything else is refused."""

    def to(self: P, *wanted: Any, device: Any = None, dtype: Any = None, non_blocking: bool = False) -> P:
        """The model itself, for "cpu" and float32.

        Raises
        ------
        ValueError
            Another device or type of numbers is asked for.
        """
        for value in (*wanted, device, dtype):
            # PyTorch's own devices and types are known by their text.
            known = value is None or value is np.float32
            if not known and str(value) not in ("cpu", "float32", "torch.float32"):
                self._refuse("to", f"'cpu' or float32, got {value!r:.60}")
        return self

    def cpu(self: P) -> P:
        return self

    def float(self: P) -> P:
        return self

    def cuda(self, device: Any = None) -> NoReturn:
        self._refuse("cuda", "no other device")

    def half(self) -> NoReturn:
        self._refuse("half", "no other type")

    def bfloat16(self) -> NoReturn:
        self._refuse("bfloat16", "no other type")

    def double(self) -> NoReturn:
        self._refuse("double", "no other type")

    def _refuse(self, call: str, expected: str) -> NoReturn:
        raise ValueError(
            f"{type(self).__name__}.{call}: fastcnn computes in float32 on the CPU; expected {expected}"
        )
