"""What programs send, and how each event is refused. The one table of the events' names and fields. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Payload: TypeAlias = Mapping[str, object]
Reply: TypeAlias = tuple[str, Payload]  # an event and what it carries
Replies: TypeAlias = tuple[Reply, ...]

ECHO_LENGTH: Final = 256  # what a program sent is said back to it up to here, in characters
RAW: Final = -1  # the personality that is none

NOT_SUPPORTED: Final = "not supported"
NO_TOKENIZER: Final = "not supported: the module's protocol has no tokenizer"
NO_EMBEDDINGS: Final = "not supported: the module's protocol has no embeddings"


class Refused(Exception):
    """What was asked for cannot be done; its text is one sentence for the program that asked."""


@dataclass(frozen=True, slots=True)
class Form:
    """An event's fields, in the order in which several arguments are taken, and what says that it failed."""

    fields: tuple[str, ...]
    refuse: Callable[[str, Payload], Replies]


def read(form: Form, arguments: Sequence[object]) -> Payload:
    """An event's arguments as one payload: none is an empty one, an object is itself, several are taken by position."""
    match arguments:
        case [] | [None]:
            return {}
        case [Mapping() as payload, *_]:
            return payload
        case _:
            return dict(zip(form.fields, arguments, strict=False))


def text(payload: Payload, name: str) -> str:
    """A field that must be there and be a text. Raises: Refused."""
    value = payload.get(name)
    if value is None:
        raise Refused(f"`{name}` is missing")
    if not isinstance(value, str):
        raise Refused(f"`{name}` must be a text")
    if not is_unicode(value):
        raise Refused(f"`{name}` is no valid Unicode")
    return value


def name_of(payload: Payload, name: str) -> str:
    """A text that names something, so not an empty one. Raises: Refused."""
    value = text(payload, name)
    if not value:
        raise Refused(f"`{name}` is missing")
    return value


def integer(payload: Payload, name: str) -> int | None:
    """A whole number, which some programs send as a text; None where it is missing. Raises: Refused."""
    value = payload.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise Refused(f"`{name}` must be a whole number") from None
    if isinstance(value, bool) or not isinstance(value, int | None):
        raise Refused(f"`{name}` must be a whole number")
    return value


def is_raw(payload: Payload) -> bool:
    """Whether a generation asks for no personality."""
    try:
        return integer(payload, "personality") == RAW
    except Refused:
        return False


def is_unicode(value: str) -> bool:
    """Whether the text can be encoded: JSON can hold halves of characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def echo(payload: Payload, name: str) -> str:
    """A field as it is said back: a text of sane length, else ""."""
    value = payload.get(name)
    return value[:ECHO_LENGTH] if isinstance(value, str) and is_unicode(value[:ECHO_LENGTH]) else ""


def shown(name: str) -> str:
    """An event's name as a reply and the log can hold it."""
    return name[:ECHO_LENGTH].encode(errors="replace").decode()


def busy(message: str) -> Replies:
    """Too much at once; published programs listen for one of the two names."""
    return ("buzzy", {"message": message}), ("busy", {"message": message})


def unknown_event(event: str) -> Replies:
    """The answer to an event that is none of the table's."""
    name = shown(event)
    return (("unknown_event", {"success": False, "event": name, "error": f"there is no event {name!r}"}),)


def generation_failed(error: str, partial: str, request_id: str | None) -> Replies:
    """A generation failed: said twice, since most programs wait for the second event only."""
    return (
        ("generation_error", {"error": error, "request_id": request_id}),
        ("text_generated", {"text": partial, "error": error, "request_id": request_id}),
    )


def canceled(message: str, partial: str, request_id: str | None) -> Reply:
    """The answer to a cancel."""
    return "generation_canceled", {"message": message, "text": partial, "request_id": request_id}


def _fails(event: str) -> Callable[[str, Payload], Replies]:
    return lambda error, _: ((event, {"success": False, "error": error}),)


def _select_fails(event: str, field: str) -> Callable[[str, Payload], Replies]:
    return lambda error, payload: ((event, {"success": False, field: echo(payload, field), "error": error}),)


def _activation_fails(error: str, _: Payload) -> Replies:
    failure = {"success": False, "error": error}
    return ("personality_add_failed", failure), ("activate_personality", failure)


_CANCEL: Final = Form((), lambda error, _: (canceled(error, "", None),))

FORMS: Final[Mapping[str, Form]] = {
    "list_available_bindings": Form((), _fails("bindings_list")),
    "list_available_personalities": Form((), _fails("personalities_list")),
    "list_available_models": Form((), _fails("available_models_list")),
    "list_available_personalities_languages": Form((), _fails("available_personalities_languages_list")),
    "list_available_personalities_categories": Form(("language",), _fails("available_personalities_categories_list")),
    "list_available_personalities_names": Form(
        ("language", "category"), _fails("list_available_personalities_names_list")
    ),
    "select_binding": Form(("binding_name",), _select_fails("select_binding", "binding_name")),
    "select_model": Form(("model_name",), _select_fails("select_model", "model_name")),
    "add_personality": Form(("path",), _fails("personality_add_failed")),
    "activate_personality": Form(("id",), _activation_fails),
    "list_active_personalities": Form((), _fails("active_personalities_list")),
    "generate_text": Form(
        ("prompt", "personality", "n_predicts", "parameters"),
        lambda error, _: generation_failed(error, "", None),
    ),
    "cancel_generation": _CANCEL,
    "cancel_text_generation": _CANCEL,
    "tokenize": Form(("prompt",), lambda error, _: (("tokenized", {"tokens": [], "error": error}),)),
    "detokenize": Form(("prompt",), lambda error, _: (("detokenized", {"text": "", "error": error}),)),
    "embed": Form(
        ("prompt",),
        lambda error, payload: (("embeded", {"text": echo(payload, "prompt"), "embedding": [], "error": error}),),
    ),
    "vectorize_text": Form((), lambda error, _: (("vectorized_db", {"status": False, "error": error}),)),
    "query_database": Form((), lambda error, _: (("vector_db_query", {"status": False, "error": error}),)),
}

# Events that are always refused, and why.
REFUSED: Final[Mapping[str, str]] = {
    "tokenize": NO_TOKENIZER,
    "detokenize": NO_TOKENIZER,
    "embed": NO_EMBEDDINGS,
    "vectorize_text": NOT_SUPPORTED,
    "query_database": NOT_SUPPORTED,
}
