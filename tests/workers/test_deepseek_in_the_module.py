"""deepseek through the whole module: its own environment, its own process, a client over the socket."""

from fakes.upstream.deepseek_api import GOOD_KEY, DeepSeek
from support.contract import Described
from support.module_contract import ModuleContract


class TestInTheModule(ModuleContract):
    described = Described(provider="deepseek", api=DeepSeek, key=GOOD_KEY, model="deepseek-flash", path="")
    models = ("deepseek-flash", "deepseek-v4-pro")
