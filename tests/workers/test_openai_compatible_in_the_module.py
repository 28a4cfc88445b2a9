"""openai_compatible through the whole module: its own environment, its own process, a client over the socket."""

from fakes.upstream.compatible_api import GOOD_KEY, Compatible
from support.contract import Described
from support.module_contract import ModuleContract


class TestInTheModule(ModuleContract):
    described = Described(provider="openai_compatible", api=Compatible, key=GOOD_KEY, model="local", path="/v1")
    models = ("local", "thinker")
