"""What a request should meet, said in its model id: `gpt-4o-mini;frame=crlf;fail=cut;after=2`. Pure."""

from dataclasses import dataclass
from typing import Final

FAILURES: Final = (
    "silent",  # the request is read, nothing comes back
    "headers",  # the headers, then nothing
    "stall",  # after `after` texts nothing more
    "drip",  # texts for ever
    "cut",  # RST after `after` texts
    "close",  # FIN after `after` texts, in the middle of the chunked body
    "no-end",  # a clean end of the body without finish reason and terminator
    "half-event",  # the same, in the middle of an event
    "error-event",  # an error as data, after `after` texts
    "error-named",  # the same as `event: error`
    "error-text",  # an `event: error` whose data is plain text
    "broken-json",
    "endless-event",  # an event that never ends
    "endless-error",  # an error status whose body never ends
    "plain-json",  # the whole answer as one JSON body, though a stream was asked for
)
# Ways to end that are all proper ends.
ENDS: Final = ("both", "only-done", "only-reason", "held-open", "held-after-done", "reason-first")

SAYINGS: Final[dict[str, tuple[str, ...]]] = {
    "words": ("Hello", " there", ",", " how", " are", " you", "?"),
    "unicode": ("héllo", " 😀", " a\u2028b", "\u0085c", "\n\n\td", '"\\q', " ﷽ ", "\x7f end", "\r\n", "data: x\n\n"),
    "newlines": ("\n", "\n", "one\n", "two\n", "three"),
    "name": ("A", "I", ":", " hi"),
    "empty": (),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """`model` is what the strict checks see. `say`: a saying, or `echo` for the last message's own words.

    `kind`: the text comes as `content`, as `refusal`, or as content after `thinking`. `reason`: the finish reason.
    """

    model: str
    frame: str = "normal"
    fail: str = ""
    end: str = "both"
    error: str = ""
    say: str = "words"
    kind: str = "content"
    reason: str = "stop"
    after: int = 2
    seed: int = 0
    waits: int = 0


def parse(model_id: str) -> Scenario:
    """The scenario in a model id. Raises: ValueError, TypeError for a misspelt one."""
    model, *words = model_id.split(";")
    values = dict(word.split("=", 1) for word in words)
    numbers = {name: int(values.pop(name)) for name in ("after", "seed", "waits") if name in values}
    return Scenario(model, **values, **numbers)  # type: ignore[arg-type]  # the numbers are taken out of `values`
