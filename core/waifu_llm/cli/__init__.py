"""The command line: one thin file per subcommand, imported when it is asked for, so that `--help` costs nothing."""

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Final

# It goes on importing until it listens, and lets garbage be looked for from then on.
_UNTIL_IT_LISTENS: Final = "serve"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command (default: the arguments of this process) and return its exit code; never raises.

    0 all is well, 1 expected failure, 2 wrong usage, 3 an error of the module itself, 130 ended by Ctrl-C.
    """
    if argv is None:
        _hurry()
    from waifu_llm.cli.failure import explain
    from waifu_llm.cli.parser import parse
    from waifu_llm.cli.streams import prepare

    prepare()
    _write_no_core_dumps()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parse(arguments)
        command = importlib.import_module(f"waifu_llm.cli.{args.command}_command")
        if args.command != _UNTIL_IT_LISTENS:
            gc.freeze()
            gc.enable()
        code: int = command.run(args)
        sys.stdout.flush()
    except BaseException as error:
        return explain(error)
    return code


def _hurry() -> None:
    """In a process that is for this command alone: nothing is imported that is not looked into, and nobody looks for
    garbage among modules and classes, sixty times, which stay.
    """
    from waifu_llm.late import postpone

    postpone()
    gc.disable()


def _write_no_core_dumps() -> None:
    """Keys may lie in this process's memory, whichever command it runs."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
