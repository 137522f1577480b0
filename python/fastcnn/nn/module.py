"""Module: a network, or a part of one."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fastcnn import _names as _hints
from fastcnn.functional import _arguments as arguments
from fastcnn.nn import _state
from fastcnn.nn._place import OnTheCpu
from fastcnn.nn.parameter import Buffer, Parameter
from fastcnn.nn.tracing import Value

__all__ = ["Module"]

M = TypeVar("M", bound="Module")
_MEMBERS = ("_parameters", "_buffers", "_modules")  # where a module keeps what it owns
_mode_calls = itertools.count(1)
_NOTES = ("preprocessing", "classes")  # attributes that forward() does not read: setting them changes no plan


def _names(names: Any) -> list[str]:
    if isinstance(names, str):  # one name, not its letters
        return [names]
    listed = list(names) if isinstance(names, Iterable) else [names]
    if any(not isinstance(name, str) for name in listed):
        raise TypeError(f"expected names of parts, got {names!r:.80}")
    return listed


class gives_way_to_parts:
    """A method that a part of the same name (``self.predict = nn.Linear(...)``) takes the place of."""

    def __init__(self, method: Any) -> None:
        self.method, self.__doc__ = method, method.__doc__

    def __get__(self, module: Any, owner: Any = None) -> Any:
        if module is not None and self.method.__name__ in module._modules:
            return module._modules[self.method.__name__]
        return self.method.__get__(module, owner)


class Module(OnTheCpu):
    """Base of all layers and networks.

    A subclass makes its layers in ``__init__`` (after ``super().__init__()``) and combines them in ``forward``, in
    ordinary Python: branches, ``+``, functional ops. ``forward`` is called once per input shape, with symbolic values,
    and recorded; what runs afterwards is the plan made of the recording.

    Examples
    --------
    >>> import numpy as np, fastcnn
    >>> class Twice(Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv = fastcnn.nn.Conv2d(1, 1, 3, padding=1)
    ...
    ...     def forward(self, x):
    ...         return self.conv(x) + x
    >>> Twice()(np.zeros((2, 1, 8, 8), np.float32)).shape
    (2, 1, 8, 8)
    """

    def __init__(self) -> None:
        d = self.__dict__
        d["_parameters"], d["_buffers"], d["_modules"] = {}, {}, {}
        d["training"], d["_mode_call"] = True, 0  # and by which call of train() or eval()
        # How often an attribute was set that recordings of forward() have read, and the names of those.
        d["_settings"], d["_read"] = 0, set()
        d["last_input_shape"] = None  # without the batch: what was computed last
        # Of a whole network: what turns pixels into its input (fastcnn.data.Preprocessing), and its outputs' names.
        d["preprocessing"] = d["classes"] = None
        d["_runner"] = None

    def __getstate__(self) -> dict[str, Any]:
        # Plans are of this object: a copy makes its own. Its parts may be exchanged without changing these.
        members = {name: dict(self.__dict__[name]) for name in _MEMBERS}
        return {**self.__dict__, **members, "_runner": None, "_read": set()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # ---- members

    def __setattr__(self, name: str, value: Any) -> None:
        d = self.__dict__
        if "_parameters" not in d:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before setting attributes")
        if name in _NOTES:
            d[name] = value
        elif isinstance(value, (Parameter, Buffer, Module)) or any(name in d[kind] for kind in _MEMBERS):
            self._set_member(name, value)
            self._changed()
        else:
            descriptor = getattr(type(self), name, None)
            if isinstance(descriptor, property) and descriptor.fset is not None:
                object.__setattr__(self, name, value)
            else:
                d[name] = value
            if name in d["_read"]:  # by a recording of forward
                self._changed()

    def _set_member(self, name: str, value: Any) -> None:
        d = self.__dict__
        owned = [d[members] for members in _MEMBERS]
        for kind, members in zip((Parameter, Buffer, Module), owned, strict=True):
            if isinstance(value, kind):
                for other in (*owned, d):
                    if other is not members:
                        other.pop(name, None)
                members[name] = value
                return
            if name in members:
                if value is None:
                    members[name] = None
                    return
                if kind is not Module and hasattr(value, "shape"):
                    members[name].assign(np.asarray(value))
                    return
                del members[name]
        d[name] = value

    def _changed(self) -> None:
        """Plans of whatever contains this module are looked up anew: call it after the change."""
        if not _state.is_recording():  # what forward() itself leaves behind is not a setting
            self.__dict__["_settings"] += 1
        _state.structure_changed()

    def __getattr__(self, name: str) -> Any:
        for members in _MEMBERS:
            found = self.__dict__.get(members, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{_hints.of_model(name)}")

    def __delattr__(self, name: str) -> None:
        owner = next((d for members in _MEMBERS if name in (d := self.__dict__[members])), None)
        if owner is not None:
            del owner[name]
        else:
            object.__delattr__(self, name)
        self._changed()

    def add_module(self, name: str, module: Module) -> None:
        """Add a part under ``name`` (as ``setattr`` does, for names that are not identifiers)."""
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"add_module: expected a name without dots, got {name!r:.80}")
        if not isinstance(module, Module):
            raise TypeError(f"add_module: expected a Module as {name!r}, got {module!r:.80}")
        self._modules[name] = module
        _state.structure_changed()

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Keep an array that belongs to the model but is not trained; ``self.name = Buffer(array)`` does the same.

        Integers are kept as int64, other numbers as float32; None keeps the name free.

        Raises
        ------
        ValueError
            The name is not free or no identifier, or ``persistent`` is False: every buffer is in the state.
        """
        self._expect_free("register_buffer", name, "_buffers")
        arguments.only("register_buffer", "persistent", persistent, True)
        if tensor is None or isinstance(tensor, Buffer):
            held = tensor
        else:
            a = np.asarray(tensor)
            if a.dtype.kind not in "fiu":
                raise TypeError(f"register_buffer: expected numbers as {name!r}, got {a.dtype}")
            held = Buffer(a, np.float32 if a.dtype.kind == "f" else np.int64)
        self._buffers[name] = held
        _state.structure_changed()

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Keep a parameter; ``self.name = Parameter(array)`` does the same."""
        self._expect_free("register_parameter", name, "_parameters")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"register_parameter: expected a Parameter as {name!r}, got {type(param).__name__}; "
                "write nn.Parameter(array)"
            )
        self._parameters[name] = param
        _state.structure_changed()

    def _expect_free(self, who: str, name: Any, members: str) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{who}: expected a name without dots, got {name!r:.80}")
        if name not in self.__dict__[members] and hasattr(self, name):
            raise ValueError(f"{who}: {type(self).__name__} already has something named {name!r}")

    def children(self) -> Iterator[Module]:
        """The parts directly below this module."""
        return (m for m in self._modules.values() if m is not None)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The parts directly below this module, with their names."""
        return ((k, m) for k, m in self._modules.items() if m is not None)

    def get_submodule(self, target: str) -> Module:
        """The part at a dotted path, such as "layer2.0.conv1"; "" is this module.

        Raises
        ------
        AttributeError
            There is none; the message lists what is there.
        """
        module, path = self, ""
        for name in target.split(".") if target else []:
            found = module._modules.get(name)
            if found is None:
                where = f"{type(self).__name__} '{path}'" if path else type(self).__name__
                parts = ", ".join(k for k, _ in module.named_children()) or "none"
                raise AttributeError(f"{where} has no part {name!r}; there are: {parts}")
            module, path = found, f"{path}.{name}" if path else name
        return module

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Call ``fn`` on every part, parts of parts first, and on this module."""
        for child in dict.fromkeys(self.children()):
            child.apply(fn)
        fn(self)
        return self

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module ("") and all its parts, each once, with dotted names."""
        seen: set[int] = set()

        def walk(module: Module, path: str) -> Iterator[tuple[str, Module]]:
            if id(module) in seen:
                return
            seen.add(id(module))
            yield path, module
            for name, child in module._modules.items():
                if child is not None:
                    yield from walk(child, f"{path}.{name}" if path else name)

        return walk(self, prefix)

    def modules(self) -> Iterator[Module]:
        """This module and all its parts, each once."""
        return (m for _, m in self.named_modules())

    def _named_members(self, kind: str, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, held in module.__dict__[kind].items():
                if held is not None and id(held) not in seen:
                    seen.add(id(held))
                    yield (f"{path}.{name}" if path else name), held

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name behind ``prefix``; ``recurse=False``: only this module's own."""
        return self._named_members("_parameters", prefix, recurse)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Every parameter once: what an optimizer takes."""
        return (p for _, p in self.named_parameters("", recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """Every buffer once, with its dotted name; arguments as for `named_parameters`."""
        return self._named_members("_buffers", prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Every buffer once."""
        return (b for _, b in self.named_buffers("", recurse))

    def parameter_count(self, trainable: bool = False) -> int:
        """Number of values in all parameters, frozen ones too; ``trainable=True``: without those."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable)

    def train(self: M, mode: bool = True) -> M:
        """Training behaviour for this module and its parts: batch norm uses the batch's statistics."""
        training = bool(arguments.flag(f"{type(self).__name__}.train", "mode", mode))
        call = next(_mode_calls)
        for m in self.modules():
            m.__dict__["training"], m.__dict__["_mode_call"] = training, call
        _state.structure_changed()
        return self

    def eval(self: M) -> M:
        """Inference behaviour; the same as ``train(False)``."""
        return self.train(False)

    @property
    def training(self) -> bool:
        """Whether batch statistics and the like are used; see :meth:`train` and :meth:`in_mode`."""
        mode = _state.current_mode()
        own: bool = self.__dict__["training"]
        return own if mode is None else mode[0] and id(self) not in mode[1]

    def in_mode(self, training: bool) -> contextlib.AbstractContextManager[None]:
        """Training or inference behaviour for a while, in this thread; each part's own mode stays as it is.

        Training behaviour is that of each part: one that was put into eval mode by itself (``model.body.eval()``:
        frozen batch norm) stays so, whether the network as a whole is in training or in eval mode.
        """
        if not training or self.__dict__["training"]:
            return _state.mode(None if training else False)
        whole = self.__dict__["_mode_call"]
        parts = (
            m for m in self.modules() if m.__dict__["_mode_call"] != whole and not m.__dict__["training"]
        )
        return _state.mode(True, frozenset(map(id, parts)))

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freeze (False) or unfreeze all parameters."""
        value = bool(arguments.flag(f"{type(self).__name__}.requires_grad_", "requires_grad", requires_grad))
        for p in self.parameters():
            p.requires_grad = value
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients; ``set_to_none=False``: those that are there become zeros."""
        forget = arguments.flag(f"{type(self).__name__}.zero_grad", "set_to_none", set_to_none)
        for p in self.parameters():
            p.grad = None if forget or p.grad is None else np.zeros_like(p.grad)

    # ---- computing

    def forward(self, *inputs: Any) -> Any:
        """What the module computes of its inputs; a subclass defines it. Users call the module itself."""
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Compute on NumPy arrays (N, C, H, W), or record on symbolic values inside another module's ``forward``."""
        if named:
            inputs, named = self._bound(inputs, named)
        for x in (*inputs, *named.values()):
            if isinstance(x, Value):
                return x.trace.call(self, inputs, named)
        if named:
            raise TypeError(
                f"{type(self).__name__}: {', '.join(named)}: an argument by name alone is for calls inside a forward; "
                "make it an attribute"
            )
        who = type(self).__name__
        if not inputs:
            raise TypeError(f"{who}: expected an input, got none")
        if _state.is_recording() and (
            any(isinstance(x, (Parameter, Buffer)) for x in inputs)
            or next(self.parameters(), None) is not None
        ):
            raise TypeError(
                f"{who}: called on a {type(inputs[0]).__name__} inside a forward: its result would be a constant of "
                "the plan. Compute it from the forward's input"
            )
        return self.runner().forward(inputs)

    def _bound(
        self, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments by position as far as ``forward`` takes them so, and those it takes by name alone."""
        try:
            bound = inspect.signature(self.forward).bind(*inputs, **named)
        except TypeError as e:
            raise TypeError(f"{type(self).__name__}: {e}") from None
        return bound.args, bound.kwargs

    def backward(self, dy: np.ndarray, *, accumulate: bool = True) -> Any:
        """Gradients of the last call's result, seeded with ``dy`` (its gradient).

        They are added to ``grad`` of every parameter that requires one (:meth:`zero_grad` starts anew;
        ``accumulate=False`` replaces what is there); returned is the gradient of the input, or a tuple for several
        inputs. ``loss.backward()`` does the same from a loss.

        Raises
        ------
        ValueError
            The module was not called before, was called in eval mode, its parameters were updated since, or ``dy`` has
            another shape than the result. No gradient has changed then.
        """
        return self.runner().backward(dy, accumulate)

    def features_at(self, x: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """What named parts put out on x (N, C, H, W), in inference, by name.

        Parameters
        ----------
        names : sequence of str
            Paths of modules ("layer3.1.conv2"); "" is the result, "input" the input. A part that is called
            several times has ":0", ":1", ... behind its name.

        Raises
        ------
        ValueError
            There is no such part, or it is called several times.

        Examples
        --------
        >>> import numpy as np, fastcnn
        >>> net = fastcnn.models.create("lenet5")
        >>> net.features_at(np.zeros((2, 1, 28, 28), np.float32), ["0", "3"])["3"].shape
        (2, 16, 10, 10)
        """
        return self.runner().probe(x, _names(names), None, "", [])[0]

    def gradients_at(
        self, x: np.ndarray, names: Sequence[str] = ("input",), *, of: str = "", seed: Any = None
    ) -> dict[str, np.ndarray]:
        """Gradients of a scalar with respect to named values, in inference; the model is not touched.

        The scalar is ``sum(seed * value)`` of the value named ``of`` (names as in :meth:`features_at`; "": the
        result). ``seed`` is an array of its shape; an integer k takes column k, the score of class k, of every
        row; None takes the sum of all.

        Raises
        ------
        ValueError
            There is no such part, the seed has another shape, or the scalar does not depend on a value.

        Examples
        --------
        >>> import numpy as np, fastcnn
        >>> net = fastcnn.models.create("lenet5")
        >>> net.gradients_at(np.zeros((2, 1, 28, 28), np.float32), seed=3)["input"].shape
        (2, 1, 28, 28)

        Source: Simonyan et al. 2014 (saliency).
        """
        return self.runner().probe(x, [], seed, of, _names(names))[1]

    @gives_way_to_parts
    def predict_proba(self, images: Any, batch_size: int = 256) -> np.ndarray:
        """Probability of each class (N, K), float32, of paths, pictures, arrays or a data set.

        uint8 pixels and pictures go through ``preprocessing``, which training (`Trainer.fit`) and reading a file set;
        float32 arrays are network input. See `fastcnn.data.inputs.probabilities`. The mode stays as it is.

        Raises
        ------
        ValueError
            For pixels and a model without ``preprocessing`` for them; for files that are no images; for no images.

        Examples
        --------
        >>> import numpy as np, fastcnn
        >>> net = fastcnn.models.create("lenet5")
        >>> net.predict_proba(np.zeros((2, 1, 28, 28), np.float32)).shape
        (2, 10)
        """
        from fastcnn.data.inputs import probabilities

        return probabilities(self, images, batch_size)

    @gives_way_to_parts
    def predict(self, images: Any, batch_size: int = 256) -> np.ndarray:
        """The most probable class of each image (N,), int64; see :meth:`predict_proba`."""
        from fastcnn.data.inputs import probabilities

        return probabilities(self, images, batch_size).argmax(axis=1)

    def runner(self) -> Any:
        """The object that traces this module and keeps its plans."""
        if self.__dict__["_runner"] is None:
            from fastcnn.nn.engine import Runner

            self.__dict__["_runner"] = Runner(self)
        return self.__dict__["_runner"]

    def retrace(self) -> None:
        """Record ``forward`` anew at the next call, here and in whatever contains this module.

        It is recorded once per input shape and mode. What it reads then is watched: attributes of modules (class
        attributes and properties too), lists, dicts, arrays and objects in them, and the globals, enclosing variables
        and defaults that its functions name. What it reads in other ways (files, the environment, objects inside
        libraries) is not.
        """
        self.__dict__["_settings"] += 1
        _state.structure_changed()

    def plan(self, input_shape: Any, *, training: bool | None = None, layout: str = "auto") -> Any:
        """The plan for an input shape (N, C, H, W): ``plan.describe()`` and ``plan.profile()`` show it.

        Parameters
        ----------
        training : bool
            True: forward and backward pass; False: inference with batch norm folded. Default: the module's mode.
        layout : "auto", "nhwc" or "interleaved"
        """
        if not isinstance(layout, str):
            raise TypeError(f"plan: expected the name of a layout, got {layout!r:.60}")
        if training is not None:
            training = bool(arguments.flag("plan", "training", training))
        several = isinstance(input_shape, (tuple, list)) and any(np.ndim(s) > 0 for s in input_shape)
        shapes = [arguments.shape_of("plan", s) for s in (input_shape if several else [input_shape])]
        return self.runner().plan(tuple(shapes), training=training, layout=layout)

    # ---- state

    def state_entries(self, prefix: str = "") -> Iterator[tuple[str, Parameter | Buffer]]:
        """Every parameter and buffer by dotted name; one that is shared comes under each of its names."""
        for members in (self._parameters, self._buffers):
            yield from ((prefix + name, held) for name, held in members.items() if held is not None)
        for name, child in self.named_children():
            yield from child.state_entries(f"{prefix}{name}.")

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by dotted name, in PyTorch's order."""
        return {name: held.data.copy() for name, held in self.state_entries()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Any:
        """Set parameters and buffers from arrays (or CPU tensors of PyTorch) by name; all or nothing.

        Common prefixes ``module.`` and ``_orig_mod.`` (left by data-parallel and compiled training) are taken off; of a
        checkpoint that holds the arrays in its entry "state_dict" or "model", that entry is taken.
        ``num_batches_tracked`` may be missing, as in files older than it.

        Returns
        -------
        named tuple (missing_keys, unexpected_keys)
            Empty when ``strict``.

        Raises
        ------
        ValueError
            Entries are missing, unexpected or of another shape: they are listed. Nothing is changed then.
        """
        from fastcnn.nn.checkpoint import load

        return load(self, state, strict)

    def save(self, path: Any, **details: Any) -> None:
        """Write weights and architecture to a safetensors file; see :func:`fastcnn.save`."""
        from fastcnn import io

        io.save(self, path, **details)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them. Library layers have one."""
        raise NotImplementedError(f"{type(self).__name__} has no config()")

    # ---- showing

    def summary(self, input_shape: Any = None) -> Any:
        """A table of layers, output shapes, parameters and multiply-adds for an input (C, H, W) or (N, C, H, W).

        Without one, for that of the last call or training.
        """
        from fastcnn.nn.summary import summarize

        return summarize(self, input_shape)

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses of a module without parts."""
        try:
            return ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        except NotImplementedError:
            return ""

    def __repr__(self) -> str:
        name = type(self).__name__
        if not self._modules:
            return f"{name}({self.extra_repr()})"
        lines = [f"  ({k}): " + repr(m).replace("\n", "\n  ") for k, m in self._modules.items()]
        return "\n".join([f"{name}(", *lines, ")"])

    def _repr_html_(self) -> str:
        from fastcnn._text import preformatted

        return preformatted(repr(self))
