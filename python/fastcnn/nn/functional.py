"""`fastcnn.functional` under the name that PyTorch gives it: the same functions."""

from typing import TYPE_CHECKING

from fastcnn.functional import *  # noqa: F403
from fastcnn.functional import __all__ as __all__

if not TYPE_CHECKING:
    from fastcnn.functional import __dir__, __getattr__  # noqa: F401
