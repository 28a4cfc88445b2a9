"""What happens to an answer's text between provider and wire, whatever its pieces are. Pure.

Surrogate pairs are joined, thinking is taken away where the provider asks for it, then the name prefix, then
leading line breaks where a stop consists of line breaks, then the text ends at the first stop sequence. The
pieces that come out add up to the filter applied to the whole text.
"""

import re
from collections.abc import Sequence
from typing import Final, Protocol

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LINE_BREAKS: Final = "\r\n"
_THINK: Final = "<think>"
_THINK_END: Final = "</think>"


class _Stage(Protocol):
    """One step. `settled`: from now on it hands on what it gets, so it can be left out."""

    settled: bool

    def feed(self, text: str) -> str:
        """What may go on now."""

    def end(self) -> str:
        """What was held back."""


class AnswerFilter:
    """One answer's filter: `feed` every piece, `end` once; after `stopped` nothing more is wanted."""

    def __init__(self, *, character_name: str = "", stops: Sequence[str] = (), thinking: bool = False) -> None:
        stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._surrogates = _SurrogateJoiner()
        self._finder = _StopFinder(stops) if stops else None
        self._stages: list[_Stage] = []
        if thinking:
            self._stages.append(_ThinkingRemover())
        if character_name.strip():
            self._stages.append(_NameRemover(character_name.strip()))
        if any(not stop.strip(_LINE_BREAKS) for stop in stops):
            self._stages.append(_LineBreakDropper())
        if self._finder is not None:
            self._stages.append(self._finder)

    @property
    def stopped(self) -> bool:
        """A stop sequence was found: the answer is complete."""
        return self._finder is not None and self._finder.stopped

    def feed(self, piece: str) -> str:
        """The text that may go out now; may be empty."""
        if not piece.isascii() or self._surrogates.holds:
            piece = self._surrogates.feed(piece)
        if not self._stages:
            return piece
        return self._through(self._stages, piece)

    def end(self) -> str:
        """The rest, once nothing more comes. Nothing after `stopped`."""
        text = self._through(self._stages, self._surrogates.end())
        stages = self._stages
        while stages:
            first, *stages = stages
            text += self._through(stages, first.end())
        return text

    def _through(self, stages: list[_Stage], text: str) -> str:
        settled = False
        for stage in stages:
            if not text:
                break
            text = stage.feed(text)
            settled |= stage.settled
        if settled:
            self._stages = [stage for stage in self._stages if not stage.settled]
        return text


class _SurrogateJoiner:
    """Joins a pair whose halves came in two pieces, as JSON escapes allow; a lone half becomes U+FFFD."""

    def __init__(self) -> None:
        self._held = ""

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        text = self._held + text
        self._held = ""
        if not _SURROGATE.search(text):
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            self._held = text[-1]
            text = text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def end(self) -> str:
        held, self._held = self._held, ""
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
        self.settled = False
        self.stopped = False
        self._stops = stops
        self._longest = max(map(len, stops))
        # Leftmost match first; of those that begin at one place the shortest, which completes first.
        self._pattern = re.compile("|".join(map(re.escape, sorted(stops, key=len))))
        self._first = re.compile(f"[{re.escape(''.join({stop[0] for stop in stops}))}]")
        self._held = ""

    def feed(self, text: str) -> str:
        if self.stopped:
            return ""
        if not self._held and self._first.search(text) is None:
            return text
        text = self._held + text
        found = self._pattern.search(text)
        begin = self._beginning(text)
        if found is not None and found.start() <= begin:
            self.stopped = True
            self._held = ""
            return text[: found.start()]
        self._held = text[begin:]
        return text[:begin]

    def end(self) -> str:
        """What was held; a stop in it counts now, since nothing that began before it can complete any more."""
        held, self._held = self._held, ""
        found = self._pattern.search(held)
        if found is None:
            return held
        self.stopped = True
        return held[: found.start()]

    def _beginning(self, text: str) -> int:
        """Where the earliest unfinished beginning of a stop starts; the end of the text where there is none."""
        for match in self._first.finditer(text, max(0, len(text) - self._longest + 1)):
            start = match.start()
            rest = text[start:]
            if any(len(stop) > len(rest) and stop.startswith(rest) for stop in self._stops):
                return start
        return len(text)
