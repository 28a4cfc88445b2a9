"""`[provider.NAME]` and `[gateway.NAME]`: the file, an option's own variable, and what `serve` is told for one run."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from waifu_llm.catalog import BrokenManifest, Catalog, Declaration, Manifest, Option, OptionType
from waifu_llm.config import Resolved, Settings, TableFlags, resolve
from waifu_llm.config.values import OPTION_TYPES, option_from_text, setting_from_text
from waifu_llm.errors import UsageError
from waifu_llm.paths import Home


def manifest(name: str, kind: str, **options: Option) -> Manifest:
    fields = {"kind": kind, "title": name, "description": "", "homepage": "", "category": "api"}
    declared = msgspec.convert({**fields, "package": f"waifu_{name}"}, Declaration)
    return Manifest(name, Path(name), "1", "", msgspec.structs.replace(declared, options=options))


CATALOG = Catalog(
    {
        "openai": manifest("openai", "worker", base_url=Option("url", "", env="OPENAI_BASE_URL")),
        "files": manifest("files", "worker", model=Option("path", "")),
        "lollms": manifest(
            "lollms",
            "gateway",
            host=Option("string", "", "localhost"),
            port=Option("integer", "", 9600, env="LOLLMS_PORT"),
            ratio=Option("number", ""),
            loud=Option("boolean", ""),
            token_file=Option("path", "", env="LOLLMS_TOKEN_FILE"),
            origins=Option("list", "", []),
            roots=Option("paths", "", []),
            mode=Option("string", "", choices=("fast", "slow")),
        ),
        "http": manifest("http", "gateway"),
    },
    {"broken": BrokenManifest("it is broken")},
)


def resolved(
    root: Path,
    *assignments: str,
    file: str = "",
    environ: dict[str, str] | None = None,
    gateways: tuple[str, ...] = (),
) -> Resolved:
    (root / "waifu-llm.toml").write_text(file, "utf-8")
    return resolve(Home(root), environ or {}, None, CATALOG, TableFlags(gateways, assignments))


def lollms(root: Path, *assignments: str, file: str = "", environ: dict[str, str] | None = None) -> dict[str, object]:
    return resolved(root, *assignments, file=file, environ=environ, gateways=("lollms",)).settings.gateway["lollms"]


def refusal(root: Path, *assignments: str, gateways: tuple[str, ...] = (), **more: str) -> str:
    with pytest.raises(UsageError) as caught:
        resolved(root, *assignments, gateways=gateways, environ=more)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_gateway_is_enabled_for_one_run_as_the_file_does_it_for_all(tmp_path: Path) -> None:
    enabled = {"lollms": {"enabled": True}}
    assert resolved(tmp_path, gateways=("lollms", "lollms")).settings.gateway == enabled
    assert resolved(tmp_path, file="[gateway.lollms]\nenabled = true").settings.gateway == enabled
    assert resolved(tmp_path, "gateway.lollms.enabled=yes").settings.gateway == enabled


def test_a_gateway_of_the_file_can_be_left_out_of_one_run(tmp_path: Path) -> None:
    settings = resolved(tmp_path, "gateway.lollms.enabled=no", file="[gateway.lollms]\nenabled = true").settings
    assert settings.gateway == {"lollms": {"enabled": False}}


@pytest.mark.parametrize(
    ("assignments", "environ", "file", "port"),
    [
        ((), {}, "port = 1", 1),
        ((), {"LOLLMS_PORT": "2"}, "port = 1", 2),
        ((), {"LOLLMS_PORT": ""}, "port = 1", 1),
        (("gateway.lollms.port=3",), {"LOLLMS_PORT": "2"}, "port = 1", 3),
        (("gateway.lollms.port=3", "gateway.lollms.port=4"), {}, "", 4),
    ],
)
def test_the_command_line_goes_before_the_options_variable_before_the_file(
    tmp_path: Path, assignments: tuple[str, ...], environ: dict[str, str], file: str, port: int
) -> None:
    assert lollms(tmp_path, *assignments, environ=environ, file=f"[gateway.lollms]\n{file}")["port"] == port


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("host=::1", "::1"),
        ("port= 9700 ", 9700),
        ("ratio=0.5", 0.5),
        ("loud=On", True),
        ("loud=0", False),
        ("origins=https://a.example, https://b.example,", ["https://a.example", "https://b.example"]),
        ("origins=", []),
        ("mode=slow", "slow"),
        ("mode=slow=er", None),
    ],
)
def test_a_text_is_read_by_its_options_type(tmp_path: Path, assignment: str, value: object) -> None:
    key = assignment.partition("=")[0]
    if value is None:
        assert "'slow=er' is not one of fast, slow" in refusal(tmp_path, f"gateway.lollms.{assignment}")
    else:
        assert lollms(tmp_path, f"gateway.lollms.{assignment}")[key] == value


def test_what_is_said_of_a_provider_is_kept_apart_since_it_goes_before_the_providers_variable(tmp_path: Path) -> None:
    file = "[provider.openai]\nbase_url = 'https://file.example/v1'"
    settings = resolved(tmp_path, "provider.openai.base_url=https://run.example/v1", file=file).settings
    assert settings.provider == {"openai": {"base_url": "https://file.example/v1"}}
    assert settings.given == {"openai": {"base_url": "https://run.example/v1"}}


def test_an_empty_text_means_that_nothing_is_said(tmp_path: Path) -> None:
    file = "[gateway.lollms]\ntoken_file = ''\nmode = ''\n[provider.openai]\nbase_url = ''\n[gateway.http]\n"
    assert resolved(tmp_path, file=file).settings == Settings()
    file = "[gateway.lollms]\ntoken_file = 'token'"
    environ = {"LOLLMS_TOKEN_FILE": "token"}
    assert lollms(tmp_path, "gateway.lollms.token_file=", environ=environ, file=file) == {"enabled": True}
    settings = resolved(tmp_path, "provider.openai.base_url=").settings
    assert settings.given == {"openai": {"base_url": None}}


def test_relative_paths_count_from_the_file_that_holds_them_or_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, here = tmp_path / "home", tmp_path / "here"
    root.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "me"))
    file = "[gateway.lollms]\ntoken_file = 'token'\nroots = ['one', '', '~/two', '/3']\n[provider.files]\nmodel = 'm'"
    of_file = resolved(root, file=file).settings
    assert of_file.gateway["lollms"]["token_file"] == str(root / "token")
    assert of_file.gateway["lollms"]["roots"] == [str(root / "one"), str(tmp_path / "me" / "two"), "/3"]
    assert of_file.provider["files"]["model"] == str(root / "m")
    table = lollms(root, "gateway.lollms.roots=one,~/two", file=file, environ={"LOLLMS_TOKEN_FILE": "token"})
    assert table["token_file"] == str(here / "token")
    assert table["roots"] == [str(here / "one"), str(tmp_path / "me" / "two")]
    assert resolved(root, "provider.files.model=m").settings.given["files"]["model"] == str(here / "m")


def test_the_home_of_somebody_who_is_not_there_is_a_mere_name(tmp_path: Path) -> None:
    table = lollms(tmp_path, file="[gateway.lollms]\ntoken_file = '~nobody-of-that-name/token'")
    assert table["token_file"] == str(tmp_path / "~nobody-of-that-name" / "token")


_FORM = "--set takes provider.NAME.KEY=VALUE or gateway.NAME.KEY=VALUE"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gateway.lollms.port", f"gateway.lollms.port: there is no value; {_FORM}"),
        ("gatway.lollms.port=1", f"gatway.lollms.port: there is no such option; did you mean gateway?; {_FORM}"),
        ("server.port=1", f"server.port: there is no such option; {_FORM}"),
        ("gateway.port=1", f"gateway.port: there is no such option; did you mean gateway?; {_FORM}"),
        ("gateway.lolms.port=1", "gateway.lolms.port: there is no gateway lolms; did you mean lollms?"),
        ("provider.lollms.port=1", "provider.lollms.port: lollms is a gateway, not a provider"),
        (
            "gateway.lollms.prot=1",
            "gateway.lollms.prot: [gateway.lollms] has no option prot; did you mean port?",
        ),
        ("gateway.http.zzz=1", "gateway.http.zzz: [gateway.http] has no option zzz; it has: enabled"),
        ("gateway.lollms.port=x", "gateway.lollms.port: 'x' is not a whole number"),
        ("gateway.lollms.port=", "gateway.lollms.port: '' is not a whole number"),
        ("gateway.lollms.port=1e9999", "gateway.lollms.port: '1e9999' is not a whole number"),
        (f"gateway.lollms.port={2**60}", f"gateway.lollms.port: {2**60} is not a whole number"),
        ("gateway.lollms.ratio=nan", "gateway.lollms.ratio: nan is not a number"),
        ("gateway.lollms.loud=maybe", "gateway.lollms.loud: 'maybe' is not true or false"),
        (
            "provider.openai.base_url=x",
            "provider.openai.base_url: 'x' is not a URL such as https://host/v1",
        ),
    ],
)
def test_what_cannot_be_set_is_one_sentence_that_names_the_flag(tmp_path: Path, text: str, sentence: str) -> None:
    assert refusal(tmp_path, text) == f"--set {sentence}"


@pytest.mark.parametrize(
    ("path", "way"),
    [
        ("provider.openai.api_key", "run `waifu-llm keys set openai`"),
        ("provider.openai.API-Key", "run `waifu-llm keys set openai`"),
        ("gateway.lollms.token", "write it into a file that only you can read and name that with token_file"),
        ("gateway.lollms.password", "write it into a file that only you can read and name that with token_file"),
    ],
)
def test_no_secret_is_taken_from_arguments_and_none_is_repeated(
    tmp_path: Path, path: str, way: str, canary: str
) -> None:
    sentence = refusal(tmp_path, f"{path}={canary}")
    assert (
        sentence
        == f"--set {path}: all users of this machine can read arguments, so no secret is taken from them; {way}"
    )
    assert canary not in refusal(tmp_path, f"api_key={canary}")


def test_a_secret_in_the_file_is_refused_for_gateways_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 2: secrets do not belong in this file; write it into a file"):
        resolved(tmp_path, file="[gateway.lollms]\ntoken = 'hidden'")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lolms", "there is no gateway 'lolms'; there are: http, lollms; did you mean lollms?"),
        ("zzz", "there is no gateway 'zzz'; there are: http, lollms"),
        ("openai", "openai is a provider, not a gateway; there are: http, lollms"),
    ],
)
def test_an_unknown_gateway_is_told_with_those_there_are(tmp_path: Path, name: str, what: str) -> None:
    assert refusal(tmp_path, gateways=(name,)) == f"--gateway: {what}"


def test_where_there_are_no_gateways_at_all_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no gateway 'x'; there are: none"):
        resolve(Home(tmp_path), {}, None, Catalog({}, {}), TableFlags(("x",)))


@pytest.mark.parametrize("flags", [TableFlags(("broken",)), TableFlags((), ("gateway.broken.port=1",))])
def test_a_broken_gateway_is_told_as_such(tmp_path: Path, flags: TableFlags) -> None:
    with pytest.raises(BrokenManifest, match="it is broken"):
        resolve(Home(tmp_path), {}, None, CATALOG, flags)


def test_the_tables_of_what_is_broken_are_left_as_they_are(tmp_path: Path) -> None:
    file = "[gateway.broken]\nenabled = true\nx = 'a'\n[provider.broken]\ny = ''"
    settings = resolved(tmp_path, file=file).settings
    assert settings.gateway == {"broken": {"enabled": True, "x": "a"}}
    assert settings.provider == {"broken": {"y": ""}}


def test_a_wrong_variable_of_a_gateway_that_is_started_is_named(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, gateways=("lollms",), LOLLMS_PORT="x")
    assert sentence == "the variable LOLLMS_PORT: 'x' is not a whole number"
    assert resolved(tmp_path, environ={"LOLLMS_PORT": "x"}).settings == Settings()


def test_setting_up_a_gateway_that_is_not_started_is_warned_of(tmp_path: Path) -> None:
    assert resolved(tmp_path, "gateway.lollms.port=1").warnings == (
        "--set gateway.lollms.…: the gateway lollms is not started in this run; --gateway lollms starts it",
    )
    assert resolved(tmp_path, "gateway.lollms.port=1", gateways=("lollms",)).warnings == ()
    enabled = "[gateway.lollms]\nenabled = true"
    assert resolved(tmp_path, "gateway.lollms.port=1", file=enabled).warnings == ()


def test_every_type_of_option_can_be_written_as_a_text() -> None:
    texts = {"integer": "1", "number": "1", "boolean": "1"}
    for kind in get_args(OptionType):
        msgspec.convert(option_from_text(kind, texts.get(kind, "x")), OPTION_TYPES[kind])


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [(True, "off", False), (1, "2", 2), (1.0, "2", 2.0), (1, "x", "x"), ((), "a,b", ["a", "b"]), (None, "x", "x")],
)
def test_a_text_stands_for_what_its_settings_default_is(default: object, text: str, value: object) -> None:
    assert setting_from_text(default, text) == value
