"""An error of the module itself: its traceback goes to the log, redacted, and the user is told where."""

import os
import platform
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime

from waifu_llm import __version__
from waifu_llm.log import CORE_LOG
from waifu_llm.paths import Home
from waifu_llm.private_files import PrivateFileError, make_folder_of_home, make_private_folder
from waifu_llm.redaction import Redactor


def report(error: BaseException, environ: Mapping[str, str] | None = None) -> str:
    """Write the traceback to `<home>/logs/waifu-llm.log` and return the sentence for the user. Never raises."""
    environ = os.environ if environ is None else environ
    redactor = Redactor()
    redactor.add_found(environ)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    where = f"waifu-llm {__version__}, Python {platform.python_version()}, {platform.platform()}"
    details = redactor.scrub(f"{stamp} {where}\n{''.join(traceback.format_exception(error))}")
    what = redactor.scrub(f"{type(error).__name__}: {error}")
    home = Home.find(environ)
    try:
        make_private_folder(home.root)
        make_folder_of_home(home.logs)
        file = home.logs / CORE_LOG
        with file.open("a", encoding="utf-8", errors="replace") as opened:
            opened.write(details)
    except (OSError, PrivateFileError):
        print(details, file=sys.stderr)
        return f"this is an error of waifu-llm itself: {what}"
    return f"this is an error of waifu-llm itself: {what}; please report it with what stands in {file}"
