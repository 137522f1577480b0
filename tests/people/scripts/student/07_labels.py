import numpy as np

import fastcnn

train = fastcnn.data.digits()
images, labels = train.images[:200], train.labels[:200]


def trainer():
    fastcnn.manual_seed(0)
    model = fastcnn.models.create("lenet5")
    return fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))


# %%
trainer().fit(images, np.eye(10)[labels])
# raises: TypeError: labels must be integers, got float64; of one-hot rows labels.argmax(axis=1) are the
#   labels

# %%
trainer().fit(images, labels[:, None])
# raises: ValueError: expected 200 labels, one per image, got shape (200, 1); use labels.ravel()

# %%
trainer().fit(images, labels.astype(float))
# raises: TypeError: labels must be integers, got float64; use labels.astype(int)

# %%
trainer().fit(images, labels.astype(str))
# raises: TypeError: labels must be integers, got <U21; use classes, labels = numpy.unique(labels,
#   return_inverse=True)

# %%
trainer().fit(images, [f"digit {i}" for i in labels])
# raises: TypeError: labels must be integers, got <U7; use classes, labels = numpy.unique(labels,
#   return_inverse=True)

# %%
trainer().fit(images, labels + 1)
# raises: ValueError: labels: expected 0 to 9, got labels[3] = 10

# %%
trainer().fit(images, labels[:-1])
# raises: ValueError: expected 200 labels, one per image, got shape (199,)

# %%
trainer().fit(images)
# raises: TypeError: expected a data set or a pair (images, labels), got ndarray without labels: give
#   (images, labels)

# %% in a loop of one's own
x = images.astype(np.float32) / 255
step = trainer().train_step

# %%
step(x, np.eye(10, dtype=np.float32)[labels])
# raises: TypeError: labels: expected integers, got float32; of one-hot rows labels.argmax(axis=1) are the
#   labels

# %%
step(x, [0.7] * 200)
# raises: TypeError: labels: expected integers, got float64; they are not whole numbers: is this a
#   regression?

# %%
step(x, labels.astype(str))
# raises: TypeError: labels: expected integers, got <U21; use classes, labels = numpy.unique(labels,
#   return_inverse=True)

# %%
step(x, np.full(200, np.nan))
# raises: TypeError: labels: expected integers, got float64; they are not whole numbers: is this a
#   regression?

# %%
criterion = fastcnn.nn.CrossEntropyLoss()
criterion(np.zeros((200, 10), np.float32), np.eye(10)[labels])
# raises: TypeError: CrossEntropyLoss: expected integer labels, got float64 (labels 200x10); of one-hot
#   rows labels.argmax(axis=1) are the labels

# %%
criterion(labels, np.zeros((200, 10), np.float32))
# raises: TypeError: CrossEntropyLoss: expected a float32 array for logits, got int64 (logits 200);
#   convert it with logits.astype(numpy.float32)

# %% lists and small integers are labels
t = trainer()
print(
    t.fit(images, labels.tolist()).history["loss"] == trainer().fit(images, labels.astype(np.uint8))["loss"]
)
# prints: True
