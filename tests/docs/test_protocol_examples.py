"""The examples of docs/protocol.md are what the module reads and writes, to the last field."""

import json
import re
from pathlib import Path
from types import UnionType
from typing import get_args

import pytest

from waifu_client.protocol import AnyReply, AnyRequest, Request, decode_reply, encode_reply, encode_request
from waifu_llm.requests import read_request

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text("utf-8")


def examples(kind: str) -> list[str]:
    blocks = re.findall(rf"^```json {kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def tags(union: UnionType) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in get_args(union)}


@pytest.mark.parametrize("line", examples("request"))
def test_an_example_of_a_request_is_read_and_says_what_a_client_would_send(line: str) -> None:
    request = read_request(line)
    assert isinstance(request, Request)
    assert json.loads(encode_request(request)) == json.loads(line)


@pytest.mark.parametrize("line", examples("reply"))
def test_an_example_of_a_reply_is_what_the_module_would_send(line: str) -> None:
    assert json.loads(encode_reply(decode_reply(line))) == json.loads(line)


def test_every_type_of_message_has_an_example() -> None:
    assert {json.loads(line)["type"] for line in examples("request")} == tags(AnyRequest)
    assert {json.loads(line)["type"] for line in examples("reply")} == tags(AnyReply)


def test_no_json_on_the_page_is_left_out() -> None:
    assert set(re.findall(r"^```(\S+.*)$", PAGE, re.MULTILINE)) == {"json request", "json reply"}
