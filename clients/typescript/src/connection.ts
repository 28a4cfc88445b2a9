import { ConnectionLostError } from "./errors.js";
import { Exchange } from "./exchange.js";
import type { Reply, Request } from "./protocol.js";
import { type Socket, openSocket } from "./socket.js";

/** One open socket, and who waits on it for which reply. */
export class Connection {
    #socket: Socket;
    #waiting = new Map<string, Exchange>();
    #lost: string | undefined;
    #notice: string | undefined;

    private constructor(socket: Socket) {
        this.#socket = socket;
        socket.onmessage = (event: { data: unknown }) => this.#route(event.data);
        socket.onerror = () => undefined; // a close follows
        socket.onclose = (event: { code: number; reason: string }) => {
            const why = `the module ended the connection (${event.code}${event.reason && `: ${event.reason}`})`;
            this.#lose(this.#notice === undefined ? why : `${why}: ${this.#notice}`);
        };
    }

    static async open(url: string, token: string | undefined): Promise<Connection> {
        return new Connection(await openSocket(url, token));
    }

    start(request: Request, signal?: AbortSignal): Exchange {
        signal?.throwIfAborted();
        if (this.#lost !== undefined) throw new ConnectionLostError(this.#lost);
        const exchange = new Exchange(crypto.randomUUID(), request);
        this.#waiting.set(exchange.id, exchange);
        signal?.addEventListener("abort", () => exchange.fail(signal.reason as Error), {
            signal: exchange.left.signal,
        });
        this.#send(request, exchange.id);
        return exchange;
    }

    /** Nobody waits any more: what still comes is dropped, a generation or a load that still runs is interrupted. */
    leave(exchange: Exchange): void {
        this.#waiting.delete(exchange.id);
        exchange.left.abort();
        if (exchange.over || this.#lost !== undefined) return;
        exchange.over = true;
        if (exchange.request.type === "generate" || exchange.request.type === "load") {
            this.#send({ type: "interrupt", target_request_id: exchange.id }, crypto.randomUUID());
        }
    }

    close(): void {
        this.#lose("this client closed the connection");
        this.#socket.close(1000);
    }

    #send(request: Request, id: string): void {
        this.#socket.send(JSON.stringify({ ...request, unique_request_id: id }));
    }

    #route(data: unknown): void {
        let reply: Reply;
        try {
            reply = JSON.parse(String(data)) as Reply;
        } catch {
            return;
        }
        const exchange = this.#waiting.get(reply.unique_request_id);
        if (exchange !== undefined) exchange.deliver(reply);
        else if (reply.type === "error") this.#notice = reply.message; // it explains the close that follows
    }

    #lose(why: string): void {
        this.#lost ??= why;
        for (const exchange of this.#waiting.values()) exchange.fail(new ConnectionLostError(this.#lost));
        this.#waiting.clear();
    }
}
