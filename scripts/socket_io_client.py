#!/usr/bin/env python3
"""Takes the playground's Socket.IO client out of its published npm package; `--check` only compares.

The version is the one that `tests/gateways/lollms/javascript/package.json` pins. To update: change it there, run
`npm install` in that folder, then this script.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tests" / "gateways" / "lollms" / "javascript"
STATIC = ROOT / "gateways" / "lollms" / "waifu_lollms" / "static"
# The map is not served, and a browser's tools would ask for it.
_SOURCE_MAP = re.compile(rb"//# sourceMappingURL=\S+\s*\Z")


def install_packages() -> None:
    """The locked packages in `node_modules`, quick where they are there already."""
    lock, stamp = PACKAGE / "package-lock.json", PACKAGE / "node_modules" / ".waifu-llm-installed"
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is missing; install Node 20 or newer")
    subprocess.run([npm, "ci", "--silent", "--no-audit", "--no-fund"], cwd=PACKAGE, check=True)
    stamp.write_bytes(lock.read_bytes())


def published() -> dict[str, bytes]:
    """Name in `static` -> content, of what the package's authors published."""
    package = PACKAGE / "node_modules" / "socket.io-client"
    return {
        "socket.io.min.js": _SOURCE_MAP.sub(b"", (package / "dist" / "socket.io.min.js").read_bytes()),
        "socket.io.LICENSE.txt": (package / "LICENSE").read_bytes(),
    }


def main() -> int:
    """0 where the files are, or now are, the published ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; 1 where a file differs")
    check = parser.parse_args().check
    install_packages()
    differing = 0
    for name, content in published().items():
        file = STATIC / name
        if file.is_file() and file.read_bytes() == content:
            continue
        differing += 1
        if not check:
            file.write_bytes(content)
        print(f"{'differs' if check else 'written'}: {file.relative_to(ROOT)}")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
