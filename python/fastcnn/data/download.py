"""Fetch a published file from the first mirror that has it: SHA-256 checked, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from fastcnn._files import write_whole
from fastcnn.data.idx import read_up_to

_TIMEOUT_SECONDS = 15


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/fastcnn``, by default ``~/.cache/fastcnn``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastcnn"


def fetch(name: str, mirrors: Sequence[str], sha256: str, size: int, folder: Path) -> Path:
    """Download `name` from the first of `mirrors` (URL prefixes) whose file has this size and hash.

    Returns
    -------
    pathlib.Path
        The file in `folder`.

    Raises
    ------
    ConnectionError
        When no mirror gave the right file; the text names each mirror's reason.
    OSError
        When the folder cannot be written.
    """
    reasons = []
    for mirror in mirrors:
        try:
            data = _read_exactly(mirror + name, size)
        except (OSError, ValueError) as e:
            reasons.append(f"{mirror} ({getattr(e, 'reason', e)})")
            continue
        if hashlib.sha256(data).hexdigest() != sha256:
            reasons.append(f"{mirror} (another file than the published one: SHA-256 differs)")
            continue
        folder.mkdir(parents=True, exist_ok=True)  # not for a name that nothing came for
        write_whole(folder / name, data)
        return folder / name
    raise ConnectionError(" or ".join(reasons) or "no mirror")


def _read_exactly(url: str, size: int) -> bytes:
    """The file's bytes; ValueError as soon as it is longer than `size` or when it ends before."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        data = read_up_to(response, size + 1)
    if len(data) != size:
        raise ValueError(f"expected {size} bytes, got {'more' if len(data) > size else len(data)}")
    return bytes(data)
