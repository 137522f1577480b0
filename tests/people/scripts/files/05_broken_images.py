import os

import numpy as np
from PIL import Image

import fastcnn

rng = np.random.default_rng(0)
for kind, level in (("cat", 30), ("dog", 180)):
    os.makedirs(f"photos/{kind}")
    for i in range(10):
        Image.fromarray((rng.integers(0, 60, (40, 40)) + level).astype(np.uint8)).save(
            f"photos/{kind}/{i}.jpg"
        )

# %% the upload broke off
os.truncate("photos/cat/3.jpg", os.path.getsize("photos/cat/3.jpg") // 2)
photos = fastcnn.data.ImageFolder("photos")
print(len(photos))
# prints: 20

# %%
photos.batch(range(20))
# raises: ValueError: photos/cat/3.jpg: not a readable image (image file is truncated (6 bytes not
#   processed)); on_error='skip' (--skip-unreadable) leaves such files out

# %%
os.system("fastcnn train lenet5 photos --epochs 1; echo status $?")
# prints: fastcnn: photos/cat/3.jpg: not a readable image (image file is truncated ...
#   (--skip-unreadable) leaves such files out status 1

# %% a text that is called an image, and one that is empty
with open("photos/cat/4.jpg", "w") as f:
    f.write("404 not found")
open("photos/dog/5.jpg", "w").close()
fastcnn.data.ImageFolder("photos")
# raises: ValueError: photos/cat/4.jpg: not a readable image (JPEG, PNG, BMP, GIF, WebP, TIFF and PPM are
#   read), and 1 more; on_error='skip' (--skip-unreadable) leaves such files out

# %%
os.system("fastcnn train lenet5 photos --epochs 1; echo status $?; ls")
# prints: fastcnn: photos/cat/4.jpg: not a readable image (JPEG, PNG, BMP, GIF, WebP, TIFF and PPM are read),
#   and 1 more; on_error='skip' (--skip-unreadable) leaves such files out status 1
#   lenet5-digits.safetensors photos

# %%
photos = fastcnn.data.ImageFolder("photos", on_error="skip")
print(len(photos), photos.skipped)
# prints: 17 ('cat/3.jpg', 'cat/4.jpg', 'dog/5.jpg')

# %%
os.system("fastcnn train lenet5 photos --epochs 1 --skip-unreadable; echo status $?")
# prints: 15 images to train on, 2 held out ... 3 left out ... wrote lenet5-photos.safetensors ... status 0

# %% to predict, the rest goes on
os.system("fastcnn predict lenet5-photos.safetensors photos/cat/*.jpg --brief; echo status $?")
# prints: photos/cat/2.jpg: cat ( ... fastcnn: photos/cat/3.jpg: not a readable image (image file is truncated
#   ... fastcnn: photos/cat/4.jpg: not a readable image ... photos/cat/9.jpg: cat ( ... status 1

# %%
fastcnn.load("lenet5-photos.safetensors").predict("photos/cat/4.jpg")
# raises: ValueError: photos/cat/4.jpg: not a readable image (JPEG, PNG, BMP, GIF, WebP, TIFF and PPM are
#   read)

# %% the wrong ending is no mistake
os.rename("photos/dog/7.jpg", "photos/dog/7.png")
print(fastcnn.load("lenet5-photos.safetensors").predict("photos/dog/7.png").shape)
# prints: (1,)

# %% a format that is not read
with open("photo.heic", "wb") as f:
    f.write(b"\0\0\0\x18ftypheic" + bytes(100))
fastcnn.load("lenet5-photos.safetensors").predict("photo.heic")
# raises: ValueError: photo.heic: not a readable image (JPEG, PNG, BMP, GIF, WebP, TIFF and PPM are read)
