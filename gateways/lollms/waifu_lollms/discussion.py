"""What a model is asked: the personality, as much of the history as fits, and the prompt. Pure.

The same discussion twice: as roles for providers that chat, and as the joined text for those that complete a text.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from waifu_client.protocol import Message
from waifu_lollms.history import Turn

if TYPE_CHECKING:
    from waifu_lollms.personalities.model import Personality
    from waifu_lollms.state.model import State

__all__ = ["Discussion", "Turn", "build", "estimated_tokens", "raw"]

# A token is 3.5 characters, or one Chinese, Japanese or Korean one: in units of a seventh of a token.
_TOKEN: Final = 7
_CHARACTER: Final = 2
# Radicals to Yi, with kana, Hangul and their punctuation; Hangul's letters and syllables; compatibility and full-width
# forms; the planes of the rarer Han characters.
_CJK: Final = re.compile(
    "[\u1100-\u11ff\u2e80-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003ffff]+"
)
_PLACEHOLDER: Final = re.compile(r"\{\{(date_time|date|time)\}\}")
_FORMATS: Final = {"date": "%A, %B %d, %Y", "time": "%H:%M:%S", "date_time": "%A, %B %d, %Y %H:%M:%S"}


class Discussion(msgspec.Struct, frozen=True):
    """One request: `messages` for providers that chat, `text` for the others; `stops` end the answer of both."""

    messages: tuple[Message, ...]
    text: str
    stops: tuple[str, ...]


def raw(prompt: str) -> Discussion:
    """The prompt as it is, without a personality."""
    return Discussion(messages=(Message(role="user", content=prompt),), text=prompt, stops=())


def build(
    personality: "Personality", turns: Sequence[Turn], prompt: str, *, state: "State", n_predicts: int, now: datetime
) -> Discussion:
    """The discussion with a personality, without the turns that no longer fit into `state.ctx_size`.

    `turns`: the oldest first. `n_predicts`: the most tokens of the answer. Conditioning and prompt are there even
    where they alone are too much: then the provider decides.
    """
    form = _Form(personality, state)
    conditioning = _filled(personality.conditioning, now)
    asked = form.question(prompt)
    left = state.ctx_size - min(n_predicts, state.ctx_size // 4)
    fitting = _Room(left, conditioning + asked)
    kept = fitting.newest(turns, form)
    welcome = form.welcome() if len(kept) == len(turns) else ""
    if not fitting.takes(welcome):
        welcome = ""
    messages = [Message(role="system", content=conditioning)] if conditioning.strip() else []
    if welcome:
        messages.append(Message(role="assistant", content=personality.welcome_message))
    for turn in kept:
        messages.append(form.said(turn.user))
        if turn.answer:  # providers refuse a message without content
            messages.append(Message(role="assistant", content=turn.answer))
    messages.append(form.said(prompt))
    text = "".join((conditioning, welcome, *map(form.turn, kept), asked))
    return Discussion(tuple(messages), text, _stops((*personality.anti_prompts, state.discussion_prompt_separator)))


def estimated_tokens(text: str) -> int:
    """About how many tokens a text is: one per 3.5 characters, one per Chinese, Japanese or Korean one."""
    return -(-_units(text) // _TOKEN)


class _Form:
    """How what is said is written, in both forms."""

    def __init__(self, personality: "Personality", state: "State") -> None:
        self._personality = personality
        name = state.user_name.strip() if state.use_user_name_in_discussions else ""
        self._name = name or None
        self._prefix = f"{state.discussion_prompt_separator}{name}: " if name else personality.user_message_prefix

    def said(self, user: str) -> Message:
        return Message(role="user", content=user, name=self._name)

    def question(self, user: str) -> str:
        return f"{self._prefix}{user}{self._personality.link_text}{self._personality.ai_message_prefix}"

    def turn(self, turn: Turn) -> str:
        return self.question(turn.user) + turn.answer

    def welcome(self) -> str:
        """The welcome message where the discussion begins with it, else ""."""
        said = self._personality.welcome_message
        if not (self._personality.include_welcome_message and said.strip()):
            return ""
        return f"{self._personality.ai_message_prefix}{said}{self._personality.link_text}"


class _Room:
    """What is left of the context, beside what is in it whatever it costs."""

    def __init__(self, tokens: int, always: str) -> None:
        self._left = tokens * _TOKEN - _units(always)

    def takes(self, text: str) -> bool:
        """Whether it fits; then its place is taken."""
        cost = _units(text)
        if cost > self._left:
            return False
        self._left -= cost
        return True

    def newest(self, turns: Sequence[Turn], form: _Form) -> Sequence[Turn]:
        """The newest turns that fit, without a gap, the oldest first."""
        kept = 0
        while kept < len(turns) and self.takes(form.turn(turns[-1 - kept])):
            kept += 1
        return turns[len(turns) - kept :]


def _units(text: str) -> int:
    cjk = 0 if text.isascii() else sum(len(run) for run in _CJK.findall(text))
    return cjk * _TOKEN + (len(text) - cjk) * _CHARACTER


def _filled(conditioning: str, now: datetime) -> str:
    return _PLACEHOLDER.sub(lambda found: now.strftime(_FORMATS[found[1]]), conditioning)


def _stops(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for text in texts if text))
