"""What a model is asked, as roles and as text."""

from datetime import datetime
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waifu_lollms.discussion import Discussion, Turn, build, estimated_tokens, raw
from waifu_lollms.personalities.model import Personality
from waifu_lollms.state import State

from waifu_client.protocol import Message

NOW: Final = datetime(2026, 11, 22, 14, 5, 9)
PLAIN: Final = Personality(key="english/generic/ann", folder="ann", language="english", category="generic", name="Ann")
ANN: Final = msgspec.structs.replace(
    PLAIN, conditioning="You are Ann.\n", welcome_message="Hello, I am Ann.", anti_prompts=("!@>", "Human:")
)
NO_WELCOME: Final = msgspec.structs.replace(ANN, include_welcome_message=False)
TURNS: Final = (Turn("one", "first"), Turn("two", "second"))


def built(
    personality: Personality = ANN,
    turns: tuple[Turn, ...] = (),
    prompt: str = "Hi",
    n_predicts: int = 64,
    **state: object,
) -> Discussion:
    settings = msgspec.structs.replace(State(), **state)
    return build(personality, turns, prompt, state=settings, n_predicts=n_predicts, now=NOW)


def said(discussion: Discussion) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in discussion.messages]


def test_a_raw_prompt_is_one_user_message_and_itself_and_ends_nowhere() -> None:
    assert raw("Once upon") == Discussion((Message(role="user", content="Once upon"),), "Once upon", ())


def test_the_text_is_conditioning_then_prefix_prompt_link_text_prefix_and_answer_per_turn() -> None:
    assert built(NO_WELCOME, TURNS, "three").text == (
        "You are Ann.\n!@> Human: one\n!@> lollms:first!@> Human: two\n!@> lollms:second!@> Human: three\n!@> lollms:"
    )


def test_an_answer_without_text_is_no_message() -> None:
    assert said(built(NO_WELCOME, (Turn("one", ""),), "two"))[1:] == [("user", "one"), ("user", "two")]


def test_the_roles_are_the_same_discussion_without_prefixes() -> None:
    assert said(built(NO_WELCOME, TURNS, "three")) == [
        ("system", "You are Ann.\n"),
        ("user", "one"),
        ("assistant", "first"),
        ("user", "two"),
        ("assistant", "second"),
        ("user", "three"),
    ]


def test_the_welcome_message_is_the_assistants_and_comes_first() -> None:
    discussion = built(turns=TURNS[:1])
    assert said(discussion)[:3] == [("system", "You are Ann.\n"), ("assistant", "Hello, I am Ann."), ("user", "one")]
    assert discussion.text.startswith("You are Ann.\n!@> lollms:Hello, I am Ann.\n!@> Human: one\n")


@pytest.mark.parametrize("silent", [NO_WELCOME, msgspec.structs.replace(ANN, welcome_message=" \n")])
def test_no_welcome_message_where_the_personality_has_none_or_keeps_it_to_itself(silent: Personality) -> None:
    assert said(built(silent)) == [("system", "You are Ann.\n"), ("user", "Hi")]


def test_without_conditioning_there_is_no_system_message() -> None:
    assert said(built(PLAIN)) == [("user", "Hi")]


def test_date_and_time_in_the_conditioning_are_those_of_the_generation() -> None:
    asking = msgspec.structs.replace(NO_WELCOME, conditioning="{{date}}|{{time}}|{{date_time}}|{{other}}")
    expected = "Sunday, November 22, 2026|14:05:09|Sunday, November 22, 2026 14:05:09|{{other}}"
    discussion = built(asking)
    assert (discussion.messages[0].content, discussion.text.startswith(expected)) == (expected, True)


def test_placeholders_in_what_was_said_stay_as_they_are() -> None:
    assert said(built(PLAIN, (Turn("{{date}}", "{{time}}"),), "{{date_time}}")) == [
        ("user", "{{date}}"),
        ("assistant", "{{time}}"),
        ("user", "{{date_time}}"),
    ]


def test_anti_prompts_and_the_separator_are_stops_each_once() -> None:
    assert built(ANN).stops == ("!@>", "Human:")
    assert built(PLAIN, discussion_prompt_separator="###").stops == ("###",)
    assert built(ANN, discussion_prompt_separator="").stops == ("!@>", "Human:")


def test_the_users_name_takes_the_place_of_the_prefix_where_it_is_wanted() -> None:
    discussion = built(PLAIN, TURNS[:1], "Hi", user_name=" Bea ", use_user_name_in_discussions=True)
    assert discussion.text == "!@>Bea: one\n!@> lollms:first!@>Bea: Hi\n!@> lollms:"
    assert [message.name for message in discussion.messages] == ["Bea", None, "Bea"]


def test_an_empty_user_name_leaves_the_prefix() -> None:
    discussion = built(PLAIN, user_name=" ", use_user_name_in_discussions=True)
    assert (discussion.text, discussion.messages[0].name) == ("!@> Human: Hi\n!@> lollms:", None)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcdefg", 2),
        ("abcdefgh", 3),
        ("日本語", 3),
        ("こんにちは", 5),
        ("안녕", 2),
        ("日a", 2),
        ("é" * 7, 2),
    ],
)
def test_a_token_is_three_and_a_half_characters_or_one_chinese_japanese_or_korean_one(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


def test_the_oldest_turns_leave_first_and_whole() -> None:
    turns = tuple(Turn(f"question {number}", "x" * 100) for number in range(10))
    kept = built(PLAIN, turns, "Hi", n_predicts=1000, ctx_size=256)
    # 256 without a quarter is 192 tokens or 672 characters: four turns of 100 and the prefixes, and the prompt.
    assert said(kept)[:-1:2] == [("user", f"question {number}") for number in range(6, 10)]


def test_a_short_answer_reserves_only_what_it_needs() -> None:
    turns = tuple(Turn(f"question {number}", "x" * 100) for number in range(10))
    assert len(built(PLAIN, turns, n_predicts=1, ctx_size=256).messages) > len(
        built(PLAIN, turns, n_predicts=1000, ctx_size=256).messages
    )


def test_a_turn_that_does_not_fit_ends_the_memory_even_where_an_older_one_would() -> None:
    turns = (Turn("small", "s"), Turn("large", "x" * 10_000), Turn("newest", "n"))
    assert said(built(PLAIN, turns))[0] == ("user", "newest")


def test_the_welcome_message_is_the_oldest_that_was_said_and_leaves_before_any_turn() -> None:
    long = msgspec.structs.replace(PLAIN, welcome_message="w" * 10_000)
    assert said(built(long, TURNS))[0] == ("user", "one")
    forgetful = built(ANN, (Turn("large", "x" * 10_000), *TURNS))
    assert said(forgetful)[1] == ("user", "one")


def test_a_prompt_that_is_too_large_by_itself_is_sent_with_the_conditioning_and_nothing_else() -> None:
    prompt = "x" * 100_000
    assert said(built(ANN, TURNS, prompt)) == [("system", "You are Ann.\n"), ("user", prompt)]


SHORT: Final = st.text(st.sampled_from("ab 日本!@>\n"), max_size=40)


@settings(deadline=None)
@given(
    turns=st.lists(st.builds(Turn, SHORT, SHORT), max_size=12),
    prompt=SHORT,
    personality=st.builds(
        Personality,
        **dict.fromkeys(("key", "folder", "language", "category", "name"), st.just("n")),
        conditioning=SHORT,
        welcome_message=SHORT,
        include_welcome_message=st.booleans(),
        link_text=SHORT,
        anti_prompts=st.lists(SHORT, max_size=4).map(tuple),
    ),
    ctx_size=st.integers(1, 400),
    n_predicts=st.integers(1, 400),
    separator=SHORT,
)
def test_whatever_was_said_the_discussion_keeps_its_budget_and_has_no_gap(
    turns: list[Turn], prompt: str, personality: Personality, ctx_size: int, n_predicts: int, separator: str
) -> None:
    state = State(ctx_size=ctx_size, discussion_prompt_separator=separator)
    discussion = build(personality, turns, prompt, state=state, n_predicts=n_predicts, now=NOW)
    alone = personality.conditioning + personality.user_message_prefix + prompt
    alone += personality.link_text + personality.ai_message_prefix
    budget = ctx_size - min(n_predicts, ctx_size // 4)
    assert estimated_tokens(discussion.text) <= max(budget, estimated_tokens(alone))

    messages = [message for message in discussion.messages if message.role != "system"]
    assert messages.pop() == Message(role="user", content=prompt)
    kept = turns[len(turns) - sum(message.role == "user" for message in messages) :]
    if messages and messages[0].role == "assistant":
        assert messages.pop(0).content == personality.welcome_message
        assert kept == turns
    expected = [("user", turn.user) if user else ("assistant", turn.answer) for turn in kept for user in (True, False)]
    assert [(it.role, it.content) for it in messages] == [it for it in expected if it[0] == "user" or it[1]]

    assert all(discussion.stops) and len(set(discussion.stops)) == len(discussion.stops)
    assert set(discussion.stops) == {*personality.anti_prompts, separator} - {""}
