"""The training loop over a data set. The step itself is one call into the engine."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn.data.arrays import ArrayDataset, Dataset, Preprocessing, as_dataset, batches
from fastcnn.nn import CrossEntropyLoss, Module
from fastcnn.nn.engine import TrainingStep, first_non_finite
from fastcnn.optim import SGD
from fastcnn.plan import Plan
from fastcnn.train.history import EpochRecord, Evaluation, History
from fastcnn.train.interrupt import StopRequest
from fastcnn.train.progress import Progress, make_progress
from fastcnn.train.schedule import Schedule

Callback = Callable[[EpochRecord], Any]
Batches = Iterable[tuple[np.ndarray, np.ndarray]]

_EVALUATION_BATCH = 256


class Trainer:
    """Trains a classifier, and answers with it.

    Parameters
    ----------
    model : Module
        Maps images (N, C, H, W) to one number per class (N, K), before any softmax.
    optimizer : SGD
        Of the model's parameters.
    loss : CrossEntropyLoss, optional

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

    def __init__(self, model: Module, optimizer: SGD, loss: CrossEntropyLoss | None = None) -> None:
        _check_belong(model, optimizer)
        self.model = model
        self.optimizer = optimizer
        self.preprocessing: Preprocessing | None = None  # of the data that fit() saw
        self._engine = TrainingStep(model, optimizer, CrossEntropyLoss() if loss is None else loss)
        self._steps = self._epochs = 0  # over all calls of fit()

    def train_step(self, x: np.ndarray, y: np.ndarray) -> float:
        """One update from one batch.

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
            When the loss is not finite.
        """
        return self._step(x, y, "")[0]

    def plan(self, input_shape: tuple[int, ...]) -> Plan:
        """The plan of a whole training step for inputs (N, C, H, W): `describe()` and `profile()` show it.

        The model is in training mode afterwards, and `profile()` updates it with random data: profile a copy.
        """
        return self._engine.training_plan(tuple(input_shape))

    def _step(self, x: np.ndarray, y: np.ndarray, place: str) -> tuple[float, int]:
        if len(y) == 0:
            raise ValueError("the batch is empty")
        loss, correct = self._engine.step(x, y)
        if self._engine.loss.reduction == "sum":  # reported is the mean per image
            loss /= max(len(y), 1)
        self._steps += 1
        if not math.isfinite(loss):
            where = first_non_finite(self.model, x) if np.isfinite(x).all() else "in the input"
            raise FloatingPointError(
                f"the loss is {loss} at step {self._steps}{place}; first value that is not finite: {where}; "
                f"the weights have been updated from it; a smaller learning rate than {self.optimizer.lr:g} may help"
            )
        return loss, correct

    def fit(
        self,
        train: Any,
        epochs: int,
        batch_size: int = 64,
        validation_data: Any = None,
        *,
        seed: int = 0,
        schedule: Schedule | None = None,
        progress: bool | None = None,
        callbacks: Iterable[Callback] = (),
        on_interrupt: str = "raise",
    ) -> History:
        """Train for a number of passes over the data.

        Ctrl-C ends it after the current step; the model is then usable and the history says so. A second call
        goes on where the first ended.

        Parameters
        ----------
        train : Dataset, or a pair (images, labels)
            See `fastcnn.data.ArrayDataset` for what the arrays may be.
        epochs : int
        batch_size : int
            Images per update; the last batch of an epoch may be smaller.
        validation_data : Dataset or pair, optional
            Evaluated after each epoch.
        seed : int
            Decides order and random changes of the images.
        schedule : callable, optional
            Factor on the optimizer's `lr` for the part of the training that is done (0 to 1).
        progress : bool, optional
            A bar on stderr where that is a terminal, elsewhere (logs, pipes, notebooks) a line per epoch. By
            default on terminals and in notebooks.
        callbacks : iterable of callables
            Called with each `EpochRecord`; training ends after the epoch for which one returns True.
        on_interrupt : "raise" or "return"

        Returns
        -------
        History

        Raises
        ------
        FloatingPointError
            When the loss is not finite; it names the step and the first layer with such a value.
        """
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        data = as_dataset(train)
        held_out = None if validation_data is None else as_dataset(validation_data)
        if len(data) == 0:
            raise ValueError("there are no images to train on")
        self.preprocessing = data.preprocessing
        history, callbacks, base_lr = History(), list(callbacks), self.optimizer.lr
        steps_done = itertools.count()

        def set_lr() -> None:
            if schedule is not None:
                steps = epochs * -(-len(data) // batch_size)
                self.optimizer.lr = base_lr * schedule(next(steps_done) / steps)

        with StopRequest() as stop, make_progress(progress, epochs, len(data), self._epochs + 1) as shown:
            try:
                for done in range(epochs):
                    feed = batches(data, batch_size, seed=seed, epoch=self._epochs)
                    record = self._train_epoch(feed, done * len(data), set_lr, stop, shown)
                    if held_out is not None and not stop.requested:
                        begun = time.perf_counter()
                        measured = self.evaluate(held_out)
                        seconds = time.perf_counter() - begun
                        record = dataclasses.replace(record, validation=measured, validation_seconds=seconds)
                    history.epochs.append(record)
                    shown.epoch(record)
                    history.interrupted = stop.requested
                    if any([callback(record) is True for callback in callbacks]) or stop.requested:
                        break
            finally:
                self.optimizer.lr = base_lr
        return history

    def _train_epoch(
        self, feed: Batches, before: int, set_lr: Callable[[], None], stop: StopRequest, shown: Progress
    ) -> EpochRecord:
        """One pass over the batches; ``before``: images of the passes before it, for the progress."""
        loss_sum, correct, images = 0.0, 0, 0
        number = self._epochs + 1
        begun = time.perf_counter()
        with self.model.in_mode(True):
            for i, (x, y) in enumerate(feed, 1):
                set_lr()
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

    def evaluate(self, data: Any, batch_size: int = _EVALUATION_BATCH) -> Evaluation:
        """Mean loss and accuracy over a data set or a pair (images, labels)."""
        dataset = self._dataset(data)
        if len(dataset) == 0:
            raise ValueError("there are no images to evaluate on")
        loss_sum, correct = 0.0, 0
        with self.model.in_mode(False):
            for x, y in batches(dataset, batch_size):
                loss, right = self._engine.evaluate_batch(x, y)
                loss_sum += loss
                correct += right
        return Evaluation(loss_sum / len(dataset), correct / len(dataset))

    def predict_proba(self, images: Any, batch_size: int = _EVALUATION_BATCH) -> np.ndarray:
        """Probability of each class (N, K), float32.

        Parameters
        ----------
        images : Dataset or numpy.ndarray
            (N, C, H, W) or (N, H, W): uint8 pixels are normalised as the training data was, float32 is taken
            as network input.
        batch_size : int
        """
        dataset = self._dataset(images)
        with self.model.in_mode(False):
            scores = [self.model(x) for x, _ in batches(dataset, batch_size)]
        if not scores:
            raise ValueError("there are no images to predict")
        return functional.softmax(np.concatenate(scores))

    def predict(self, images: Any, batch_size: int = _EVALUATION_BATCH) -> np.ndarray:
        """The most probable class of each image (N,), int64; see `predict_proba`."""
        return self.predict_proba(images, batch_size).argmax(axis=1)

    def _dataset(self, data: Any) -> Dataset:
        """Data sets as they are; arrays with what `fit` learned about pixels."""
        if isinstance(data, np.ndarray):
            data = (data, np.zeros(len(data), np.int64))
        if not isinstance(data, (tuple, list)):
            return as_dataset(data)
        images = np.asarray(data[0])
        known = self.preprocessing if images.dtype == np.uint8 else None
        return ArrayDataset(images, data[1], preprocessing=known)


def _check_belong(model: Any, optimizer: Any) -> None:
    """The optimizer is one whose step the plan contains, and updates this model."""
    for what, given, kind in (("model", model, Module), ("optimizer", optimizer, SGD)):
        if not isinstance(given, kind):
            raise TypeError(f"Trainer: expected a {kind.__name__} as {what}, got {given!r:.80}")
    if type(optimizer).step is not SGD.step:
        raise TypeError(
            f"Trainer: {type(optimizer).__name__} has a step() of its own, which a planned step would not call; "
            "go layer by layer: model(x), loss.backward(), model.backward(dy), optimizer.step()"
        )
    own = {id(p) for p in model.parameters()}
    if own and not own & {id(p) for p in optimizer.parameters}:
        raise ValueError(
            "Trainer: none of the optimizer's parameters belong to the model (was the model made anew?); make the "
            "optimizer of model.parameters()"
        )
