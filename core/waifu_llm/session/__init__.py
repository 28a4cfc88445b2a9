"""One client's state: message in, effects out; pure, no I/O, no asyncio."""

from waifu_llm.session.effects import Effect, GenerationTicket, LoadTicket, ModelsTicket, Ticket, UnloadTicket
from waifu_llm.session.session import Session

__all__ = ["Effect", "GenerationTicket", "LoadTicket", "ModelsTicket", "Session", "Ticket", "UnloadTicket"]
