import os

import numpy as np
from PIL import Image

import fastcnn

test = fastcnn.data.digits(train=False)
model = fastcnn.load("lenet5-digits.safetensors")
digit = next(x[0] for x, y in zip(test.images, test.labels) if model.predict(x)[0] == y == 7)
page = np.kron(digit, np.ones((4, 4), np.uint8))

# %%
Image.new("L", (200, 200), 255).save("blank.png")
model.predict("blank.png")
# raises: ValueError: blank.png: no glyph found (a blank page?)

# %%
Image.new("L", (1, 1)).save("dot.png")
model.predict("dot.png")
# raises: ValueError: dot.png: no glyph found (a blank page?)

# %%
Image.new("RGBA", (200, 200), (0, 0, 0, 0)).save("nothing.png")
model.predict("nothing.png")
# raises: ValueError: nothing.png: no glyph found (a blank page?)

# %% white ink on nothing, as drawing programs save it
ink = np.dstack([np.full(page.shape, 255)] * 3 + [page]).astype(np.uint8)
Image.fromarray(ink, "RGBA").save("white.png")
model.predict("white.png")
# raises: ValueError: white.png: no glyph found (a blank page?)

# %% black ink on nothing
ink = np.dstack([np.zeros(page.shape)] * 3 + [page]).astype(np.uint8)
Image.fromarray(ink, "RGBA").save("black.png")
print(model.predict("black.png"))
# prints: [7]

# %%
os.system("fastcnn predict lenet5-digits.safetensors blank.png black.png --brief; echo status $?")
# prints: fastcnn: blank.png: no glyph found (a blank page?) ... black.png: 7 ( ... status 1

# %% an image without pixels
model.predict(np.zeros((0, 0), np.uint8))
# raises: ValueError: image: has no pixels (0x0)

# %% no images
model.predict([])
# raises: ValueError: there are no images to predict
