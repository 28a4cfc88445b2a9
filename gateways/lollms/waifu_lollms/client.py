"""One connected program: what is its own and nobody else's."""

import asyncio
from typing import Final, Self

from waifu_client import LoadProgress
from waifu_lollms.history import Histories
from waifu_lollms.interfaces import Send
from waifu_lollms.module_link import ModuleLink, OnProgress
from waifu_lollms.payloads import Replies
from waifu_lollms.selects import Selects
from waifu_lollms.tasks import Tasks

NOTICE_S: Final = 5  # how long a program shows one


class SocketClient:
    """Its way out, its connection to the module, its history, what it is selecting, and the tasks that work for it.

    `base_url`: this server's address as the program reached it.
    """

    def __init__(self, send: Send, base_url: str, link: ModuleLink) -> None:
        self.send = send
        self.base_url = base_url
        self.link = link
        self.histories = Histories()
        self.tasks = Tasks()
        self.selects = Selects()

    async def answer(self, replies: Replies) -> None:
        """Send them in this order."""
        for event, payload in replies:
            await self.send(event, payload)

    async def close(self) -> None:
        """End all that works for it, and its connection to the module."""
        await self.tasks.close()
        await self.link.close()


class Notices:
    """Tells one program how far a load is, as often as there is something new; leaving the block waits for its end."""

    def __init__(self, client: SocketClient) -> None:
        self._client = client
        self._contents: asyncio.Queue[str | None] = asyncio.Queue()
        self._last = ""
        self._telling = client.tasks.start(self._tell())

    def of(self, binding: str) -> OnProgress:
        """What a load of this binding reports to."""
        return lambda step: self._say(_progress(binding, step))

    def _say(self, content: str) -> None:
        if content != self._last:
            self._last = content
            self._contents.put_nowait(content)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._contents.put_nowait(None)
        await asyncio.wait([self._telling])

    async def _tell(self) -> None:
        while (content := await self._contents.get()) is not None:
            notice = {"content": content, "notification_type": "info", "duration": NOTICE_S, "display_type": 0}
            await self._client.send("notification", notice)


def _progress(binding: str, step: LoadProgress) -> str:
    share = "" if step.fraction is None else f" ({step.fraction:.0%})"
    return f"{binding}: {step.detail or step.stage}{share}"
