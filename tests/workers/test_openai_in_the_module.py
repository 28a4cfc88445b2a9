"""openai through the whole module: its own environment, its own process, a client over the socket."""

from fakes.upstream.openai_api import GOOD_KEY, MODELS
from fakes.upstream.server import OpenAI
from support.contract import Described
from support.module_contract import ModuleContract


class TestInTheModule(ModuleContract):
    described = Described(provider="openai", api=OpenAI, key=GOOD_KEY, model="gpt-4o", path="/v1")
    models = tuple(MODELS)
