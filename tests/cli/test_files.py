"""Output places: links stay, devices are written through, nothing is left behind, errors name the target."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from fastcnn._files import check_place, keeps_its_content, write_whole


def test_a_file_is_replaced_and_keeps_its_mode(tmp_path):
    target = tmp_path / "m"
    write_whole(target, b"one")
    target.chmod(0o600)
    write_whole(target, b"two")
    assert target.read_bytes() == b"two" and stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path, there):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "m", tmp_path / "link"
    if there:
        target.write_bytes(b"one")
    link.symlink_to(target)
    check_place(link)
    assert target.exists() == there
    write_whole(link, b"two")
    assert link.is_symlink() and target.read_bytes() == b"two"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link", "m", "store"]


def test_pipes_are_written_through(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_place(pipe)  # does not wait for a reader
    assert not keeps_its_content(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"data")
    reader.join(20)
    assert read == [b"data"] and stat.S_ISFIFO(pipe.stat().st_mode)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    check_place(link)
    assert link.is_symlink() and stat.S_ISFIFO(link.stat().st_mode)


@pytest.mark.parametrize("where", ["pipe", "file"])
def test_standard_output_is_written_through(tmp_path, where):
    code = "from fastcnn._files import write_whole; print(1, flush=True); write_whole('/dev/stdout', b'two'); print(3)"
    with open(tmp_path / "log", "w+b") as log:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE if where == "pipe" else log,
            check=True,
            timeout=60,
        )
    text = done.stdout if where == "pipe" else (tmp_path / "log").read_bytes()
    assert text == b"1\ntwo3\n"


def test_bad_places_are_named_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {
        "no/folder/m": "folder that exists",
        ".": "is a folder",
        "file/m": "Not a directory",
        "loop": "Too many levels",
        "x" * 300: "name too long",
    }.items():
        for attempt in (check_place, lambda p: write_whole(p, b"new")):
            with pytest.raises(OSError) as caught:
                attempt(tmp_path / name)
            assert reason in caught.value.strerror and caught.value.filename == str(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "loop"]


def test_a_long_name_has_room_for_its_temporary_file(tmp_path):
    target = tmp_path / ("\u732b" * 83)
    write_whole(target, b"data")
    assert target.read_bytes() == b"data"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError) as caught:
        check_place(tmp_path / "m")
    assert caught.value.filename == str(tmp_path / "m")


def test_an_error_while_writing_names_the_target(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    target = tmp_path / "m"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_whole(target, b"new")
    assert caught.value.filename == str(target) and ".part" not in str(caught.value)
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m"]
