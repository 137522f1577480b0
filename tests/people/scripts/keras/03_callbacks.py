import fastcnn

digits, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)
model = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))

# %% a function
trainer.fit(digits, 2, callbacks=lambda record: print(record.epoch, record.accuracy > 0.1))
# prints: 1 True ... 2 True

# %% several, of which one stops
history = trainer.fit(digits, 5, callbacks=[lambda record: None, lambda record: record.epoch >= 4])
print(len(history))
# prints: 2

# %% print returns None and does not stop it
print(len(trainer.fit(digits, 2, callbacks=[print])))
# prints: EpochRecord(epoch=5 ... EpochRecord(epoch=6 ... 2


# %% as Keras has them
class EarlyStopping:
    def __init__(self, monitor="val_loss", patience=0):
        self.monitor, self.patience = monitor, patience

    def set_model(self, model):
        self.model = model

    def on_epoch_end(self, epoch, logs=None):
        pass


trainer.fit(digits, 2, callbacks=[EarlyStopping(patience=3)])
# raises: TypeError: callbacks: expected functions that take an EpochRecord, got EarlyStopping (early
#   stopping, best weights: see the examples of Trainer.fit)

# %%
trainer.fit(digits, 2, callbacks=[EarlyStopping])
# raises: TypeError: callbacks: expected functions that take an EpochRecord, got the class EarlyStopping
#   (early stopping, best weights: see the examples of Trainer.fit)

# %%
fastcnn.callbacks.EarlyStopping(patience=3)
# raises: AttributeError: fastcnn has no callbacks (here: fit's callbacks= takes functions, as in the
#   example of Trainer.fit); names: History

# %%
fastcnn.train.EarlyStopping(patience=3)
# raises: AttributeError: fastcnn.train has no EarlyStopping (here: callbacks=, as in the example of
#   Trainer.fit); names: SCHEDULES

# %% an error in a callback is that error
trainer.fit(digits, 2, callbacks=lambda record: 1 / 0)
# raises: ZeroDivisionError: division by zero

# %% of two arguments
trainer.fit(digits, 2, callbacks=lambda epoch, logs: None)
# raises: TypeError: callbacks: expected functions that take an EpochRecord, got one of (epoch, logs)

# %% fit inside of fit
trainer.fit(digits, 2, callbacks=lambda record: trainer.fit(digits, 1))
# raises: RuntimeError: Trainer.fit is running: it cannot be called from its callbacks or another thread

# %% the trainer goes on after all that
print(len(trainer.fit(digits, 1)))
# prints: 1
