import io
import os
import zipfile

import numpy as np
from PIL import Image

import fastcnn

rng = np.random.default_rng(0)


def picture(level):
    file = io.BytesIO()
    Image.fromarray((rng.integers(0, 60, (40, 40)) + level).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


with zipfile.ZipFile("photos.zip", "w") as z:
    for kind, level in (("cat", 30), ("dog", 180)):
        z.writestr(f"photos/{kind}/", "")
        for i in range(10):
            z.writestr(f"photos/{kind}/IMG {i}.PNG", picture(level))
            z.writestr(f"__MACOSX/photos/{kind}/._IMG {i}.PNG", b"\0\5\26\7" + bytes(200))
    z.writestr("__MACOSX/._photos", b"\0\5\26\7")
    z.writestr("photos/.DS_Store", b"")

# %%
print(fastcnn.data.ImageFolder("photos.zip", under="photos"))
# prints: 20x3x40x40, 2 classes

# %%
os.system("fastcnn train lenet5 photos.zip --epochs 8")
# prints: photos.zip: 16 images 40x40 grey -> 28x28 grey, 2 classes ... wrote lenet5-photos.safetensors

# %%
os.system("fastcnn evaluate lenet5-photos.safetensors photos.zip")
# prints: (20 of 20)

# %% unpacked on the other computer, with what the Mac left in it
with zipfile.ZipFile("photos.zip") as z:
    z.extractall("unpacked")
os.system("fastcnn evaluate lenet5-photos.safetensors unpacked --json -")
# prints: "images": 20, "right": 20,

# %% a path inside the zip
fastcnn.data.ImageFolder("photos.zip")
# raises: ValueError: photos.zip: no images as CLASS/NAME with an ending among .jpg .jpeg .png .bmp .gif
#   .webp .tif .tiff .pgm .ppm; there are some under 'photos' (under=...)

# %% half of the download
with open("photos.zip", "rb") as f, open("half.zip", "wb") as half:
    half.write(f.read(5000))
os.system("fastcnn train lenet5 half.zip")
# prints: fastcnn: half.zip: not a readable zip file (File is not a zip file)

# %%
os.system("fastcnn train lenet5 photos.zip/photos")
# prints: fastcnn: no data set named 'photos.zip/photos': give digits, mnist, fashion_mnist, or a folder or
#   zip of images CLASS/NAME.jpg
