"""The system's browser without a window, in a home of its own and without a network beyond this machine."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright, expect
from support.waiting import WAIT_S

ROOT: Final = Path(__file__).resolve().parents[2]
SCREENSHOTS: Final = ROOT / "build" / "screenshots"
DESKTOP: Final = (1280, 800)
PHONE: Final = (390, 844)
WAIT_MS: Final = WAIT_S * 1000
# As scripts/browser.py has them, which installs the first where it may.
NAMES: Final = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
_ARGUMENTS: Final = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-proxy-server",
    "--disable-gpu",
)


def browser_program() -> str:
    """The browser; without one the test is skipped, and says so."""
    found = next((path for name in NAMES if (path := shutil.which(name)) is not None), None)
    if found is None:
        pytest.skip(f"NO BROWSER: the playground is not tested here; install one of {', '.join(NAMES)}")
    return found


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Nothing of it is left at the end, and nothing of the user's own browser is touched."""
    program = browser_program()
    # Not below the test's own folder: a browser's sockets have short names only.
    with tempfile.TemporaryDirectory(prefix="waifu-browser-", ignore_cleanup_errors=True) as folder:
        own = dict.fromkeys(("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"), folder)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in own.items():
                patch.setenv(name, value)
            async with async_playwright() as playwright:
                launched = await playwright.chromium.launch(
                    executable_path=program, args=_ARGUMENTS, env={"PATH": os.defpath, **own}, timeout=WAIT_MS
                )
                expect.set_options(timeout=WAIT_MS)
                try:
                    yield launched
                finally:
                    await launched.close()


class Watched:
    """A page, and what it complained of: nothing, where all is well. `asked`: the origins of its requests."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.add("/".join(request.url.split("/")[:3])))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


async def open_page(context: BrowserContext, url: str) -> Watched:
    """A page at this address, loaded; without waiting for more than its files."""
    context.set_default_timeout(WAIT_MS)
    watched = Watched(await context.new_page())
    await watched.page.goto(url)
    return watched


async def picture(page: Page, name: str) -> None:
    """A screenshot to look at, in `build/screenshots`."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
