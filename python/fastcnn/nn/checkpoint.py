"""Weights by name, from wherever they come, put into a network: all or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastcnn.functional._arguments import shape_text

if TYPE_CHECKING:
    from fastcnn.nn.module import Module

_PREFIXES = ("module.", "_orig_mod.")  # of data-parallel and of compiled training
_ENTRIES = ("state_dict", "model_state_dict", "model", "net")  # where checkpoints keep the weights
_LISTED = 6


class IncompatibleKeys(NamedTuple):
    """What did not fit, as PyTorch's ``load_state_dict`` returns it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(model: Module, state: Any, strict: bool) -> IncompatibleKeys:
    """See `Module.load_state_dict`."""
    own = dict(model.state_entries())
    state = _without_prefixes(_weights_of(state, own), own)
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    arrays = {k: _array(k, v) for k, v in state.items() if k in own}
    misshapen = [
        f"{k} (expected {shape_text(own[k].shape)}, got {shape_text(a.shape)})"
        for k, a in arrays.items()
        if a.shape != own[k].shape
    ]
    not_numbers = [f"{k} ({a.dtype})" for k, a in arrays.items() if a.dtype.kind not in "fiu"]
    problems = [("missing", missing), ("unexpected", unexpected)] if strict else []
    unkept = [
        f"{k} ({a.dtype} as {own[k].data.dtype})"
        for k, a in arrays.items()
        if not keeps(a, own[k].data.dtype)
    ]
    problems += [("of the wrong shape", misshapen), ("not numbers", not_numbers)]
    problems += [("too large, or not whole numbers", unkept)]
    if any(names for _, names in problems):
        text = "; ".join(f"{what}: {_listed(names)}" for what, names in problems if names)
        raise ValueError(f"load_state_dict: {type(model).__name__} does not fit: {text}")
    for k, a in arrays.items():
        own[k].assign(a)
    return IncompatibleKeys(missing, unexpected)


def keeps(a: np.ndarray, dtype: np.dtype) -> bool:
    """Whether values stay what they are in this type, rounding aside (float32; a counter drops its fraction)."""
    if a.dtype == dtype or a.dtype.kind not in "fiu":  # what is no number is another matter
        return True
    with np.errstate(all="ignore"):
        cast = a.astype(dtype)
    if dtype.kind == "f":
        return bool((np.isfinite(cast) | ~np.isfinite(a)).all())
    return bool((abs(cast - a) < 1).all())


def _weights_of(state: Any, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping of names to arrays, which a checkpoint has one level deep."""
    if not isinstance(state, Mapping):
        has = "; pass its state_dict()" if hasattr(state, "state_dict") else ""
        path = "; read a file first (fastcnn.load_weights)" if isinstance(state, (str, bytes)) else has
        raise TypeError(
            f"load_state_dict: expected a mapping of names to arrays, got {type(state).__name__}{path}"
        )
    if any(not isinstance(k, str) for k in state):
        raise TypeError("load_state_dict: expected a mapping of names to arrays, some keys are no names")
    for entry in _ENTRIES:
        inner = state.get(entry)
        if isinstance(inner, Mapping) and entry not in own:
            text = f"load_state_dict: a checkpoint with {_listed(list(state))}; its entry {entry!r} is taken"
            warnings.warn(text, UserWarning, stacklevel=4)
            return inner
    return state


def _without_prefixes(state: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    while prefix := next((p for p in _PREFIXES if state and all(k.startswith(p) for k in state)), ""):
        if all(k.startswith(prefix) for k in own):
            break
        state = {k[len(prefix) :]: v for k, v in state.items()}
    return state


def _array(name: str, value: Any) -> np.ndarray:
    """Arrays and CPU tensors, those that require gradients too."""
    try:
        return np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as e:  # on a GPU, or of a type that NumPy lacks
        hint = "; use .float().cpu()" if hasattr(value, "cpu") else ""
        raise ValueError(f"load_state_dict: {name} is no array ({str(e).splitlines()[0]}){hint}") from None


def _listed(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
