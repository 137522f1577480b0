import numpy as np

import fastcnn

digits, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)
x_train, y_train = digits.images, digits.labels
fastcnn.manual_seed(0)
model = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))

# %%
history = trainer.fit(x_train, y_train, epochs=3, batch_size=32, validation_split=0.1, verbose=2)
# prints: epoch 1/3 ... epoch 2/3 ... epoch 3/3

# %%
print(sorted(history.history.keys()))
# prints: ['accuracy', 'loss', 'lr', 'val_accuracy', 'val_loss']

# %%
print(len(history.history["val_accuracy"]), history.history["val_accuracy"][-1] > 0.8)
# prints: 3 True

# %% the last tenth, in the order given, was held out
print(history.epochs[0].images == int(len(x_train) * 0.9))
print(abs(trainer.evaluate(x_train[1297:], y_train[1297:]).accuracy - history["val_accuracy"][-1]) < 1e-12)
# prints: True
# prints: True

# %%
history["acc"]
# raises: KeyError: "history: expected one of loss, accuracy, val_loss, val_accuracy, lr, got 'acc'"

# %% silent
trainer.fit(x_train, y_train, epochs=1, verbose=0)
# prints: <History: 1 epoch in

# %%
trainer.fit(x_train, y_train, epochs=1, verbose=3)
# raises: ValueError: verbose: expected 0, 1, 2 or 'auto', got 3

# %%
trainer.fit(x_train, y_train, epochs=1, validation_split=10)
# raises: ValueError: validation_split: expected a part above 0 and below 1, got 10

# %%
trainer.fit(x_train, y_train, 1, 32)
# raises: TypeError: validation_data: expected a data set or a pair (images, labels), got int

# %%
trainer.fit(x_train, y_train, epochs=1, shuffle=True)
# prints: <History: 1 epoch in

# %%
trainer.fit(x_train, y_train, epochs=1, shuffle=False)
# raises: ValueError: Trainer.fit: shuffle can only be True here, got False

# %%
trainer.fit(x_train, y_train, epochs=1, validation_data=(test.images, test.labels))
# prints: held-out accuracy

# %%
model.compile(optimizer="sgd", loss="categorical_crossentropy", metrics=["accuracy"])
# raises: AttributeError: Sequential has no attribute 'compile' (here: fastcnn.Trainer(model, optimizer)
#   has fit and evaluate)

# %%
model.fit(x_train, y_train, epochs=1)
# raises: AttributeError: Sequential has no attribute 'fit' (here: fastcnn.Trainer(model, optimizer) has
#   fit and evaluate)
