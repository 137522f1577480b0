import numpy as np

import fastcnn

train = fastcnn.data.digits()
model = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))

# %% as in every tutorial
x = train.images / 255.0
trainer.fit(x, train.labels)
# raises: TypeError: images must be uint8 or float32, got float64; use images.astype(numpy.float32),
#   scaled as the network is to see them

# %%
model(x)
# raises: TypeError: Sequential: expected a float32 array for input, got float64 (input 1442x1x28x28);
#   convert it with input.astype(numpy.float32)

# %%
trainer.predict(x)
# raises: TypeError: images must be uint8 or float32, got float64; use images.astype(numpy.float32),
#   scaled as the network is to see them

# %%
model(train.images)
# raises: TypeError: Sequential: expected a float32 array for input, got uint8 (input 1442x1x28x28);
#   convert it with input.astype(numpy.float32) and scale it as in training (model.predict takes pixels)

# %%
x = x.astype(np.float32)
x[700] = np.nan
trainer.fit(x, train.labels, epochs=2, batch_size=32)
# raises: FloatingPointError: step 11 (epoch 1, batch 11): there is nan in the input, at [27, 0, 0, 0];
#   nothing was updated from it

# %% what was learned before it is there
print(all(np.isfinite(value).all() for value in model.state_dict().values()))
# prints: True

# %%
model.eval()
print(np.isnan(model(x)).any(axis=1).nonzero()[0])
# prints: [700]

# %% pixels for a network that was trained on floats
x = train.images.astype(np.float32) / 255
trainer.fit(x, train.labels, epochs=1)

# %%
trainer.predict(train.images)
# raises: ValueError: the model has a preprocessing for float32 input, so it does not know what uint8
#   pixels become: set model.preprocessing = fastcnn.data.Preprocessing(scale=..., mean=..., std=...) as in
#   its training, train it with fit on uint8 images, or give float32 network input

# %% and as the message says
model.preprocessing = fastcnn.data.Preprocessing(scale=1 / 255)
print((trainer.predict(train.images) == model.predict(x)).all())
# prints: True

# %% floats for a network that normalises
normal = fastcnn.data.Preprocessing(scale=1 / 255, mean=(0.13,), std=(0.31,))
model.preprocessing = normal
model.predict(x)
# warns: UserWarning: float32 images are taken as network input as they are; these lie within 0..1, while
#   the model's preprocessing for uint8 pixels also normalises (mean (0.13,), std (0.31,)): give the uint8
#   pixels, or images normalised like them
