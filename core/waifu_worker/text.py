"""What happens to an answer's text between provider and wire, whatever its pieces are. Pure.

Surrogate pairs are joined, thinking is taken away where the provider asks for it, then the name prefix, then
leading line breaks where a stop consists of line breaks, then the text ends at the first stop sequence. The
pieces that come out add up to the filter applied to the whole text.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Final, Protocol

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LINE_BREAKS: Final = "\r\n"
_THINK: Final = "<think>"
_THINK_END: Final = "</think>"


class _Stage(Protocol):
    """A step at the beginning. `settled`: from now on it hands on what it gets, so it can be left out."""

    settled: bool

    def feed(self, text: str) -> str:
        """What may go on now."""

    def end(self) -> str:
        """What was held back."""


class AnswerFilter:
    """One answer's filter: feed every piece, `end` once; after `stopped` nothing more is wanted."""

    def __init__(self, *, character_name: str = "", stops: Sequence[str] = (), thinking: bool = False) -> None:
        stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._surrogates = _SurrogateJoiner()
        self._finder = _StopFinder(stops) if stops else None
        # What looks at the beginning of the answer only, and then leaves.
        self._first: list[_Stage] = []
        if thinking:
            self._first.append(_ThinkingRemover())
        if character_name.strip():
            self._first.append(_NameRemover(character_name.strip()))
        if any(not stop.strip(_LINE_BREAKS) for stop in stops):
            self._first.append(_LineBreakDropper())

    @property
    def stopped(self) -> bool:
        """A stop sequence was found: the answer is complete."""
        return self._finder is not None and self._finder.stopped

    def feed(self, piece: str) -> str:
        """The text that may go out now; may be empty."""
        return "".join(self.feed_all([piece]))

    def feed_all(self, pieces: list[str]) -> list[str]:
        """What of these pieces may go out now, as pieces; none of them is empty. Where nothing has to be looked at
        closely, all together cost little more than one.
        """
        if not all(pieces):
            pieces = [piece for piece in pieces if piece]
        whole = "".join(pieces)
        if not whole.isascii() or self._surrogates.held:
            joined = self._surrogates.feed_all(pieces, whole)
            if joined is not pieces:
                pieces, whole = joined, "".join(joined)
        if self._first:
            pieces = self._through_first(pieces)
            whole = "".join(pieces)
        return pieces if self._finder is None else self._finder.feed_all(pieces, whole)

    def end(self) -> str:
        """The rest, once nothing more comes. Nothing after `stopped`."""
        text = self._surrogates.end()
        if self._first:
            text = self._through(self._first, text)
            stages = self._first
            while stages:
                first, *stages = stages
                text += self._through(stages, first.end())
        if self._finder is None:
            return text
        return ("".join(self._finder.feed_all([text], text)) if text else "") + self._finder.end()

    def _through_first(self, pieces: list[str]) -> list[str]:
        out: list[str] = []
        for index, piece in enumerate(pieces):
            if not self._first:
                return out + pieces[index:]
            if text := self._through(self._first, piece):
                out.append(text)
        return out

    def _through(self, stages: list[_Stage], text: str) -> str:
        settled = False
        for stage in stages:
            if not text:
                break
            text = stage.feed(text)
            settled |= stage.settled
        if settled:
            self._first = [stage for stage in self._first if not stage.settled]
        return text


class _SurrogateJoiner:
    """Joins a pair whose halves came in two pieces, as JSON escapes allow; a lone half becomes U+FFFD."""

    def __init__(self) -> None:
        self.held = ""

    def feed_all(self, pieces: list[str], whole: str) -> list[str]:
        """The pieces, of which `whole` is made; the same list where there is nothing to do."""
        if not self.held and _SURROGATE.search(whole) is None:
            return pieces
        return [text for piece in pieces if (text := self._feed(piece))]

    def _feed(self, text: str) -> str:
        text = self.held + text
        self.held = ""
        if not _SURROGATE.search(text):
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            self.held = text[-1]
            text = text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def end(self) -> str:
        held, self.held = self.held, ""
        return "\ufffd" if held else ""


class _ThinkingRemover:
    """Takes one `<think>...</think>` at the very start away, and the blanks around it."""

    def __init__(self) -> None:
        self.settled = False
        self._blanks: list[str] = []
        self._held = ""
        self._inside = False
        self._behind = False

    def feed(self, text: str) -> str:
        if self._behind:
            return self._after(text)
        if self._inside:
            return self._within(text)
        self._held += text
        if not self._held.strip():
            self._blanks.append(self._held)
            self._held = ""
            return ""
        start = self._held.lstrip()
        if start.startswith(_THINK):
            self._inside, self._held = True, ""
            return self._within(start[len(_THINK) :])
        if _THINK.startswith(start):
            return ""
        self.settled = True
        return self.end()

    def end(self) -> str:
        if self._inside:
            return ""
        text = "".join(self._blanks) + self._held
        self._blanks, self._held = [], ""
        return text

    def _within(self, text: str) -> str:
        text = self._held + text
        _, found, rest = text.partition(_THINK_END)
        if not found:
            self._held = text[1 - len(_THINK_END) :]
            return ""
        self._behind = True
        return self._after(rest)

    def _after(self, text: str) -> str:
        text = text.lstrip()
        self.settled = bool(text)
        return text


class _NameRemover:
    """Takes one `<name>:` at the very start away, and the blanks around it."""

    def __init__(self, name: str) -> None:
        self.settled = False
        self._prefix = f"{name}:"
        self._blanks: list[str] = []
        self._held = ""
        self._behind = False

    def feed(self, text: str) -> str:
        if not self._behind:
            self._held += text
            if not self._held.strip():
                self._blanks.append(self._held)
                self._held = ""
                return ""
            start = self._held.lstrip()
            if not start.startswith(self._prefix):
                if self._prefix.startswith(start):
                    return ""
                self.settled = True
                return self.end()
            self._behind = True
            text = start[len(self._prefix) :]
        text = text.lstrip()
        self.settled = bool(text)
        return text

    def end(self) -> str:
        if self._behind:
            return ""
        text = "".join(self._blanks) + self._held
        self._blanks, self._held = [], ""
        return text


class _LineBreakDropper:
    """Models begin with line breaks: where such a break is a stop, the answer would always be empty."""

    def __init__(self) -> None:
        self.settled = False

    def feed(self, text: str) -> str:
        text = text.lstrip(_LINE_BREAKS)
        self.settled = bool(text)
        return text

    def end(self) -> str:
        return ""


class _StopFinder:
    """Ends the text right before the stop that begins first; holds back what may become one, and no more."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stopped = False
        self._stops = stops
        self._longest = max(map(len, stops))
        self._firsts = {stop[0] for stop in stops}
        self._held = ""

    def feed_all(self, pieces: list[str], whole: str) -> list[str]:
        """What of the pieces, of which `whole` is made, may go out now."""
        if self.stopped:
            return []
        if not whole or not (self._held or any(map(whole.__contains__, self._firsts))):
            return pieces
        if self._held:
            # In front of the first piece, as if they had come together.
            pieces = [self._held + pieces[0], *pieces[1:]]
            whole = self._held + whole
        found = self._pattern.search(whole)
        begin = self._beginning(whole)
        if found is not None and found.start() <= begin:
            self.stopped = True
            begin = found.start()
            self._held = ""
        else:
            self._held = whole[begin:]
        return _without_last(pieces, len(whole) - begin)

    def end(self) -> str:
        """What was held; a stop in it counts now, since nothing that began before it can complete any more."""
        if not self._held:
            return ""
        held, self._held = self._held, ""
        found = self._pattern.search(held)
        if found is None:
            return held
        self.stopped = True
        return held[: found.start()]

    # Both are made when a stop begins, which most answers never see.

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # Leftmost match first; of those that begin at one place the shortest, which completes first.
        return re.compile("|".join(map(re.escape, sorted(self._stops, key=len))))

    @cached_property
    def _begins(self) -> re.Pattern[str]:
        return re.compile(f"[{re.escape(''.join(self._firsts))}]")

    def _beginning(self, text: str) -> int:
        """Where the earliest unfinished beginning of a stop starts; the end of the text where there is none."""
        for match in self._begins.finditer(text, max(0, len(text) - self._longest + 1)):
            start = match.start()
            rest = text[start:]
            if any(len(stop) > len(rest) and stop.startswith(rest) for stop in self._stops):
                return start
        return len(text)


def _without_last(pieces: list[str], count: int) -> list[str]:
    """The pieces without the last `count` characters."""
    if not count:
        return pieces
    left = list(pieces)
    while count and count >= len(left[-1]):
        count -= len(left.pop())
    if count:
        left[-1] = left[-1][:-count]
    return left
