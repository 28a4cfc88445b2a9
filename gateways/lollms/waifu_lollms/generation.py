"""One program's generations: one runs, some wait, a cancel ends them all.

A generation takes what is selected when it starts. Everything that decides who runs is done in one step of the event
loop; only the texts are awaited.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from waifu_client import Client, ConnectionLost, LLMError, UnexpectedError
from waifu_client.protocol import Message
from waifu_lollms.client import SocketClient
from waifu_lollms.discussion import Discussion, build, raw
from waifu_lollms.history import Turn
from waifu_lollms.parameters import Parameters, settle
from waifu_lollms.payloads import RAW, Payload, Refused, canceled, generation_failed, integer, is_raw, text
from waifu_lollms.personalities.errors import PersonalityError
from waifu_lollms.selection import Choice, Selection
from waifu_lollms.selects import Earlier, end_of
from waifu_lollms.speech import LONGEST_ANSWER, Speech

SILENCE_MS: Final = 300_000  # without a word from the model; a local one may have to be read into memory first
INTERNAL: Final = "an internal error: the gateway's log says more"
# Who speaks where no personality does. None and "" are the protocol's "AI", and a raw answer may begin with "AI:".
_NOBODY: Final = " "

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Generation:
    """What was asked for, and how far the answer is. `over`: what ends it is decided; nobody else may end it.

    `earlier`: what the program selected before it, which is to hold for it.
    """

    payload: Payload
    earlier: Earlier
    speech: Speech
    request_id: str
    turn_of: str | None = None
    over: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def answer(self) -> str:
        """The text so far."""
        return self.speech.text


@dataclass(frozen=True, slots=True)
class Order:
    """A generation as the module gets it."""

    choice: Choice
    discussion: Discussion
    parameters: Parameters
    speaker: str | None


class GenerationQueue:
    """The generations of one program. `ignored`: the parameters that a binding does not have, told once."""

    def __init__(
        self, client: SocketClient, selection: Selection, length: int, clock: Callable[[], datetime], told: "Told"
    ) -> None:
        self._client = client
        self._selection = selection
        self._length = length
        self._clock = clock
        self._told = told
        self._running: Generation | None = None
        self._waiting: deque[Generation] = deque()
        self._closed = False
        self._cancels = 0  # those that have not been answered yet: what was asked for after them starts after them
        self._answering = asyncio.Lock()

    def add(self, payload: Payload) -> bool:
        """It runs or waits; False where as many wait as may."""
        if len(self._waiting) >= self._length + (self._running is None):
            return False
        client, request_id = self._client, uuid4().hex
        speech = Speech(client.send, client.tasks, request_id)
        self._waiting.append(Generation(payload, client.selects.earlier("generate_text"), speech, request_id))
        self._advance()
        return True

    async def cancel(self) -> None:
        """Stop the running one, drop the waiting ones, and say so."""
        running = self._running if self._running is not None and not self._running.over else None
        dropped = tuple(self._waiting)
        self._waiting.clear()
        if running is not None and running.task is not None:
            running.over = True
            running.task.cancel()
        self._cancels += 1
        try:
            async with self._answering:
                await self._answer_cancel(running, dropped)
        finally:
            self._cancels -= 1
            self._advance()

    async def _answer_cancel(self, running: Generation | None, dropped: tuple[Generation, ...]) -> None:
        if running is None:
            await self._client.answer((canceled("Nothing was being generated.", "", None),))
        else:
            if running.task is not None:
                await asyncio.wait([running.task])  # no chunk follows the answer
            self._remember(running, failed=True)
            await self._client.answer((canceled("Generation is canceled.", running.answer, running.request_id),))
        for each in (*((running,) if running else ()), *dropped):
            if not is_raw(each.payload):
                await self._client.send("text_generated", {"text": each.answer, "request_id": each.request_id})

    def close(self) -> None:
        """The program leaves: what waits never starts. What runs is its task's owner's to end."""
        self._waiting.clear()
        self._closed = True

    def _advance(self) -> None:
        if self._running is None and not self._cancels and self._waiting and not self._closed:
            generation = self._running = self._waiting.popleft()
            generation.task = self._client.tasks.start(self._run(generation))
            # Not at the end of the task's own code: one cancelled before its first step runs none of it.
            generation.task.add_done_callback(lambda _: self._ended())

    def _ended(self) -> None:
        self._running = None
        self._advance()

    async def _run(self, generation: Generation) -> None:
        error = await self._failure(generation)
        generation.over = True
        self._remember(generation, failed=error is not None)
        text, request_id = generation.answer, generation.request_id
        if error is None:
            await self._client.send("text_generated", {"text": text, "request_id": request_id})
        else:
            await self._client.answer(generation_failed(error, text, request_id))

    async def _failure(self, generation: Generation) -> str | None:
        """Generate; the sentence that says why it failed, or None."""
        try:
            await self._generate(generation)
        except (Refused, PersonalityError, LLMError, ValueError) as error:
            return str(error) or INTERNAL
        except Exception:
            _log.exception("a generation failed: a bug, please report it")
            return INTERNAL
        return None

    async def _generate(self, generation: Generation) -> None:
        await self._selection.begin()
        await end_of(generation.earlier)
        order = await self._order(generation)
        binding = order.choice.chosen_binding()

        async def stream(client: Client) -> None:
            try:
                await self._stream(client, generation, order)
            except ConnectionLost as lost:
                if generation.speech.has_begun:  # what was said cannot be said again
                    raise UnexpectedError(lost.message) from lost
                raise

        await self._client.link.ask_loaded(binding, stream)

    async def _order(self, generation: Generation) -> Order:
        """Everything that the generation needs, as it is now. Raises: Refused, PersonalityError, ValueError."""
        choice, state = self._selection.choice, self._selection.state
        choice.chosen_binding()
        prompt = text(generation.payload, "prompt")
        number = integer(generation.payload, "personality")
        if number is None:
            number = self._selection.active
            if number == RAW:
                raise Refused("no personality is active: activate one, or send `personality`: -1 for none")
        personality = None if number == RAW else await self._selection.personality(number)
        parameters = settle(generation.payload, personality, state)
        if personality is None:
            return Order(choice, raw(prompt), parameters, None)
        generation.turn_of = personality.key
        turns = self._client.histories.turns(personality.key)
        discussion = build(personality, turns, prompt, state=state, n_predicts=parameters.n_predicts, now=self._clock())
        return Order(choice, discussion, parameters, personality.name)

    async def _stream(self, client: Client, generation: Generation, order: Order) -> None:
        binding = order.choice.chosen_binding()
        if binding not in self._selection.details:
            self._selection.learn(await client.providers())
        params = order.parameters.for_client()
        params["stop_tokens"] = order.discussion.stops or None
        params["timeout_ms"] = SILENCE_MS
        params["character_name"] = order.speaker or _NOBODY
        is_chat = self._selection.is_chat(binding)
        messages: tuple[Message, ...] = order.discussion.messages if is_chat else ()
        prompt = None if is_chat else order.discussion.text
        model = order.choice.model
        stream = client.stream(messages, prompt=prompt, model_id=model, provider=binding, **params)
        async with generation.speech as speech, stream:
            async for piece in stream:
                if not speech.add(piece):
                    raise Refused(f"the answer was ended after {LONGEST_ANSWER:,} characters: see `n_predicts`")
        self._told.ignored(binding, stream.ignored)

    def _remember(self, generation: Generation, *, failed: bool) -> None:
        if generation.turn_of is not None:
            prompt = text(generation.payload, "prompt")
            turn = Turn(prompt, generation.answer)
            self._client.histories.add(generation.turn_of, turn, failed=failed)


class Told:
    """What was said in the log once and need not be said again."""

    def __init__(self) -> None:
        self._ignored: set[tuple[str, str]] = set()

    def ignored(self, binding: str, parameters: tuple[str, ...]) -> None:
        """A binding does not have these parameters."""
        if new := [name for name in parameters if (binding, name) not in self._ignored]:
            self._ignored.update((binding, name) for name in new)
            _log.info("%s does not have these parameters, they are left out: %s", binding, ", ".join(new))
