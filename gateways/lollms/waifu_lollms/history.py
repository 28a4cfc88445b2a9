"""What was said between one client and each personality, as far as it is kept. Pure."""

from typing import Final

import msgspec

MOST_TURNS: Final = 200  # per personality
MOST_CHARACTERS: Final = 1024 * 1024  # of one client, all personalities together
_TURN_COSTS: Final = 256  # what a turn counts beside its text, so that a million empty ones are bounded too


class Turn(msgspec.Struct, frozen=True):
    """What the user said, and the answer as far as it came."""

    user: str
    answer: str


class Histories:
    """One client's turns, per personality; at most 200 each, and a mebi of characters together.

    A turn counts as its characters and 256 more. The oldest ones leave first: of the personality whose 200 are full,
    of all where the characters are.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[str, Turn]] = []  # of all personalities, in the order they were said
        self._characters = 0

    def turns(self, key: str) -> tuple[Turn, ...]:
        """What was said with this personality, the oldest turn first."""
        return tuple(turn for owner, turn in self._entries if owner == key)

    def add(self, key: str, turn: Turn, *, failed: bool = False) -> None:
        """Remember a turn that is over, a cancelled one with the answer that came; a failed one without any leaves."""
        if failed and not turn.answer:
            return
        self._entries.append((key, turn))
        self._characters += _cost(turn)
        owned = [index for index, (owner, _) in enumerate(self._entries) if owner == key]
        if len(owned) > MOST_TURNS:
            self._drop(owned[0])
        # A turn that is too large by itself goes too, but what came before it must not seem to be the last word.
        while self._characters > MOST_CHARACTERS:
            self._drop(0)

    def _drop(self, index: int) -> None:
        _, turn = self._entries.pop(index)
        self._characters -= _cost(turn)


def _cost(turn: Turn) -> int:
    return _TURN_COSTS + len(turn.user) + len(turn.answer)
