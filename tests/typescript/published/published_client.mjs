// See README.md: behaves like the published example client, in words of its own.
import { createRequire } from "node:module";

const { WebSocket } = createRequire(new URL("../../../clients/typescript/package.json", import.meta.url))("ws");

const ACK_MS = 1_000;
const CONNECT_MS = 5_000;
const LOOK_MS = 100;

const REPLY_TYPES = [
    "load_ack", "close_ack", "interrupt_ack", "generate_ack", "load_done", "generate_done", "generate_stream_chunk",
    "generate_stream_done", "generate_streamed", "get_models_done", "get_providers_done",
];

const FILLED_IN = {
    model_id: "", character_name: "AI", temperature: 1.0, max_output_length: 200,
    stop_tokens: ["\r", "\n"], timeout_ms: 60_000,
};

const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

export class PublishedClient {
    waiting = Object.fromEntries(REPLY_TYPES.map((type) => [type, {}]));
    callbacks = {};
    complaints = [];

    constructor(url) {
        this.socket = new WebSocket(url);
        this.socket.onmessage = (event) => this.take(JSON.parse(event.data.toString()));
    }

    take(message) {
        const id = message.unique_request_id;
        if (message.type === "generate_stream_chunk") {
            this.callbacks[id]?.(message.chunk);
            return;
        }
        const resolve = this.waiting[message.type][id]; // an unknown type throws here
        if (resolve === undefined) {
            this.complaints.push(message);
            return;
        }
        resolve(message);
        delete this.waiting[message.type][id];
    }

    async opened() {
        for (let waited = 0; this.socket.readyState !== WebSocket.OPEN; waited += LOOK_MS) {
            if (waited >= CONNECT_MS) throw Error("Timeout during connection to LLM module.");
            await pause(LOOK_MS);
        }
    }

    reply(type, id) {
        return new Promise((resolve) => {
            this.waiting[type][id] = resolve;
        });
    }

    forget(id) {
        for (const byId of Object.values(this.waiting)) delete byId[id];
        delete this.callbacks[id];
    }

    /** Sends; gives the first reply, or undefined where it took over a second; the clock starts before the sending. */
    async send(id, type, fields, firstReply) {
        const tooLate = pause(ACK_MS);
        const first = this.reply(firstReply, id);
        await this.opened();
        this.socket.send(JSON.stringify({ type, unique_request_id: id, ...fields }));
        return Promise.race([tooLate, first]);
    }

    async acknowledged(name, id, ...rest) {
        const first = await this.send(id, ...rest);
        if (first !== undefined) return first;
        this.forget(id);
        throw Error(`${name} timed out, LLM module may be closed.`);
    }

    async loadProvider(provider, { api_key, preload_model_id }) {
        const id = crypto.randomUUID();
        const done = this.reply("load_done", id);
        await this.acknowledged("loadProvider", id, "load", { provider, api_key, preload_model_id }, "load_ack");
        const { is_error, error } = await done;
        if (is_error) throw Error("Failed to load provider. Error: " + error);
    }

    async generate(messages, params) {
        const id = crypto.randomUUID();
        const done = this.reply("generate_done", id);
        const fields = { messages, params: { ...FILLED_IN, ...params }, stream: false };
        await this.acknowledged("generate", id, "generate", fields, "generate_ack");
        const { is_error, error, response } = await done;
        if (is_error) throw Error("Failed to generate response. Error: " + error);
        return response;
    }

    async generateStream(messages, params, callback) {
        const id = crypto.randomUUID();
        const done = this.reply("generate_stream_done", id);
        this.callbacks[id] = callback;
        await this.acknowledged("generateStream", id, "generate", { messages, params, stream: true }, "generate_ack");
        const { is_error, error } = await done;
        delete this.callbacks[id];
        if (is_error) throw Error("Failed to stream response. Error: " + error);
    }

    async interrupt() {
        await this.acknowledged("interrupt", crypto.randomUUID(), "interrupt", {}, "interrupt_ack");
    }

    async close() {
        await this.send(crypto.randomUUID(), "close", {}, "close_ack");
    }

    async getProviders() {
        const id = crypto.randomUUID();
        return (await this.acknowledged("getProviders", id, "get_providers", {}, "get_providers_done")).providers;
    }

    async getModels(field = "models") {
        const id = crypto.randomUUID();
        return (await this.acknowledged("getModels", id, "get_models", {}, "get_models_done"))[field];
    }
}
