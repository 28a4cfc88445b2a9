"""Takes the wire off the standard streams, before anything that could print is imported.

Imports only what it must. The streams of `sys` are never wrapped or closed: whoever wraps one closes it at exit.
"""

import gc
import os
import sys
from io import TextIOWrapper


class Pipes:
    """The two ends of the wire: descriptors that no child inherits. `source` is read, `sink` is written."""

    __slots__ = ("sink", "source")

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink


def claim() -> Pipes:
    """Move the wire to private descriptors; from then on input is empty and output goes to stderr.

    Also turns core dumps off, since this process will hold keys, and the collection of garbage until there is
    something to serve. Call it once, before any other import.
    Raises: OSError where input or output is not open, which no worker can live without.
    """
    _no_core_dumps()
    # Imports make hardly any garbage: looking for it is 6 % of a start. `runtime` and `gateway` turn it on again.
    gc.disable()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.fstat(2)
    except OSError:
        os.dup2(null, 2)
    pipes = Pipes(os.dup(0), os.dup(1))
    os.dup2(null, 0)
    os.dup2(2, 1)
    if null > 2:
        os.close(null)
    _binary(pipes)
    # Both streams now end in the log: a library's print should be there at once, and no character may break it.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    return pipes


def _no_core_dumps() -> None:
    if sys.platform == "win32":  # it writes none
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _binary(pipes: Pipes) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(pipes.source, os.O_BINARY)
        msvcrt.setmode(pipes.sink, os.O_BINARY)
