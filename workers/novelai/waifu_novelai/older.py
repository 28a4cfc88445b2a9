"""NovelAI's older route: models that continue a text. Request, stream and stops."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from waifu_novelai.events import TokenReader
from waifu_novelai.prompts import llama_turns, own_stops, plain_turns
from waifu_worker.generation import SAMPLERS
from waifu_worker.http_client import HttpClient, Response, is_success
from waifu_worker.http_errors import failure
from waifu_worker.messages import name_in_prompt
from waifu_worker.provider import Finish, GenerateRequest, Piece, ProviderError
from waifu_worker.text import AnswerFilter
from waifu_worker.wire import ChatMessage, Code, Params

_PATH: Final = "/ai/generate-stream"
_TEMPERATURES: Final = (0.1, 100.0)
_LENGTHS: Final = (1, 2048)
# Without any cut the least likely tokens derail a text within a few lines.
_TOP_P: Final = 0.95
# The names of our samplers, and where they stand in `order`: what isn't named there is switched off.
_ORDERED: Final = {"top_k": 1, "top_p": 2, "min_p": 10}
_TEMPERATURE: Final = 0
OLDER_SAMPLERS: Final = {
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "repeat_last_n": "repetition_penalty_range",
    "frequency_penalty": "repetition_penalty_frequency",
    "presence_penalty": "repetition_penalty_presence",
}
_RANGES: Final = {"repeat_last_n": (0, 8192), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}


class Family(msgspec.Struct, frozen=True):
    """Models with one tokenizer. `stop_ids`: the tokens that end a turn; `without`: samplers it has not."""

    ids: re.Pattern[str]
    newest: str
    vocabulary: int
    prompt: Callable[[Sequence[ChatMessage], str], str]
    stop_ids: tuple[int, ...] = ()
    without: frozenset[str] = frozenset()


FAMILIES: Final = (
    # <|end_of_text|>, <|start_header_id|> and <|eot_id|> of Llama 3.
    Family(re.compile(r"llama-3-erato\b"), "llama-3-erato-v1", 128256, llama_turns, (128001, 128006, 128009)),
    Family(re.compile(r"kayra\b"), "kayra-v1", 65535, plain_turns, without=frozenset({"min_p"})),
)


def family_of(model_id: str) -> Family | None:
    """The family of a model of this route; None for a model of the other one."""
    return next((family for family in FAMILIES if family.ids.match(model_id)), None)


def request_body(request: GenerateRequest, family: Family) -> dict[str, object]:
    """The request as this route takes it. Raises: ProviderError for a token id that the model has not."""
    params = request.params
    beyond = [token for token in params.stop_ids if not 0 <= token < family.vocabulary]
    if beyond:
        raise ProviderError(
            Code.INVALID_PROMPT, f"{params.model_id} has no token {beyond[0]}: its ids end at {family.vocabulary - 1}"
        )
    chat = request.prompt is None
    given = _samplers(params, family)
    parameters: dict[str, object] = {
        "use_string": True,
        "temperature": _within(params.temperature, _TEMPERATURES),
        "min_length": _LENGTHS[0],
        "max_length": _within(params.max_output_length, _LENGTHS),
        "top_p": _TOP_P,
        **{OLDER_SAMPLERS[name]: value for name, value in given.items()},
        "order": [_TEMPERATURE, *(place for name, place in _ORDERED.items() if name in given or name == "top_p")],
        # Else the answer goes on past its length until a sentence ends.
        "generate_until_sentence": False,
        "use_cache": False,
        "force_emotion": False,
        "prefix": "vanilla",
    }
    stop_ids = dict.fromkeys([*params.stop_ids, *(family.stop_ids if chat else ())])
    if stop_ids:
        parameters["stop_sequences"] = [[token] for token in stop_ids]
    text = family.prompt(request.messages, name_in_prompt(params.character_name)) if chat else request.prompt
    return {"input": text, "model": params.model_id, "parameters": parameters}


def _samplers(params: Params, family: Family) -> dict[str, float]:
    """The optional parameters that the client gave and the family has, within their ranges."""
    given = {name: getattr(params, name) for name in OLDER_SAMPLERS if name not in family.without}
    return {
        name: _within(value, _RANGES[name]) if name in _RANGES else value
        for name, value in given.items()
        if value is not None
    }


def _within(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])


class OlderRoute:
    """Generations of one family over a ready client."""

    def __init__(self, client: HttpClient, family: Family) -> None:
        self._client = client
        self._family = family

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """Stream one answer. Ending the generator closes the connection at once. Raises: ProviderError."""
        params = request.params
        # The service's own stops are tokens, and a line break is in many of them: ours are looked for in the text.
        answer = AnswerFilter(stops=own_stops(request.messages) if request.prompt is None else ())
        response = await self._open(request)
        request.ignored.extend(self._ignored(params))
        reader = TokenReader(self._client.upstream, params.model_id)
        try:
            while not (reader.over or answer.stopped):
                if texts := answer.feed_all(await self._read(response, reader)):
                    yield texts
            if not answer.stopped:
                if rest := answer.end():
                    yield rest
                if reader.failure is not None:
                    raise reader.failure
                if not reader.ended:
                    return
            yield Finish("stop" if answer.stopped else self._reason(reader, params))
        finally:
            self._client.leave(response, complete=reader.ended)

    async def _open(self, request: GenerateRequest) -> Response:
        response = await self._client.stream(_PATH, request_body(request, self._family))
        if is_success(response) and response.content_type != "text/html":
            return response
        try:
            raise failure(self._client.upstream, await self._client.refusal(response, request.params.model_id))
        finally:
            response.close()

    async def _read(self, response: Response, reader: TokenReader) -> list[str]:
        try:
            data = await response.content.readany()
        except self._client.network_errors as error:
            raise self._client.lost(error) from error
        return reader.feed(data) if data else reader.end()

    def _reason(self, reader: TokenReader, params: Params) -> str:
        """The service gives no reason; as many tokens as were allowed mean that it would have gone on."""
        return "length" if reader.tokens >= _within(params.max_output_length, _LENGTHS) else "stop"

    def _ignored(self, params: Params) -> list[str]:
        used = _samplers(params, self._family)
        return [name for name in SAMPLERS if getattr(params, name) is not None and name not in used]
