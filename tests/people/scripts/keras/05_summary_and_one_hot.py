import numpy as np

import fastcnn
from fastcnn import nn

digits = fastcnn.data.digits()
one_hot = np.eye(10)[digits.labels]
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 10))
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))

# %%
model.summary()
# raises: TypeError: summary: expected an input shape such as (1, 28, 28), or an array of that shape, got
#   None

# %%
model.summary((1, 28, 28))
# prints: layer kind output shape ... 0 Conv2d 1x8x26x26 80 ... 3 Linear 1x10 54,090 ... 54,170 parameters

# %%
model.summary(input_shape=(28, 28, 1))
# raises: ValueError: Conv2d '0': expected 1 input channels, got 28 (input 1x28x28x1, weight 8x1x3x3);
#   images are (N, C, H, W): if this is (N, H, W, C), use x.transpose(0, 3, 1, 2)

# %%
trainer.fit(digits.images, one_hot, epochs=1)
# raises: TypeError: labels must be integers, got float64; of one-hot rows labels.argmax(axis=1) are the
#   labels

# %%
print(trainer.fit(digits.images, one_hot.argmax(axis=1), epochs=1)["accuracy"][0] > 0.3)
# prints: True

# %% now it knows the shape
model.summary()
# prints: 54,170 parameters

# %% probabilities out of the network
nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax())
# raises: AttributeError: fastcnn.nn has no Softmax (here: F.softmax (in training it is part of
#   nn.CrossEntropyLoss)); layers: AdaptiveAvgPool2d

# %%
nn.Dense(10, activation="softmax")
# raises: AttributeError: fastcnn.nn has no Dense (here: nn.Linear); layers: AdaptiveAvgPool2d

# %%
nn.Conv2d(1, 8, 3, activation="relu")
# raises: TypeError: Conv2d.__init__() got an unexpected keyword argument 'activation'

# %%
nn.Conv2d(8, (3, 3))
# raises: TypeError: Conv2d.__init__() missing 1 required positional argument: 'kernel_size'

# %%
nn.Input((28, 28, 1))
# raises: AttributeError: fastcnn.nn has no Input; layers: AdaptiveAvgPool2d

# %%
model.count_params()
# raises: AttributeError: Sequential has no attribute 'count_params' (here: parameter_count())

# %%
model.save("model.h5")
print(fastcnn.load("model.h5").parameter_count())
# warns: UserWarning: model.h5: written as safetensors, which Keras does not read
# prints: 54170

# %%
with open("keras.h5", "wb") as f:
    f.write(b"\x89HDF\r\n\x1a\n" + bytes(100))
fastcnn.load("keras.h5")
# raises: ValueError: keras.h5: not a safetensors file (a Keras file: give its arrays, transposed as
#   needed, to model.load_state_dict)
