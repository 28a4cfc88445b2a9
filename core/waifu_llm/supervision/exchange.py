"""One request on the wire: its id, who hears its chunks, and its one end."""

from collections.abc import Callable
from dataclasses import dataclass, field

from waifu_llm.errors import ModuleError
from waifu_worker.wire import Done, Progress


def _ignore_text(text: str) -> None:
    """A load and a model list have no text."""


def _ignore_progress(progress: Progress) -> None:
    """Only a load tells how far it is."""


@dataclass(slots=True, eq=False)
class Exchange:
    """A request that a worker has in its hands. `ended` is called exactly once, with its good or bad end."""

    ended: Callable[[Done | ModuleError], None]
    chunk: Callable[[str], None] = _ignore_text
    progress: Callable[[Progress], None] = _ignore_progress
    is_load: bool = False
    id: int = 0
    cancelled: bool = field(default=False)
