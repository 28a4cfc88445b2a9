"""`waifu-llm chat PROVIDER [MODEL]`: interactive on a terminal, one answer with --prompt or through a pipe."""

import asyncio
import sys
from argparse import Namespace

import msgspec

from waifu_llm.catalog import Manifest
from waifu_llm.cli.answer import Answering, write_answer
from waifu_llm.cli.connection import load, module_client
from waifu_llm.cli.context import Context
from waifu_llm.cli.names import provider_named
from waifu_llm.cli.output import note, say_json
from waifu_llm.cli.text import encodable
from waifu_llm.errors import UsageError


def run(args: Namespace) -> int:
    """Converse, or print one answer."""
    context = Context()
    start = f"`waifu-llm serve --gateway {args.provider}` starts it for the programs that use it"
    manifest = provider_named(context.catalog, args.provider, start)
    model, system, given = (text and encodable(text) for text in (args.model, args.system, args.prompt))
    answering = Answering(manifest.name, model or manifest.declared.default_model, system)
    prompt = _prompt(given)
    if prompt is not None:
        return asyncio.run(_once(context, manifest, answering, prompt, as_json=args.json))
    if args.json:
        raise UsageError("--json prints one answer: give it a --prompt or a pipe")
    from waifu_llm.cli.conversation import converse

    return converse(context, manifest, answering)


def _prompt(given: str | None) -> str | None:
    """The whole prompt of a single answer, or None for a conversation."""
    if sys.stdin.isatty():
        return given
    piped = sys.stdin.read().strip()
    prompt = "\n\n".join(part for part in (given, piped) if part)
    if not prompt:
        raise UsageError("there is nothing to answer: the pipe is empty and there is no --prompt")
    return prompt


async def _once(context: Context, manifest: Manifest, answering: Answering, prompt: str, *, as_json: bool) -> int:
    async with module_client(context) as connected:
        await load(connected, manifest)
        client = connected.client
        answering.ask(prompt)
        if as_json:
            answer = await client.generate(**answering.request())
            say_json(
                {
                    "provider": manifest.name,
                    "model": answering.model,
                    "response": answer.text,
                    "finish_reason": answer.finish_reason,
                    "usage": msgspec.to_builtins(answer.usage),
                }
            )
            return 0
        reason = await write_answer(client, answering)
    if reason == "length":
        note("the answer was cut: it reached its greatest length")
    return 0
