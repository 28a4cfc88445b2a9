#!/usr/bin/env python3
"""Writes the requirements.lock of each worker and gateway: all versions with hashes, for all platforms; makes .venv
first.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bootstrap

bootstrap.go_on_with_project()

from waifu_llm.environment import uv  # noqa: E402

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = "requirements.lock"
OLDEST_PYTHON: Final = "3.11"
# A stolen release is mostly found within a few days; what is younger is not locked.
COOLING_OFF_DAYS: Final = 7
_PIN: Final = re.compile(r"([A-Za-z0-9][\w.\-]*==[^ \\]+(?: ; [^\\]+?)?)(?: \\)?")
_HASH: Final = re.compile(r" +--hash=(\w+:\w+)(?: \\)?")
_ADDRESS: Final = re.compile(r"://|^[ ]*-(?!-hash=)|(?<![\w.])/[\w.]+/", re.MULTILINE)


class LockFailed(Exception):
    """A lock could not be made; the message says why."""


def projects(roots: Sequence[Path]) -> list[Path]:
    """The folders of workers and gateways."""
    return sorted(file.parent for root in roots if root.is_dir() for file in root.glob("*/pyproject.toml"))


def compile_lock(folder: Path, old: str, newest: str, *, upgrade: bool) -> str:
    """The text of the lock for `folder`; versions of the old one stay where they can. Raises: LockFailed."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, LOCK)
        target.write_text(old, "utf-8")
        command = [uv.find_uv(), "pip", "compile", "pyproject.toml", "--universal", "--generate-hashes", "--no-header"]
        command += ["--no-config", "--only-binary", ":all:", "--python-version", OLDEST_PYTHON]
        command += ["--exclude-newer", newest, "--quiet", "--output-file", str(target)]
        command += ["--upgrade"] if upgrade else []
        # Not the user's wheel folder: its files would be locked for everybody.
        env = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PYTHON"))}
        env |= {name: os.environ[name] for name in ("UV_CACHE_DIR", "UV_DEFAULT_INDEX") if name in os.environ}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LockFailed(f"{folder.name}: {done.stderr.strip()}")
        text = target.read_text("utf-8")
    found = _ADDRESS.search(text)
    if found is not None:
        raise LockFailed(f"{folder.name}: the lock holds an address or a path, at character {found.start()}")
    return text


def pins(text: str) -> dict[str, set[str]]:
    """The hashes of each entry, by its `name==version ; marker`."""
    found: dict[str, set[str]] = {}
    hashes: set[str] = set()
    for line in text.splitlines():
        if match := _PIN.fullmatch(line):
            hashes = found.setdefault(match[1].strip(), set())
        elif match := _HASH.fullmatch(line):
            hashes.add(match[1])
    return found


def changes(before: Mapping[str, set[str]], after: Mapping[str, set[str]]) -> Iterator[str]:
    """What tells two locks apart, a line each: entries that went and came, and files of a release that did."""
    for pin in sorted(before.keys() ^ after.keys()):
        yield f"{'-' if pin in before else '+'} {pin}"
    for pin in sorted(before.keys() & after.keys()):
        gone, new = len(before[pin] - after[pin]), len(after[pin] - before[pin])
        if gone or new:
            yield f"! {pin}: {gone} of its {len(before[pin])} files are gone, {new} are new"


def main(argv: Sequence[str] | None = None) -> int:
    """0 where all went well and, with --check, nothing would change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a lock does not fit")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not those of the old lock")
    parser.add_argument("--exclude-newer", metavar="DATE", help=f"default: {COOLING_OFF_DAYS} days ago")
    parser.add_argument("--root", type=Path, action="append", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    asked = parser.parse_args(argv)
    newest = asked.exclude_newer or _days_ago(COOLING_OFF_DAYS)
    changed = False
    folders = projects(asked.root or [ROOT / "workers", ROOT / "gateways"])
    there = {folder.name for folder in folders}
    if unknown := [name for name in asked.names if name not in there]:
        parser.error(f"there is no {unknown[0]!r}; there are: {', '.join(sorted(there))}")
    for folder in folders:
        if asked.names and folder.name not in asked.names:
            continue
        file = folder / LOCK
        old = file.read_text("utf-8") if file.exists() else ""
        try:
            new = compile_lock(folder, old, newest, upgrade=asked.upgrade)
        except LockFailed as error:
            sys.stderr.write(f"{error}\n")
            return 2
        before, after = pins(old), pins(new)
        for line in changes(before, after):
            print(f"{folder.name}: {line}")
        # New files of an old release are no reason for a new lock: its own are still there.
        changed |= before.keys() != after.keys()
        if not asked.check and new != old:
            file.write_text(new, "utf-8", newline="\n")
            print(f"{folder.name}: written, {len(after)} packages")
    return 1 if asked.check and changed else 0


def _days_ago(days: int) -> str:
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).strftime("%Y-%m-%dT00:00:00Z")


if __name__ == "__main__":
    sys.exit(main())
