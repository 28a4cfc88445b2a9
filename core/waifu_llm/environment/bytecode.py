"""The program that compiles what no start of a worker has compiled yet. Runs nothing.

It runs by the Python that environments are made from and is told of its folder by a variable, so that whoever removes
the environment finds nobody who runs from it. A folder that was taken away meanwhile ends it; it never makes a part of
one anew, since it works in the folder itself, whatever that is called by then.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from waifu_llm.environment.stamp import STAMP_FILE

_FOLDER: Final = "COMPILE_FOLDER"
_STAMP: Final = "COMPILE_STAMP"

PROGRAM: Final = """\
import compileall, os, sys
site, stamp = os.environ["COMPILE_FOLDER"], os.environ["COMPILE_STAMP"]
top = site
if os.name == "posix":
    os.chdir(site)
    top = "."
for base, folders, names in os.walk(top):
    folders[:] = [name for name in folders if name != "__pycache__"]
    for name in names:
        if not os.path.exists(stamp):
            sys.exit(1)
        if name.endswith(".py"):
            compileall.compile_file(
                os.path.join(base, name), ddir=os.path.normpath(os.path.join(site, base)), quiet=2
            )
"""


def command(python: str) -> list[str]:
    """What runs it."""
    return [python, "-I", "-S", "-c", PROGRAM]


def environment(basic: Mapping[str, str], folder: Path, site: Path) -> dict[str, str]:
    """Its variables: `site` in the environment `folder` is compiled."""
    return {**basic, _FOLDER: str(site), _STAMP: str(folder / STAMP_FILE)}
