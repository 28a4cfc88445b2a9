"""Where settings come from, and what is said where one is wrong."""

import tomllib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from support.environments import ROOTS

from waifu_llm.catalog import BrokenManifest, Catalog, Declaration, Manifest, Option, OptionType
from waifu_llm.config import Settings, flags_from, resolve
from waifu_llm.config.example import _toml, example_text
from waifu_llm.config.settings import HELP, SECTIONS
from waifu_llm.errors import UsageError
from waifu_llm.paths import Home


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def settle(
    root: Path,
    file: str = "",
    environ: dict[str, str] | None = None,
    flags: dict[tuple[str, str], object] | None = None,
    catalog: Catalog | None = None,
) -> Settings:
    (root / "waifu-llm.toml").write_text(file, "utf-8")
    return resolve(Home(root), environ or {}, flags, catalog).settings


def refusal(root: Path, file: str = "", environ: dict[str, str] | None = None, **more: Any) -> str:
    with pytest.raises(UsageError) as caught:
        settle(root, file, environ, **more)
    assert "\n" not in caught.value.message
    return caught.value.message.replace(str(root / "waifu-llm.toml"), "FILE")


def manifest(name: str, kind: str = "worker", **options: Option) -> Manifest:
    declared = msgspec.convert(
        {
            "kind": kind,
            "title": name,
            "description": "",
            "homepage": "",
            "category": "api",
            "package": f"waifu_{name}",
        },
        Declaration,
    )
    return Manifest(name, Path(name), "1", "", msgspec.structs.replace(declared, options=options))


CATALOG = Catalog(
    {
        "openai": manifest(
            "openai",
            base_url=Option("url", ""),
            host=Option("host", ""),
            organization=Option("string", ""),
            retries=Option("integer", ""),
            mode=Option("string", "", choices=("fast", "slow")),
            stream=Option("boolean", ""),
            ratio=Option("number", ""),
            tags=Option("list", ""),
        ),
        "http": manifest("http", "gateway", port=Option("integer", "")),
        "bare": manifest("bare"),
    },
    {"broken": BrokenManifest("it is broken")},
)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert resolve(Home(tmp_path / "nowhere"), {}).settings == Settings()


@pytest.mark.parametrize(
    ("file", "environ", "flags", "port"),
    [
        ("", {}, {}, 7562),
        ("[server]\nport = 1", {}, {}, 1),
        ("[server]\nport = 1", {"WAIFU_LLM_SERVER_PORT": "2"}, {}, 2),
        ("[server]\nport = 1", {"WAIFU_LLM_SERVER_PORT": "2"}, {("server", "port"): 3}, 3),
        ("", {"WAIFU_LLM_SERVER_PORT": ""}, {}, 7562),
    ],
)
def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(
    root: Path, file: str, environ: dict[str, str], flags: dict[tuple[str, str], object], port: int
) -> None:
    assert settle(root, file, environ, flags).server.port == port


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("WAIFU_LLM_SERVER_HOST", "0.0.0.0", "server.host", "0.0.0.0"),
        ("WAIFU_LLM_SERVER_REMOTE_CLOSE", "no", "server.remote_close", False),
        ("WAIFU_LLM_SERVER_ISOLATE_CLIENTS", "TRUE", "server.isolate_clients", True),
        ("WAIFU_LLM_SERVER_ALLOW_ORIGIN", "https://a, https://b,", "server.allow_origin", ("https://a", "https://b")),
        ("WAIFU_LLM_LIMITS_STALL_S", "1.5", "limits.stall_s", 1.5),
        ("WAIFU_LLM_WORKERS_CRASHES", "7", "workers.crashes", 7),
        ("WAIFU_LLM_LOG_LEVEL", "debug", "log.level", "debug"),
        ("WAIFU_LLM_UV_INDEX", "https://example.org/simple", "uv.index", "https://example.org/simple"),
    ],
)
def test_a_variable_is_read_as_its_setting_is_typed(
    root: Path, variable: str, text: str, path: str, value: object
) -> None:
    section, key = path.split(".")
    assert getattr(getattr(settle(root, "", {variable: text}), section), key) == value


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"WAIFU_LLM_SERVER_PORT": "x"},
            "the variable WAIFU_LLM_SERVER_PORT: 'x' is not a port, a whole number from 0 to 65535",
        ),
        (
            {"WAIFU_LLM_SERVER_REMOTE_CLOSE": "maybe"},
            "the variable WAIFU_LLM_SERVER_REMOTE_CLOSE: 'maybe' is not true or false",
        ),
        (
            {"WAIFU_LLM_WORKERS_IDLE_S": "nan"},
            "the variable WAIFU_LLM_WORKERS_IDLE_S: nan is not seconds, a number over 0",
        ),
        (
            {"WAIFU_LLM_SERVER_PROT": "1"},
            "there is no setting for the variable WAIFU_LLM_SERVER_PROT; did you mean WAIFU_LLM_SERVER_PORT?",
        ),
        (
            {"WAIFU_LLM_SERVR_PORT": "1"},
            "there is no setting for the variable WAIFU_LLM_SERVR_PORT; did you mean WAIFU_LLM_SERVER_PORT?",
        ),
        ({"WAIFU_LLM_LOG_ZZZZZZZZ": "1"}, "there is no setting for the variable WAIFU_LLM_LOG_ZZZZZZZZ"),
        (
            {"WAIFU_LLM_PROVIDER_OPENAI_BASE_URL": "x"},
            "the variable WAIFU_LLM_PROVIDER_OPENAI_BASE_URL is not read: options of a provider are set in "
            "waifu-llm.toml or by serve --set",
        ),
    ],
)
def test_a_wrong_variable_is_named(root: Path, environ: dict[str, str], sentence: str) -> None:
    assert refusal(root, "", environ) == sentence


def test_variables_of_others_are_nobodys_business(root: Path) -> None:
    environ = {"WAIFU_LLM_HOME": str(root), "WAIFU_LLM_RUN": "x", "WAIFU_LLM_EXPERIMENTS_OF_MINE": "1", "PATH": "/bin"}
    assert settle(root, "", environ) == Settings()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("[sever]", "FILE, line 1: there is no section [sever]; did you mean server?"),
        ("[zzz]", "FILE, line 1: there is no section [zzz]"),
        ("server = 3", "FILE, line 1: server must be a section of its own, [server]"),
        ("[server]\n\nprot = 1", "FILE, line 3: [server] has no key prot; did you mean port?"),
        ("[log]\nlevel = 'inf'", "FILE, line 2: level: 'inf' is not debug, info, warning or error"),
        ("[log]\ncontent = 1", "FILE, line 2: content: 1 is not true or false"),
        ("[server]\nport = true", "FILE, line 2: port: true is not a port, a whole number from 0 to 65535"),
        ("[server]\nport = false", "FILE, line 2: port: false is not a port, a whole number from 0 to 65535"),
        ("[server]\nhost = ''", "FILE, line 2: host: '' is not an address or a name"),
        ("[limits]\nrunning = 0", "FILE, line 2: running: 0 is not a whole number from 1"),
        ("[workers]\nmemory_mb = -1", "FILE, line 2: memory_mb: -1 is not a whole number from 0"),
        ("[workers]\nnice = 20", "FILE, line 2: nice: 20 is not a whole number from 0 to 19"),
        ("[server]\nallow_origin = [\n'a',\n3]", "FILE, line 2: allow_origin: ['a', 3] is not a list of texts"),
        ("[server]\ntls_key = 4", "FILE, line 2: tls_key: 4 is not a text"),
        ("[provider]\nopenai = 1", "FILE, line 2: provider.openai must be a section of its own, [provider.NAME]"),
        (
            "[provider.openai]\n# mine\napi_key = 'hidden'",
            "FILE, line 3: keys do not belong in this file; run `waifu-llm keys set openai` and remove api_key",
        ),
        (
            "[provider.openai]\nAPI-Key = 'hidden'",
            "FILE, line 2: keys do not belong in this file; run `waifu-llm keys set openai` and remove API-Key",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence_with_the_line(root: Path, file: str, sentence: str) -> None:
    assert refusal(root, file) == sentence


@pytest.mark.parametrize(
    ("file", "line"), [("a = 1 2\n", 1), ("[server]\nport = \n[log]\n", 2), ("\n\n[server", 3), ("[log]\n[log]\n", 2)]
)
def test_a_file_that_is_no_toml_is_one_sentence_with_the_line(root: Path, file: str, line: int) -> None:
    assert refusal(root, file).startswith(f"FILE, line {line}: ")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("[provider.opnai]\n", "FILE, line 1: there is no provider opnai; did you mean openai?"),
        ("[provider.http]\n", "FILE, line 1: http is a gateway, not a provider"),
        ("[gateway.htp]\n", "FILE, line 1: there is no gateway htp; did you mean http?"),
        (
            "[provider.openai]\nbase_ulr = ''",
            "FILE, line 2: [provider.openai] has no option base_ulr; did you mean base_url?",
        ),
        ("[provider.bare]\nx = 1", "FILE, line 2: [provider.bare] has no option x; it has: none"),
        ("[provider.openai]\nretries = '3'", "FILE, line 2: retries: '3' is not a whole number"),
        ("[provider.openai]\nhost = 3", "FILE, line 2: host: 3 is not an address"),
        ("[provider.openai]\nbase_url = 3", "FILE, line 2: base_url: 3 is not a URL such as https://host/v1"),
        ("[provider.openai]\nbase_url = 'x/v1'", "FILE, line 2: base_url: 'x/v1' is not a URL such as https://host/v1"),
        (
            "[provider.openai]\nbase_url = 'http://['",
            "FILE, line 2: base_url: 'http://[' is not a URL such as https://host/v1",
        ),
        ("[provider.openai]\nmode = 'warp'", "FILE, line 2: mode: 'warp' is not one of fast, slow"),
        ("[gateway.http]\nenabled = 'yes'", "FILE, line 2: enabled: 'yes' is not true or false"),
        (
            f"[provider.openai]\nretries = '{'3' * 90}'",
            f"FILE, line 2: retries: '{'3' * 56}… is not a whole number",
        ),
    ],
)
def test_with_a_catalog_providers_and_their_options_are_checked(root: Path, file: str, sentence: str) -> None:
    assert refusal(root, file, catalog=CATALOG) == sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"file": "[workers]\nidle_s = 1\nprewarm = ['openai', 'opnai']"},
            "FILE, line 3: prewarm: there is no provider opnai; did you mean openai?",
        ),
        (
            {"environ": {"WAIFU_LLM_WORKERS_PREWARM": "openai,zzz"}},
            "the variable WAIFU_LLM_WORKERS_PREWARM: there is no provider zzz",
        ),
        ({"flags": {("workers", "prewarm"): ["http"]}}, "--prewarm: http is a gateway, not a provider"),
    ],
)
def test_who_is_prewarmed_must_be_a_provider(root: Path, given: dict[str, Any], sentence: str) -> None:
    """A misspelt name was a line of the log alone, where that of a gateway, and in a section's title, is refused."""
    assert refusal(root, **given, catalog=CATALOG) == sentence


def test_a_broken_provider_may_be_prewarmed_since_it_is_told_when_that_fails(root: Path) -> None:
    assert settle(root, "[workers]\nprewarm = ['broken']", catalog=CATALOG).workers.prewarm == ("broken",)


def test_options_that_fit_their_manifests_are_taken(root: Path) -> None:
    file = """
        [provider.openai]
        base_url = "https://example.org"
        host = "my-server:1234"
        organization = "mine"
        retries = 3
        mode = "slow"
        stream = false
        ratio = 2
        tags = ["a"]
        [provider.broken]
        anything = 1
        [gateway.http]
        enabled = true
        port = 9
    """
    settings = settle(root, file, catalog=CATALOG)
    assert settings.provider["openai"]["ratio"] == 2
    assert settings.provider["broken"] == {"anything": 1}
    assert settings.gateway == {"http": {"enabled": True, "port": 9}}


def test_every_type_of_option_can_stand_in_the_file(root: Path) -> None:
    """The types url and host were unknown here: a base_url in the file ended every command with exit code 3 (#2)."""
    values = {
        "string": "'x'",
        "url": "'https://example.org/v1'",
        "host": "'example.org'",
        "integer": "1",
        "number": "0.5",
        "boolean": "true",
        "list": "['x']",
        "path": "'x'",
        "paths": "['x']",
    }
    options: dict[str, Option] = {kind: Option(kind, "") for kind in get_args(OptionType)}
    file = "[provider.any]\n" + "".join(f"{kind} = {values[kind]}\n" for kind in options)
    settled = settle(root, file, catalog=Catalog({"any": manifest("any", "worker", **options)}, {}))
    assert set(settled.provider["any"]) == set(options)


def test_the_option_that_the_commented_file_shows_can_be_taken_as_it_is(root: Path) -> None:
    shown = example_text([]).partition("# [provider.")[2].replace("\n# ", "\n")
    settings = settle(root, f"[provider.{shown}", catalog=Catalog.read())
    assert settings.provider == {"openai": {"base_url": "https://llm.example.org/v1"}}


def test_a_wrong_flag_is_named(root: Path) -> None:
    sentence = "--port: 70000 is not a port, a whole number from 0 to 65535"
    assert refusal(root, flags={("server", "port"): 70000}) == sentence


def test_only_flags_that_were_given_count() -> None:
    given = {"host": None, "port": 0, "remote_close": False}
    assert flags_from("server", given, ("host", "port", "remote_close", "token_file")) == {
        ("server", "port"): 0,
        ("server", "remote_close"): False,
    }


def test_relative_paths_count_from_the_file_or_from_the_current_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = "[server]\ntls_cert = 'cert.pem'\ntls_key = '/key.pem'\n[uv]\nfind_links = 'https://example.org/wheels'"
    settings = settle(root, file)
    assert settings.server.tls_cert == str(root / "cert.pem")
    assert settings.server.tls_key == "/key.pem"
    assert settings.uv.find_links == "https://example.org/wheels"
    assert settle(root, "", {"WAIFU_LLM_UV_FIND_LINKS": "wheels"}).uv.find_links == str(tmp_path / "wheels")
    assert settle(root, "", flags={("uv", "find_links"): "w"}).uv.find_links == str(tmp_path / "w")


def test_an_empty_text_in_the_file_means_none(root: Path) -> None:
    assert settle(root, "[server]\ntoken_file = ''\n[uv]\nindex = ''") == Settings()


@pytest.mark.parametrize("half", ["tls_cert", "tls_key"])
def test_half_of_a_certificate_is_refused(root: Path, half: str) -> None:
    assert refusal(root, f"[server]\n{half} = 'x'") == "tls_cert and tls_key belong together: set both or neither"


def test_a_file_that_is_no_text_is_refused(root: Path) -> None:
    (root / "waifu-llm.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        resolve(Home(root), {})


def test_a_mark_that_an_editor_left_at_the_begin_is_borne(root: Path) -> None:
    (root / "waifu-llm.toml").write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    assert resolve(Home(root), {}).settings.server.port == 1


def test_a_file_that_cannot_be_read_is_named(root: Path) -> None:
    (root / "waifu-llm.toml").mkdir()
    with pytest.raises(UsageError, match=r"waifu-llm\.toml cannot be read: "):
        resolve(Home(root), {})


# The token.


def test_the_token_comes_from_the_variable_before_the_file(root: Path) -> None:
    (root / "token").write_text("of-the-file-0123456789\n")
    (root / "token").chmod(0o600)
    file = "[server]\ntoken_file = 'token'"
    assert settle(root, file).token == "of-the-file-0123456789"
    assert settle(root, file, {"WAIFU_LLM_TOKEN": "of-the-variable-0123"}).token == "of-the-variable-0123"


def test_a_token_file_that_others_can_read_is_warned_of(root: Path) -> None:
    token = root / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o644)
    resolved = resolve(Home(root), {"WAIFU_LLM_SERVER_TOKEN_FILE": str(token)})
    assert resolved.warnings == (f"the token file {token} can be read by other users; run: chmod 600 {token}",)


def test_a_token_that_can_be_guessed_is_warned_of_but_not_shown(root: Path) -> None:
    (warning,) = resolve(Home(root), {"WAIFU_LLM_TOKEN": "letmein"}).warnings
    assert "WAIFU_LLM_TOKEN" in warning
    assert "letmein" not in warning


@pytest.mark.parametrize("token", ["two words here 0123456", "über-geheim-0123456789", "a" * 4097, "a\nb"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(root: Path, token: str) -> None:
    (root / "token").write_text(token, "utf-8")
    sentence = refusal(root, "[server]\ntoken_file = 'token'")
    assert "holds no usable token" in sentence
    assert token[:20] not in sentence


def test_a_token_file_that_is_not_there_is_named(root: Path) -> None:
    assert refusal(root, "[server]\ntoken_file = 'no-such'") == (
        f"the token file {root / 'no-such'} cannot be read: No such file or directory"
    )


def test_neither_settings_nor_options_show_a_token(root: Path) -> None:
    assert "of-the-variable" not in repr(settle(root, "", {"WAIFU_LLM_TOKEN": "of-the-variable-0123"}))


# The commented file.


def test_the_commented_file_changes_nothing_as_it_is(root: Path) -> None:
    assert settle(root, example_text(CATALOG.gateways()), catalog=CATALOG) == Settings()


def test_the_commented_file_names_every_key_with_its_default(root: Path) -> None:
    gateways = Catalog.read(ROOTS).gateways()
    live = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in example_text(gateways).partition("# Defaults for the load options")[0].splitlines()
    )
    table = tomllib.loads(live)
    named = table.pop("gateway")
    assert {section: set(keys) for section, keys in table.items()} == {
        section: set(struct.__struct_fields__) for section, struct in SECTIONS.items()
    }
    assert {name: set(keys) for name, keys in named.items()} == {
        manifest.name: {"enabled", *manifest.declared.options} for manifest in gateways
    }
    settings = settle(root, live, catalog=Catalog.read(ROOTS))
    defaults = {name: option.default for name, option in gateways[0].declared.options.items() if option.default}
    told = {key: value for key, value in settings.gateway.pop(gateways[0].name).items() if value}
    assert (settings, told) == (Settings(), defaults)


def test_without_gateways_the_commented_file_says_nothing_of_them() -> None:
    assert "ateway" not in example_text([])


def test_every_setting_is_explained() -> None:
    assert {section: set(keys) for section, keys in HELP.items()} == {
        section: set(struct.__struct_fields__) for section, struct in SECTIONS.items()
    }


def test_a_default_that_toml_cannot_hold_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError):
        _toml(object())
