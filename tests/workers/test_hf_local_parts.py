"""hf_local's parts that need no torch: token ids to text, the models on the disk, the engine's queue, failures."""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import WAIT_S, bounded, until
from waifu_hf_local import failures, loading, pull_program
from waifu_hf_local.detokenizer import Detokenizer
from waifu_hf_local.engine import Engine
from waifu_hf_local.library import Library, cache_folder
from waifu_hf_local.prompts import make_prompt, simplest

from waifu_worker.provider import Finish, GenerateRequest, ProviderError
from waifu_worker.wire import ChatMessage, Code, Params


def byte_level(ids: Sequence[int]) -> str:
    """As tokenizers of GPT-2's kind decode: every id a byte, 256 and more are special."""
    return bytes(token for token in ids if token < 256).decode("utf-8", "replace")


def byte_fallback(ids: Sequence[int]) -> str:
    """As SentencePiece's do: one broken byte makes all bytes of the run U+FFFD."""
    data = bytes(token for token in ids if token < 256)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "\ufffd" * len(data)


WORDS = ("▁once", "▁upon", "▁a", "time", ",", "▁")


def word_level(ids: Sequence[int]) -> str:
    """A word's mark is a blank, but at the start of the text it is nothing."""
    return "".join(WORDS[token] for token in ids).replace("▁", " ").removeprefix(" ")


def said(decode: Callable[[Sequence[int]], str], ids: Sequence[int], context: Sequence[int] = ()) -> list[str]:
    detokenizer = Detokenizer(decode, context)
    return [*(detokenizer.feed(token) for token in ids), detokenizer.end()]


@pytest.mark.parametrize("decode", [byte_level, byte_fallback])
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd")))
def test_text_comes_character_by_character_whole(decode: Callable[[Sequence[int]], str], text: str) -> None:
    pieces = said(decode, list(text.encode()))
    assert [piece for piece in pieces if piece] == list(text)


@given(st.lists(st.integers(0, 255)))
def test_any_bytes_give_what_decoding_them_at_once_gives_but_for_an_unfinished_end(ids: list[int]) -> None:
    whole = bytes(ids).decode("utf-8", "replace")
    assert "".join(said(byte_level, ids)).rstrip("\ufffd") == whole.rstrip("\ufffd")


@given(st.lists(st.integers(0, 260)))
def test_no_bytes_at_all_break_it(ids: list[int]) -> None:
    for decode in (byte_level, byte_fallback):
        assert isinstance("".join(said(decode, ids)), str)


def test_what_is_held_back_stays_small_whatever_comes() -> None:
    calls: list[int] = []

    def decode(ids: Sequence[int]) -> str:
        calls.append(len(ids))
        return byte_level(ids)

    said(decode, [0xFF, 300] * 500)
    assert max(calls) < 10


def test_the_beginning_of_a_character_that_never_got_whole_is_left_out() -> None:
    assert said(byte_level, [*b"ok", *"😀".encode()[:3]]) == ["o", "k", "", "", "", ""]


def test_blanks_between_words_are_kept_and_the_one_before_the_answer_only_where_it_goes_on() -> None:
    assert said(word_level, [0, 1, 2, 3, 4]) == ["once", " upon", " a", "time", ",", ""]
    assert said(word_level, [1, 2], context=[0]) == [" upon", " a", ""]


def test_a_token_without_text_does_not_hide_the_blank_of_the_next_word() -> None:
    def decode(ids: Sequence[int]) -> str:
        return word_level([token for token in ids if token < len(WORDS)])

    assert said(decode, [0, 99, 99, 1]) == ["once", "", "", " upon", ""]


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}, Path("/c")),
        ({"HUGGINGFACE_HUB_CACHE": "/c", "HF_HOME": "/h"}, Path("/c")),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/h"}, Path("/h/hub")),
        ({"HF_HOME": "", "XDG_CACHE_HOME": "/x"}, Path("/x/huggingface/hub")),
        ({}, Path.home() / ".cache" / "huggingface" / "hub"),
    ],
)
def test_the_cache_lies_where_the_hubs_own_library_has_it(environ: dict[str, str], folder: Path) -> None:
    assert cache_folder(environ) == folder


def write_model(folder: Path, config: object = None, *files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or {"architectures": ["LlamaForCausalLM"]}))
    for name in files or ("tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def write_cached(cache: Path, model_id: str, config: object = None, *files: str) -> Path:
    repository = cache / f"models--{model_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc\n")
    write_model(repository / "snapshots" / "old", config)
    return write_model(repository / "snapshots" / "abc", config, *files)


def test_a_cache_that_is_not_there_has_no_models(tmp_path: Path) -> None:
    library = Library(tmp_path / "none", (tmp_path / "neither",))
    assert library.models() == ()
    assert library.find("a/b") is None
    assert not library.is_begun("a/b")


@pytest.mark.parametrize("model_id", ["x" * 5000, "a\0b", "", ".", "/"])
def test_ids_that_no_file_can_have_are_no_models(tmp_path: Path, model_id: str) -> None:
    library = Library(tmp_path, (tmp_path,))
    assert library.find(model_id) is None
    assert not library.is_begun(model_id)


def test_models_of_the_cache_are_those_that_main_points_to(tmp_path: Path) -> None:
    here = write_cached(tmp_path, "o/m", {"text_config": {"max_position_embeddings": 64}, "n_ctx": 5})
    write_cached(tmp_path, "plain", {"n_ctx": 5}, "vocab.json", "pytorch_model.bin")
    (tmp_path / "models--o--broken").mkdir()
    write_model(tmp_path / "datasets--o--d")
    library = Library(tmp_path)
    models = library.models()
    assert [(m.id, m.owner, m.kind, m.context) for m in models] == [
        ("o/m", "o", "text", 64),
        ("plain", None, "text", 5),
    ]
    assert library.find("o/m") == here
    assert library.find("o/broken") is None and library.is_begun("o/broken")


@pytest.mark.parametrize(
    "files",
    [
        ("tokenizer.json",),
        ("model.safetensors",),
        ("tokenizer.json", "model.safetensors.index.json"),
        ("tokenizer.json", "consolidated.safetensors"),
    ],
)
def test_what_lacks_a_part_is_no_model(tmp_path: Path, files: tuple[str, ...]) -> None:
    write_cached(tmp_path, "o/m", None, *files)
    assert Library(tmp_path).models() == ()
    assert Library(tmp_path).is_begun("o/m")


def test_weights_in_several_files_must_all_be_there(tmp_path: Path) -> None:
    folder = write_cached(tmp_path, "o/m", None, "tokenizer.json", "one.safetensors")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert Library(tmp_path).find("o/m") is None
    (folder / "two.safetensors").write_text("")
    assert Library(tmp_path).find("o/m") == folder


@pytest.mark.parametrize("architecture", ["BertModel", "BertForSequenceClassification"])
def test_models_that_generate_nothing_are_not_listed(tmp_path: Path, architecture: str) -> None:
    write_cached(tmp_path, "o/m", {"architectures": [architecture]})
    assert Library(tmp_path).models() == ()


@pytest.mark.parametrize("config", [{"architectures": None}, [], {"n_ctx": "much"}])
def test_a_config_that_says_little_is_enough(tmp_path: Path, config: object) -> None:
    write_cached(tmp_path, "o/m", config)
    assert [model.context for model in Library(tmp_path).models()] == [None]


@pytest.mark.parametrize(
    ("file", "content"), [("chat_template.jinja", ""), ("tokenizer_config.json", '{"chat_template": "{{ x }}"}')]
)
def test_a_model_with_a_template_is_one_for_chats(tmp_path: Path, file: str, content: str) -> None:
    (write_cached(tmp_path, "o/m") / file).write_text(content)
    assert [model.kind for model in Library(tmp_path).models()] == ["chat"]


def test_folders_are_models_or_hold_them(tmp_path: Path) -> None:
    alone = write_model(tmp_path / "alone")
    one = write_model(tmp_path / "many" / "one")
    deep = write_model(tmp_path / "many" / "owner" / "two")
    write_model(tmp_path / "many" / "a" / "b" / "three")
    write_model(tmp_path / "outside")
    library = Library(tmp_path / "cache", (alone, tmp_path / "many"))
    assert [model.id for model in library.models()] == ["alone", "one", "owner/two"]
    assert [library.find(model_id) for model_id in ("alone", "one", "owner/two")] == [alone, one, deep]
    assert library.find("../outside") is None
    assert library.find(str(one)) == one
    assert library.find(str(tmp_path)) is None


def test_a_folders_model_comes_before_the_caches_of_the_same_name(tmp_path: Path) -> None:
    write_cached(tmp_path / "cache", "one")
    mine = write_model(tmp_path / "many" / "one")
    library = Library(tmp_path / "cache", (tmp_path / "many",))
    assert library.find("one") == mine
    assert [model.id for model in library.models()] == ["one"]


def message(role: str, content: str) -> ChatMessage:
    return ChatMessage(role=role, content=content)


def test_the_simplest_conversation_has_no_system_role_and_alternates() -> None:
    assert simplest(
        [message("system", "s"), message("user", "a"), message("user", "b"), message("assistant", "c")]
    ) == [
        message("user", "s\n\na\n\nb"),
        message("assistant", "c"),
    ]


class Tokenizer:
    """Characters are tokens; `^` begins a text."""

    bos_token = "^"

    def __call__(self, text: str, *, add_special_tokens: bool, verbose: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in ("^" if add_special_tokens else "") + text]}

    def get_chat_template(self) -> str:
        raise ValueError("several templates, none of them the default")


@pytest.mark.parametrize(("text", "read"), [("once", "^once"), ("^once", "^once"), ("a\ud800b", "^a?b"), ("", "^")])
def test_raw_text_begins_once_and_is_valid_text(text: str, read: str) -> None:
    prompt = make_prompt(Tokenizer(), GenerateRequest(Params(model_id="m"), [], text, None))
    assert "".join(map(chr, prompt.ids)) == read
    assert prompt.continues and not prompt.turns


def test_where_no_template_is_the_default_a_transcript_is_read_and_others_turns_end_the_answer() -> None:
    said = [ChatMessage(role="user", content="hi", name="Bob"), message("assistant", "yo"), message("user", "ok")]
    prompt = make_prompt(Tokenizer(), GenerateRequest(Params(model_id="m", character_name="Eve"), said, None, None))
    assert "".join(map(chr, prompt.ids)) == "^Bob: hi\nEve: yo\nUser: ok\nEve:"
    assert prompt.turns == ("\nBob:", "\nUser:")


def test_a_transcript_without_a_character_has_the_usual_one() -> None:
    prompt = make_prompt(
        Tokenizer(), GenerateRequest(Params(model_id="m", character_name=" "), [message("user", "ok")], None, None)
    )
    assert "".join(map(chr, prompt.ids)) == "^User: ok\nAI:"


async def test_work_is_done_one_after_the_other_and_in_order() -> None:
    engine, done = Engine(), []
    async with bounded():
        await asyncio.gather(*(engine.call(lambda number=number: done.append(number)) for number in range(20)))  # type: ignore[misc]  # bound now
    assert done == list(range(20))


async def test_work_that_waits_can_be_left_and_is_never_done() -> None:
    engine, may_end, done = Engine(), threading.Event(), []
    async with bounded():
        first = asyncio.ensure_future(engine.call(lambda: may_end.wait(WAIT_S)))
        second = asyncio.ensure_future(engine.call(lambda: done.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        may_end.set()
        assert await first
        await engine.call(lambda: done.append("third"))
    assert done == ["third"]


async def test_pieces_come_while_they_are_made() -> None:
    may_end = threading.Event()

    def speaker(emit: Callable[[str], None], gone: threading.Event) -> Finish:
        emit("")
        emit("one")
        assert may_end.wait(WAIT_S)
        emit("two")
        return Finish("stop")

    pieces = Engine().stream(speaker)
    async with bounded():
        assert await anext(pieces) == "one"
        may_end.set()
        assert [piece async for piece in pieces] == ["two", Finish("stop")]


async def test_who_leaves_waits_for_nobody_but_the_next_one_does() -> None:
    engine, told, may_end = Engine(), threading.Event(), threading.Event()

    def speaker(emit: Callable[[str], None], gone: threading.Event) -> Finish:
        emit("one")
        assert gone.wait(WAIT_S)
        told.set()
        assert may_end.wait(WAIT_S)
        emit("unheard")
        return Finish("stop")

    async with bounded():
        pieces = engine.stream(speaker)
        assert await anext(pieces) == "one"
        await pieces.aclose()
        after = asyncio.ensure_future(engine.call(lambda: "next"))
        await until(told.is_set, "the speaker was told")
        assert not after.done()
        may_end.set()
        assert await after == "next"


async def test_who_leaves_before_his_turn_is_never_heard() -> None:
    engine, may_end, spoke = Engine(), threading.Event(), []

    def speaker(emit: Callable[[str], None], gone: threading.Event) -> Finish:
        spoke.append(True)
        return Finish("stop")

    async with bounded():
        first = asyncio.ensure_future(engine.call(lambda: may_end.wait(WAIT_S)))
        waiting = asyncio.ensure_future(anext(engine.stream(speaker)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        may_end.set()
        await first
        await engine.call(lambda: None)
    assert not spoke


async def test_an_exception_in_the_thread_ends_the_stream() -> None:
    def speaker(emit: Callable[[str], None], gone: threading.Event) -> Finish:
        emit("one")
        raise KeyError("x")

    pieces = Engine().stream(speaker)
    async with bounded():
        assert await anext(pieces) == "one"
        with pytest.raises(KeyError):
            await anext(pieces)


class OutOfMemoryError(RuntimeError):
    """Called as torch's."""


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_every_way_to_be_out_of_memory_is_known(error: BaseException, is_one: bool) -> None:
    assert failures.is_out_of_memory(error) is is_one


def test_out_of_memory_has_its_reason() -> None:
    failed = failures.out_of_memory("m", "cuda:1")
    assert (failed.code, failed.reason) == (Code.UNEXPECTED, "out_of_memory")
    assert "cuda:1" in failed.message


def test_an_error_is_said_by_its_first_line() -> None:
    assert failures.said(ValueError("one\ntwo")) == "ValueError: one"
    assert failures.said(ValueError()) == "ValueError"


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:11"])
def test_devices_are_named_as_torch_does(device: str) -> None:
    loading.check_device(device)


@pytest.mark.parametrize("device", ["", "CPU", "cuda:", "cuda:x", "meta", "cuda:0 "])
def test_other_names_are_no_devices(device: str) -> None:
    with pytest.raises(ProviderError):
        loading.check_device(device)


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin"], "model*.safetensors"),
        (["model-00001-of-00002.safetensors"], "model*.safetensors"),
        (["pytorch_model-1.bin", "original/model.safetensors"], "pytorch_model*.bin"),
    ],
)
def test_of_the_weights_one_format_is_downloaded(names: list[str], weights: str) -> None:
    assert pull_program.wanted_files(names)[-1] == weights


def test_without_weights_nothing_is_downloaded() -> None:
    assert pull_program.wanted_files(["README.md", "model.gguf", "onnx/model.onnx"]) == []


class Response:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


def hub_error(*names: str, status: int | None = None) -> Exception:
    """An error of a class with these names, the last one is its own, as huggingface_hub would raise it."""
    kind: type[Exception] = Exception
    for name in names:
        kind = type(name, (kind,), {})
    error = kind("x")
    if status is not None:
        error.response = Response(status)  # type: ignore[attr-defined]  # as its own errors have it
    return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (hub_error("HfHubHTTPError", "RepositoryNotFoundError", "GatedRepoError", status=403), ("gated", 403)),
        (hub_error("HfHubHTTPError", "RepositoryNotFoundError", status=401), ("missing", 401)),
        (hub_error("HFValidationError"), ("missing", None)),
        (hub_error("HfHubHTTPError", status=401), ("unauthorized", 401)),
        (hub_error("HfHubHTTPError", status=503), ("otherwise", 503)),
        (hub_error("LocalEntryNotFoundError"), ("unreachable", None)),
        (hub_error("TransportError", "ConnectError"), ("unreachable", None)),
        (ConnectionResetError("x"), ("unreachable", None)),
        (OSError(28, "No space left on device"), ("disk_full", None)),
        (ValueError("a/b"), ("useless", None)),
        (RuntimeError("x"), ("otherwise", None)),
    ],
)
def test_each_failure_of_a_download_has_its_word(error: Exception, outcome: tuple[str, int | None]) -> None:
    assert pull_program.outcome_of(error) == outcome


def test_a_bar_says_how_many_bytes_there_are_and_nothing_of_other_bars(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(pull_program, "say", lambda **line: lines.append(line))
    monkeypatch.setattr(pull_program.Bar, "_told", 0.0)
    files = pull_program.Bar(["a", "b"], unit="it")
    assert list(files) == ["a", "b"] and files.n == 2
    with pull_program.Bar(unit="B", total=0, name="snapshot_download.transfer") as other:
        other.update(5)
    with pull_program.Bar(unit="B", total=10, initial=2, name="snapshot_download") as bar:
        bar.set_description("x", refresh=False)
        bar.update(3)
        bar.update(None)
    with pull_program.Bar.get_lock():
        pull_program.Bar.set_lock(None)
    assert lines == [{"type": "step", "done": 5, "total": 10}]


@pytest.mark.parametrize(
    ("model_id", "begun", "offline", "words"),
    [
        ("o/m", False, False, "not on this machine; run: hf download o/m, or load with pull: true"),
        ("o/m", True, True, "only partly on this machine; offline is set"),
        ("/a/b", False, False, "the folder /a/b holds no whole model"),
        ("C:\\a", False, False, "holds no whole model"),
    ],
)
def test_a_model_that_is_not_here_says_what_to_do(model_id: str, begun: bool, offline: bool, words: str) -> None:
    failed = failures.not_here(model_id, begun=begun, offline=offline)
    assert failed.code is Code.INVALID_MODEL
    assert words in failed.message
