#!/usr/bin/env python3
"""From a fresh clone to a streamed reply: makes .venv, installs the project, starts it, loads `echo`, talks to it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bootstrap

NEXT = """
It works. What to type next:
  {command} serve                  the module, for your own clients
  {command} chat echo              talk to it here
  {command} keys set openai        then: {command} chat openai
"""


def main() -> int:
    """0 where the reply came, 1 with a sentence about what went wrong."""
    start = time.monotonic()
    try:
        bootstrap.prepare(dev=False)
    except bootstrap.SetUpFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # The conversation needs the packages of .venv, which this Python does not have.
    talk = [str(bootstrap.in_venv("python")), str(bootstrap.ROOT / "scripts" / "demo_talk.py")]
    code = subprocess.run(talk, env=bootstrap.environment(), check=False).returncode
    if code == 0:
        bootstrap.say(f"  {time.monotonic() - start:.1f} s in all")
        bootstrap.say(NEXT.format(command=bootstrap.in_venv("waifu-llm").relative_to(bootstrap.ROOT)).rstrip())
    return code


if __name__ == "__main__":
    sys.exit(main())
