"""What is used first, in a new process, finds what it needs: files that import each other have an order."""

import subprocess
import sys

import pytest

FIRST = {
    "a call": "fastcnn.models.create('lenet5')(np.zeros((1, 1, 28, 28), np.float32))",
    "prediction": "fastcnn.models.create('lenet5').predict(np.zeros((1, 1, 28, 28), np.float32))",
    "training": "fastcnn.Trainer",
    "data": "fastcnn.data.Loader(fastcnn.data.digits(), 4)",
    "files": "fastcnn.io.SavedModel",
    "an unknown name": "getattr(fastcnn.nn, 'Dropout', None)",
}


@pytest.mark.parametrize("what", FIRST)
def test_any_use_may_be_the_first(what):
    code = f"import fastcnn, numpy as np\n{FIRST[what]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
