import threading

import fastcnn

digits, test = fastcnn.data.digits(), fastcnn.data.digits(train=False)


def network():
    fastcnn.manual_seed(0)
    model = fastcnn.models.create("lenet5")
    return fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


# %%
trainer = network()
thread = threading.Thread(target=trainer.fit, args=(digits, 3, 32))
thread.start()
thread.join()
print(trainer.evaluate(test).accuracy > 0.85)
# prints: True

# %% the same numbers as without
other = network()
other.fit(digits, 3, 32)
print(other.history["loss"] == trainer.history["loss"])
# prints: True

# %% two networks at a time
trainers = [network(), network()]
threads = [threading.Thread(target=t.fit, args=(digits, 3, 32)) for t in trainers]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print([t.history["loss"] == other.history["loss"] for t in trainers])
# prints: [True, True]

# %% one network in two threads: the second is told
begun, told = threading.Event(), []


def second():
    begun.wait()
    try:
        trainer.fit(digits, 1)
    except RuntimeError as e:
        told.append(str(e))
    finally:
        said.set()


said = threading.Event()
thread = threading.Thread(target=second)
thread.start()
trainer.fit(digits, 1, callbacks=lambda record: [begun.set(), said.wait(60)])
thread.join()
print(told)
# prints: Trainer.fit is running: it cannot be called from its callbacks or another thread
