import glob

import fastcnn

model = fastcnn.models.create("lenet5")
fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05)).fit(fastcnn.data.digits(), 1, 64)

# %%
fastcnn.save("lenet.safetensors", model)
# raises: TypeError: save: expected the model first, then the path: save(model, path)

# %%
fastcnn.save(model.state_dict(), "lenet.safetensors")
# raises: TypeError: save: expected save(model, path), got dict; of a state_dict no architecture is known:
#   pass the model

# %%
fastcnn.save(model)
# raises: TypeError: save() missing 1 required positional argument: 'path'

# %%
model.save()
# raises: TypeError: Module.save() missing 1 required positional argument: 'path'

# %%
model.save("models/lenet.safetensors")
# raises: FileNotFoundError: [Errno 2] give a name in a folder that exists: 'models/lenet.safetensors'

# %%
model.save("lenet.safetensors", classes=["cat", "dog"])
# raises: ValueError: save: 2 class names for a network with 10 outputs

# %%
model.save("lenet.safetensors", input_shape=(28, 28))
# raises: ValueError: save: the network does not read inputs of shape 28x28: Conv2d '0': expected input
#   (N, C, H, W) and weight (OC, IC / groups, KH, KW), got input 2x28x28, weight 6x1x5x5; x[:, None] adds
#   the channel

# %%
fastcnn.load(model)
# raises: TypeError: load: expected the path of a model file, got Sequential

# %%
fastcnn.load("lenet.safetensor")
# raises: FileNotFoundError: [Errno 2] No such file or directory: 'lenet.safetensor'

# %%
fastcnn.load_weights("lenet.safetensors", model)
# raises: TypeError: load_weights: expected the model first, then the path: load_weights(model, path)

# %%
print(glob.glob("*lenet.*"))
# prints: []

# %% the right way
fastcnn.save(model, "lenet.safetensors")
loaded = fastcnn.load("lenet.safetensors")
x = fastcnn.data.digits(train=False)
print((loaded.predict(x) == model.predict(x)).all(), len(loaded.classes))
# prints: True 10
