"""The provider that a command names, and what is said where the name is a gateway's."""

from waifu_llm.catalog import Catalog, Manifest
from waifu_llm.errors import UnknownProvider


def provider_named(catalog: Catalog, name: str, instead: str) -> Manifest:
    """The worker of that name. `instead`: what the user may do where it is a gateway's.

    Raises: UnknownProvider, naming those there are; BrokenManifest.
    """
    if name in {gateway.name for gateway in catalog.gateways()}:
        raise UnknownProvider(f"{name} is a gateway, not a provider; {instead}")
    return catalog.worker(name)
