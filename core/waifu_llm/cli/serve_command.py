"""`waifu-llm serve`."""

import asyncio
from argparse import Namespace
from typing import Final

from waifu_llm import log
from waifu_llm.cli.context import Context
from waifu_llm.cli.output import say
from waifu_llm.config import flags_from
from waifu_llm.redaction import Redactor

_SERVER_FLAGS: Final = (
    "host",
    "port",
    "remote_close",
    "allow_origin",
    "allow_host",
    "isolate_clients",
    "token_file",
    "tls_cert",
    "tls_key",
)


def run(args: Namespace) -> int:
    """Run the module; its own exit code."""
    context = Context()
    given = vars(args)
    flags = flags_from("server", given, _SERVER_FLAGS)
    if args.log_level is not None:
        flags["log", "level"] = args.log_level
    settings = context.settings(flags)
    home = context.own_home()
    from waifu_llm.module import run_module

    redactor = Redactor()
    redactor.add(settings.token)
    log.set_up(home.logs, settings.log.level, redactor)
    return asyncio.run(
        run_module(settings, home, context.environ, redactor=redactor, catalog=context.catalog, on_listening=_announce)
    )


def _announce(url: str) -> None:
    say(f"waifu-llm listens at {url} (Ctrl-C stops it)")
