"""Reads the arguments; imports no command."""

from argparse import ArgumentParser, HelpFormatter, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from waifu_llm.cli import arguments

PROGRAM: Final = "waifu-llm"
USAGE: Final = 2
WIDTH: Final = 100

COMMANDS: Final = {
    "serve": "run the module until Ctrl-C",
    "chat": "talk to a provider, in the terminal or through a pipe",
    "models": "list the models of a provider",
    "list": "list the providers and gateways: installed or not, size, version, state",
    "install": "build the environments of providers and gateways",
    "uninstall": "remove the environments of providers and gateways",
    "update": "rebuild the environments that are out of date",
    "prune": "remove environments and files that nobody needs any more",
    "ps": "show the running modules, their workers and gateways",
    "stop": "stop a running module, or one provider's workers",
    "logs": "show the log of a provider, a gateway or the module",
    "keys": "store, list and remove API keys",
    "check": "look for problems and say what to do about them",
    "version": "show versions",
}

_EPILOG: Final = """\
first steps:
  waifu-llm chat echo              talk to a provider that needs no key
  waifu-llm keys set openai        store a key, then: waifu-llm chat openai
  waifu-llm serve                  run the module for programs, at ws://127.0.0.1:7562

Everything lives in one folder, which WAIFU_LLM_HOME moves; `waifu-llm check` says where it is.
"""


class _Help(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        HelpFormatter.__init__(self, prog, max_help_position=34, width=WIDTH)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """A text with line breaks of its own is left as it is."""
        fill = RawDescriptionHelpFormatter if "\n" in text else HelpFormatter
        return fill._fill_text(self, text, width, indent)


class Parser(ArgumentParser):
    """Says what is wrong in one line; long options are never guessed from a beginning."""

    def __init__(self, prog: str | None = None, description: str | None = None, epilog: str | None = None) -> None:
        super().__init__(prog, description=description, epilog=epilog, formatter_class=_Help, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """One line on stderr, exit code 2."""
        self.exit(USAGE, f"{PROGRAM}: {message} (see: {self.prog} --help)\n")


def parse(given: Sequence[str]) -> Namespace:
    """The arguments of one command; `command` is its name. Raises: SystemExit, for --help too."""
    name = given[0] if given else None
    if name in COMMANDS:
        parser = command_parser(name)
        # Else `chat echo --prompt hello lorem` would not take its model; argparse has no such thing with actions.
        return (parser.parse_args if name == "keys" else parser.parse_intermixed_args)(given[1:])
    parser = main_parser()
    if name is not None and not name.startswith("-"):
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=1)
        parser.error(f"there is no command {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
    options = parser.parse_args(given)
    if not options.version:
        parser.print_help()
        parser.exit(USAGE)
    return command_parser("version").parse_args([])


def main_parser() -> Parser:
    """The parser of what stands before a command; its help lists the commands."""
    commands = "\n".join(f"  {name:<10} {text}" for name, text in COMMANDS.items())
    parser = Parser(
        PROGRAM,
        "One small server that brings every LLM provider behind one WebSocket protocol.\n\ncommands:\n" + commands,
        _EPILOG,
    )
    parser.usage = f"{PROGRAM} [--help] [--version] COMMAND …"
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    return parser


def command_parser(name: str) -> Parser:
    """The parser of one command."""
    summary = COMMANDS[name]
    parser = Parser(f"{PROGRAM} {name}", summary[0].upper() + summary[1:] + ".")
    configure: Callable[[Parser], None] = getattr(arguments, f"for_{name}")
    configure(parser)
    parser.set_defaults(command=name)
    return parser
