import os
import shutil

import numpy as np
from PIL import Image

import fastcnn

rng = np.random.default_rng(0)


def fill(folder, level, count=6):
    os.makedirs(folder)
    for i in range(count):
        Image.fromarray((rng.integers(0, 60, (28, 28)) + level).astype(np.uint8)).save(f"{folder}/{i}.png")


# %% a class without images
fill("a/cat", 30)
fill("a/dog", 180)
os.makedirs("a/fish")
print(fastcnn.data.ImageFolder("a").classes)
# prints: ('cat', 'dog')
# warns: UserWarning: a: no images in fish: left out

# %%
os.system("fastcnn train lenet5 a --epochs 1 --out a.safetensors; echo status $?")
# prints: fastcnn: a: no images in fish: left out ... a: 10 images 28x28 grey, 2 classes ... status 0

# %% one class
fill("b/cat", 30)
os.system("fastcnn train lenet5 b --epochs 1; echo status $?")
# prints: fastcnn: b: all images are of one class, 'cat': expected a folder for each class status 1

# %% no class: the images lie in the folder itself
fill("c", 30)
os.system("fastcnn train lenet5 c --epochs 1; echo status $?")
# prints: fastcnn: c: no images as CLASS/NAME with an ending among .jpg ... status 1

# %% nothing
os.makedirs("d")
os.system("fastcnn train lenet5 d --epochs 1; echo status $?")
# prints: fastcnn: d: no images as CLASS/NAME with an ending among .jpg ... status 1

# %% too few to hold some out
fill("e/cat", 30, 3)
fill("e/dog", 180, 3)
os.system("fastcnn train lenet5 e --epochs 1; echo status $?")
# prints: fastcnn: e: too few images to hold some out: at least five of one class are needed status 1

# %% a class that the model does not know
fill("f/cat", 30)
fill("f/wolf", 180)
os.system("fastcnn evaluate a.safetensors f; echo status $?")
# prints: fastcnn: f: class folders cat, wolf; the model knows the classes cat, dog status 1

# %% two folders too deep
fill("g/data/images/cat", 30)
fill("g/data/images/dog", 180)
os.system("fastcnn train lenet5 g --epochs 1 --out g.safetensors; echo status $?")
# prints: g: 10 images 28x28 grey, 2 classes ... status 0

# %% images of different sizes
Image.new("L", (30, 20), 90).save("a/cat/large.png")
fastcnn.data.ImageFolder("a").batch(range(13))
# raises: ValueError: a/cat/large.png: 30x20 pixels, the first has 28x28; give a size=(height, width) to
#   bring all to it
# warns: UserWarning: a: no images in fish: left out

# %% the network's size is asked for
print(fastcnn.data.ImageFolder("a", size=(28, 28)).batch(range(13))[0].shape)
# prints: (13, 3, 28, 28)
# warns: UserWarning: a: no images in fish: left out

# %%
fastcnn.data.ImageFolder("a", size=28)
# raises: ValueError: size must be (height, width), such as (32, 32), got 28

# %%
shutil.rmtree("a")
fastcnn.data.ImageFolder("a")
# raises: FileNotFoundError: a: no such folder or zip file
