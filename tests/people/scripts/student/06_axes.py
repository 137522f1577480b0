import numpy as np

import fastcnn

model = fastcnn.models.create("lenet5")
train = fastcnn.data.digits()
images, labels = train.images.astype(np.float32) / 255, train.labels

# %% channels last
model(images.transpose(0, 2, 3, 1))
# raises: ValueError: Conv2d '0': expected 1 input channels, got 28 (input 1442x28x28x1, weight 6x1x5x5);
#   images are (N, C, H, W): if this is (N, H, W, C), use x.transpose(0, 3, 1, 2)

# %% one image
model(images[0])
# raises: ValueError: Conv2d '0': expected input (N, C, H, W) and weight (OC, IC / groups, KH, KW), got
#   input 1x28x28, weight 6x1x5x5; x[None] adds the batch

# %% one image without a channel
model(images[0, 0])
# raises: ValueError: Conv2d '0': expected input (N, C, H, W) and weight (OC, IC / groups, KH, KW), got
#   input 28x28, weight 6x1x5x5; of a single image (H, W) x[None, None] is a batch, of flat images (N, H *
#   W) x.reshape(-1, 1, H, W)

# %% a batch without channels
model(images[:, 0])
# raises: ValueError: Conv2d '0': expected input (N, C, H, W) and weight (OC, IC / groups, KH, KW), got
#   input 1442x28x28, weight 6x1x5x5; x[:, None] adds the channel

# %% flat, as from a CSV file
model(images.reshape(len(images), 784))
# raises: ValueError: Conv2d '0': expected input (N, C, H, W) and weight (OC, IC / groups, KH, KW), got
#   input 1442x784, weight 6x1x5x5; of a single image (H, W) x[None, None] is a batch, of flat images (N, H
#   * W) x.reshape(-1, 1, H, W)

# %% to fit as well
trainer = fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05))
trainer.fit(images.transpose(0, 2, 3, 1), labels)
# raises: ValueError: Conv2d '0': expected 1 input channels, got 28 (input 2x28x28x1, weight 6x1x5x5);
#   images are (N, C, H, W): if this is (N, H, W, C), use x.transpose(0, 3, 1, 2)

# %%
trainer.fit(images.reshape(len(images), 784), labels)
# raises: ValueError: Conv2d '0': expected input (N, C, H, W) and weight (OC, IC / groups, KH, KW), got
#   input 2x784, weight 6x1x5x5; of a single image (H, W) x[None, None] is a batch, of flat images (N, H *
#   W) x.reshape(-1, 1, H, W)

# %%
trainer.fit(images[0], labels)
# raises: ValueError: expected 1 labels, one per image, got shape (1442,)

# %% colour where grey is wanted
model(np.repeat(images[:4], 3, axis=1))
# raises: ValueError: Conv2d '0': expected 1 input channels, got 3 (input 4x3x28x28, weight 6x1x5x5)

# %% as the messages say
print(model(images[0][None]).shape, model(images[:, 0][:, None]).shape)
print(model(images.reshape(-1, 784).reshape(-1, 1, 28, 28)).shape)
# prints: (1, 10) (1442, 10) ... (1442, 10)

# %% to predict, a picture may come as it lies
trainer.fit(train, 1)
print(trainer.predict(images[0]).shape, trainer.predict(train.images[3, 0]).shape)
# prints: (1,) (1,)
# warns: UserWarning: float32 images are taken as network input as they are; these lie within 0..1, while
#   the model's preprocessing for uint8 pixels also normalises (mean (0.1573,), std (0.293,)): give the
#   uint8 pixels, or images normalised like them
