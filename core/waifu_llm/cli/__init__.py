"""The command line: one thin file per subcommand, imported when it is asked for, so that `--help` costs nothing."""

import importlib
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command (default: the arguments of this process) and return its exit code; never raises.

    0 all is well, 1 expected failure, 2 wrong usage, 3 an error of the module itself, 130 ended by Ctrl-C.
    """
    from waifu_llm.cli.failure import explain
    from waifu_llm.cli.parser import parse
    from waifu_llm.cli.streams import prepare

    prepare()
    _write_no_core_dumps()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parse(arguments)
        code: int = importlib.import_module(f"waifu_llm.cli.{args.command}_command").run(args)
        sys.stdout.flush()
    except BaseException as error:
        return explain(error)
    return code


def _write_no_core_dumps() -> None:
    """Keys may lie in this process's memory, whichever command it runs."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
