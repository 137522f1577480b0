import os

import numpy as np
from PIL import Image

import fastcnn

rng = np.random.default_rng(0)
for kind, level in (("cat", 60), ("dog", 180)):
    os.makedirs(f"photos/{kind}/.ipynb_checkpoints")
    for i in range(10):
        pixels = rng.integers(0, 60, (40, 40, 3)) + level
        Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{kind}/{i}.png")
    Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{kind}/.ipynb_checkpoints/0-checkpoint.png")
os.makedirs("photos/.ipynb_checkpoints")
Image.fromarray(pixels.astype(np.uint8)).save("photos/.ipynb_checkpoints/1-checkpoint.png")
open("photos/.DS_Store", "w").close()
open("photos/cat/Thumbs.db", "w").close()
open("photos/readme.txt", "w").close()

# %%
photos = fastcnn.data.ImageFolder("photos")
print(photos.classes, len(photos))
# prints: ('cat', 'dog') 20

# %%
os.system("fastcnn train lenet5 photos --epochs 8 --out photos.safetensors")
# prints: photos: 16 images 40x40 colour -> 28x28 grey, 2 classes ... epoch 8/8 ... wrote photos.safetensors

# %%
os.system("fastcnn evaluate photos.safetensors photos")
# prints: photos: 20 images ... cat 10 10 ... dog 10 10 ... accuracy 100.00 % (20 of 20)

# %%
os.system("fastcnn predict photos.safetensors photos/dog/3.png --top 1")
# prints: photos/dog/3.png: dog (

# %%
print(photos.describe())
# prints: 20 images 40x40 colour, 2 classes
