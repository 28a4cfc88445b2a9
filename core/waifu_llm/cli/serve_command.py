"""`waifu-llm serve`."""

import asyncio
from argparse import Namespace
from typing import Final

from waifu_llm import log
from waifu_llm.cli.context import Context
from waifu_llm.cli.output import say
from waifu_llm.cli.parser import Parser
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


def configure(parser: Parser) -> None:
    """The command's arguments."""
    parser.description = (
        "Run the module until Ctrl-C. Each flag stands above its variable (WAIFU_LLM_SERVER_PORT), and that above the "
        "config file waifu-llm.toml."
    )
    add = parser.add_argument
    add("--host", metavar="ADDRESS", help="listen there instead of 127.0.0.1; off loopback a token is needed")
    add("--port", metavar="PORT", type=int, help="listen there instead of 7562; 0 takes a free port")
    add(
        "--no-remote-close",
        dest="remote_close",
        action="store_const",
        const=False,
        help="a client's `close` ends only its own connection",
    )
    add(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        help="let web pages of this origin connect (https://example.org); may be repeated",
    )
    add("--allow-host", metavar="NAME", action="append", help="let this Host header in; may be repeated")
    add(
        "--isolate-clients",
        action="store_const",
        const=True,
        help="a client that loaded nothing may not use what another one loaded",
    )
    add("--token-file", metavar="FILE", help="the file with the token that clients must send")
    add("--tls-cert", metavar="FILE", help="certificate chain (PEM); with --tls-key clients connect by wss")
    add("--tls-key", metavar="FILE", help="the certificate's private key (PEM)")
    add("--log-level", metavar="LEVEL", help="debug, info, warning or error")


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
