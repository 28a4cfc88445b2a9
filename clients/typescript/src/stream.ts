import type { Connection } from "./connection.js";
import { type Exchange, patience } from "./exchange.js";
import type { LlmUsage } from "./protocol.js";

/**
 * The pieces of one answer, for `for await`. Leaving the loop interrupts the request at the provider.
 * `usage`, `finish_reason` and `ignored` are known once the loop has ended by itself.
 */
export class LlmStream implements AsyncIterableIterator<string> {
    usage: LlmUsage | undefined;
    finish_reason: string | undefined;
    ignored: string[] = [];
    #begin: () => Promise<[Connection, Exchange]>;
    #begun: Promise<[Connection, Exchange]> | undefined;
    #patienceMs: number | null;
    #ended = false;

    /** Made by `wAIfuLlmClient.stream`. */
    constructor(begin: () => Promise<[Connection, Exchange]>, timeoutMs: number | null | undefined) {
        this.#begin = begin;
        this.#patienceMs = patience(timeoutMs);
    }

    [Symbol.asyncIterator](): this {
        return this;
    }

    async next(): Promise<IteratorResult<string, undefined>> {
        if (this.#ended) return { done: true, value: undefined };
        try {
            this.#begun ??= this.#begin();
            const [, exchange] = await this.#begun;
            for (;;) {
                const reply = await exchange.next(this.#patienceMs);
                if (reply.type === "generate_stream_chunk") return { done: false, value: reply.chunk };
                if (reply.type === "generate_stream_done") {
                    this.usage = reply.usage;
                    this.finish_reason = reply.finish_reason;
                    this.ignored = reply.ignored ?? [];
                    return await this.return();
                }
            }
        } catch (error) {
            await this.return();
            throw error;
        }
    }

    /** Interrupt what still runs; what `for await` calls when its loop is left. */
    async return(): Promise<IteratorResult<string, undefined>> {
        this.#ended = true;
        const begun = await this.#begun?.catch(() => undefined);
        if (begun !== undefined) begun[0].leave(begun[1]);
        return { done: true, value: undefined };
    }
}
