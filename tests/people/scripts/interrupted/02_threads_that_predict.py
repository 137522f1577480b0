import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastcnn

test = fastcnn.data.digits(train=False)
model = fastcnn.load("lenet5-digits.safetensors")
x, _ = test.batch(range(355))
want = model(x)

# %% two threads, one model
answers = [None, None]
alone = [model(x[k::2]) for k in range(2)]


def work(k):
    answers[k] = [model(x[k::2]) for _ in range(20)]


threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(all(np.array_equal(y, alone[k]) for k in range(2) for y in answers[k]))
# prints: True

# %% a pool, as of a web server, with one image each
with ThreadPoolExecutor(4) as pool:
    classes = list(pool.map(lambda i: int(model.predict(test.images[i])[0]), range(100)))
print(classes == want[:100].argmax(axis=1).tolist())
# prints: True

# %% while another one trains
other = fastcnn.models.create("lenet5")
trainer = fastcnn.Trainer(other, fastcnn.optim.SGD(other.parameters(), lr=0.05))
with ThreadPoolExecutor(1) as pool:
    training = pool.submit(trainer.fit, fastcnn.data.digits(), 2, 32)
    same = [np.array_equal(model(x), want) for _ in range(10)]
    training.result()
print(all(same), len(trainer.history))
# prints: True 2
