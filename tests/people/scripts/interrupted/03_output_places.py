import os
import shutil
import subprocess

import fastcnn

train = "fastcnn train lenet5 digits --epochs 1"

# %% the folder is not there: said before the first step
os.system(f"{train} --out models/net.safetensors; echo status $?")
# prints: fastcnn: models/net.safetensors: give a name in a folder that exists status 1

# %% the name of a folder
os.makedirs("models")
os.system(f"{train} --out models; echo status $?; ls models")
# prints: fastcnn: models: is a folder; give the name of a file status 1

# %% a place where nobody may write
place = "/sys" if os.path.isdir("/sys") else "/System"
os.system(f"{train} --out {place}/net.safetensors; echo status $?")
# prints: fastcnn: /... net.safetensors: ... status 1

# %% a reader that goes away
os.system(f"{train} --out p.safetensors 2> /dev/null | head -1; ls p.safetensors")
print(fastcnn.load("p.safetensors").classes[:3])
# prints: lenet5, 61,706 parameters ... p.safetensors ('0', '1', '2')

# %% nobody listens
os.system(f"{train} --out q.safetensors > /dev/null 2>&1 <&-; ls q.safetensors")
# prints: q.safetensors

# %%
os.system(f"{train} --out r.safetensors >&- 2>&-; ls r.safetensors")
# prints: r.safetensors

# %% a full disk under the log
if os.path.exists("/dev/full"):
    os.system(f"{train} --out s.safetensors > /dev/full; echo status $?; ls s.safetensors")
else:
    print("status 1 s.safetensors")
# prints: status 1 s.safetensors

# %% to time it
os.system(f"{train} --out /dev/null | tail -1; test -c /dev/null && echo still a device")
# prints: wrote /dev/null (weights ... still a device

# %% a link stays a link
os.symlink("q.safetensors", "latest")
before = os.stat("q.safetensors").st_ino
os.system(f"{train} --out latest --seed 3 | tail -1")
print(os.path.islink("latest"), os.stat("q.safetensors").st_ino != before)
# prints: replaced latest (weights ... True True

# %% two runs, by mistake, into one file
runs = [subprocess.Popen(f"{train} --out same.safetensors --seed {k}", shell=True) for k in range(2)]
print([run.wait() for run in runs], len(fastcnn.load("same.safetensors").classes))
print([name for name in os.listdir(".") if ".part" in name])
# prints: [0, 0] 10 []

# %% a script of two hours whose last line fails
model = fastcnn.models.create("lenet5")
fastcnn.Trainer(model, fastcnn.optim.SGD(model.parameters(), lr=0.05)).fit(fastcnn.data.digits(), 1)
shutil.rmtree("models")
model.save("models/net.safetensors")
# raises: FileNotFoundError: [Errno 2] give a name in a folder that exists: 'models/net.safetensors'

# %% and is mended at the prompt
model.save("net.safetensors")
