import os

import numpy as np
from PIL import Image

import fastcnn

test = fastcnn.data.digits(train=False)
model = fastcnn.load("lenet5-digits.safetensors")
digit, label = next((x[0], y) for x, y in zip(test.images, test.labels) if model.predict(x)[0] == y == 9)
page = np.kron(digit, np.ones((8, 8))) / 255  # 224x224, from 0 to 1

# %% 8 bits
Image.fromarray((page * 255).astype(np.uint8)).save("8bit.png")
print(model.predict("8bit.png"))
# prints: [9]

# %% the camera's 12 bits in a PNG of 16
Image.fromarray((page * 4095).astype(np.uint16)).save("12bit.png")
Image.fromarray((page * 65535).astype(np.uint16)).save("16bit.tiff")
print(model.predict(["12bit.png", "16bit.tiff"]))
# prints: [9 9]

# %% floats, from 0 to 1, and from 0 to 4095
Image.fromarray(page.astype(np.float32)).save("float.tiff")
Image.fromarray((page * 4095).astype(np.float32)).save("float4095.tiff")
print(model.predict(["float.tiff", "float4095.tiff"]))
# prints: [9 9]

# %% black on white, as ink is
Image.fromarray((255 - page * 255).astype(np.uint8)).save("ink.jpg")
print(model.predict("ink.jpg"), model.predict(Image.open("ink.jpg")))
# prints: [9] [9]

# %% at the command line
os.system("fastcnn predict lenet5-digits.safetensors 8bit.png 12bit.png float.tiff ink.jpg --brief")
# prints: 8bit.png: 9 ( ... 12bit.png: 9 ( ... float.tiff: 9 ( ... ink.jpg: 9 (

# %% a float image with holes in it
holes = page.astype(np.float32)
holes[3, 3] = np.nan
Image.fromarray(holes).save("holes.tiff")
model.predict("holes.tiff")
# raises: ValueError: holes.tiff: not a readable image (pixels are floats, not all of them finite: save it
#   with 8 or 16 bits)
