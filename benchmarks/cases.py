"""The cases: who is measured for which figures, over processes that live as long as the run."""

import contextlib
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import msgspec
from benchmarks import answers, starts
from benchmarks.answers import Wanted
from benchmarks.bare.reader import Asked, Read
from benchmarks.children import running
from benchmarks.figures import STREAMS
from benchmarks.flood import flood
from benchmarks.latency import ANSWER, latencies
from benchmarks.load_generator import Client
from benchmarks.measured import Measured, Side, Sizes
from benchmarks.pacing import paced
from benchmarks.subject import API_KEY, PROVIDER, ProductHome, Subject, product_home, served
from benchmarks.summary import percentile

GROUPS: Final = ("throughput", "latency", "paced", "crowd", "start", "first-load")
Measure: TypeAlias = Callable[[], Awaitable[Measured]]
_FLOODED: Final = 50


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that is measured, running; `subjects` can be asked in the same way."""

    upstream_port: int
    home: ProductHome
    subjects: Mapping[Side, Subject]
    reader: "subprocess.Popen[str]"
    sizes: Sizes

    @property
    def upstream(self) -> str:
        """The service's base URL."""
        return f"http://127.0.0.1:{self.upstream_port}/v1"

    def read(self, wanted: Wanted, streams: int = 1) -> Read:
        """Let the bare reader read."""
        assert self.reader.stdin is not None
        assert self.reader.stdout is not None
        self.reader.stdin.write(msgspec.json.encode(Asked(wanted.model, streams)).decode() + "\n")
        self.reader.stdin.flush()
        return msgspec.json.decode(self.reader.stdout.readline(), type=Read)


@contextmanager
def bench(sizes: Sizes) -> Iterator[Bench]:
    """Start everything: the product's environment is built first, from uv's cache or the network."""
    with contextlib.ExitStack() as stack:
        _, port = stack.enter_context(running("benchmarks.upstream"))
        upstream = f"http://127.0.0.1:{port}/v1"
        home = stack.enter_context(product_home(int(port)))
        home.install()
        chain, chain_url = stack.enter_context(running("benchmarks.bare.relay", upstream))
        relay, relay_url = stack.enter_context(running("benchmarks.bare.relay", upstream, "memory"))
        reader, _ = stack.enter_context(running("benchmarks.bare.reader", upstream))
        product = stack.enter_context(served(home))
        subjects = {
            Side.PRODUCT: product,
            Side.LIMIT: Subject(chain_url, chain.pid),
            Side.RELAY: Subject(relay_url, relay.pid),
        }
        yield Bench(int(port), home, subjects, reader, sizes)


async def prepare(bench: Bench) -> None:
    """What only a first time takes is not measured: byte code, answers that the service has not made yet."""
    client = await Client.open(bench.subjects[Side.PRODUCT].url)
    await client.load(PROVIDER, API_KEY)
    client.close()
    bench.home.wait_until_compiled()
    for streams in STREAMS:
        bench.read(Wanted(n=bench.sizes.flood // streams))


def cases(bench: Bench) -> dict[str, dict[Side, Measure]]:
    """By group: the sides that take turns."""
    product, limit = Side.PRODUCT, Side.LIMIT
    relay = bench.subjects[Side.LIMIT].url
    both = (product, limit)
    return {
        "throughput": {
            **{side: partial(_throughput, bench, side) for side in (product, limit, Side.RELAY)},
            Side.READER: partial(_reading, bench),
        },
        "latency": {
            **{side: partial(_latency, bench, side) for side in both},
            Side.READER: partial(_reading_latency, bench),
        },
        "paced": {side: partial(_paced, bench, side) for side in both},
        "crowd": {side: partial(_crowd, bench, side) for side in both},
        "start": {
            product: partial(starts.product, bench.home, bench.sizes),
            limit: partial(starts.bare, bench.upstream, relay, bench.sizes),
            Side.PYTHON: _later(starts.python),
        },
        "first-load": {
            product: partial(starts.first_load, bench.upstream_port),
            limit: _later(partial(starts.bare_first_load, bench.home.lock, bench.upstream)),
        },
    }


def _later(measure: Callable[[], Measured]) -> Measure:
    async def measured() -> Measured:
        return measure()

    return measured


async def _throughput(bench: Bench, side: Side) -> Measured:
    found = Measured()
    for streams in STREAMS:
        once = await flood(bench.subjects[side], streams=streams, chunks=bench.sizes.flood)
        values = {f"throughput.{streams}": once.chunks_per_s}
        if streams == _FLOODED and side is not Side.RELAY:
            values["cpu.core"] = once.core_cpu_s / once.chunks * 1e6
            values["cpu.worker"] = once.worker_cpu_s / once.chunks * 1e6
            values["joined"] = once.chunks / (once.frames - 2 * streams)
        found += Measured(values, once.faults)
    return found


async def _reading(bench: Bench) -> Measured:
    found = Measured()
    for streams in STREAMS:
        wanted = Wanted(n=bench.sizes.flood // streams)
        read = bench.read(wanted, streams)
        found.values[f"throughput.{streams}"] = wanted.n * streams / read.seconds
        found.faults["text"] += sum(text != answers.full_text(wanted.n) for text in read.texts)
    return found


async def _latency(bench: Bench, side: Side) -> Measured:
    sizes, subject = bench.sizes, bench.subjects[side]
    plain = await latencies(subject, stream=False, requests=sizes.requests, warm=sizes.warm_up)
    stream = await latencies(subject, stream=True, requests=sizes.requests, warm=sizes.warm_up)
    values = {
        "latency.ack": percentile(stream.ack, 0.5),
        "latency.first_chunk": percentile(stream.first, 0.5),
        "latency.first_chunk_p99": percentile(stream.first, 0.99),
        "latency.stream": percentile(stream.total, 0.5),
        "latency.plain": percentile(plain.total, 0.5),
        "latency.plain_p99": percentile(plain.total, 0.99),
        "cpu.request.core": stream.core_us,
        "cpu.request.worker": stream.worker_us,
    }
    return Measured(values, plain.faults + stream.faults)


async def _reading_latency(bench: Bench) -> Measured:
    reads = [bench.read(ANSWER) for _ in range(bench.sizes.warm_up + bench.sizes.requests)][bench.sizes.warm_up :]
    first = [read.first[0] * 1e3 for read in reads]
    total = [read.total[0] * 1e3 for read in reads]
    values = {
        "latency.first_chunk": percentile(first, 0.5),
        "latency.first_chunk_p99": percentile(first, 0.99),
        "latency.stream": percentile(total, 0.5),
        "latency.plain": percentile(total, 0.5),
        "latency.plain_p99": percentile(total, 0.99),
    }
    return Measured(values)


async def _paced(bench: Bench, side: Side) -> Measured:
    found, sizes = Measured(), bench.sizes
    for number, streams in enumerate(sizes.paced):
        once = await paced(
            bench.subjects[side], streams=streams, connections=1, rate=sizes.paced_rate, seconds=sizes.paced_s
        )
        hops = [arrival.hop_ms for arrival in once.arrivals]
        values = {f"hop.{number}.p50": percentile(hops, 0.5), f"hop.{number}.p99": percentile(hops, 0.99)}
        found += Measured(values, once.faults)
    return found


async def _crowd(bench: Bench, side: Side) -> Measured:
    sizes = bench.sizes
    once = await paced(
        bench.subjects[side],
        streams=sizes.crowd,
        connections=sizes.crowd_connections,
        rate=sizes.crowd_rate,
        seconds=sizes.crowd_s,
    )
    values = {
        "crowd.delivered": once.delivered / once.expected * 100,
        "crowd.late_p99": percentile([arrival.late_ms for arrival in once.arrivals], 0.99),
        "crowd.growth": once.grown_mb,
        "crowd.cpu.core": once.core_us,
        "crowd.cpu.worker": once.worker_us,
    }
    return Measured(values, once.faults)
