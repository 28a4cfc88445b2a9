"""groq through the whole module: its own environment, its own process, a client over the socket."""

from fakes.upstream.groq_api import APART, GOOD_KEY, NO_CHAT, THINKER, Groq
from support.contract import Described
from support.module_contract import ModuleContract


class TestInTheModule(ModuleContract):
    described = Described(provider="groq", api=Groq, key=GOOD_KEY, model="llama-3.3-70b-versatile", path="")
    models = ("llama-3.3-70b-versatile", THINKER, APART, NO_CHAT)
