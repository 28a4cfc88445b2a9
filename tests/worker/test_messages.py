"""Roles folded, names put in front, conversations as plain text."""

from waifu_worker.messages import fold_roles, name_in_front, name_in_prompt, transcript
from waifu_worker.wire import ChatMessage


def test_a_name_stands_in_front_of_the_content() -> None:
    assert name_in_front(ChatMessage(role="user", content="hi", name="Bob")) == ChatMessage(
        role="user", content="Bob: hi"
    )


def test_a_message_without_a_name_stays_as_it_is() -> None:
    message = ChatMessage(role="user", content="hi")
    assert name_in_front(message) is message
    nameless = ChatMessage(role="user", content="hi", name="")
    assert name_in_front(nameless) is nameless


def test_tool_and_function_messages_become_user_messages_with_the_name_in_front() -> None:
    folded = fold_roles(
        [
            ChatMessage(role="system", content="be kind"),
            ChatMessage(role="user", content="hi", name="Bob"),
            ChatMessage(role="tool", content="12 C", name="weather"),
            ChatMessage(role="function", content="42"),
        ]
    )
    assert folded == (
        ChatMessage(role="system", content="be kind"),
        ChatMessage(role="user", content="hi", name="Bob"),
        ChatMessage(role="user", content="weather: 12 C"),
        ChatMessage(role="user", content="42"),
    )


def test_a_name_of_blanks_is_none_but_a_prompt_has_one() -> None:
    assert [name_in_prompt(name) for name in ("Mia", " ", "")] == ["Mia", "AI", "AI"]


def test_a_transcript_names_who_speaks_and_ends_with_the_character() -> None:
    text = transcript(
        [
            ChatMessage(role="system", content="Mia is kind."),
            ChatMessage(role="user", content="hi"),
            ChatMessage(role="assistant", content="hello"),
            ChatMessage(role="user", content="bye", name="Bob"),
        ],
        "Mia",
    )
    assert text == "Mia is kind.\nUser: hi\nMia: hello\nBob: bye\nMia:"
