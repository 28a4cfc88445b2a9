"""A session without a socket: say something at a time of your choice, see what it wants done."""

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from support.fake_pool import FakeLoaded

from waifu_client.protocol import AnyReply, encode_reply
from waifu_llm.config import LimitSettings
from waifu_llm.redaction import Redactor
from waifu_llm.session import Effect, GenerationTicket, LoadTicket, ModelsTicket, Session, UnloadTicket
from waifu_llm.session.effects import ReadModels, Send, SendText, StartGeneration, StartLoad, StartUnload

E = TypeVar("E")

USER = [{"role": "user", "content": "hi"}]
PARAMS: dict[str, Any] = {"model_id": "m"}


def spoken(reply: AnyReply | None) -> dict[str, Any]:
    """A reply as a client reads it."""
    assert reply is not None
    read: dict[str, Any] = json.loads(encode_reply(reply))
    return read


def sent(effects: Iterable[Effect]) -> list[dict[str, Any]]:
    """What the effects send, in order."""
    return [spoken(effect.reply) for effect in effects if isinstance(effect, Send)]


def summary(effects: Iterable[Effect]) -> list[tuple[Any, ...]]:
    """Type and id of what is sent, and the code where there is one."""
    return [(r["type"], r["unique_request_id"], *([r["error"]] if "error" in r else [])) for r in sent(effects)]


class Talk:
    """One session, its clock, and the load that others made."""

    def __init__(self, *, remote_close: bool = True, limits: LimitSettings | None = None, limited: bool = True) -> None:
        self.now = 1000.0
        self.shared: FakeLoaded | None = None
        self.redactor = Redactor()
        self.session = Session(
            shared=lambda: self.shared,
            redactor=self.redactor,
            clock=lambda: self.now,
            remote_close=remote_close,
            limits=limits,
            limited=limited,
        )

    def raw(self, data: str | bytes) -> list[Effect]:
        return self.session.receive(data)

    def say(self, kind: str, unique_request_id: str | int = "x", **fields: Any) -> list[Effect]:
        return self.raw(json.dumps({"type": kind, "unique_request_id": unique_request_id, **fields}))

    def load(self, unique_request_id: str | int = "l", provider: str = "echo", **fields: Any) -> LoadTicket:
        return only(self.say("load", unique_request_id, provider=provider, **fields), StartLoad).ticket

    def loaded(self, provider: str = "echo", unique_request_id: str = "l", **fields: Any) -> FakeLoaded:
        ticket = self.load(unique_request_id, provider, **fields)
        loaded = FakeLoaded(provider, api_key=fields.get("api_key"))
        self.session.load_succeeded(ticket, loaded)
        return loaded

    def generate(self, unique_request_id: str | int = "g", *, stream: bool = True, **fields: Any) -> GenerationTicket:
        return self.generation(unique_request_id, stream=stream, **fields).ticket

    def generation(self, unique_request_id: str | int = "g", **fields: Any) -> StartGeneration:
        fields = {"messages": USER, "params": PARAMS, **fields}
        return only(self.say("generate", unique_request_id, **fields), StartGeneration)

    def chunks(self, ticket: GenerationTicket, *texts: str) -> list[str]:
        """The texts that are sent of these, a message each."""
        effects = self.session.chunks(ticket, texts)
        return [text for effect in effects if isinstance(effect, SendText) for text in effect.texts]

    def models(self, unique_request_id: str = "m") -> ModelsTicket:
        return only(self.say("get_models", unique_request_id), ReadModels).ticket

    def unload(self, unique_request_id: str = "u", provider: str = "echo") -> UnloadTicket:
        return only(self.say("unload", unique_request_id, provider=provider), StartUnload).ticket


def only(effects: Iterable[Effect], kind: type[E]) -> E:
    """The one effect of that kind."""
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found
