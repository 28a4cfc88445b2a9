"""The doors of the module: the rules of `waifu_worker.doors`, made from its settings. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from waifu_llm.config import ServerSettings
from waifu_llm.errors import UsageError
from waifu_worker.doors import WILDCARDS, Denied, Doors, Listed, carries_token, is_loopback

SUBPROTOCOL: Final = "waifu-llm"


class ModuleDoors(msgspec.Struct, frozen=True):
    """The rules of one run, read once at start. `warnings` are sentences for the log.

    `gateway_token`: what this run's own gateways send; they pass without the clients' token.
    """

    loopback: bool
    isolated: bool
    rules: Doors
    gateway_token: str | None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"ModuleDoors(loopback={self.loopback!r}, isolated={self.isolated!r}, rules={self.rules!r})"

    @classmethod
    def of(cls, settings: ServerSettings, token: str | None, gateway_token: str | None = None) -> "ModuleDoors":
        """The rules that the settings make. Raises: UsageError."""
        loopback = is_loopback(settings.host.lower())
        if not loopback and not token:
            raise UsageError(
                f"listening on {settings.host} lets other machines in: set a token first "
                "(the variable WAIFU_LLM_TOKEN, or server.token_file in waifu-llm.toml)"
            )
        if (settings.tls_cert is None) != (settings.tls_key is None):
            raise UsageError("server.tls_cert and server.tls_key belong together: set both or neither")
        try:
            rules = Doors.of(
                settings.host,
                Listed("server.allow_host", settings.allow_host),
                Listed("server.allow_origin", settings.allow_origin),
                token,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        return cls(
            loopback=loopback,
            isolated=settings.isolate_clients or not loopback,
            rules=rules,
            gateway_token=gateway_token,
            warnings=() if loopback else tuple(_risks(settings)),
        )

    def check(
        self, hosts: Sequence[str], origins: Sequence[str], authorizations: Sequence[str], subprotocols: Sequence[str]
    ) -> Denied | None:
        """Each argument holds all values of one header; None lets the connection in."""
        denied = self.rules.check_names(hosts, origins)
        if denied is None and not self.is_gateway(authorizations):
            denied = self.rules.check_token(authorizations, subprotocols)
        return denied

    def check_gateway(
        self, hosts: Sequence[str], origins: Sequence[str], authorizations: Sequence[str]
    ) -> Denied | None:
        """The same where gateways alone may come in."""
        denied = self.rules.check_names(hosts, origins)
        if denied is None and not self.is_gateway(authorizations):
            denied = Denied(401, "This address is for the gateways of this module.\n")
        return denied

    def is_gateway(self, authorizations: Sequence[str]) -> bool:
        """Whether these values of `Authorization` are those of a gateway of this run."""
        return self.gateway_token is not None and carries_token(self.gateway_token, authorizations)


def _risks(settings: ServerSettings) -> Iterable[str]:
    """What somebody who opens the module to other machines should know."""
    if settings.tls_cert is None:
        yield (
            f"listening on {settings.host} without TLS: the token, keys and texts can be read on the network; "
            "set server.tls_cert and server.tls_key"
        )
    if settings.host in WILDCARDS and not settings.allow_host:
        yield (
            "other machines cannot connect yet: list the names and addresses by which they reach this one "
            "in server.allow_host"
        )
