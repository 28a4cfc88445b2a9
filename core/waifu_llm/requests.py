"""Reads one frame into a request, or into what its sender did wrong. Pure; answers nothing, knows no state."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Raw

from waifu_client.protocol import (
    MAX_ID_LENGTH,
    AnyRequest,
    Close,
    ErrorCode,
    Generate,
    GenerateParams,
    GetModels,
    GetProviders,
    GetStats,
    Interrupt,
    Load,
    Message,
    Milliseconds,
    RequestId,
    Role,
    Unload,
)

_LONGEST_MESSAGE: Final = 300
_LONGEST_QUOTE: Final = 64
_LONGEST_KEY: Final = 8192
# They are kept while anybody uses the load: a URL, a few names and numbers.
_MOST_LOAD_BYTES: Final = 64 * 1024
_ID_INTEGERS: Final = range(-(2**63), 2**64)
_NOTHING: Final = (b"null", b'""')
_OUTSIDE: Final = "content must be a string; images, tool calls and embeddings are outside this protocol"

_ROLES: Final = f"role is one of {', '.join(get_args(Role))}"


class Unreadable(msgspec.Struct, frozen=True):
    """A frame that cannot be answered in kind; `unique_request_id` is "" where none could be read."""

    unique_request_id: RequestId
    message: str


class Refused(msgspec.Struct, frozen=True):
    """A request of a known type with a missing or wrong field, to be answered in kind.

    `provider` is what the frame named, "" where it named none; `stream` says which terminal message a
    generation's sender waits for.
    """

    type: str
    unique_request_id: RequestId
    code: ErrorCode
    message: str
    provider: str = ""
    stream: bool = False


Reading: TypeAlias = AnyRequest | Refused | Unreadable


class _WrongField(Exception):
    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:_LONGEST_MESSAGE]


def _decoders(shape: type[msgspec.Struct]) -> dict[str, msgspec.json.Decoder[Any]]:
    return {field.name: msgspec.json.Decoder(field.type) for field in msgspec.structs.fields(shape)}


_well_formed: Final = msgspec.json.Decoder(Generate)
_object: Final = msgspec.json.Decoder(dict[str, Raw])
_id: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(RequestId)
_string: Final = msgspec.json.Decoder(str)
_boolean: Final = msgspec.json.Decoder(bool)
# Every key is looked for in whatever leaves as text: a limit keeps that cheap.
_key: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Annotated[str, msgspec.Meta(max_length=_LONGEST_KEY)])
_milliseconds: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Milliseconds | None)
_messages: Final = msgspec.json.Decoder(list[Message])
_scope: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Literal["all"])
_anything: Final = msgspec.json.Decoder()
_params: Final = _decoders(GenerateParams)
_NULL_IS_A_VALUE: Final = frozenset({"stop_tokens", "timeout_ms"})
_LOAD_FIELDS: Final = frozenset(
    {"type", "unique_request_id", "provider", "api_key", "preload_model_id", "timeout_ms", "progress"}
)
_SIZED_ELSEWHERE: Final = frozenset({"type", "unique_request_id", "provider", "api_key"})


def read_request(data: str | bytes) -> Reading:
    """One frame as a request, as a refusal in kind, or as unreadable; never raises, whatever the bytes are."""
    try:
        request = _well_formed.decode(data.decode() if isinstance(data, bytes) else data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return read_fields(data)
    return request if _is_plain(request) else read_fields(data)


def _is_plain(request: Generate) -> bool:
    """Whether no field of a generation has a meaning of its own, as "" has that of an absent one."""
    params = request.params
    return (
        _fits(request.unique_request_id)
        and (request.prompt is None) == bool(request.messages)
        and "" not in (request.prompt, request.provider, params.model_id, params.character_name)
        and not (params.stop_tokens and "" in params.stop_tokens)
        and "" not in [message.name for message in request.messages]
    )


def read_fields(data: str | bytes) -> Reading:
    """`read_request`, field by field: what each of them may be beside what the protocol says, and which is wrong.

    It reads what is well-formed to the same request; a test holds the two together.
    """
    request_id: RequestId = ""
    try:
        raw = _object.decode(data.decode() if isinstance(data, bytes) else data)
        request_id = _read_id(raw)
        return _read_kind(raw, request_id)
    except _WrongField as wrong:
        return Unreadable(request_id, wrong.message)
    except msgspec.ValidationError:
        return Unreadable(request_id, "a message must be one JSON object")
    except RecursionError:
        return Unreadable(request_id, "the JSON is nested too deeply")
    except (msgspec.DecodeError, UnicodeError) as error:
        return Unreadable(request_id, f"this is not JSON: {error}"[:_LONGEST_MESSAGE])


def _read_id(raw: Mapping[str, Raw]) -> RequestId:
    if "unique_request_id" not in raw:
        raise _WrongField(ErrorCode.UNEXPECTED, "unique_request_id is missing")
    try:
        value: RequestId = _id.decode(raw["unique_request_id"])
    except msgspec.ValidationError as error:
        raise _WrongField(ErrorCode.UNEXPECTED, f"unique_request_id: {error}") from error
    if not _fits(value):
        text = f"unique_request_id must be a string of 1 to {MAX_ID_LENGTH} characters, or an integer of 64 bits"
        raise _WrongField(ErrorCode.UNEXPECTED, text)
    return value


def _fits(request_id: RequestId) -> bool:
    if isinstance(request_id, str):
        return 1 <= len(request_id) <= MAX_ID_LENGTH
    return request_id in _ID_INTEGERS


def _read_kind(raw: Mapping[str, Raw], request_id: RequestId) -> Reading:
    try:
        kind = _string.decode(raw["type"])
    except (KeyError, msgspec.ValidationError) as error:
        raise _WrongField(ErrorCode.UNEXPECTED, "type is missing or not a string") from error
    match kind:
        case "load":
            return _read_load(raw, request_id)
        case "generate":
            return _read_generate(raw, request_id)
        case "interrupt":
            return _read_interrupt(raw, request_id)
        case "get_models":
            return _read_get_models(raw, request_id)
        case "unload":
            return _read_unload(raw, request_id)
        case "close":
            return Close(unique_request_id=request_id)
        case "get_providers":
            return GetProviders(unique_request_id=request_id)
        case "get_stats":
            return GetStats(unique_request_id=request_id)
    raise _WrongField(ErrorCode.UNEXPECTED, f"there is no message type {kind[:_LONGEST_QUOTE]!r}")


def _take(
    raw: Mapping[str, Raw], name: str, decoder: msgspec.json.Decoder[Any], code: ErrorCode, inside: str = ""
) -> Any:
    """An optional field's value; None where it is absent, null or ""."""
    value = raw.get(name)
    if value is None or (bytes(value) in _NOTHING and name not in _NULL_IS_A_VALUE):
        return None
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        raise _WrongField(code, f"{inside}{name}: {error}") from error


def _need(
    raw: Mapping[str, Raw], name: str, decoder: msgspec.json.Decoder[Any], code: ErrorCode, inside: str = ""
) -> Any:
    """A required field's value."""
    value = _take(raw, name, decoder, code, inside)
    if value is None:
        raise _WrongField(code, f"{inside}{name} is missing")
    return value


def _named(raw: Mapping[str, Raw]) -> str:
    """The provider that a frame names, for a refusal's own reply."""
    try:
        return str(_take(raw, "provider", _string, ErrorCode.INVALID_PROVIDER) or "")
    except _WrongField:
        return ""


def _read_load(raw: Mapping[str, Raw], request_id: RequestId) -> Load | Refused:
    try:
        return Load(
            unique_request_id=request_id,
            provider=_need(raw, "provider", _string, ErrorCode.INVALID_PROVIDER),
            api_key=_take(raw, "api_key", _key, ErrorCode.AUTHORIZATION),
            preload_model_id=_take(raw, "preload_model_id", _string, ErrorCode.INVALID_MODEL),
            timeout_ms=_take(raw, "timeout_ms", _milliseconds, ErrorCode.UNEXPECTED) or None,
            progress=_take(raw, "progress", _boolean, ErrorCode.UNEXPECTED) or False,
            fields=_load_fields(raw),
        )
    except _WrongField as wrong:
        return Refused("load", request_id, wrong.code, wrong.message, provider=_named(raw))


def _load_fields(raw: Mapping[str, Raw]) -> dict[str, object]:
    if sum(len(memoryview(value)) for name, value in raw.items() if name not in _SIZED_ELSEWHERE) > _MOST_LOAD_BYTES:
        raise _WrongField(ErrorCode.UNEXPECTED, f"the fields of a load may have {_MOST_LOAD_BYTES} bytes together")
    return {
        name: _take(raw, name, _anything, ErrorCode.UNEXPECTED)
        for name, value in raw.items()
        if name not in _LOAD_FIELDS and bytes(value) not in _NOTHING
    }


def _read_generate(raw: Mapping[str, Raw], request_id: RequestId) -> Generate | Refused:
    stream = False
    try:
        stream = _take(raw, "stream", _boolean, ErrorCode.INVALID_PROMPT) or False
        provider = _take(raw, "provider", _string, ErrorCode.INVALID_PROVIDER)
        params = _read_params(raw)
        messages, prompt = _read_prompt(raw)
    except _WrongField as wrong:
        return Refused("generate", request_id, wrong.code, wrong.message, stream=stream)
    return Generate(
        unique_request_id=request_id,
        params=params,
        messages=messages,
        prompt=prompt,
        stream=stream,
        provider=provider,
    )


def _read_params(raw: Mapping[str, Raw]) -> GenerateParams:
    if bytes(raw.get("params", Raw(b"null"))) in _NOTHING:
        raise _WrongField(ErrorCode.INVALID_MODEL, "params is missing; it holds at least model_id")
    given = _need(raw, "params", _object, ErrorCode.INVALID_PROMPT)
    values: dict[str, Any] = {"model_id": _need(given, "model_id", _string, ErrorCode.INVALID_MODEL, "params.")}
    for name, value in given.items():
        if name in _params and name != "model_id" and (bytes(value) not in _NOTHING or name in _NULL_IS_A_VALUE):
            values[name] = _take(given, name, _params[name], ErrorCode.INVALID_PROMPT, "params.")
    # An empty stop would end every answer before it begins.
    if values.get("stop_tokens"):
        values["stop_tokens"] = [stop for stop in values["stop_tokens"] if stop != ""]
    return GenerateParams(**values)


def _read_prompt(raw: Mapping[str, Raw]) -> tuple[list[Message], str | None]:
    try:
        messages = _take(raw, "messages", _messages, ErrorCode.INVALID_PROMPT) or []
    except _WrongField as wrong:
        hints = [hint for field, hint in (("content`", _OUTSIDE), ("role`", _ROLES)) if field in wrong.message]
        raise _WrongField(wrong.code, "; ".join([wrong.message, *hints])) from wrong
    prompt = _take(raw, "prompt", _string, ErrorCode.INVALID_PROMPT)
    if bool(messages) == (prompt is not None):
        problem = "both messages and prompt are given" if messages else "messages is empty"
        raise _WrongField(ErrorCode.INVALID_PROMPT, f"{problem}; send at least one message, or a prompt instead")
    return [m if m.name != "" else Message(m.role, m.content) for m in messages], prompt


def _read_interrupt(raw: Mapping[str, Raw], request_id: RequestId) -> Interrupt | Refused:
    try:
        scope = _take(raw, "scope", _scope, ErrorCode.UNEXPECTED)
        target = _take(raw, "target_request_id", _id, ErrorCode.UNEXPECTED)
    except _WrongField as wrong:
        return Refused("interrupt", request_id, wrong.code, wrong.message)
    return Interrupt(unique_request_id=request_id, target_request_id=target, scope=scope)


def _read_get_models(raw: Mapping[str, Raw], request_id: RequestId) -> GetModels | Refused:
    try:
        provider = _take(raw, "provider", _string, ErrorCode.INVALID_PROVIDER)
    except _WrongField as wrong:
        return Refused("get_models", request_id, wrong.code, wrong.message)
    return GetModels(unique_request_id=request_id, provider=provider)


def _read_unload(raw: Mapping[str, Raw], request_id: RequestId) -> Unload | Refused:
    try:
        provider = _need(raw, "provider", _string, ErrorCode.INVALID_PROVIDER)
    except _WrongField as wrong:
        return Refused("unload", request_id, wrong.code, wrong.message)
    return Unload(unique_request_id=request_id, provider=provider)
