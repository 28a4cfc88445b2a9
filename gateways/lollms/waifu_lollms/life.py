"""The composition root: builds the rooms of one start line, listens, and closes them at the end of the input."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from waifu_client import Client
from waifu_lollms.app import App, FindLogo
from waifu_lollms.engine import Engine
from waifu_lollms.interfaces import Service
from waifu_lollms.limits import Limits
from waifu_lollms.listening import bind, listening
from waifu_lollms.pages import Pages
from waifu_lollms.personalities.library import Library
from waifu_lollms.personalities.seeding import seed_personalities
from waifu_lollms.service import Rooms
from waifu_lollms.service import Service as EventService
from waifu_lollms.settings import GatewaySettings, read_settings
from waifu_lollms.state import StateFile
from waifu_lollms.transport import Transport
from waifu_worker.wire import Start

_log: Final = logging.getLogger(__name__)
_LIBRARIES: Final = ("socketio", "engineio", "uvicorn", "asyncio", "websockets")
# engine.io ends with this what it calls an error and is a client's mistake, which was answered.
_MISTAKE: Final = "further occurrences of this error"


def set_up_logging(level: str) -> None:
    """Log to stderr, which the core keeps and dates. The libraries say warnings only: what is below holds prompts."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("engineio").addFilter(lambda record: _MISTAKE not in record.getMessage())


@asynccontextmanager
async def serving(
    settings: GatewaySettings, service: Service, find_logo: FindLogo, limits: Limits | None = None
) -> AsyncIterator[str]:
    """Listen while entered, and give the address users open; the service is closed last. Raises: CannotServe."""
    limits = limits or Limits()
    transport = Transport(service, settings, limits)
    pages = await asyncio.to_thread(Pages.of_package)
    app = App(settings.doors(), Engine(transport.server, transport.sessions, limits), find_logo, pages)
    sockets, address = await asyncio.to_thread(bind, settings.host, settings.port)
    try:
        async with listening(app, sockets, limits, settings.connections, transport.close):
            yield address
    finally:
        await service.close()


@asynccontextmanager
async def serve(start: Start) -> AsyncIterator[str]:
    """Be the gateway that the module started with this line. Raises: CannotServe."""
    set_up_logging(start.log_level)
    settings = await asyncio.to_thread(read_settings, start)
    data = Path(start.data_dir)
    library = await asyncio.to_thread(_library, data, settings)
    rooms = Rooms(
        open_client=lambda: Client.open(start.url, token=start.token),
        library=library,
        state_file=StateFile(data / "lollms.yaml"),
        queue_length=settings.queue_length,
    )
    async with serving(settings, EventService(rooms), library.logo) as address:
        yield address


def _library(data: Path, settings: GatewaySettings) -> Library:
    own = data / "personalities"
    try:
        seed_personalities(own)
        (data / "cache").mkdir(exist_ok=True)
    except OSError as error:
        _log.warning("the personalities that ship with the gateway could not be placed in %s: %s", own, error)
    roots = [*map(Path, settings.personality_roots), own]
    return Library(roots, data / "cache" / "personalities.json")
