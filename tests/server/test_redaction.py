"""Keys never leave: by value in every form they take, and by their looks."""

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_llm.redaction import MASK, RECENT, Redactor, secrets_of

KEY = "k3y+with/odd=chars&more-of-it"


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.add(KEY)
    return redactor


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        quote_plus(KEY),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        quote(KEY, safe="").replace("%2B", "%2b").replace("%2F", "%2f").replace("%3D", "%3d").replace("%26", "%26"),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        KEY[:8] + "***",
        "..." + KEY[-8:],
    ],
)
def test_a_known_key_is_taken_out_in_every_form(redactor: Redactor, form: str) -> None:
    scrubbed = redactor.scrub(f"before {form} after")
    assert MASK in scrubbed
    assert scrubbed.startswith("before ")
    assert scrubbed.endswith("after")
    assert KEY[:8] not in scrubbed
    assert KEY[-8:] not in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-abcdefgh12345678",
        "sk-proj-****************abcd",
        "gsk_abcdefgh12345678",
        "pst-abcdefgh12345678",
        "hf_abcdefgh12345678",
        "Authorization: Bearer abcdefghijkl",
        "bearer abc.def-ghi_jkl=",
    ],
)
def test_what_looks_like_a_key_is_taken_out_though_nobody_knows_it(text: str) -> None:
    scrubbed = Redactor().scrub(text)
    assert MASK in scrubbed
    assert "abcdefgh" not in scrubbed


@pytest.mark.parametrize("text", ["", "the bearer came", "ask-me about this", "model gpt-4o is unknown", "hf_local"])
def test_ordinary_text_stays_as_it_is(redactor: Redactor, text: str) -> None:
    assert redactor.scrub(text) == text


@pytest.mark.parametrize("secret", [None, "", "abc"])
def test_what_is_too_short_to_be_a_secret_is_not_looked_for(secret: str | None) -> None:
    redactor = Redactor()
    redactor.add(secret)
    assert redactor.scrub("abc abc") == "abc abc"


def test_a_secret_that_holds_another_goes_as_a_whole() -> None:
    redactor = Redactor()
    redactor.add("secret")
    redactor.add("secret-and-more")
    redactor.add("secret-and-more")
    assert redactor.scrub("x secret-and-more y") == f"x {MASK} y"


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=4, max_size=60), st.text())
def test_a_key_is_gone_whatever_it_is_made_of(key: str, around: str) -> None:
    redactor = Redactor()
    redactor.add(key)
    assert key not in redactor.scrub(f"{around}{key}{around}").replace(MASK, "\x00")


def test_a_known_key_that_a_service_half_masked_goes_as_a_whole() -> None:
    redactor = Redactor()
    redactor.add("sk-abcde" + "x" * 30 + "12345678")
    assert redactor.scrub("wrong key: sk-abcde*****12345678.") == "wrong key: [redacted]"


def test_many_keys_need_no_pattern_that_everybody_waits_for(
    redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_again(*_: object) -> None:
        raise AssertionError("a pattern grows with the keys")

    monkeypatch.setattr("waifu_llm.redaction.re.compile", compile_again)
    keys = [f"key-of-client-{number:05}-with-two-ends" for number in range(500)]
    for key in keys:
        redactor.add(key)
    scrubbed = redactor.scrub(" ".join(keys))
    assert scrubbed == " ".join([MASK] * len(keys))


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:", "user name:"])
@pytest.mark.parametrize("after", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_no_part_of_a_key_can_be_read_from_base64_of_a_longer_text(
    redactor: Redactor, before: str, after: str, encode: Callable[[bytes], bytes]
) -> None:
    scrubbed = redactor.scrub(f"Basic {encode(f'{before}{KEY}{after}'.encode()).decode()}")
    left = scrubbed.removeprefix("Basic ").split(MASK)
    assert len(left) == 2
    for code in left:
        # What codes the neighbours may hold a few bits of the key's first and last character.
        for cut in range(4):
            piece = code[cut:].rstrip("=")
            text = base64.urlsafe_b64decode(piece[: len(piece) // 4 * 4].replace("+", "-").replace("/", "_"))
            assert KEY[:3].encode() not in text
            assert KEY[-3:].encode() not in text


@pytest.mark.parametrize("write", [json.dumps, repr, lambda key: json.dumps(key, ensure_ascii=False)])
def test_a_key_with_odd_characters_is_gone_however_it_is_quoted(write: Callable[[str], str]) -> None:
    key = 'quo"te\\back\tslash-\u00fcml\u00e4ut-key'
    redactor = Redactor()
    redactor.add(key)
    assert redactor.scrub(write(key))[1:-1] == MASK


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:pass@host/simple", f"https://{MASK}@host/simple"),
        ("at http://token@host:80/x, or", f"at http://{MASK}@host:80/x, or"),
        ("socks5://a:b@c ftp://host/a@b", f"socks5://{MASK}@c ftp://host/a@b"),
        ("https://me@corp:p@ss@host/simple", f"https://{MASK}@host/simple"),
        ("ws://127.0.0.1:7562", "ws://127.0.0.1:7562"),
    ],
)
def test_the_user_and_the_password_of_a_url_are_taken_out(redactor: Redactor, text: str, clean: str) -> None:
    assert redactor.scrub(text) == clean


def keys_of_clients(count: int) -> list[str]:
    return [f"key-of-client-number-{number:05}" for number in range(count)]


def knows(redactor: Redactor, key: str) -> bool:
    return redactor.scrub(key) == MASK


def test_keys_that_nobody_uses_are_forgotten_once_enough_others_came() -> None:
    redactor = Redactor()
    first, *others = keys_of_clients(RECENT + 2)
    for key in (first, *others[:-1]):
        redactor.seen(key)
    assert knows(redactor, first)
    redactor.seen(others[-1])
    assert not knows(redactor, first)
    assert all(knows(redactor, key) for key in others)


def test_a_key_that_is_in_use_is_known_until_long_after_its_use_ended() -> None:
    redactor = Redactor()
    used, *others = keys_of_clients(4 * RECENT)
    redactor.seen(used)
    for key in others[: 2 * RECENT]:
        redactor.seen(key, [None, used])
    assert knows(redactor, used)
    for key in others[2 * RECENT : 3 * RECENT - 1]:
        redactor.seen(key)
    assert knows(redactor, used)
    redactor.seen(others[-1])
    assert not knows(redactor, used)


def test_what_is_known_stays_small_however_many_keys_come_and_go() -> None:
    redactor = Redactor()
    sizes = []
    for key in keys_of_clients(5 * RECENT):
        redactor.seen(key)
        sizes.append(len(redactor._forms))
    assert max(sizes) <= max(sizes[: 2 * RECENT])


@pytest.mark.parametrize(
    "key", [None, "", "the ", "ollama", "unexpected", "the worker of openai", "lm-studio\t12345678"]
)
def test_a_key_that_may_stand_in_any_text_garbles_nobodys_messages(key: str | None) -> None:
    redactor = Redactor()
    redactor.seen(key, [key])
    text = f"the worker of openai died: an unexpected end of ollama, lm-studio\t12345678 {key}"
    assert redactor.scrub(text) == text


def test_such_a_key_and_the_ends_of_a_long_one_are_taken_out_of_what_comes_from_their_worker(
    redactor: Redactor,
) -> None:
    short, long = redactor.including("ollama"), redactor.including("long-key-of-a-client-with-two-ends")
    for _ in range(2):
        assert short.scrub(f"ollama {KEY}") == f"{MASK} {MASK}"
    assert long.scrub("long-key***two-ends ollama") == f"{MASK}***{MASK} ollama"
    redactor.add("another-secret-of-the-server")
    assert short.scrub("another-secret-of-the-server") == MASK
    assert redactor.including(None).scrub("ollama another-secret-of-the-server") == f"ollama {MASK}"


def test_what_holds_the_key_of_a_worker_goes_as_a_whole(redactor: Redactor) -> None:
    redactor.seen("a-key-that-holds-ollama-in-it")
    assert redactor.including("ollama").scrub("a-key-that-holds-ollama-in-it ollama") == f"{MASK} {MASK}"


def test_the_users_own_secrets_are_found_in_variables_and_addresses() -> None:
    environ = {
        "UV_INDEX_MINE_PASSWORD": "index-password",
        "HTTPS_PROXY": "http://me:proxy%2Fpassword@proxy:8080",
        "UV_INDEX": "https://one-token@a:80/simple https://u:other-secret@b/simple",
        "ALL_PROXY": "http://me@corp:p@ss-of-a-proxy@proxy:8080",
        "PATH": "/usr/bin",
        "KEYBOARD": "qwertz-not-a-secret",
        "A_TOKEN": "short",
    }
    found = set(secrets_of(environ, (None, "https://me:wheel-secret@host/wheels")))
    assert found == {
        "index-password", "proxy%2Fpassword", "proxy/password", "one-token", "other-secret", "wheel-secret",
        "p@ss-of-a-proxy",
    }  # fmt: skip
    redactor = Redactor()
    redactor.add_found(environ, ("https://me:wheel-secret@host/wheels",))
    assert redactor.scrub("index-password wheel-secret short") == f"{MASK} {MASK} short"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://me:pass/word-of-mine@proxy:8080", f"http://me:{MASK}@proxy:8080"),
        ("http://me@mail.example:pass/word-of-mine@proxy:8080", f"http://{MASK}@mail.example:{MASK}@proxy:8080"),
        ("http://me:pass/word-of-mine@proxy/simple/a@1", f"http://me:{MASK}@proxy/simple/a@1"),
    ],
)
def test_a_password_with_a_slash_that_was_not_escaped_is_one_too(url: str, told: str) -> None:
    """It was unknown, and whoever told the address told it; then where its user was a mail address, and half of it
    where an @ came in the path.
    """
    environ = {"ALL_PROXY": url}
    assert set(secrets_of(environ)) == {"pass/word-of-mine"}
    redactor = Redactor()
    redactor.add_found(environ)
    assert redactor.scrub(f"{url} cannot be reached") == f"{told} cannot be reached"


@pytest.mark.parametrize(
    "url",
    [
        "https://host/simple/package@1.0.0",
        "https://host:8443/simple/package@1.0.0",
        "https://[::1]:8443/simple/package@1.0.0",
        "https://me@[::1]:8443/simple/package@1.0.0",
        "http://host:8080/simple http://other@x",
        "http://host:8080,http://other@x",
        "git+ssh://git@host:org/package@1.0.0",
        '{"proxy":"http://host:8080","package":"/simple/package@1.0.0"}',
    ],
)
def test_an_at_sign_in_a_path_makes_no_password_of_what_stands_before(url: str) -> None:
    assert list(secrets_of({"UV_INDEX_URL": url})) == []


@pytest.mark.parametrize(
    "address",
    [
        "https://me:secretpw@pypi.example.org/simple/package@1.0.0",
        "git+https://me:secretpw@github.com/org/waifu-llm@v1.0",
        '{"index":"https://me:secretpw@host/simple","to":"packages@example.com"}',
    ],
)
def test_an_at_sign_behind_a_password_makes_no_secret_of_what_stands_between(address: str) -> None:
    """What stood between was one, and its ends were taken out of every text: dist[redacted]s, w[redacted]."""
    assert set(secrets_of({"A": address})) >= {"secretpw"}
    redactor = Redactor()
    redactor.add_found({"A": address})
    told = "dist/packages/simple/package of waifu-llm"
    assert redactor.scrub(told) == told


def test_a_long_list_of_addresses_is_looked_through_once() -> None:
    """Each was looked at to the end of the list: this one took longer than a test is given."""
    addresses = ",".join(f"http://h{number}:x" for number in range(100_000))
    assert list(secrets_of({}, [addresses])) == []
    assert set(secrets_of({}, [f"{addresses},http://me:pass/word-of-mine@x"])) == {"pass/word-of-mine"}
