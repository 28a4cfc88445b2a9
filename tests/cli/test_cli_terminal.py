"""A conversation on a real terminal, with a real keyboard's Ctrl-C."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import PROGRAM, Module
from support.terminal import CTRL_C, CTRL_D, Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")

READY = "Ctrl-C interrupts an answer, Ctrl-D or /exit leaves.\n> "


@pytest.fixture(autouse=True)
def echo(installed: Callable[..., None]) -> None:
    installed("echo")


def terminal(*arguments: str) -> Terminal:
    return Terminal([*PROGRAM, *arguments], os.environ)


def test_ctrl_c_interrupts_the_answer_and_not_the_program() -> None:
    with terminal("chat", "echo", "echo-slow") as chat:
        chat.until(READY)
        words = " ".join(f"word{number}" for number in range(300))
        chat.press(f"{words}\n")
        chat.until("\nword0 word1 ")
        chat.press(CTRL_C)
        shown = chat.until("(interrupted)\n> ")
        assert "word299" not in shown
        chat.press("still there\n")
        chat.until("still there\nstill there\n> ")
        chat.press(CTRL_D)
        assert chat.end() == 0


def test_ctrl_c_at_the_prompt_clears_the_line_and_exit_leaves() -> None:
    with terminal("chat", "echo") as chat:
        chat.until(READY)
        chat.press("half a line")
        chat.until("half a line")
        chat.interrupt("(Ctrl-C interrupts an answer, Ctrl-D or /exit leaves)\n> ")
        chat.press("\n")
        chat.until("> ")
        chat.press("whole\n")
        chat.until("whole\nwhole\n> ")
        chat.press("/exit\n")
        assert chat.end() == 0


def test_a_failed_answer_ends_the_answer_only() -> None:
    with terminal("chat", "echo", "no-such-model") as chat:
        chat.until(READY)
        chat.press("hello\n")
        assert "no-such-model" in chat.until("\n> ").removeprefix("hello\n")
        chat.press("/exit\n")
        assert chat.end() == 0


def test_a_cut_answer_is_told(tmp_path: Path) -> None:
    with terminal("chat", "echo", "lorem") as chat:
        chat.until(READY)
        chat.press("x\n")
        chat.until("(cut: the answer reached its greatest length)\n> ")
        chat.press("/exit\n")
        assert chat.end() == 0


def test_a_module_that_goes_away_ends_the_conversation(serve: Callable[..., Module]) -> None:
    module = serve()
    with terminal("chat", "echo", "echo-slow") as chat:
        chat.until(READY)
        chat.press(f"{' word' * 300}\n")
        chat.until("word\nword")
        module.process.kill()
        chat.until("waifu-llm: ")
        assert chat.end() == 1


def test_a_key_is_typed_without_being_shown(home: Path, canary: str) -> None:
    with terminal("keys", "set", "openai") as keys:
        keys.until("OpenAI API key (it is not shown): ")
        keys.press(f"{canary}\n")
        assert keys.end() == 0
        assert canary not in keys.seen
    assert canary in (home / "keys.json").read_text()


def test_ctrl_c_and_ctrl_d_leave_where_a_key_is_asked_for(home: Path) -> None:
    with terminal("keys", "set", "openai") as keys:
        keys.until("shown): ")
        keys.interrupt("\n")
        assert keys.end() == 130
    with terminal("keys", "set", "openai") as keys:
        keys.until("shown): ")
        keys.press(CTRL_D)
        assert keys.end() == 2
    assert not (home / "keys.json").exists()


def test_ctrl_c_leaves_where_a_large_install_is_asked_about() -> None:
    """The first Ctrl-C was only taken note of; the question stayed (#2)."""
    with terminal("install", "hf_local") as install:
        install.until("Go on? [y/N] ")
        install.interrupt("\n")
        assert install.end() == 130
        assert "Traceback" not in install.seen


def test_ctrl_c_stops_a_module_that_was_started_on_a_terminal() -> None:
    with terminal("serve", "--port", "0") as module:
        module.until("(Ctrl-C stops it)\n")
        module.press(CTRL_C)
        assert module.end() == 130
        assert "Traceback" not in module.seen
