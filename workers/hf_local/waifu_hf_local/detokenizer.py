"""Token ids in, text out as soon as it is whole. Pure: the tokenizer is handed in.

A token may hold a part of a character, and a tokenizer decodes what is not whole as U+FFFD. What a token
adds depends on the one before it (many tokenizers mark blanks at the start of a word), so a few tokens that
were said already are decoded along with the new ones.
"""

from collections.abc import Callable, Sequence
from typing import Final

_REPLACEMENT: Final = "\ufffd"
# An unfinished character is at most three bytes, so at most three tokens.
_MOST_UNFINISHED: Final = 3


class Detokenizer:
    """One answer's text. `context`: the last tokens of the text that the answer continues, if it does."""

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = list(context)
        self._said = len(self._ids)
        self._before = decode(self._ids) if self._ids else ""

    def feed(self, token: int) -> str:
        """The text that is whole now; may be empty."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if not text.endswith(_REPLACEMENT):
            return self._settle(text, len(self._ids))
        if len(self._ids) - self._said <= _MOST_UNFINISHED:
            return ""
        # What came before the last three is no beginning of a character: the model wrote bytes that are no text.
        whole = len(self._ids) - _MOST_UNFINISHED
        return self._settle(self._decode(self._ids[:whole]), whole)

    def end(self) -> str:
        """What was held back, without the beginning of a character that never got whole."""
        text = self._decode(self._ids)
        return text[len(self._before) :].rstrip(_REPLACEMENT)

    def _settle(self, text: str, whole: int) -> str:
        """Say what the first `whole` tokens add; those that added it are the context of what follows."""
        new = text[len(self._before) :]
        if new:
            self._ids = self._ids[self._said :]
            self._said = whole - self._said
            self._before = self._decode(self._ids[: self._said])
        else:
            # A token without text (a special one) must not push out the context.
            del self._ids[self._said : whole]
        return new
