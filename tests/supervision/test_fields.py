"""What a load means: options, key, identity."""

from pathlib import Path

import pytest

from waifu_llm.catalog import Declaration, Key, KeyNeed, Manifest, Option, OptionValue
from waifu_llm.errors import BadLoadField, MissingKey
from waifu_llm.supervision.addresses import ANY_UPSTREAM, Upstreams
from waifu_llm.supervision.fields import LoadPlan, OwnSide, checked_url, gateway_options, plan_load
from waifu_llm.supervision.jobs import LoadFields

OPTIONS = {
    "base_url": Option("url", "where", default="https://api.example/v1", env="T_BASE_URL", identity=True),
    "host": Option("host", "which machine", default="http://127.0.0.1:11434", env="T_HOST"),
    "region": Option("string", "which", choices=("eu", "us")),
    "num_ctx": Option("integer", "size", default=2048, env="T_CTX"),
    "top": Option("number", "a number", env="T_TOP"),
    "pull": Option("boolean", "fetch", default=False, env="T_PULL"),
    "folders": Option("list", "where", env="T_FOLDERS"),
}


def manifest(need: KeyNeed = KeyNeed.REQUIRED, options: dict[str, Option] = OPTIONS) -> Manifest:
    declared = Declaration(
        kind="worker",
        title="Test",
        description="",
        homepage="",
        category="api",
        package="waifu_t",
        key=Key(need, ("T_API_KEY",)),
        options=options,
    )
    return Manifest("t", Path("t"), "1", "", declared)


def plan(
    fields: dict[str, object] | None = None,
    *,
    api_key: str | None = "k",
    own_key: str | None = None,
    need: KeyNeed = KeyNeed.REQUIRED,
    environ: dict[str, str] | None = None,
    defaults: dict[str, object] | None = None,
    given: dict[str, object] | None = None,
    preload: str | None = None,
    digest_key: bytes = b"d",
    upstreams: Upstreams = ANY_UPSTREAM,
) -> LoadPlan:
    return plan_load(
        manifest(need),
        LoadFields("t", api_key, preload, fields or {}),
        OwnSide(given or {}, defaults or {}, environ or {}, upstreams),
        own_key=own_key,
        digest_key=digest_key,
    )


def test_an_option_comes_from_the_load_then_the_command_line_then_the_variable_then_the_file_then_the_manifest() -> (
    None
):
    assert plan().options["num_ctx"] == 2048
    assert plan(defaults={"num_ctx": 1}).options["num_ctx"] == 1
    assert plan(defaults={"num_ctx": 1}, environ={"T_CTX": "2"}).options["num_ctx"] == 2
    assert plan(given={"num_ctx": 4}, environ={"T_CTX": "2"}).options["num_ctx"] == 4
    assert plan(given={"num_ctx": None}, environ={"T_CTX": "2"}).options["num_ctx"] == 2048
    assert plan({"num_ctx": 3}, defaults={"num_ctx": 1}, environ={"T_CTX": "2"}).options["num_ctx"] == 3
    assert plan({"num_ctx": 3}, given={"num_ctx": 1}).options["num_ctx"] == 3


@pytest.mark.parametrize("absent", [None, ""])
def test_null_and_the_empty_string_mean_absent(absent: object) -> None:
    assert plan({"num_ctx": absent}).options["num_ctx"] == 2048


@pytest.mark.parametrize(
    ("variable", "text", "option", "value"),
    [
        ("T_TOP", "0.5", "top", 0.5),
        ("T_PULL", "Yes", "pull", True),
        ("T_PULL", "0", "pull", False),
        ("T_FOLDERS", "/a, /b,,", "folders", ["/a", "/b"]),
    ],
)
def test_variables_are_read_by_the_options_type(variable: str, text: str, option: str, value: OptionValue) -> None:
    assert plan(environ={variable: text}).options[option] == value


@pytest.mark.parametrize(
    ("variable", "text"), [("T_CTX", "many"), ("T_TOP", "x"), ("T_PULL", "maybe"), ("T_BASE_URL", "ftp://x")]
)
def test_a_variable_of_the_wrong_type_is_named(variable: str, text: str) -> None:
    with pytest.raises(BadLoadField, match=variable):
        plan(environ={variable: text})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_ctx", 2**70),
        ("num_ctx", "2048"), ("num_ctx", 1.5), ("num_ctx", True), ("top", "x"), ("pull", 1), ("pull", "yes"),
        ("folders", "a"), ("folders", [1]), ("region", "mars"), ("base_url", 7), ("base_url", ["https://x"]),
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_type_is_named(field: str, value: object) -> None:
    with pytest.raises(BadLoadField, match=field):
        plan({field: value})


def test_a_default_of_the_config_file_is_checked_too() -> None:
    with pytest.raises(BadLoadField, match="config file's default of num_ctx"):
        plan(defaults={"num_ctx": "many"})


def test_unknown_fields_are_ignored() -> None:
    assert "colour" not in plan({"colour": "red"}).options


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://host/v1/", "https://host/v1"),
        (" http://127.0.0.1:8080 ", "http://127.0.0.1:8080"),
        ("http://[::1]:99/x", "http://[::1]:99/x"),
        ("http://192.168.1.2", "http://192.168.1.2"),
    ],
)
def test_urls_of_any_ordinary_host_are_taken_without_their_last_slash(url: str, kept: str) -> None:
    assert checked_url("x", url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host", "file:///etc/passwd", "host/v1", "http://", "http://[::1", "http://h:99999", "javascript:1",
        "http://user:secret@host", "http://user@host", "http://169.254.169.254/latest", "http://[fe80::1]",
        "http://[fe80::1%25eth0]", "http://[::ffff:169.254.169.254]", "http://metadata.google.internal",
        "http://METADATA.google.internal./", "http://metadata",
    ],
)  # fmt: skip
def test_urls_that_are_none_hold_secrets_or_name_metadata_addresses_are_refused(url: str) -> None:
    with pytest.raises(BadLoadField) as caught:
        checked_url("the load's field base_url", url)
    assert "base_url" in caught.value.message
    assert "secret" not in caught.value.message


def test_the_loads_key_comes_before_the_servers() -> None:
    assert plan(api_key="mine", own_key="theirs").api_key == "mine"
    assert plan(api_key=None, own_key="theirs").api_key == "theirs"
    assert plan(api_key="", own_key="theirs").api_key == "theirs"


def test_a_missing_key_says_how_to_give_one() -> None:
    with pytest.raises(MissingKey, match=r"api_key with the load.*T_API_KEY.*waifu-llm keys set t"):
        plan(api_key=None)


def test_an_optional_key_may_be_missing_and_a_provider_without_keys_gets_none() -> None:
    assert plan(api_key=None, need=KeyNeed.OPTIONAL).api_key is None
    assert plan(api_key="k", need=KeyNeed.NONE).api_key is None


def test_the_servers_own_key_is_never_sent_to_an_address_that_a_client_chose() -> None:
    elsewhere: dict[str, object] = {"base_url": "https://evil.example/v1"}
    with pytest.raises(MissingKey, match="not sent to an address"):
        plan(elsewhere, api_key=None, own_key="theirs")
    assert plan(elsewhere, api_key=None, own_key="theirs", need=KeyNeed.OPTIONAL).api_key is None
    assert plan(elsewhere, api_key="mine", own_key="theirs").api_key == "mine"


@pytest.mark.parametrize(
    "url", ["https://api.example", "https://api.example:443/other", "https://API.example/v1", None, ""]
)
def test_the_servers_own_key_goes_to_the_origin_it_belongs_to(url: str | None) -> None:
    assert plan({"base_url": url}, api_key=None, own_key="theirs").api_key == "theirs"


@pytest.mark.parametrize("url", ["http://api.example/v1", "https://api.example:8443/v1", "https://api.example.evil/v1"])
def test_another_scheme_port_or_host_is_another_origin(url: str) -> None:
    with pytest.raises(MissingKey):
        plan({"base_url": url}, api_key=None, own_key="theirs")


PRESETS = {
    "base_url": Option("url", "where", env="T_BASE_URL", identity=True),
    "preset": Option("string", "which", env="T_PRESET", identity=True, choices=("one", "two"), address=True),
}


@pytest.mark.parametrize(
    ("own", "asked", "meant", "has_key"),
    [
        ({}, {}, (None, None), True),
        ({"T_PRESET": "one"}, {}, (None, "one"), True),
        ({"T_PRESET": "one"}, {"preset": "one"}, (None, "one"), True),
        ({"T_PRESET": "one"}, {"preset": "two"}, (None, "two"), False),
        ({}, {"preset": "two"}, (None, "two"), False),
        ({"T_PRESET": "one"}, {"base_url": "http://evil"}, ("http://evil", None), False),
        ({"T_PRESET": "one"}, {"base_url": "http://evil", "preset": "one"}, ("http://evil", "one"), False),
        ({"T_BASE_URL": "http://own"}, {"preset": "two"}, (None, "two"), False),
        ({"T_BASE_URL": "http://own"}, {"preset": "two", "base_url": "http://own"}, ("http://own", "two"), False),
        (
            {"T_BASE_URL": "http://own", "T_PRESET": "one"},
            {"base_url": "http://own/v2"},
            ("http://own/v2", "one"),
            True,
        ),
        ({"T_BASE_URL": "http://own", "T_PRESET": "one"}, {"base_url": ""}, ("http://own", "one"), True),
    ],
)
def test_an_option_that_stands_for_an_address_is_one_and_parts_of_two_addresses_are_never_mixed(
    own: dict[str, str], asked: dict[str, object], meant: tuple[str | None, str | None], has_key: bool
) -> None:
    made = plan_load(
        manifest(KeyNeed.OPTIONAL, PRESETS),
        LoadFields("t", None, None, asked),
        OwnSide({}, {}, own),
        own_key="theirs",
        digest_key=b"d",
    )
    assert (made.options["base_url"], made.options["preset"]) == meant
    assert made.api_key == ("theirs" if has_key else None)


def test_the_servers_own_url_may_come_from_its_variable() -> None:
    environ = {"T_BASE_URL": "https://proxy.example/v1"}
    assert plan(api_key=None, own_key="theirs", environ=environ).api_key == "theirs"
    assert plan({"base_url": "https://proxy.example/v2"}, api_key=None, own_key="o", environ=environ).api_key == "o"


def test_identity_depends_on_key_and_identity_options_alone() -> None:
    base = plan()
    assert plan().identity == base.identity
    assert plan(api_key="other").identity != base.identity
    assert plan({"base_url": "https://other"}).identity != base.identity
    other_context = plan({"num_ctx": 1})
    assert other_context.identity == base.identity
    assert other_context.context != base.context
    assert plan(preload="m").context != base.context


def test_neither_digest_nor_repr_shows_a_key() -> None:
    made = plan(api_key="very-secret")
    assert "very-secret" not in repr(made) + made.identity + made.context
    assert plan(api_key="very-secret", digest_key=b"another run").identity != made.identity


@pytest.mark.parametrize("text", ["10.0.0.9", "10.0.0.9:11434", "http://10.0.0.9:11434/"])
def test_a_host_is_the_same_address_in_all_its_forms(text: str) -> None:
    assert plan({"host": text}, environ={"T_HOST": "10.0.0.9"}, api_key=None, own_key="theirs").api_key == "theirs"
    assert plan({"host": text}).options["host"] == "http://10.0.0.9:11434"


@pytest.mark.parametrize("text", ["evil.example", ":11435", "https://127.0.0.1:11434", "http://127.0.0.1"])
def test_the_servers_own_key_is_not_sent_to_a_host_that_a_client_chose(text: str) -> None:
    assert plan({"host": text}, api_key=None, own_key="theirs", need=KeyNeed.OPTIONAL).api_key is None


@pytest.mark.parametrize(
    "text",
    ["169.254.169.254", "[fe80::1]:80", "me:secret@host", "ftp://host", "h:port", "h:99999", "[::1", "metadata"],
)
def test_a_host_that_is_none_or_is_never_a_provider_is_refused(text: str) -> None:
    with pytest.raises(BadLoadField, match="host"):
        plan({"host": text})


def test_a_gateways_options_are_those_of_its_table_and_the_manifests_defaults() -> None:
    gate = manifest(
        options={
            "port": Option("integer", "where", default=9600),
            "host": Option("string", "where", default="localhost"),
            "token_file": Option("path", "whose"),
        }
    )
    options = gateway_options(gate, {"enabled": True, "port": 0, "unknown": 1})
    assert options == {"port": 0, "host": "localhost", "token_file": None}


def test_a_gateways_option_of_another_type_is_refused_by_its_name_in_the_file() -> None:
    gate = manifest(options={"port": Option("integer", "where", default=9600)})
    with pytest.raises(BadLoadField, match=r"^gateway\.t\.port must be of the type integer"):
        gateway_options(gate, {"port": "9600"})
