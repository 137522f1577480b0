import os

import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
for part, count in (("train", 12), ("val", 6), ("test", 4)):
    for kind, level in (("cat", 30), ("dog", 180)):
        os.makedirs(f"data/{part}/{kind}")
        for i in range(count):
            pixels = (rng.integers(0, 60, (28, 28)) + level).astype(np.uint8)
            Image.fromarray(pixels).save(f"data/{part}/{kind}/{i}.png")

# %%
os.system("fastcnn train lenet5 data --epochs 8")
# prints: 24 images to train on, 12 held out ... wrote lenet5-data.safetensors

# %% test is for evaluate
os.system("fastcnn evaluate lenet5-data.safetensors data")
# prints: data: 8 images ... accuracy 100.00 % (8 of 8)

# %% a part by itself
os.system("fastcnn evaluate lenet5-data.safetensors data/val")
# prints: data/val: 12 images ... accuracy 100.00 % (12 of 12)

# %%
os.system("fastcnn evaluate lenet5-data.safetensors data/train --json -")
# prints: "images": 24, "right": 24,

# %% the names of other people
os.rename("data/train", "data/Training")
os.rename("data/val", "data/Validation")
os.rename("data/test", "data/holdout")
os.system("fastcnn train lenet5 data --epochs 1; echo status $?")
# prints: 24 images to train on, 12 held out ... replaced lenet5-data.safetensors ... status 0

# %%
os.system("rm -r data/Validation; fastcnn train lenet5 data --epochs 1; echo status $?")
# prints: fastcnn: data: expected a train and a test (or val) folder, or one with classes, got Training,
#   holdout status 1
