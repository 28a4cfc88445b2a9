"""What reading a socket costs a process in pages of memory."""

import platform
import subprocess
import sys

import pytest

_READS = 500

# What asyncio does for each read: room for 256 KiB, of which what came is kept.
_READ_OFTEN = f"""
import resource
import socket

from waifu_worker.heap import keep_what_reads_take

KEEP
there, here = socket.socketpair()
for first in (True, False):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({_READS}):
        there.send(b"data: a chunk")
        here.recv(256 * 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_faulted(first: str) -> int:
    """How often the system had to find a page for a process that read some hundred times."""
    program = _READ_OFTEN.replace("KEEP", first)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory by other rules")
def test_a_process_reads_into_memory_that_it_has() -> None:
    assert pages_faulted("pass") >= _READS
    assert pages_faulted("keep_what_reads_take()") < _READS // 10
