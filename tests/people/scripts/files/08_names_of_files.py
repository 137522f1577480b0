import os

import numpy as np
from PIL import Image

import fastcnn

rng = np.random.default_rng(0)
kinds = os.fsdecode(b"caf\xe9"), "\u732b", "[red] & 'blue'"  # Latin-1 on a UTF-8 disk, a cat, markup
for k, kind in enumerate(kinds):
    os.makedirs(f"photos/{kind}")
    for i in range(10):
        pixels = (rng.integers(0, 40, (28, 28)) + 100 * k).astype(np.uint8)
        Image.fromarray(pixels).save(f"photos/{kind}/Foto {i} \u00fc.PNG")

# %%
photos = fastcnn.data.ImageFolder("photos")
print(len(photos), len(photos.classes))
# prints: 30 3

# %%
os.system("fastcnn train lenet5 photos --epochs 8 --out 'f\u00fcr Oma.safetensors'; echo status $?")
# prints: 24 images to train on, 6 held out ... wrote für Oma.safetensors ... status 0

# %%
os.system("fastcnn evaluate 'f\u00fcr Oma.safetensors' photos; echo status $?")
# prints: [red] & 'blue' 10 ... 10 ... 猫 10 ... of 30) ... status 0

# %% a stream that knows only ASCII
os.system("PYTHONIOENCODING=ascii fastcnn evaluate 'f\u00fcr Oma.safetensors' photos; echo status $?")
# prints: class | images | right | accuracy ... [red] & 'blue' | 10 ... | caf\udce9 | 10
#   ... | \u732b | 10 ... of 30) ... status 0

# %%
os.system("fastcnn predict 'f\u00fcr Oma.safetensors' photos/*/'Foto 3 \u00fc.PNG' --brief; echo status $?")
# prints: photos/[red] & 'blue'/Foto 3 ü.PNG: [red] & 'blue' ( ... /Foto 3 ü.PNG: caf ... 猫 ( ... status 0

# %%
os.system(
    "PYTHONIOENCODING=ascii fastcnn predict 'f\u00fcr Oma.safetensors' photos/\u732b/*0*; echo status $?"
)
# prints: photos/\u732b/Foto 0 \xfc.PNG: \u732b ( ... caf\udce9 ... status 0

# %% names that are options
os.makedirs("photos/--out")
Image.fromarray(pixels).save("photos/--out/-1.png")
os.system("cd photos/--out; fastcnn predict '../../f\u00fcr Oma.safetensors' -1.png; echo status $?")
# prints: fastcnn: No such option: -1 (see fastcnn predict --help) status 2

# %%
os.system(
    "cd photos/--out; fastcnn predict --brief -- '../../f\u00fcr Oma.safetensors' -1.png; echo status $?"
    # prints: -1.png: ... status 0
)
