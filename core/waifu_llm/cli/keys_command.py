"""`waifu-llm keys set|list|remove`. A key is typed without echo or piped in; it never stands among the arguments."""

import getpass
import sys
from argparse import Namespace

from msgspec.structs import asdict

from waifu_llm.catalog import KeyNeed, Manifest
from waifu_llm.cli.context import Context
from waifu_llm.cli.names import provider_named
from waifu_llm.cli.output import note, say, say_json, warn
from waifu_llm.cli.text import table
from waifu_llm.errors import UsageError
from waifu_llm.keys import LONGEST_KEY


def run(args: Namespace) -> int:
    """Carry out the action."""
    context = Context()
    for sentence in context.keys.problems():
        warn(sentence)
    match args.action:
        case "set":
            return _set(context, args.provider)
        case "list":
            return _list(context, as_json=args.json)
        case _:
            return _remove(context, args.provider)


def _set(context: Context, provider: str) -> int:
    manifest = provider_named(context.catalog, provider, "it needs no key; `waifu-llm list` names those that do")
    if manifest.declared.key.need is KeyNeed.NONE:
        raise UsageError(f"{provider} needs no key")
    where = context.keys.set(provider, _read_key(manifest))
    note(f"the key of {provider} is stored in {'the keyring' if where == 'keyring' else context.home.keys_file}")
    for name in manifest.declared.key.env:
        if context.environ.get(name):
            warn(f"the variable {name} is set and goes before the stored key")
    return 0


def _read_key(manifest: Manifest) -> str:
    if not sys.stdin.isatty():
        # One character more than a key and its newline have: what is cut off here is refused there.
        key = sys.stdin.readline(LONGEST_KEY + 2)
    else:
        try:
            key = getpass.getpass(f"{manifest.declared.title} API key (it is not shown): ")
        except EOFError:
            key = ""
    if not key.strip():
        raise UsageError("no key was given")
    return key


def _list(context: Context, *, as_json: bool) -> int:
    stored = context.keys.stored()
    if as_json:
        say_json([asdict(key) for key in stored])
    elif stored:
        say(table(("PROVIDER", "KEY", "WHERE"), [(key.provider, key.masked, key.where) for key in stored]))
    else:
        note("no keys are stored; `waifu-llm keys set PROVIDER` stores one")
    return 0


def _remove(context: Context, provider: str) -> int:
    if not context.keys.remove(provider):
        note(f"waifu-llm: no key of {provider} is stored")
        return 1
    note(f"the key of {provider} is removed")
    return 0
