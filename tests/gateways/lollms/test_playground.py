"""The playground in a real browser, with the real gateway over the real module."""

import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect
from support.browser import DESKTOP, PHONE, Watched, browser, browser_program, open_page, picture
from support.puppet import Puppet, Strand, puppet
from support.running_module import RunningModule, marked_children, running_module
from support.waiting import wait_gone

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]
SMALLEST = (320, 568)
NAUGHTY = '<img src="x" onerror="document.title = 1"><script>document.title = 2</script><b>bold</b>'


@pytest.fixture(autouse=True)
def program() -> str:
    """Before anything is started: without a browser nothing need be."""
    return browser_program()


@pytest.fixture
async def chromium(program: str) -> AsyncIterator[Browser]:
    async with browser() as launched:
        yield launched


@pytest.fixture
async def hand() -> AsyncIterator[Puppet]:
    async with puppet() as strings:
        yield strings


@asynccontextmanager
async def gateway(
    home: Path, fake: dict[str, object] | None = None, *, model: str = "", **settings: object
) -> AsyncIterator[tuple[RunningModule, str]]:
    """The module, and where the gateway listens. With a model the fake is selected, as if in an earlier run."""
    if model:
        state = home / "data" / "lollms" / "lollms.yaml"
        state.parent.mkdir(parents=True)
        state.write_text(f"binding_name: fake\nmodel_name: {model}\n", "utf-8")
    async with running_module(
        home,
        gateways={"lollms": {"enabled": True, "port": 0, **settings}},
        providers={"fake": fake or {}},
    ) as module:
        yield module, await module.gateway_address("lollms")


@pytest.fixture
async def echoing(home: Path, installed: Callable[..., None]) -> AsyncIterator[str]:
    """The address of a gateway where nothing is selected."""
    installed("echo", "lollms")
    async with gateway(home) as (_, address):
        yield address


@pytest.fixture
async def pulled(home: Path, installed: Callable[..., None], hand: Puppet) -> AsyncIterator[str]:
    """The address of a gateway whose answers come from the test's hand."""
    installed("fake", "lollms")
    async with gateway(home, {"puppet": hand.address}, model="puppet") as (_, address):
        yield address


def free_port() -> int:
    """A port that is free on both loopback addresses, for a gateway that must come back to it."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port: int = server.getsockname()[1]
        return port


async def connected(chromium: Browser, address: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Watched:
    """A browser of its own at the playground, ready for a prompt."""
    context = await chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    watched = await open_page(context, address)
    await expect(watched.page.locator("#connection")).to_have_text("Connected")
    await expect(watched.page.locator("#send")).to_be_enabled()
    return watched


async def ask(page: Page, prompt: str) -> Locator:
    """Send a prompt as somebody would; the answer's place."""
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.keyboard.press("Enter")
    await expect(page.locator(".message.user:visible").last).to_have_text(prompt)
    answers = page.locator(".message.answer:visible")
    return answers.nth(await answers.count() - 1)


def text(answer: Locator) -> Locator:
    return answer.locator(".text")


async def state_is(answer: Locator, state: str) -> None:
    await expect(answer).to_have_attribute("data-state", state)


def question(strand: Strand) -> object:
    """What the model was asked last."""
    messages = strand.hello["messages"]
    assert isinstance(messages, list)
    _role, _name, content = messages[-1]
    return content


async def test_from_an_empty_server_to_an_answer_of_a_personality(chromium: Browser, echoing: str) -> None:
    watched = await connected(chromium, echoing)
    page = watched.page
    await picture(page, "desktop-1-fresh")
    await page.get_by_role("list", name="Bindings").get_by_role("button", name="Echo").click()
    await expect(page.locator("#binding-now")).to_have_text("Echo")
    await expect(page.locator("#model-now")).to_have_text("echo")

    await page.get_by_text("Model", exact=True).click()
    await page.get_by_role("list", name="Models").get_by_role("button", name="lorem").click()
    await expect(page.locator("#model-now")).to_have_text("lorem")
    answer = await ask(page, "Say three words")
    await state_is(answer, "done")
    await expect(text(answer)).to_contain_text("lorem ipsum dolor")
    await page.get_by_text("Model", exact=True).click()
    await page.get_by_role("list", name="Models").get_by_role("button", name="echo", exact=True).click()
    await expect(page.locator("#model-now")).to_have_text("echo")

    await page.get_by_text("Personality", exact=True).click()
    await page.get_by_label("Language").select_option("french")
    await page.get_by_label("Category").select_option("companions")
    chosen = page.get_by_role("list", name="Personalities").get_by_role("button").first
    name = await chosen.locator(".title").inner_text()
    await chosen.click()
    await expect(page.locator("#personality-now")).to_have_text(name)
    await expect(page.get_by_role("list", name="Mounted").get_by_role("button", name=name)).to_have_attribute(
        "aria-pressed", "true"
    )
    answer = await ask(page, "Bonjour, toi")
    await expect(text(answer)).to_have_text("Bonjour, toi")
    await state_is(answer, "done")
    await expect(answer.locator("img.avatar")).to_have_js_property("complete", True)
    assert await answer.locator("img.avatar").evaluate("picture => picture.naturalWidth") > 0
    await picture(page, "desktop-2-answered")

    # Each personality has its own conversation, and raw mode has one too.
    await page.get_by_role("list", name="Mounted").get_by_role("button", name="Raw").click()
    await expect(page.locator(".message:visible")).to_have_count(0)
    answer = await ask(page, "as it is")
    await expect(text(answer)).to_have_text("as it is")
    await state_is(answer, "done")
    assert watched.complaints == []
    assert watched.asked == {echoing.rstrip("/")}


async def test_the_text_arrives_in_pieces_and_stays_text(chromium: Browser, pulled: str, hand: Puppet) -> None:
    watched = await connected(chromium, pulled)
    answer = await ask(watched.page, "Go on")
    await state_is(answer, "waiting")
    strand = await hand.strand()
    await strand.chunk("The first piece, ")
    await expect(text(answer)).to_have_text("The first piece,")
    await state_is(answer, "streaming")
    await picture(watched.page, "desktop-3-streaming")
    await strand.chunk(NAUGHTY)
    await expect(text(answer)).to_have_text(f"The first piece, {NAUGHTY}")
    await strand.finish()
    await state_is(answer, "done")
    await expect(text(answer)).to_have_text(f"The first piece, {NAUGHTY}")
    assert await text(answer).locator("*").count() == 0
    assert await watched.page.title() == "LoLLMs playground · waifu-llm"
    assert watched.complaints == []


async def test_escape_cancels_at_once_and_the_next_prompt_goes_on(chromium: Browser, pulled: str, hand: Puppet) -> None:
    page = (await connected(chromium, pulled)).page
    answer = await ask(page, "A long story")
    strand = await hand.strand()
    await strand.chunk("Once upon a time")
    await expect(text(answer)).to_have_text("Once upon a time")
    await page.keyboard.press("Escape")
    await strand.cancelled()
    await state_is(answer, "cancelled")
    await expect(answer).to_contain_text("Cancelled")
    following = await ask(page, "A short one")
    strand = await hand.strand()
    assert question(strand) == "A short one"
    await strand.chunk("The end.")
    await strand.finish()
    await state_is(following, "done")
    await expect(text(following)).to_have_text("The end.")
    await expect(text(answer)).to_have_text("Once upon a time")


async def test_two_tabs_keep_apart(chromium: Browser, pulled: str, hand: Puppet) -> None:
    one, other = (await connected(chromium, pulled)).page, (await connected(chromium, pulled)).page
    answer_one = await ask(one, "from one")
    strand_one = await hand.strand()
    answer_other = await ask(other, "from the other")
    strand_other = await hand.strand()
    assert (question(strand_one), question(strand_other)) == ("from one", "from the other")
    await strand_other.chunk("for the other")
    await strand_one.chunk("for one")
    await one.get_by_role("button", name="Cancel").click()
    await strand_one.cancelled()
    await state_is(answer_one, "cancelled")
    await strand_other.chunk(", still")
    await strand_other.finish()
    await state_is(answer_other, "done")
    await expect(text(answer_other)).to_have_text("for the other, still")
    await expect(text(answer_one)).to_have_text("for one")


async def test_a_failure_is_shown_with_what_came_before_it_and_is_over(
    chromium: Browser, pulled: str, hand: Puppet
) -> None:
    page = (await connected(chromium, pulled, dark=True)).page
    answer = await ask(page, "Try")
    strand = await hand.strand()
    await strand.chunk("So far so good")
    strand.say("fail", code="AUTHORIZATION", message="the account is empty", reason="quota")
    await state_is(answer, "failed")
    await expect(answer).to_contain_text("the account is empty")
    await expect(text(answer)).to_have_text("So far so good")
    await picture(page, "desktop-4-failed-dark")
    answer = await ask(page, "Try again")
    strand = await hand.strand()
    await strand.chunk("Better")
    await strand.finish()
    await state_is(answer, "done")


async def test_how_far_a_binding_is_stands_there_until_it_is_loaded(
    chromium: Browser, home: Path, installed: Callable[..., None], hand: Puppet
) -> None:
    installed("fake", "lollms")
    async with gateway(home, {"puppet": hand.address, "on_load": "puppet"}) as (_, address):
        page = (await connected(chromium, address)).page
        await page.get_by_role("list", name="Bindings").get_by_role("button", name="Fake").click()
        strand = await hand.strand()
        # Not what the page itself says at first: this came as a notification.
        await expect(page.locator("#binding-progress")).to_have_text(re.compile("^fake: "))
        await expect(page.locator("#binding-now")).to_have_text("choose one")
        await picture(page, "desktop-7-loading")
        strand.go()
        await expect(page.locator("#binding-now")).to_have_text("Fake")
        await expect(page.locator("#binding-progress")).to_be_hidden()


async def test_a_server_that_is_busy_says_so_on_the_page(
    chromium: Browser, home: Path, installed: Callable[..., None]
) -> None:
    installed("lollms")
    async with gateway(home, events_per_s=1) as (_, address):
        page = (await open_page(await chromium.new_context(), address)).page
        await expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("Too many events")


async def test_a_binding_that_cannot_be_loaded_says_why_and_the_old_one_stays(
    chromium: Browser, home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "fake", "lollms")
    async with gateway(home, {"on_load": "fail=AUTHORIZATION/quota"}) as (_, address):
        page = (await connected(chromium, address)).page
        bindings = page.get_by_role("list", name="Bindings")
        await bindings.get_by_role("button", name="Echo").click()
        await expect(page.locator("#binding-now")).to_have_text("Echo")
        await page.get_by_text("Binding", exact=True).click()
        await bindings.get_by_role("button", name="Fake").click()
        await expect(page.locator("#binding-error")).not_to_be_empty()
        await picture(page, "desktop-6-binding-refused")
        await expect(page.locator("#binding-progress")).to_be_hidden()
        await expect(page.locator("#binding-now")).to_have_text("Echo")
        answer = await ask(page, "The old one?")
        await expect(text(answer)).to_have_text("The old one?")


async def test_a_wrong_token_is_refused_with_a_sentence_and_the_right_one_lets_in(
    chromium: Browser, home: Path, installed: Callable[..., None], tmp_path: Path
) -> None:
    installed("lollms")
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("open-sesame", "utf-8")
    async with gateway(home, token_file=str(file)) as (_, address):
        watched = await open_page(await chromium.new_context(), address)
        page = watched.page
        await expect(page.locator("#connection")).to_have_text("Refused")
        await expect(page.get_by_role("alert").filter(visible=True)).to_contain_text("token")
        await expect(page.get_by_label(re.compile("^Token"))).to_be_focused()
        await page.get_by_label(re.compile("^Token")).fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#connection")).to_have_text("Refused")
        await picture(page, "desktop-5-refused")
        await page.get_by_label(re.compile("^Token")).fill("open-sesame")
        await page.keyboard.press("Enter")
        await expect(page.locator("#connection")).to_have_text("Connected")
        await expect(page.locator("#connection-error")).to_be_hidden()


async def test_a_gateway_that_dies_is_found_again(
    chromium: Browser, home: Path, installed: Callable[..., None]
) -> None:
    installed("echo", "lollms")
    async with gateway(home, port=free_port()) as (module, address):
        page = (await connected(chromium, address)).page
        await page.get_by_role("list", name="Bindings").get_by_role("button", name="Echo").click()
        await expect(page.locator("#binding-now")).to_have_text("Echo")
        await state_is(await ask(page, "before"), "done")
        (process,) = [child for child in marked_children() if "lollms-" in " ".join(child.cmdline())]
        process.kill()
        wait_gone([process.pid])
        assert await module.gateway_address("lollms") == address
        await expect(page.locator(".divider:visible")).to_contain_text("Connected anew")
        await expect(page.locator("#connection")).to_have_text("Connected")
        await expect(page.locator("#send")).to_be_enabled()
        answer = await ask(page, "after")
        await expect(text(answer)).to_have_text("after")
        await state_is(answer, "done")


async def test_what_is_typed_into_the_sampling_is_asked_for_and_what_is_wrong_is_not_sent(
    chromium: Browser, echoing: str
) -> None:
    page = (await connected(chromium, echoing)).page
    await page.get_by_role("list", name="Bindings").get_by_role("button", name="Echo").click()
    await page.get_by_text("Model", exact=True).click()
    await page.get_by_role("list", name="Models").get_by_role("button", name="lorem").click()
    await expect(page.locator("#model-now")).to_have_text("lorem")
    await page.get_by_text("Sampling", exact=True).click()
    await page.get_by_label("Top p").fill("7")
    await page.get_by_label("Prompt", exact=True).fill("Go")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Top p")).to_be_focused()
    await expect(page.locator(".message.user")).to_have_count(0)
    await page.get_by_label("Top p").fill("0.5")
    await page.get_by_label("Longest answer").fill("4")
    await expect(page.locator("#parameters-now")).to_have_text("2 of your own")
    answer = await ask(page, "Go")
    await expect(text(answer)).to_have_text("lorem ipsum dolor sit")
    await state_is(answer, "done")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_it_fits_a_phone_and_everything_has_a_name(chromium: Browser, echoing: str, dark: bool) -> None:
    theme = "dark" if dark else "light"
    watched = await connected(chromium, echoing, PHONE, dark=dark)
    page = watched.page
    await picture(page, f"phone-1-{theme}")
    await expect(page.get_by_role("complementary", name="Settings")).to_be_hidden()
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("list", name="Bindings").get_by_role("button", name="Echo").click()
    await expect(page.locator("#binding-now")).to_have_text("Echo")
    await page.get_by_text("Personality", exact=True).click()
    await picture(page, f"phone-2-settings-{theme}")
    nameless = await page.locator("button, input, select, textarea").evaluate_all(
        "all => all.filter(one => !one.labels?.length && !one.ariaLabel && !one.textContent.trim()).map(one => one.id)"
    )
    assert nameless == []
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("complementary", name="Settings")).to_be_hidden()
    answer = await ask(page, "A_very_long_word_" * 30 + "\nand a line")
    await state_is(answer, "done")
    await picture(page, f"phone-3-answered-{theme}")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.get_by_role("button", name=re.compile("theme")).click()
    await expect(page.locator("html")).to_have_attribute("data-theme", "light" if dark else "dark")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "light" if dark else "dark")
    assert watched.complaints == []


async def test_the_smallest_phone_cuts_nothing_off(chromium: Browser, echoing: str) -> None:
    page = (await connected(chromium, echoing, SMALLEST)).page
    is_cut = "one => one.scrollWidth > one.clientWidth || one.scrollHeight > one.clientHeight"
    assert not await page.locator("#connection").evaluate(is_cut)
    await page.get_by_role("button", name="Settings").click()
    # All of them: a list that ends where an entry does seems to be complete.
    assert not await page.locator("#bindings").evaluate(is_cut)
    await page.get_by_text("Sampling", exact=True).click()
    ends = await page.locator("#parameters input").evaluate_all("all => all.map(one => one.getBoundingClientRect().y)")
    assert ends[0:6:2] == ends[1:6:2]
    await picture(page, "phone-4-smallest")
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    longest = "one => { one.textContent = 'Offline, trying again…'; return one.scrollWidth <= one.clientWidth }"
    assert await page.locator("#connection").evaluate(longest)
