"""`waifu-llm version`."""

from argparse import Namespace

from waifu_llm import __version__
from waifu_llm.cli.output import say, say_json


def run(args: Namespace) -> int:
    """Print the version; with --json also those of the protocol and of Python."""
    if args.json:
        import platform

        from waifu_client.protocol import PROTOCOL_VERSION

        say_json({"version": __version__, "protocol": PROTOCOL_VERSION, "python": platform.python_version()})
    else:
        say(f"waifu-llm {__version__}")
    return 0
