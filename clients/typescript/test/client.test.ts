import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, test } from "node:test";
import { type WebSocket, WebSocketServer } from "ws";
import { ConnectionLostError, LLM_GEN_ERR, LlmError, ModuleNotRunningError, wAIfuLlmClient } from "../src/index.js";

type Frame = { type: string; unique_request_id: string } & Record<string, unknown>;
type Script = (frame: Frame, send: (reply: object) => void, socket: WebSocket) => void;

const SUCCESS = { is_error: false, error: "SUCCESS" };
const PARAMS = { model_id: "m" };

let server: WebSocketServer;
let seen: Frame[];
let script: Script;
let client: wAIfuLlmClient;

function url(): string {
    return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The first frame of this type, also when it has come already. */
async function received(type: string): Promise<Frame> {
    for (;;) {
        const frame = seen.find((each) => each.type === type);
        if (frame !== undefined) return frame;
        await once(server, "frame");
    }
}

beforeEach(async () => {
    seen = [];
    server = new WebSocketServer({ host: "127.0.0.1", port: 0, handleProtocols: () => "waifu-llm" });
    await once(server, "listening");
    server.on("connection", (socket) => {
        socket.on("message", (data) => {
            const frame = JSON.parse(String(data)) as Frame;
            assert.equal(typeof frame.unique_request_id, "string");
            seen.push(frame);
            server.emit("frame");
            const send = (reply: object) =>
                socket.send(JSON.stringify({ unique_request_id: frame.unique_request_id, ...reply }));
            script(frame, send, socket);
        });
    });
    client = new wAIfuLlmClient(url());
});

afterEach(async () => {
    await client.disconnect();
    for (const socket of server.clients) socket.terminate();
    server.close();
});

/** Acknowledges, streams "a", "b", ends; a generate whose text is "hang" stays open after "a". */
const echo: Script = (frame, send) => {
    if (frame.type === "load") {
        send({ type: "load_ack", provider: frame["provider"] });
        send({ type: "news_from_a_newer_module" });
        send({ type: "load_progress", stage: "worker", detail: "starting", fraction: null });
        send({ type: "load_done", provider: frame["provider"], ...SUCCESS });
    } else if (frame.type === "get_models") {
        send({ type: "get_models_done", models: ["first", "second"], providers: ["first", "second"], ...SUCCESS });
    } else if (frame.type === "generate") {
        send({ type: "generate_ack" });
        if (frame["stream"] !== true) return send({ type: "generate_done", response: "ab", ...SUCCESS });
        send({ type: "generate_stream_chunk", chunk: "a" });
        if (JSON.stringify(frame["messages"]).includes("hang")) return;
        send({ type: "generate_stream_chunk", chunk: "b" });
        send({ type: "generate_stream_done", finish_reason: "stop", ...SUCCESS });
    } else if (frame.type === "interrupt") send({ type: "interrupt_ack", interrupted: ["x"] });
    else if (frame.type === "close") send({ type: "close_ack" });
    else if (frame.type === "unload") send({ type: "unload_done", provider: frame["provider"], ...SUCCESS });
    else if (frame.type === "get_providers") send({ type: "get_providers_done", providers: ["echo"] });
    else if (frame.type === "get_stats")
        send({ type: "get_stats_done", workers: [], environments: [], connections: 1, counters: {}, ...SUCCESS });
};

test("every call of the published client works as it was called there", async () => {
    script = echo;
    assert.deepEqual(await client.getProviders(), ["echo"]);
    await client.loadProvider("echo", { api_key: "" });
    assert.deepEqual(await client.getModels(), ["first", "second"]);
    const messages = [{ role: "user" as const, content: "hi" }];
    assert.equal(await client.generate(messages, PARAMS), "ab");
    const chunks: string[] = [];
    await client.generateStream(messages, PARAMS, (chunk) => chunks.push(chunk));
    assert.deepEqual(chunks, ["a", "b"]);
    await client.interrupt();
    await client.close();
});

test("a load passes the provider's own fields on and tells its progress only when asked", async () => {
    script = echo;
    const stages: string[] = [];
    await client.loadProvider("echo", { base_url: "http://127.0.0.1:1" }, ({ stage }) => stages.push(stage));
    await client.loadProvider("echo");
    assert.deepEqual(stages, ["worker"]);
    assert.equal(seen[0]?.["base_url"], "http://127.0.0.1:1");
    assert.equal(seen[0]?.["progress"], true);
    assert.equal("progress" in seen[1]!, false);
});

test("without a model id the provider's default model is used, and asked for once per load", async () => {
    script = (frame, send, socket) => {
        if (frame.type !== "get_providers") return echo(frame, send, socket);
        const details = { echo: { default_model: "second" }, other: { default_model: "gone" } };
        send({ type: "get_providers_done", providers: ["echo", "other"], details });
    };
    const chosen = () => seen.filter((each) => each.type === "generate").map((each) => Object(each["params"]).model_id);
    await client.generate("hi");
    await client.generate("hi");
    assert.deepEqual(chosen(), ["first", "first"]);
    assert.equal(seen.filter((each) => each.type === "get_models").length, 1);
    await client.loadProvider("echo");
    await client.generate("hi");
    await client.generate("hi", {}, { provider: "other" });
    assert.deepEqual(chosen(), ["first", "first", "second", "first"]);
});

test("without any model that is known, a model id is asked for", async () => {
    script = (frame, send, socket) => {
        if (frame.type !== "get_models") return echo(frame, send, socket);
        send({ type: "get_models_done", models: [], providers: [], ...SUCCESS });
    };
    await assert.rejects(client.generate("hi"), { code: LLM_GEN_ERR.INVALID_MODEL });
});

test("a stream is an async iterator that says in the end how it ended", async () => {
    script = echo;
    const stream = client.stream("hi", PARAMS);
    const chunks: string[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    assert.deepEqual(chunks, ["a", "b"]);
    assert.equal(stream.finish_reason, "stop");
    assert.deepEqual(await stream.next(), { done: true, value: undefined });
});

test("leaving the loop of a stream interrupts its request, and only that", async () => {
    script = echo;
    for await (const _ of client.stream("hang", PARAMS)) break;
    assert.equal((await received("interrupt"))["target_request_id"], seen[0]?.unique_request_id);
    assert.equal(await client.generate("hi", PARAMS), "ab");
});

test("aborting a signal interrupts the request and rejects with the signal's reason", async () => {
    script = echo;
    const abort = new AbortController();
    const reading = client.generateStream("hang", PARAMS, () => abort.abort(), { signal: abort.signal });
    await assert.rejects(reading, { name: "AbortError" });
    await received("interrupt");
    await assert.rejects(client.generate("hi", PARAMS, { signal: abort.signal }), { name: "AbortError" });
});

test("an error of the module is an exception with its code", async () => {
    script = (_, send) => {
        send({ type: "load_ack", provider: "x" });
        const why = { message: "no such provider: x", reason: "spelling", retry_after_ms: 5 };
        send({ type: "load_done", provider: "x", is_error: true, error: "INVALID_PROVIDER", ...why });
    };
    await assert.rejects(client.loadProvider("x"), (error: LlmError) => {
        assert.ok(error instanceof LlmError);
        assert.equal(error.code, LLM_GEN_ERR.INVALID_PROVIDER);
        assert.equal(error.message, "no such provider: x");
        assert.equal(error.reason, "spelling");
        assert.equal(error.retryAfterMs, 5);
        return true;
    });
});

test("a connection that ends takes every request of it along, and later ones too", async () => {
    script = (frame, send, socket) => {
        send({ type: "generate_ack" });
        if (frame["stream"] === true) socket.close(1001, "going away");
    };
    const generating = client.generate("hi", PARAMS);
    const streaming = client.generateStream("hi", PARAMS, () => undefined);
    await assert.rejects(generating, ConnectionLostError);
    await assert.rejects(streaming, /1001: going away/);
    await assert.rejects(client.getProviders(), ConnectionLostError);
});

test("an error that belongs to no request explains the close that follows it", async () => {
    script = (_, send, socket) => {
        const why = { message: "the message is over 16 MiB", is_error: true, error: "UNEXPECTED" };
        send({ type: "error", unique_request_id: "", ...why });
        socket.close(1009);
    };
    await assert.rejects(client.generate("hi", PARAMS), /over 16 MiB/);
});

test("where no module runs, every call says what to do", async () => {
    const nobody = new wAIfuLlmClient("ws://127.0.0.1:1");
    await assert.rejects(nobody.getProviders(), (error) => {
        assert.ok(error instanceof ModuleNotRunningError);
        assert.match(error.message, /waifu-llm serve/);
        return true;
    });
    await nobody.disconnect();
});

test("a token travels as a subprotocol", async () => {
    script = echo;
    await client.getProviders();
    const asked = once(server, "headers");
    const trusted = new wAIfuLlmClient(url(), { token: "geheim?ü" });
    await trusted.getProviders();
    const [, request] = (await asked) as [unknown, { headers: Record<string, string> }];
    const token = Buffer.from("geheim?ü").toString("base64url");
    assert.equal(request.headers["sec-websocket-protocol"], `waifu-llm,bearer.${token}`);
    await trusted.disconnect();
});

test("unload and statistics come through", async () => {
    script = echo;
    await client.unload("echo");
    assert.equal((await client.getStats()).connections, 1);
    assert.deepEqual(await client.interrupt("all"), ["x"]);
    assert.equal((await received("interrupt"))["scope"], "all");
});
