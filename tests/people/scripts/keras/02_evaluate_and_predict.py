import numpy as np

import fastcnn

digits, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)
x_test, y_test = test.images, test.labels
fastcnn.manual_seed(0)
model = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
trainer.fit(digits.images, digits.labels, epochs=3, batch_size=32)

# %%
loss, accuracy = trainer.evaluate(x_test, y_test)
print(0 < loss < 1, accuracy > 0.85)
# prints: True True

# %%
score = trainer.evaluate(x_test, y_test, verbose=0)
print(score[1] == accuracy)
# prints: True

# %%
trainer.evaluate(x_test, y_test, verbose=1)
# prints: loss ... accuracy

# %% probabilities are predict_proba here
p = trainer.predict_proba(x_test)
print(p.shape, np.allclose(p.sum(axis=1), 1), (p.argmax(axis=1) == trainer.predict(x_test)).all())
# prints: (355, 10) True True

# %% what predict gives are classes
print((trainer.predict(x_test) == y_test).mean() == accuracy)
# prints: True

# %% of the model itself
print(np.array_equal(model.predict(x_test), trainer.predict(x_test)))
# prints: True

# %%
model.evaluate(x_test, y_test)
# raises: AttributeError: Sequential has no attribute 'evaluate' (here: fastcnn.Trainer(model, optimizer)
#   has fit and evaluate)

# %% fit's validation is the same figure
history = trainer.fit(digits.images, digits.labels, epochs=1, validation_data=(x_test, y_test))
print(history["val_accuracy"][0] == trainer.evaluate(x_test, y_test).accuracy)
# prints: True

# %% also when the pixels are normalised
normalised = fastcnn.Trainer(fastcnn.models.create("lenet5"))
normalised.optimizer = fastcnn.optim.SGD(normalised.model.parameters(), lr=0.05, momentum=0.9)
history = normalised.fit(digits, epochs=4, batch_size=32, validation_data=(x_test, y_test))
print(normalised.preprocessing.mean != (0.0,), history["val_accuracy"][-1] > 0.85)
print(
    history["val_accuracy"][-1]
    == normalised.evaluate(x_test, y_test).accuracy
    == normalised.evaluate(test).accuracy
)
print((normalised.predict(x_test) == y_test).mean() == history["val_accuracy"][-1])
# prints: True True
# prints: True
# prints: True

# %%
trainer.evaluate(x_test)
# raises: TypeError: expected a data set or a pair (images, labels), got ndarray without labels: give
#   (images, labels)

# %%
trainer.evaluate(x_test, np.eye(10)[y_test])
# raises: TypeError: labels must be integers, got float64; of one-hot rows labels.argmax(axis=1) are the
#   labels
