"""What a module loads at its start is looked at by no collection of garbage later."""

import subprocess
import sys
from pathlib import Path

from support.waiting import WAIT_S

# Its own process: what is frozen stays so for good.
PROGRAM = """
import asyncio, gc, os, signal, sys
from pathlib import Path
from waifu_llm.config import ServerSettings, Settings
from waifu_llm.module import Announce, run_module
from waifu_llm.paths import Home

def running():
    print(gc.get_freeze_count(), len(gc.get_objects()), int(gc.isenabled()))
    os.kill(os.getpid(), signal.SIGTERM)

def listens(url):
    asyncio.get_running_loop().call_soon(running)

gc.disable()
settings = Settings(server=ServerSettings(port=0))
asyncio.run(run_module(settings, Home(Path(sys.argv[1])), os.environ, announce=Announce(listens)))
"""


def test_a_collection_in_a_running_module_does_not_look_at_what_its_start_loaded(home: Path) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(home)]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=WAIT_S)
    frozen, others, enabled = map(int, ran.stdout.split())
    assert frozen > 10_000
    assert others < 1000
    assert enabled, "garbage is looked for again"
