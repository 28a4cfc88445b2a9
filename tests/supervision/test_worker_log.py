"""What a worker wrote, as the user may read it: no key in it, whole or cut."""

import asyncio
from pathlib import Path

import pytest
from support.pool_bench import Bench
from support.waiting import WAIT_S

from waifu_llm.errors import StartFailed
from waifu_llm.log import WorkerLog, flush
from waifu_llm.redaction import Redactor

KEY = "canary-4f1e9c7b2a8d6053-9b8a7c6d5e4f3a2b1c0d9e8f7a"
MIDDLE = KEY[20:25]


@pytest.fixture
def log(tmp_path: Path) -> WorkerLog:
    redactor = Redactor()
    redactor.add(KEY)
    return WorkerLog(tmp_path / "logs" / "fake.log", redactor)


@pytest.mark.parametrize("before", [0, 4060, 4090])
@pytest.mark.parametrize("end", [b"\n", b"", b"and on" * 5000])
def test_a_key_in_a_long_line_is_taken_out_before_the_line_is_cut(log: WorkerLog, before: int, end: bytes) -> None:
    log.write(b"x" * before + KEY[:30].encode())
    log.write(KEY[30:].encode() + b"y" * 9000 + end)
    log.flush()
    assert flush(WAIT_S)
    (line,) = log.file.read_text("utf-8").splitlines()
    assert MIDDLE not in line
    assert len(line) < 4200


def test_lines_come_whole_however_they_were_written(log: WorkerLog) -> None:
    for piece in (b"one\r\ntw", b"o\n", b"thr", b"ee"):
        log.write(piece)
    log.flush()
    log.flush()
    assert flush(WAIT_S)
    assert [line.partition(" ")[2] for line in log.file.read_text("utf-8").splitlines()] == ["one", "two", "three"]


async def test_a_key_at_the_cut_of_a_workers_last_words_is_taken_out(bench: Bench) -> None:
    task = asyncio.ensure_future(bench.pool.load(bench.fields(api_key=KEY), "c"))
    process = await bench.spawn.next_process()
    process.write_raw(b"x" * 170 + KEY.encode() + b"\n")
    process.complain(f"refused {KEY} {'y' * 270}")
    process.exit(1)
    with pytest.raises(StartFailed) as caught:
        await task
    assert MIDDLE not in str(caught.value)
    assert flush(WAIT_S)
    (file,) = bench.folder.rglob("fake.log")
    assert MIDDLE not in file.read_text("utf-8")
