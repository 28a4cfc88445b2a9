"""What a load means: its fields checked against the manifest, its key found, its identity computed. Pure."""

import hashlib
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from waifu_llm.catalog import KeyNeed, Manifest, Option, OptionValue
from waifu_llm.config.values import OPTION_TYPES, option_from_text
from waifu_llm.errors import BadLoadField, MissingKey
from waifu_llm.supervision.addresses import ANY_UPSTREAM, Origin, Upstreams, origin_of
from waifu_llm.supervision.hosts import completed
from waifu_llm.supervision.jobs import LoadFields
from waifu_worker.addresses import is_never_a_provider, parse


class LoadPlan(msgspec.Struct, frozen=True):
    """A checked load. `identity` names the worker process, `context` the provider object in it."""

    manifest: Manifest
    api_key: str | None
    options: Mapping[str, OptionValue]
    preload_model_id: str | None
    identity: str
    context: str

    def __repr__(self) -> str:
        return f"LoadPlan({self.manifest.name}, options={self.options!r}, preload_model_id={self.preload_model_id!r})"


class OwnSide(msgspec.Struct, frozen=True):
    """What this server itself says about a provider, and which others loads may name.

    `given` comes from the command line (None: the manifest's default, whatever else is said), `defaults` from the
    config file.
    """

    given: Mapping[str, object]
    defaults: Mapping[str, object]
    environ: Mapping[str, str]
    upstreams: Upstreams = ANY_UPSTREAM


def plan_load(
    manifest: Manifest, asked: LoadFields, side: OwnSide, *, own_key: str | None, digest_key: bytes
) -> LoadPlan:
    """Check a load. `own_key` is this server's. Raises: BadLoadField; MissingKey."""
    own = {name: _own_value(name, option, side) for name, option in manifest.declared.options.items()}
    options = {
        name: _asked_value(name, option, asked.fields.get(name), own[name])
        for name, option in manifest.declared.options.items()
    }
    elsewhere = _elsewhere(manifest, own, options)
    _check_upstreams(manifest, own, options, side.upstreams, elsewhere)
    if elsewhere:
        # What an address is made of belongs together: a part of this server's own would turn the load's into a third.
        options |= {name: option.default for name, option in _addresses(manifest) if _absent(asked.fields.get(name))}
    api_key = _key(manifest, asked, elsewhere, own_key)
    identity = {name: options[name] for name, option in manifest.declared.options.items() if option.identity}
    rest = {name: value for name, value in options.items() if name not in identity}
    return LoadPlan(
        manifest,
        api_key,
        options,
        asked.preload_model_id,
        identity=_digest([manifest.name, api_key, identity], digest_key),
        context=_digest([rest, asked.preload_model_id], digest_key),
    )


def gateway_options(manifest: Manifest, table: Mapping[str, object]) -> dict[str, OptionValue]:
    """A gateway's options as it is told them: those of its table of the settings, else the manifest's defaults.

    Raises: BadLoadField.
    """
    return {
        name: _checked(f"gateway.{manifest.name}.{name}", option, table[name]) if name in table else option.default
        for name, option in manifest.declared.options.items()
    }


def _digest(value: object, key: bytes) -> str:
    return hashlib.blake2b(msgspec.json.encode(value, order="deterministic"), key=key, digest_size=16).hexdigest()


def _own_value(name: str, option: Option, side: OwnSide) -> OptionValue:
    if name in side.given:
        given = side.given[name]
        return option.default if given is None else _checked(f"--set of {name}", option, given)
    if option.env and side.environ.get(option.env):
        return _checked(f"the variable {option.env}", option, option_from_text(option.type, side.environ[option.env]))
    if name in side.defaults:
        return _checked(f"the config file's default of {name}", option, side.defaults[name])
    return option.default


def _absent(value: object) -> bool:
    return value is None or value == ""


def _asked_value(name: str, option: Option, value: object, own: OptionValue) -> OptionValue:
    if _absent(value):
        return own
    return _checked(f"the load's field {name}", option, value)


# `host`: a URL too, but its short forms are taken as well and completed from the default.
_ADDRESS_TYPES: Final = frozenset({"url", "host"})
_HAS_USER: Final = re.compile(r"[^/?#]*//[^/?#]*@")


def _checked(source: str, option: Option, value: object) -> OptionValue:
    try:
        checked: OptionValue = msgspec.convert(value, OPTION_TYPES[option.type], strict=True)
    except msgspec.ValidationError as error:
        raise BadLoadField(f"{source} must be of the type {option.type}: {error}") from error
    if option.choices and checked not in option.choices:
        raise BadLoadField(f"{source} must be one of {', '.join(option.choices)}")
    if option.type in _ADDRESS_TYPES:
        assert isinstance(checked, str)
        return checked_url(source, _completed(source, option, checked) if option.type == "host" else checked)
    return checked


def _completed(source: str, option: Option, text: str) -> str:
    try:
        return completed(text, str(option.default))
    except ValueError as error:
        raise BadLoadField(f"{source} is no address: {error}") from error


def _check_upstreams(
    manifest: Manifest,
    own: Mapping[str, OptionValue],
    options: Mapping[str, OptionValue],
    upstreams: Upstreams,
    elsewhere: list[str],
) -> None:
    """Raises: BadLoadField where the load leads to a service that it may not name."""
    for name in elsewhere:
        option, value = manifest.declared.options[name], options[name]
        configured = (own[name], option.default)
        allowed = (
            upstreams.allows(str(value), configured)
            if option.type in _ADDRESS_TYPES
            else upstreams.any_host or value in configured
        )
        if not allowed:
            raise BadLoadField(
                f"the load's field {name} names a service that this server, which other machines reach, is not set up "
                "for; its operator can add the host to server.allow_upstream"
            )


def checked_url(source: str, text: str) -> str:
    """A URL this server may talk to, without its trailing slash.

    http or https, a host, no user or password in it, and never a link-local or metadata address, from where a
    page in the user's browser could read the machine's cloud credentials. Raises: BadLoadField.
    """
    text = text.strip()
    # Others read such characters in ways of their own: urlsplit drops some, browsers take a backslash for a slash.
    if not text.isprintable() or " " in text or "\\" in text:
        raise BadLoadField(f"{source} is no URL: it has characters that no URL has")
    if _HAS_USER.match(text):
        raise BadLoadField(f"{source} must not hold a user or a password; give the key as api_key")
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
        if host is not None and ("[" in url.netloc) != (":" in host):
            raise BadLoadField(f"{source} is no URL: brackets hold IPv6 addresses")
        never = host is not None and is_never_a_provider(parse(host))
    except ValueError as error:
        raise BadLoadField(f"{source} is no URL: {error}") from error
    if url.scheme not in {"http", "https"} or not host:
        raise BadLoadField(f"{source} must be a URL such as https://host/v1")
    if never:
        raise BadLoadField(f"{source} names a link-local or metadata address, which is never a provider")
    return text.rstrip("/")


def _addresses(manifest: Manifest) -> list[tuple[str, Option]]:
    """The options that decide where the key goes."""
    return [(name, it) for name, it in manifest.declared.options.items() if it.type in _ADDRESS_TYPES or it.address]


def _elsewhere(manifest: Manifest, own: Mapping[str, OptionValue], options: Mapping[str, OptionValue]) -> list[str]:
    """The options by which a load leaves the address that this server's own key belongs to."""
    return [
        name
        for name, option in _addresses(manifest)
        if options[name] != own[name]
        and (option.type not in _ADDRESS_TYPES or _origin(options[name]) != _origin(own[name]))
    ]


def _key(manifest: Manifest, asked: LoadFields, elsewhere: list[str], own_key: str | None) -> str | None:
    """The load's key, else this server's own, which never goes to an address that a client chose."""
    key = manifest.declared.key
    if key.need is KeyNeed.NONE:
        return None
    if asked.api_key:
        return asked.api_key
    found = own_key if not elsewhere else None
    if found is None and key.need is KeyNeed.REQUIRED:
        if elsewhere:
            raise MissingKey(
                f"this load names its own {elsewhere[0]}, so it needs its own api_key: "
                "the key of this server is not sent to an address that a client chose"
            )
        raise MissingKey(_how_to_give(manifest))
    return found


def _how_to_give(manifest: Manifest) -> str:
    ways = ["give api_key with the load"]
    ways += [f"set the variable {name}" for name in manifest.declared.key.env[:1]]
    ways.append(f"run: waifu-llm keys set {manifest.name}")
    return f"{manifest.declared.title} needs an API key: {', or '.join(ways)}"


def _origin(value: OptionValue) -> Origin | None:
    return origin_of(value) if isinstance(value, str) else None
