import json
import os
import pickle

import numpy as np
from PIL import Image

import fastcnn

with open("lenet5-digits.safetensors", "rb") as f:
    whole = f.read()
Image.fromarray(fastcnn.data.digits().images[5, 0]).resize((90, 90)).save("scan.png")

# %% the copy broke off: in the arrays, in the header, before it
for count in (len(whole) // 2, 500, 5, 0):
    with open("half.safetensors", "wb") as f:
        f.write(whole[:count])
    try:
        fastcnn.load("half.safetensors")
    except ValueError as e:
        print(e)
# prints: half.safetensors: not a safetensors file (Error while deserializing: incomplete metadata
# prints: half.safetensors: not a safetensors file (Error while deserializing: invalid header length)
# prints: half.safetensors: not a safetensors file (Error while deserializing: header too small)
# prints: half.safetensors: not a safetensors file (it is empty)

# %%
os.system("fastcnn predict half.safetensors scan.png; echo status $?")
# prints: fastcnn: half.safetensors: not a safetensors file (it is empty) status 1

# %% a byte was changed: nothing worse than a refusal
told = []
for place in range(0, 2000, 100):
    with open("changed.safetensors", "wb") as f:
        f.write(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    try:
        fastcnn.load("changed.safetensors")
    except ValueError as e:
        told.append(str(e).startswith("changed.safetensors: ") and len(str(e)) < 300)
print(len(told) > 10, all(told))
# prints: True True

# %% pickles of others
with open("model.pkl", "wb") as f:
    pickle.dump({"a": 1}, f, protocol=2)
with open("net.pth", "wb") as f:
    f.write(b"PK\x03\x04" + bytes(100))
os.system("fastcnn predict net.pth scan.png; fastcnn predict model.pkl scan.png")
# prints: fastcnn: net.pth: not a safetensors file (a PyTorch file: torch.load it ... fastcnn: model.pkl: not a
#   safetensors file (a PyTorch file: torch.load it

# %%
fastcnn.load("net.pth")
# raises: ValueError: net.pth: not a safetensors file (a PyTorch file: torch.load it, build the network,
#   and give its state_dict to model.load_state_dict)

# %% the picture first
os.system("fastcnn predict scan.png lenet5-digits.safetensors; echo status $?")
# prints: fastcnn: scan.png: not a safetensors file (an image: the model comes first, then what it predicts
#   on) status 1

# %% weights alone
fastcnn.save_weights(fastcnn.load("lenet5-digits.safetensors"), "weights.safetensors")
fastcnn.load("weights.safetensors")
# raises: ValueError: weights.safetensors: holds weights but no architecture; build the network and use
#   fastcnn.load_weights

# %%
model = fastcnn.models.create("lenet5")
fastcnn.load_weights(model, "weights.safetensors")
x = np.zeros((1, 1, 28, 28), np.float32)
print(np.array_equal(model.eval()(x), fastcnn.load("lenet5-digits.safetensors")(x)))
# prints: True

# %% pipes
os.system("fastcnn predict /dev/stdin scan.png --brief < lenet5-digits.safetensors; echo status $?")
# prints: scan.png: ... status 0

# %%
os.system("cat scan.png | fastcnn predict lenet5-digits.safetensors /dev/stdin --brief; echo status $?")
# prints: /dev/stdin: ... status 0

# %%
os.system("fastcnn predict /dev/stdin scan.png < /dev/null; echo status $?")
# prints: fastcnn: /dev/stdin: not a safetensors file (it is empty) status 1

# %%
os.system(
    "fastcnn predict . scan.png; echo status $?; fastcnn predict lenet5-digits.safetensors . ; echo status $?"
    # prints: fastcnn: .: Is a directory status 1 fastcnn: .: Is a directory status 1
)

# %%
fastcnn.load(".")
# raises: IsADirectoryError: [Errno 21] Is a directory: '.'

# %%
with os.popen("fastcnn predict lenet5-digits.safetensors scan.png --json -") as told:
    print(json.load(told)["images"][0]["file"])
# prints: scan.png
