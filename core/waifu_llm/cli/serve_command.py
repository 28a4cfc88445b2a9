"""`waifu-llm serve`."""

import asyncio
import contextlib
from argparse import Namespace
from typing import Final

from waifu_llm import log
from waifu_llm.cli.context import Context
from waifu_llm.cli.output import say
from waifu_llm.config import TableFlags, flags_from
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
_WORKER_FLAGS: Final = ("prewarm", "prewarm_last")


def run(args: Namespace) -> int:
    """Run the module; its own exit code."""
    context = Context()
    given = vars(args)
    flags = flags_from("server", given, _SERVER_FLAGS) | flags_from("workers", given, _WORKER_FLAGS)
    if args.log_level is not None:
        flags["log", "level"] = args.log_level
    settings = context.settings(flags, TableFlags(tuple(args.gateways), tuple(args.assignments)))
    home = context.own_home()
    from waifu_llm.module import Announce, LastResort, run_module

    redactor = Redactor()
    redactor.add(settings.token)
    log.set_up(home.logs, settings.log.level, redactor)
    with LastResort() as last_resort:
        announce = Announce(_module_listens, _gateway_listens, last_resort.arm)
        return asyncio.run(
            run_module(settings, home, context.environ, redactor=redactor, catalog=context.catalog, announce=announce)
        )


def _module_listens(url: str) -> None:
    say(f"waifu-llm listens at {url} (Ctrl-C stops it)")


def _gateway_listens(name: str, address: str) -> None:
    # Who read the first line may have gone since: that is no reason to take the gateway down.
    with contextlib.suppress(OSError):
        say(f"the gateway {name} listens at {address}")
