"""The training loop over a data set. The step itself is one call into the engine."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fastcnn.data.arrays import Dataset
from fastcnn.data.inputs import as_dataset, for_model, probabilities, remember
from fastcnn.data.loader import batches
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.functional import _arguments as arguments
from fastcnn.nn import CrossEntropyLoss, Module
from fastcnn.nn.engine import TrainingStep, first_non_finite
from fastcnn.optim import SGD
from fastcnn.plan import Plan
from fastcnn.train import doors
from fastcnn.train.history import EpochRecord, Evaluation, History
from fastcnn.train.interrupt import StopRequest
from fastcnn.train.progress import Progress, make_progress
from fastcnn.train.schedule import EpochSchedule, Schedule, ScheduledRate

Batches = Iterable[tuple[np.ndarray, np.ndarray]]

_EVALUATION_BATCH = 256
_MODEL, _OPTIMIZER = "model.", "optimizer."  # what the names in a trainer's state begin with


class Trainer:
    """Trains a classifier, and answers with it.

    Parameters
    ----------
    model : Module
        Maps images (N, C, H, W) to one number per class (N, K), before any softmax.
    optimizer : SGD, optional
        Of the model's parameters; without one it evaluates and predicts.
    loss : CrossEntropyLoss, optional

    Attributes
    ----------
    history : History
        Of the last `fit`, also when that was interrupted or failed.
    epochs : int
        Passes over the data so far, in all calls of `fit`.

    Raises
    ------
    TypeError
        Model, optimizer or loss is something else.
    ValueError
        None of the optimizer's parameters are the model's. Some that it lacks are a UserWarning.

    Examples
    --------
    >>> import fastcnn
    >>> fastcnn.manual_seed(0)
    >>> model = fastcnn.models.create("lenet5")
    >>> optimizer = fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    >>> trainer = Trainer(model, optimizer, fastcnn.nn.CrossEntropyLoss())
    >>> history = trainer.fit(fastcnn.data.digits(), epochs=3, batch_size=32)
    >>> trainer.evaluate(fastcnn.data.digits(train=False)).accuracy > 0.9
    True
    """

    def __init__(
        self, model: Module, optimizer: SGD | None = None, loss: CrossEntropyLoss | None = None
    ) -> None:
        loss = CrossEntropyLoss() if loss is None else loss
        doors.check_model(model)
        doors.check_loss(loss)
        if optimizer is not None:
            doors.check_optimizer(model, optimizer)
        self._engine = TrainingStep(model, optimizer, loss)
        self._steps = self._epochs = 0  # over all calls of fit()
        self._rate: ScheduledRate | None = None  # while fit() runs
        self._untrained: tuple[str, ...] = ()
        self.history = History()
        self._warn_of_untrained()

    @property
    def model(self) -> Module:
        """The network that is trained."""
        return self._engine.model

    @property
    def loss(self) -> CrossEntropyLoss:
        """What is minimised."""
        loss: CrossEntropyLoss = self._engine.loss
        return loss

    @property
    def optimizer(self) -> SGD | None:
        """May be set, to another one or where there was none."""
        optimizer: SGD | None = self._engine.optimizer
        return optimizer

    @optimizer.setter
    def optimizer(self, optimizer: SGD) -> None:
        doors.check_optimizer(self.model, optimizer)
        if self._rate is not None and optimizer is not self.optimizer:
            self._rate.start_from(optimizer)
        self._engine.optimizer = optimizer
        self._warn_of_untrained()

    @property
    def epochs(self) -> int:
        """Passes over the data so far, in all calls of `fit`."""
        return self._epochs

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The model's: what turns pixels into its input; `fit` sets it to that of its data."""
        preprocessing: Preprocessing | None = self.model.preprocessing
        return preprocessing

    @preprocessing.setter
    def preprocessing(self, preprocessing: Preprocessing | None) -> None:
        self.model.preprocessing = preprocessing

    def __repr__(self) -> str:
        return f"Trainer({type(self.model).__name__}, {self.optimizer}, {self.loss}; epochs: {self._epochs})"

    def _ready(self, what: str) -> SGD:
        optimizer = self.optimizer
        if optimizer is None:
            raise ValueError(
                f"{what}: the Trainer has no optimizer: "
                "Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.01))"
            )
        return optimizer

    def _warn_of_untrained(self) -> None:
        """Once for the same parameters: a new head is another matter than the old body."""
        names = () if self.optimizer is None else doors.untrained(self.model, self.optimizer)
        if names and names != self._untrained:
            warnings.warn(doors.untrained_text(names), UserWarning, stacklevel=3)
        self._untrained = names

    def train_step(self, x: np.ndarray, y: np.ndarray) -> float:
        """One update from one batch, in training mode; the model's own mode stays as it is.

        Parameters
        ----------
        x : numpy.ndarray
            Network input (N, C, H, W), float32.
        y : numpy.ndarray
            Labels (N,), integers.

        Returns
        -------
        float
            The batch's mean loss, before the update.

        Raises
        ------
        FloatingPointError
            The input is not finite (then nothing is changed), or the loss is not.
        """
        return self._step(x, y, "")[0]

    def plan(self, input_shape: tuple[int, ...]) -> Plan:
        """The plan of a whole training step for inputs (N, C, H, W): `describe()` and `profile()` show it."""
        self._ready("Trainer.plan")
        with self._training_mode():
            return self._engine.training_plan(arguments.shape_of("Trainer.plan", input_shape))

    def _training_mode(self) -> contextlib.AbstractContextManager[None]:
        """For one step: a model in training mode may have parts that are not, and those stay so."""
        return contextlib.nullcontext() if self.model.training else self.model.in_mode(True)

    def _step(self, x: np.ndarray, y: np.ndarray, place: str) -> tuple[float, int]:
        engine = self._engine
        optimizer = engine.optimizer or self._ready("Trainer.train_step")
        y = np.asarray(y)
        if y.shape[:1] == (0,):
            raise ValueError("the batch is empty")
        # Before the step: afterwards the weights are lost. It costs half a percent of LeNet-5's step on 64 images.
        if isinstance(x, np.ndarray) and x.dtype == np.float32 and not np.isfinite(x).all():
            first = tuple(np.argwhere(~np.isfinite(x))[0].tolist())
            raise FloatingPointError(
                f"step {self._steps + 1}{place}: there is {x[first]} in the input, at {list(first)}; "
                "nothing was updated from it"
            )
        if engine.model.training:  # with parts that may not be
            loss, correct = engine.step(x, y)
        else:
            with engine.model.in_mode(True):
                loss, correct = engine.step(x, y)
        if engine.loss.reduction == "sum":  # reported is the mean per image
            loss /= len(y)
        self._steps += 1
        if not math.isfinite(loss):
            with self._training_mode():
                where = first_non_finite(engine.model, x)
            raise FloatingPointError(
                f"the loss is {loss} at step {self._steps}{place}; first value that is not finite: {where}; "
                f"the weights have been updated from it; a smaller learning rate than {optimizer.lr:g} may help"
            )
        return loss, correct

    def fit(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 64,
        validation_data: Any = None,
        *,
        epochs: int | None = None,
        validation_split: float = 0.0,
        initial_epoch: int = 0,
        seed: int = 0,
        schedule: str | Schedule | EpochSchedule | None = None,
        progress: bool | None = None,
        verbose: int | str | None = None,
        callbacks: doors.Callback | Iterable[doors.Callback] | None = (),
        on_interrupt: str = "raise",
        shuffle: bool = True,
    ) -> History:
        """Train for a number of passes over the data: ``fit(data, 5)`` or ``fit(x, y, epochs=5)``.

        A second call goes on where the first ended. Ctrl-C ends it after the current step: the model is usable, its
        history is in ``trainer.history``, and KeyboardInterrupt follows. A second Ctrl-C stops at once.

        Parameters
        ----------
        x : Dataset, pair (images, labels), or images
            See `fastcnn.data.ArrayDataset` for what the arrays may be.
        y : array of integers, optional
            Labels (N,) of images ``x``. A number in this place is ``epochs``.
        batch_size : int
            Images per update; the last batch of an epoch may be smaller.
        validation_data : Dataset or pair, optional
            Evaluated after each epoch.
        epochs : int
            Default 1.
        validation_split : float
            Without ``validation_data``: this part (0 to 1) of the images is held out and evaluated after each epoch. As
            in Keras these are the last ones in the order given, before any shuffling: shuffle data that is sorted.
        initial_epoch : int
            So many of the ``epochs`` are done (by an earlier run): only the rest is trained, with the schedule's later
            part, as in Keras.
        seed : int
            Decides order and random changes of the images.
        schedule : str or callable, optional
            Factor on the optimizer's ``lr`` for the part of the training that is done (0 to 1), or a function of
            (epoch, lr) as in Keras; see `fastcnn.train.schedule`. A rate that a callback sets is what the schedule
            multiplies from then on.
        progress : bool, optional
            A bar on stderr where that is a terminal, elsewhere (logs, pipes, notebooks) a line per epoch. By default
            on terminals and in notebooks.
        verbose : 0, 1, 2 or "auto", optional
            Keras' word for it: nothing, a bar, a line per epoch.
        callbacks : callable, or several
            Called with the `EpochRecord` of each whole epoch; training ends after the one for which one returns True.
        on_interrupt : "raise" or "return"
            Whether KeyboardInterrupt follows on Ctrl-C, or the history is returned with ``interrupted`` set.
        shuffle : True
            Keras' word; batches in an order of your own are for `train_step`.

        Returns
        -------
        History

        Raises
        ------
        FloatingPointError
            When the loss is not finite; it names the step and the first layer with such a value. When the input
            is not: before anything is updated from it.
        RuntimeError
            It is called while it runs: from a callback, or from another thread.

        Examples
        --------
        Early stopping with the best weights kept:

        >>> import fastcnn
        >>> digits, held_out = fastcnn.data.digits(), fastcnn.data.digits(train=False)
        >>> model = fastcnn.models.create("lenet5")
        >>> trainer = Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
        >>> best = {"loss": float("inf")}
        >>> def keep_best(record):
        ...     if record.validation.loss < best["loss"]:
        ...         best.update(loss=record.validation.loss, epoch=record.epoch, weights=model.state_dict())
        ...     return record.epoch - best["epoch"] >= 2  # epochs without a better one
        >>> history = trainer.fit(digits, 5, validation_data=held_out, callbacks=keep_best)
        >>> _ = model.load_state_dict(best["weights"])
        """
        optimizer = self._ready("Trainer.fit")
        doors.check_optimizer(self.model, optimizer)
        y, given = doors.labels_or_number(y, "epochs", epochs)
        total = doors.whole("epochs", 1 if given is None else given)
        first = doors.whole("initial_epoch", initial_epoch, least=0)
        batch_size = doors.whole("batch_size", batch_size)
        shown = doors.progress_wanted(progress, verbose)
        called = doors.callback_list(callbacks)
        arguments.only("Trainer.fit", "shuffle", shuffle, True)
        if first >= total:
            raise ValueError(f"initial_epoch must be less than the {total} epochs in all, got {first}")
        if on_interrupt not in ("raise", "return"):
            raise ValueError(f"on_interrupt: expected 'raise' or 'return', got {on_interrupt!r:.80}")
        data = whole = as_dataset(x, self.model.preprocessing, y)
        if len(whole) == 0:
            raise ValueError("there are no images to train on")
        held_out = None
        if validation_split and validation_data is None:
            data, held_out = doors.last_part_apart(whole, validation_split)
        rate = ScheduledRate(optimizer, schedule, first, total, -(-len(data) // batch_size))
        if self._rate is not None:
            raise RuntimeError(
                "Trainer.fit is running: it cannot be called from its callbacks or another thread"
            )
        self._warn_of_untrained()
        if doors.all_frozen(optimizer):
            warnings.warn(doors.FROZEN, UserWarning, stacklevel=2)
        given_out = remember(self.model, whole, validation_data)
        held_out = given_out if held_out is None else held_out
        self._rate, self.history = rate, History()
        try:
            bar = make_progress(shown, total - first, len(data), first_epoch=self._epochs + 1)
            with StopRequest() as stop, bar, rate:
                self._train(data, total - first, batch_size, held_out, seed, called, stop, bar)
            self.history.interrupted = stop.requested
        except KeyboardInterrupt:
            self.history.interrupted = True
            raise
        finally:
            self._rate = None
        if self.history.interrupted and on_interrupt == "raise":
            raise KeyboardInterrupt(
                f"training ended in epoch {self._epochs}; trainer.history has what was done"
            )
        return self.history

    def _train(
        self,
        data: Dataset,
        epochs: int,
        batch_size: int,
        held_out: Any,
        seed: int,
        callbacks: Iterable[doors.Callback],
        stop: StopRequest,
        shown: Progress,
    ) -> None:
        for done in range(epochs):
            feed = batches(data, batch_size, seed=seed, epoch=self._epochs)
            record = self._train_epoch(feed, done * len(data), stop, shown)
            if held_out is not None and not stop.requested:
                begun = time.perf_counter()
                with stop.at_once():
                    measured = self.evaluate(held_out)
                    seconds = time.perf_counter() - begun
                    record = dataclasses.replace(record, validation=measured, validation_seconds=seconds)
            self.history.epochs.append(record)
            shown.epoch(record)
            whole = record.images == len(data) and (held_out is None or record.validation is not None)
            answers = [callback(record) for callback in callbacks] if whole else []
            if stop.requested or any(isinstance(a, (bool, np.bool_)) and a for a in answers):
                break

    def _train_epoch(self, feed: Batches, before: int, stop: StopRequest, shown: Progress) -> EpochRecord:
        """One pass over the batches; ``before``: images of the passes before it, for the progress."""
        assert self._rate is not None and self.optimizer is not None
        loss_sum, correct, images = 0.0, 0, 0
        number = self._epochs + 1
        begun = time.perf_counter()
        for i, (x, y) in enumerate(feed, 1):
            self._rate.before_step()
            loss, right = self._step(x, y, f" (epoch {number}, batch {i})")
            loss_sum += loss * len(y)
            correct += right
            images += len(y)
            shown.step(number, before + images, loss_sum / images, correct / images)
            if stop.requested:
                break
        self._epochs += 1
        return EpochRecord(
            epoch=number,
            loss=loss_sum / images,
            accuracy=correct / images,
            images=images,
            seconds=time.perf_counter() - begun,
            lr=self.optimizer.lr,
        )

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that training goes on from, as copies of arrays by name.

        The model's entries (``model.*``), the optimizer's (``optimizer.*``: numbers, momentum), and the counts of steps
        and epochs, which decide the order of the data. In a callback of a `fit` with a schedule, the learning rate is
        that without the schedule's factor. It is for going on; `fastcnn.save` writes what predicts.

        Examples
        --------
        Two epochs, a file, and two epochs in a new process are four epochs, to the bit. With a schedule, say of how
        many epochs it is: ``trainer.fit(data, 4, schedule="cosine", initial_epoch=trainer.epochs)``.

        >>> import io, numpy, fastcnn
        >>> def new_trainer():
        ...     model = fastcnn.models.create("lenet5")
        ...     return Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
        >>> trainer, file = new_trainer(), io.BytesIO()
        >>> history = trainer.fit(fastcnn.data.digits(), 2)
        >>> numpy.savez(file, **trainer.state_dict())  # "run.npz"
        >>> _ = file.seek(0)
        >>> trainer = new_trainer()
        >>> trainer.load_state_dict(numpy.load(file))
        >>> trainer.fit(fastcnn.data.digits(), 2)[0].epoch
        3
        """
        state = {f"{_MODEL}{name}": value for name, value in self.model.state_dict().items()}
        if self.optimizer is not None:
            numbers = self.optimizer.state_dict()
            state.update({f"{_OPTIMIZER}{name}": value for name, value in numbers.items()})
        return {**state, "steps": np.asarray(self._steps), "epochs": np.asarray(self._epochs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set everything that `state_dict` gives, also from the file that ``numpy.savez`` made of it; all or nothing.

        Raises
        ------
        ValueError
            Entries are missing, unexpected, or do not fit model and optimizer.
        RuntimeError
            `fit` is running.
        """
        if self._rate is not None:
            raise RuntimeError(
                "Trainer.load_state_dict: fit is running (weights alone: model.load_state_dict)"
            )
        of = {prefix: _under(prefix, state) for prefix in (_MODEL, _OPTIMIZER)}
        missing = [name for name in ("steps", "epochs") if name not in state]
        unexpected = [
            k for k in state if not k.startswith((_MODEL, _OPTIMIZER)) and k not in ("steps", "epochs")
        ]
        if missing or unexpected:
            raise ValueError(
                f"Trainer.load_state_dict: expected what Trainer.state_dict gave; missing: {', '.join(missing)}; "
                f"unexpected: {', '.join(unexpected):.200}"
            )
        steps, epochs = (doors.whole(name, np.asarray(state[name])[()], 0) for name in ("steps", "epochs"))
        if (self.optimizer is None) != (not of[_OPTIMIZER]):
            having, lacking = ("state", "Trainer") if self.optimizer is None else ("Trainer", "state")
            raise ValueError(
                f"Trainer.load_state_dict: the {having} has an optimizer, the {lacking} has none"
            )
        checked = None if self.optimizer is None else self.optimizer.checked_state(of[_OPTIMIZER])
        self.model.load_state_dict(of[_MODEL])
        if self.optimizer is not None and checked is not None:
            self.optimizer.apply_state(*checked)
        self._steps, self._epochs = steps, epochs

    def evaluate(
        self, data: Any, y: Any = None, batch_size: int | None = None, verbose: int | str = 0
    ) -> Evaluation:
        """Mean loss and accuracy over a data set, a pair (images, labels), or images and their labels ``y``.

        A number in the place of ``y`` is ``batch_size`` (default 256). With ``verbose`` they are printed too.
        """
        y, given = doors.labels_or_number(y, "batch_size", batch_size)
        batch_size = _EVALUATION_BATCH if given is None else doors.whole("batch_size", given)
        dataset = self._dataset(data, y)
        if len(dataset) == 0:
            raise ValueError("there are no images to evaluate on")
        loss_sum, correct = 0.0, 0
        with self.model.in_mode(False):
            for x, y in batches(dataset, batch_size):
                loss, right = self._engine.evaluate_batch(x, y)
                loss_sum += loss
                correct += right
        measured = Evaluation(loss_sum / len(dataset), correct / len(dataset))
        if verbose:
            print(f"loss {measured.loss:.4f}  accuracy {100 * measured.accuracy:.2f} %")
        return measured

    def predict_proba(self, images: Any, batch_size: int = _EVALUATION_BATCH) -> np.ndarray:
        """Probability of each class (N, K), float32.

        Parameters
        ----------
        images : data set, array, path, Pillow image, or list of these
            See `fastcnn.data.inputs.probabilities`: uint8 pixels are normalised as the training data was, float32
            is taken as network input, files and pictures of another size are brought to the network's input.
        batch_size : int
        """
        return probabilities(self.model, images, batch_size)

    def predict(self, images: Any, batch_size: int = _EVALUATION_BATCH) -> np.ndarray:
        """The most probable class of each image (N,), int64; see `predict_proba`."""
        return self.predict_proba(images, batch_size).argmax(axis=1)

    def _dataset(self, data: Any, labels: Any = None) -> Dataset:
        """What is given to evaluate on, as the model reads it."""
        return for_model(self.model, data, labels)


def _under(prefix: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}
