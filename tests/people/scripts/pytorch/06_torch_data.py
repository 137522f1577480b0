import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fastcnn

digits = fastcnn.data.digits()


class Digits(Dataset):
    def __init__(self, train=True):
        self.data = fastcnn.data.digits(train)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return torch.from_numpy(self.data.images[i].astype(np.float32) / 255), int(self.data.labels[i])


def trainer():
    fastcnn.manual_seed(0)
    model = fastcnn.models.create("lenet5")
    return fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


# %% a data set of torch
t = trainer()
history = t.fit(Digits(), epochs=2, batch_size=32, validation_data=Digits(train=False))
print(
    history["val_accuracy"][-1] > 0.8, t.evaluate(Digits(train=False)).accuracy == history["val_accuracy"][-1]
)
# prints: True True

# %% the same numbers as from arrays
pair = digits.images.astype(np.float32) / 255, digits.labels
print(trainer().fit(pair, epochs=2, batch_size=32)["loss"] == history["loss"])
# prints: True

# %% of tensors
tensors = TensorDataset(torch.from_numpy(pair[0]), torch.from_numpy(pair[1]))
print(trainer().fit(tensors, epochs=2, batch_size=32)["loss"] == history["loss"])
# prints: True

# %%
trainer().fit(DataLoader(tensors, batch_size=32, shuffle=True), epochs=2)
# raises: TypeError: expected a data set or a pair (images, labels), got DataLoader, which makes batches
#   itself: give its data set, loader.dataset (fit shuffles and batches)

# %% as the message says
loader = DataLoader(tensors, batch_size=32, shuffle=True)
print(trainer().fit(loader.dataset, epochs=2, batch_size=32)["loss"] == history["loss"])
# prints: True

# %%
trainer().fit(((x, y) for x, y in tensors), epochs=2)
# raises: TypeError: expected a data set or a pair (images, labels), got generator: a data set needs
#   __len__, and __getitem__ that gives pairs (image, label)

# %% a loader in a loop of one's own
model = fastcnn.models.create("lenet5")
t = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
for x, y in DataLoader(tensors, batch_size=64):
    loss = t.train_step(x.numpy(), y.numpy())
print(loss < 2.3)
# prints: True

# %% and tensors as they come
for x, y in DataLoader(tensors, batch_size=64):
    loss = t.train_step(x, y)
print(loss < 2.3)
# prints: True

# %% labels as floats, from a data frame
trainer().fit(TensorDataset(torch.from_numpy(pair[0]), torch.from_numpy(pair[1]).float()), epochs=1)
# raises: TypeError: items of the data set: expected an integer as label, got float32 of shape (); use
#   labels.astype(int)
