import { Connection } from "./connection.js";
import { LLM_GEN_ERR, LlmError } from "./errors.js";
import { ANSWER_MS, type Exchange, patience } from "./exchange.js";
import type {
    LlmGenParams,
    LlmLoadProgress,
    LlmMessage,
    LlmProviderLoadParams,
    LlmProviderName,
    LlmRequestOptions,
    LlmStats,
    Replies,
    Request,
} from "./protocol.js";
import { LlmStream } from "./stream.js";

const DEFAULT_URL = "ws://127.0.0.1:7562";
/** A worker that ignores everything is killed long before. */
const UNLOAD_MS = 30_000;

type Messages = string | readonly LlmMessage[];

/**
 * One connection to a module; any number of requests at once. Every failure is an `LlmError` with the protocol's code.
 * The connection opens at once; each call waits for it. Node ends only after `disconnect()` or `close()`.
 */
export class wAIfuLlmClient {
    #connection: Promise<Connection>;
    #defaultModels = new Map<string | undefined, string>();
    #loads = 0;
    /** Of the loads that succeeded, the one asked for last. */
    #lastLoad: { turn: number; provider?: LlmProviderName } = { turn: 0 };

    constructor(url: string = DEFAULT_URL, options: { token?: string } = {}) {
        this.#connection = Connection.open(url, options.token);
        this.#connection.catch(() => undefined); // whoever calls something is told
    }

    /** Load a provider; its environment is built if need be. `onProgress` is called for each step. */
    async loadProvider(
        provider: LlmProviderName,
        params: LlmProviderLoadParams = {},
        onProgress?: (progress: LlmLoadProgress) => unknown,
    ): Promise<void> {
        const turn = ++this.#loads;
        const progress = onProgress === undefined ? {} : { progress: true };
        await this.#during({ ...params, ...progress, type: "load", provider }, undefined, async (exchange) => {
            await exchange.next();
            for (;;) {
                const reply = await exchange.next(patience(params.timeout_ms ?? null));
                if (reply.type === "load_progress") onProgress?.(reply);
                if (reply.type === "load_done") return;
            }
        }).finally(() => this.#defaultModels.clear());
        if (turn > this.#lastLoad.turn) this.#lastLoad = { turn, provider };
    }

    /** The whole answer to `messages` (a text counts as one user message). */
    async generate(
        messages: Messages,
        params: LlmGenParams = {},
        { provider, signal }: LlmRequestOptions = {},
    ): Promise<string> {
        const request = await this.#generation(messages, params, provider, false);
        return this.#during(request, signal, async (exchange) => {
            await exchange.next();
            return (await exchange.end("generate_done", patience(params.timeout_ms))).response;
        });
    }

    /** The answer piece by piece, to a callback; done when the answer is. */
    async generateStream(
        messages: Messages,
        params: LlmGenParams,
        callback: (chunk: string) => unknown,
        options: LlmRequestOptions = {},
    ): Promise<void> {
        for await (const chunk of this.stream(messages, params, options)) callback(chunk);
    }

    /** The answer piece by piece, for `for await`; leaving the loop interrupts the request. */
    stream(messages: Messages, params: LlmGenParams = {}, { provider, signal }: LlmRequestOptions = {}): LlmStream {
        const begin = async (): Promise<[Connection, Exchange]> => {
            const request = await this.#generation(messages, params, provider, true);
            const connection = await this.#connection;
            const exchange = connection.start(request, signal);
            try {
                await exchange.next();
            } catch (error) {
                connection.leave(exchange);
                throw error;
            }
            return [connection, exchange];
        };
        return new LlmStream(begin, params.timeout_ms);
    }

    /** Stop this connection's generations, or with scope "all" everybody's; gives the ids of those it stopped. */
    async interrupt(scope?: "all"): Promise<string[]> {
        return (await this.#ask({ type: "interrupt", scope }, "interrupt_ack")).interrupted ?? [];
    }

    /** Stop the module. */
    async close(): Promise<void> {
        await this.#ask({ type: "close" }, "close_ack");
        await this.disconnect();
    }

    /** Close the connection only; what it was running ends. */
    async disconnect(): Promise<void> {
        (await this.#connection.catch(() => undefined))?.close();
    }

    async getProviders(): Promise<LlmProviderName[]> {
        return (await this.#ask({ type: "get_providers" }, "get_providers_done")).providers;
    }

    /** The model ids of a loaded provider, by default the one loaded last. */
    async getModels(provider?: LlmProviderName): Promise<string[]> {
        return (await this.#ask({ type: "get_models", provider }, "get_models_done")).models;
    }

    /** Stop a provider's workers; they start again when they are needed. */
    async unload(provider: LlmProviderName): Promise<void> {
        await this.#ask({ type: "unload", provider }, "unload_done", UNLOAD_MS);
    }

    /** What runs and how it fares. */
    async getStats(): Promise<LlmStats> {
        const { workers, environments, connections, counters } = await this.#ask(
            { type: "get_stats" },
            "get_stats_done",
        );
        return { workers, environments, connections, counters };
    }

    #ask<K extends keyof Replies>(request: Request, type: K, patienceMs: number = ANSWER_MS): Promise<Replies[K]> {
        return this.#during(request, undefined, (exchange) => exchange.end(type, patienceMs));
    }

    async #during<T>(
        request: Request,
        signal: AbortSignal | undefined,
        talk: (exchange: Exchange) => Promise<T>,
    ): Promise<T> {
        const connection = await this.#connection;
        const exchange = connection.start(request, signal);
        try {
            return await talk(exchange);
        } finally {
            connection.leave(exchange);
        }
    }

    async #generation(
        messages: Messages,
        params: LlmGenParams,
        provider: LlmProviderName | undefined,
        stream: boolean,
    ): Promise<Request> {
        const model_id = params.model_id || (await this.#defaultModel(provider));
        return {
            type: "generate",
            messages: typeof messages === "string" ? [{ role: "user", content: messages }] : messages,
            params: { ...params, model_id },
            provider,
            stream,
        };
    }

    async #defaultModel(provider: LlmProviderName | undefined): Promise<string> {
        const known = this.#defaultModels.get(provider);
        if (known !== undefined) return known;
        const models = await this.getModels(provider);
        const { details = {} } = await this.#ask({ type: "get_providers" }, "get_providers_done");
        const preferred = details[provider ?? this.#lastLoad.provider ?? ""]?.default_model ?? undefined;
        const chosen = models.length === 0 || models.includes(preferred ?? "") ? preferred : models[0];
        if (chosen === undefined) {
            throw new LlmError("no model is known: give `model_id`", LLM_GEN_ERR.INVALID_MODEL);
        }
        this.#defaultModels.set(provider, chosen);
        return chosen;
    }
}
