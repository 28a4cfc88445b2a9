"""hf_local on a GPU, as a program for any Python that has torch, transformers and msgspec.

`python hf_local_on_gpu.py FOLDER`: makes the tiny models in FOLDER, runs them, prints what it measured; exit code 0
where all is as it must be, 3 where there is no GPU.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "core"), str(ROOT / "tests"), str(ROOT / "workers" / "hf_local")]

from support.tiny_models import SAYS, make_all  # noqa: E402 - after the path

from waifu_worker.testing import Driver, RequestFailed  # noqa: E402
from waifu_worker.wire import ChatMessage, Code, Params  # noqa: E402

USER = ChatMessage(role="user", content="hi")


async def check() -> None:
    """Raises: AssertionError."""
    import torch
    from waifu_hf_local import Provider

    async def says(driver: Driver, model_id: str, ctx: int = 1) -> None:
        answer = await driver.generate([USER], Params(model_id=model_id), ctx=ctx)
        assert answer.text == SAYS, answer

    before = torch.cuda.memory_allocated()
    async with Driver(Provider) as driver:
        start = time.perf_counter()
        await driver.load(preload_model_id="tiny/sure")
        _say("load", time.perf_counter() - start)
        one = torch.cuda.memory_allocated() - before
        assert one > 1_000_000, "auto takes the GPU"
        await says(driver, "tiny/sure")
        for model_id in ("tiny/strict", "tiny/sure", "tiny/strict"):
            await says(driver, model_id)
        assert torch.cuda.memory_allocated() - before < 1.5 * one, "another model takes the place of the one before"
        for dtype in ("float16", "bfloat16"):
            await driver.load(options={"device": "cuda:0", "dtype": dtype}, ctx=2)
            await says(driver, "tiny/sure", 2)
        await _measure(driver)
        await _too_large(driver)
        await says(driver, "tiny/sure")
    assert torch.cuda.memory_allocated() == before, "the memory is given back"


async def _measure(driver: Driver) -> None:
    endless = Params(model_id="tiny/endless", max_output_length=1000)
    start = time.perf_counter()
    await driver.generate([USER], endless)
    _say("seconds for 1000 tokens", time.perf_counter() - start)
    running = driver.generation([USER], endless)
    await running.next()
    start = time.perf_counter()
    running.cancel()
    try:
        await running.answer()
    except RequestFailed as error:
        assert error.failed.error is Code.INTERRUPT, error.failed
    _say("interrupt", time.perf_counter() - start)
    await driver.generate([USER], Params(model_id="tiny/endless", max_output_length=1))
    _say("interrupt and the next answer", time.perf_counter() - start)


async def _too_large(driver: Driver) -> None:
    import torch

    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        await driver.generate([USER], Params(model_id="tiny/strict"))
    except RequestFailed as error:
        assert error.failed.reason == "out_of_memory", error.failed
    else:
        raise AssertionError("it cannot fit into a hundred kilobytes")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _say(what: str, seconds: float) -> None:
    sys.stdout.write(f"{what}: {seconds * 1000:.1f} ms\n")


def main() -> int:
    """The exit code."""
    import torch

    if not torch.cuda.is_available():
        return 3
    folder = Path(sys.argv[1])
    make_all(folder)
    os.environ["HF_HUB_CACHE"] = str(folder / "hub")
    asyncio.run(check())
    sys.stdout.write(f"good on {torch.cuda.get_device_name()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
