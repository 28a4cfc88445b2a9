"""From any exception to one line on stderr and an exit code. Imports what it needs only when there is a failure."""

import errno
import os
import sys
from typing import Final

EXPECTED: Final = 1
USAGE: Final = 2
BUG: Final = 3
INTERRUPTED: Final = 130

# A full disk, a read-only or forbidden folder: the machine's state and not an error of ours.
_OF_THE_MACHINE: Final = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
}


def explain(error: BaseException) -> int:
    """Say what happened and return the exit code. Never raises."""
    match error:
        case SystemExit(code=code):
            return code if isinstance(code, int) else 0 if code is None else EXPECTED
        case KeyboardInterrupt():
            return _tell(None, INTERRUPTED)
        case BrokenPipeError():
            # Whoever read our output has enough; nothing may be written to it any more, at exit neither.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXPECTED
    return _explain_failure(error)


def _explain_failure(error: BaseException) -> int:
    from waifu_client.errors import LLMError
    from waifu_llm.errors import ModuleError, UsageError

    match error:
        case UsageError(message=message):
            return _tell(message, USAGE)
        case ModuleError(message=message) | LLMError(message=message):
            return _tell(message, EXPECTED)
        case OSError() if error.errno in _OF_THE_MACHINE:
            where = f"{error.filename}: " if error.filename else ""
            return _tell(f"{where}{error.strerror}", EXPECTED)
    from waifu_llm.cli.bug import report

    return _tell(report(error), BUG)


def _tell(message: str | None, code: int) -> int:
    from waifu_llm.cli.text import one_line

    print(f"waifu-llm: {one_line(message)}" if message else "", file=sys.stderr)
    return code
