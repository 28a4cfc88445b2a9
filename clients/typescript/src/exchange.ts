import { ConnectionLostError, LlmError } from "./errors.js";
import type { Replies, Reply, Request } from "./protocol.js";

/** The module promises an ack within 100 ms and a list within 1 s. */
export const ANSWER_MS = 10_000;
/** On top of a request's own time limit, which the module keeps. */
const GRACE_MS = 10_000;
const DEFAULT_TIMEOUT_MS = 60_000;
/** The longest that a timer can run. */
const LONGEST_MS = 2 ** 31 - 1;

/** How long to wait for a request that has this `timeout_ms`; null for ever. */
export function patience(timeoutMs: number | null | undefined = DEFAULT_TIMEOUT_MS): number | null {
    return timeoutMs ? timeoutMs + GRACE_MS : null;
}

/** One request on its way: its replies, in the order they came. One reader at a time. */
export class Exchange {
    /** Its terminal message has come. */
    over = false;
    /** Aborted when nobody waits any more: ends what was to be heard for this request's sake. */
    readonly left = new AbortController();
    #items: (Reply | Error)[] = [];
    #wake: (() => void) | undefined;

    constructor(
        readonly id: string,
        readonly request: Request,
    ) {}

    deliver(reply: Reply): void {
        this.over ||= "is_error" in reply;
        this.#items.push(reply);
        this.#wake?.();
    }

    /** There will be no more replies, and those that wait are not wanted any more. */
    fail(error: Error): void {
        this.#items = [error];
        this.#wake?.();
    }

    /** The next reply; a reply that says an error, and a silence of `patienceMs`, are exceptions. */
    async next(patienceMs: number | null = ANSWER_MS): Promise<Reply> {
        while (this.#items.length === 0) await this.#something(patienceMs);
        const item = this.#items.shift()!;
        if (item instanceof Error) throw item;
        if ("is_error" in item && item.is_error) {
            const message = item.message ?? `the module answered ${item.error}`;
            throw new LlmError(message, item.error, item.reason, item.retry_after_ms);
        }
        return item;
    }

    /** Read on until a reply of this type. */
    async end<K extends keyof Replies>(type: K, patienceMs: number | null = ANSWER_MS): Promise<Replies[K]> {
        for (;;) {
            const reply = await this.next(patienceMs);
            if (reply.type === type) return reply as Replies[K];
        }
    }

    async #something(patienceMs: number | null): Promise<void> {
        let timer: ReturnType<typeof setTimeout> | undefined;
        await new Promise<void>((resolve, reject) => {
            this.#wake = resolve;
            if (patienceMs === null) return;
            const silent = () => {
                reject(new ConnectionLostError(`the module has not answered for ${patienceMs / 1000} s; it may hang`));
            };
            timer = setTimeout(silent, Math.min(patienceMs, LONGEST_MS));
        }).finally(() => {
            clearTimeout(timer);
            this.#wake = undefined;
        });
    }
}
