"""Prints the project's budgets (lines per room, largest files, fullest folder, wheel) and fails where one is exceeded.

Usage: python tools/size.py [wheel]
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {".cpp", ".h", ".inc", ".py", ".pyi", ".cmake"}
MAX_LINES, MAX_CMAKE_LINES, MAX_WHEEL_MB = 600, 150, 10.0
# Without tests: lines of all sources, sources in a folder.
MAX_TOTAL, MAX_FILES = 29_000, 20


def main() -> int:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    lines = {
        Path(name): len((ROOT / name).read_text(encoding="utf-8").splitlines())
        for name in tracked
        if Path(name).suffix in SOURCES or name.endswith("CMakeLists.txt")
    }
    rooms: Counter[str] = Counter()
    for path, count in lines.items():
        depth = {"cpp": 2, "python": 3}.get(path.parts[0], 1)
        rooms["/".join(path.parts[:-1][:depth]) or "."] += count
    print("lines per room")
    for room, count in sorted(rooms.items()):
        print(f"  {count:6d}  {room}")
    print(f"  {sum(lines.values()):6d}  total\nlargest files")
    for path, count in sorted(lines.items(), key=lambda item: -item[1])[:5]:
        print(f"  {count:6d}  {path}")
    failed = [f"{p}: {n} lines, at most {MAX_LINES}" for p, n in lines.items() if n > MAX_LINES]
    own = {p: n for p, n in lines.items() if p.parts[0] != "tests"}
    folder, files = Counter(str(p.parent) for p in lines).most_common(1)[0]
    print(
        f"without tests: {sum(own.values())} lines (at most {MAX_TOTAL}); fullest folder: {folder}, {files} files"
    )
    if sum(own.values()) > MAX_TOTAL:
        failed.append(f"{sum(own.values())} lines, at most {MAX_TOTAL}")
    if files > MAX_FILES:
        failed.append(f"{folder}: {files} files, at most {MAX_FILES}")
    cmake = lines[Path("CMakeLists.txt")]
    print(f"CMakeLists.txt: {cmake} lines (at most {MAX_CMAKE_LINES})")
    if cmake > MAX_CMAKE_LINES:
        failed.append(f"CMakeLists.txt: {cmake} lines, at most {MAX_CMAKE_LINES}")
    for wheel in map(Path, sys.argv[1:]):
        size = wheel.stat().st_size / 1e6
        print(f"{wheel.name}: {size:.2f} MB (at most {MAX_WHEEL_MB:.0f})")
        if size > MAX_WHEEL_MB:
            failed.append(f"{wheel.name}: {size:.2f} MB")
    for problem in failed:
        print(f"over budget: {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
