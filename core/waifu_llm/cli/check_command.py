"""`waifu-llm check`."""

import asyncio
from argparse import Namespace

from waifu_llm import __version__
from waifu_llm.cli.context import Context
from waifu_llm.cli.findings import Findings
from waifu_llm.cli.inspection import inspect
from waifu_llm.cli.output import note, say, say_json
from waifu_llm.config.example import example_text
from waifu_llm.errors import ModuleError
from waifu_llm.private_files import write_private


def run(args: Namespace) -> int:
    """Print what was found."""
    context = Context()
    if args.write_config:
        return _write_config(context)
    findings = asyncio.run(inspect(context))
    if args.json:
        say_json({"version": __version__, "facts": findings.facts, "problems": findings.problems})
    else:
        _print(findings)
    return 1 if findings.problems else 0


def _print(findings: Findings) -> None:
    width = max(len(name) for name in findings.facts)
    for name, value in findings.facts.items():
        say(f"{name:<{width}}  {value}")
    say()
    for problem in findings.problems:
        say(f"problem: {problem}")
    if not findings.problems:
        say("no problems")


def _write_config(context: Context) -> int:
    file = context.home.config_file
    if file.exists():
        raise ModuleError(f"there is {file} already; it is left as it is")
    context.own_home()
    write_private(file, example_text(context.catalog.gateways()).encode())
    note(f"wrote {file}; all keys in it are commented out")
    return 0
