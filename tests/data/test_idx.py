"""IDX files: what is written is read, and no damage goes unnoticed."""

import gzip
import random
import struct

import numpy as np
import pytest

from fastcnn.data import read_idx, write_idx


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_round_trip(tmp_path, dtype, ending):
    array = np.arange(-6, 18).astype(dtype).reshape(2, 3, 4)
    path = tmp_path / f"x-idx3{ending}"
    write_idx(path, array)
    back = read_idx(path)
    assert back.dtype == array.dtype and np.array_equal(back, array)


def test_raw_bytes_are_the_published_format(tmp_path):
    path = tmp_path / "labels-idx1-ubyte"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    assert read_idx(path).tolist() == [7, 2, 1]


def test_empty_array(tmp_path):
    write_idx(tmp_path / "e", np.zeros((0, 28, 28), np.uint8))
    assert read_idx(tmp_path / "e").shape == (0, 28, 28)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "got 0 bytes"),
        (b"\x00\x00\x08", "got 3 bytes"),
        (b"PK\x03\x04" + bytes(20), "two zero bytes"),
        (struct.pack(">HBBI", 0, 7, 1, 1) + b"x", "element type"),
        (struct.pack(">HBB", 0, 8, 0), "dimensions"),
        (struct.pack(">HBB", 0, 8, 200) + bytes(800), "dimensions"),
        (struct.pack(">HBBI", 0, 8, 3, 5), "inside its header"),
        (struct.pack(">HBBI", 0, 8, 1, 5) + b"1234", "= 5 bytes, got 4 bytes"),
        (struct.pack(">HBBI", 0, 8, 1, 5) + b"123456", "= 5 bytes, got 6 bytes"),
        (struct.pack(">HBBII", 0, 14, 2, 2**32 - 1, 2**32 - 1) + b"1", "bytes, got 1 bytes"),
    ],
)
def test_each_header_field_is_checked(tmp_path, content, message):
    for name, data in (("raw", content), ("zipped", gzip.compress(content))):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ValueError, match=str(path)) as error:
            read_idx(path)
        if name == "raw":
            assert message in str(error.value)


def test_a_small_zip_cannot_claim_a_huge_array(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBBII", 0, 8, 2, 2**31, 2**31)))
    with pytest.raises(ValueError, match="more than this gzip file can hold"):
        read_idx(path)


def test_unsupported_arrays(tmp_path):
    with pytest.raises(ValueError, match="int64"):
        write_idx(tmp_path / "x", np.zeros(3, np.int64))


def damaged(good: bytes, rng: random.Random) -> bytes:
    """A cut, a longer file, a changed bit, a zeroed run or noise."""
    kind = rng.randrange(5)
    at = rng.randrange(len(good))
    if kind == 0:
        return good[:at]
    if kind == 1:
        return good + bytes(rng.randrange(1, 256) for _ in range(1 + rng.randrange(40)))
    if kind == 2:
        return good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :]
    if kind == 3:
        return good[:at] + bytes(min(16, len(good) - at)) + good[at + 16 :]
    return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))


def test_200_damaged_files_are_clean_errors(tmp_path):
    """What is left readable must read the same: gzip's own header has bytes that mean nothing here."""
    rng = random.Random(1)
    array = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    path = tmp_path / "x.gz"
    write_idx(path, array)
    good = path.read_bytes()
    errors = 0
    for _ in range(2000):
        path.write_bytes(damaged(good, rng))
        try:
            assert np.array_equal(read_idx(path), array)
        except ValueError as e:
            assert str(path) in str(e)
            errors += 1
    assert errors >= 200


def test_200_damaged_raw_headers(tmp_path):
    rng = random.Random(2)
    path = tmp_path / "x"
    write_idx(path, np.ones((5, 7, 3), np.int16))
    good = path.read_bytes()
    for _ in range(200):
        bad = bytearray(good)
        at = rng.randrange(16)
        bad[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bad if rng.random() < 0.7 else good[: rng.randrange(len(good))])
        with pytest.raises(ValueError):
            read_idx(path)
