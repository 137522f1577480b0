"""Commands in a pseudo-terminal of a given width, what stays on its screen, and texts without what varies."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]")
UPDATE = os.environ.get("FASTCNN_UPDATE_GOLDEN") == "1"
GOLDEN = Path(__file__).resolve().parent.parent / "cli" / "golden"


def start(
    command: list[str], columns: int, cwd: str | Path | None = None, **environment: str
) -> tuple[subprocess.Popen, int]:
    """`python ...` with stdin, stdout and stderr on a terminal of so many columns, and the terminal's other end."""
    main_end, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    env = {**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment}
    process = subprocess.Popen(
        [sys.executable, *command], stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd, env=env,
        preexec_fn=_lead,
    )  # fmt: skip
    os.close(terminal)
    return process, main_end


def _lead() -> None:
    """The process leads a session of its own that the terminal controls: Ctrl-C typed there reaches it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read_all(process: subprocess.Popen, main_end: int) -> str:
    """Everything that is written until the process ends."""
    seen = b""
    try:
        while chunk := os.read(main_end, 65536):
            seen += chunk
    except OSError:  # Linux ends a closed terminal with an error
        pass
    os.close(main_end)
    process.wait(timeout=60)
    return seen.decode(errors="replace")


def run(command: list[str], columns: int, cwd: str | Path | None = None, **environment: str) -> str:
    """All that the command writes, as it is sent to the terminal."""
    return read_all(*start(command, columns, cwd, **environment))


def screen(sent: str, columns: int) -> str:
    """The lines that remain after the cursor's movements, as a terminal of so many columns shows them."""
    lines, row, column = [[]], 0, 0
    for found in _CONTROL.finditer(sent):
        arguments, letter = found[1], found[2]
        if found[0] == "\r":
            column = 0
        elif found[0] == "\n" or (letter is None and column >= columns):
            row, column = row + 1, column if found[0] == "\n" else 0
            while len(lines) <= row:
                lines.append([])
        if letter == "A":
            row -= int(arguments or 1)
        elif letter == "K":
            lines[row] = [] if arguments == "2" else lines[row][:column]
        if letter is None and found[0] not in "\r\n":
            lines[row] += [" "] * (column + 1 - len(lines[row]))
            lines[row][column] = found[0]
            column += 1
    return "\n".join("".join(line).rstrip() for line in lines).rstrip() + "\n"


def masked(text: str) -> str:
    """Without what depends on machine and moment: measured and computed figures, weights, versions.

    Settings stay: the line that begins with the number of epochs, and shapes.
    """
    return "".join(_masked_line(line) for line in text.splitlines(keepends=True))


def _masked_line(line: str) -> str:
    if re.match(r"\d+ epochs?, batches|.*weight decay|0\.\d+, shift", line):
        return line
    line = re.sub(r"weights [0-9a-f]{16}", "weights ################", line)

    def figure(found: re.Match[str]) -> str:
        gap, number = found[1], found[2]
        # Numbers in columns end where they ended; in sentences they have no room of their own.
        return "#.##".rjust(len(gap) + len(number)) if len(gap) > 1 else f"{gap}#.##"

    line = re.sub(r"(?<![\w.])( *)(\d[\d,]*\.\d+)(?![\d.x])", figure, line)
    line = re.sub(r"\d[\d,]* images/s", "# images/s", line)
    line = re.sub(r"\d[\d,]*</td></tr>", "#</td></tr>", line)  # of a notebook's history: images/s
    line = re.sub(r"\(\d+ of", "(# of", line)
    line = re.sub(r"█+ *", lambda bar: "█".ljust(len(bar[0])), line)
    line = re.sub(r"(#\.## +)(\d[\d,]*)(?= *$)", lambda m: m[1] + "#".rjust(len(m[2])), line)
    # Of a class: images, how many are right, accuracy.
    return re.sub(r"(\d+ +)(\d+)( +)#\.## %", lambda m: m[1] + "#".rjust(len(m[2])) + m[3] + "#.## %", line)


def check_golden(name: str, text: str) -> None:
    """Compare with tests/cli/golden/NAME.txt, or write it where FASTCNN_UPDATE_GOLDEN=1."""
    path = GOLDEN / f"{name}.txt"
    if UPDATE:
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{name}: FASTCNN_UPDATE_GOLDEN=1 pytest writes what is expected"
    assert text == path.read_text(encoding="utf-8"), name
