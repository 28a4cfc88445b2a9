import { LlmError, ModuleNotRunningError } from "./errors.js";

/** The part of a WebSocket that is used: the platform's own and the `ws` package's both have it. */
export interface Socket {
    onopen: ((event: never) => void) | null;
    onmessage: ((event: never) => void) | null;
    onclose: ((event: never) => void) | null;
    onerror: ((event: never) => void) | null;
    send(data: string): void;
    close(code?: number): void;
}

type SocketClass = new (url: string, protocols: string[], options?: object) => Socket;

async function socketClass(): Promise<SocketClass> {
    if (typeof globalThis.WebSocket === "function") return globalThis.WebSocket as unknown as SocketClass;
    try {
        return (await import("ws")).WebSocket as unknown as SocketClass;
    } catch {
        throw new LlmError("this platform has no WebSocket: run `npm install ws`, or use Node 22 or newer");
    }
}

function bearer(token: string): string {
    const bytes = Array.from(new TextEncoder().encode(token), (byte) => String.fromCharCode(byte)).join("");
    return "bearer." + btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** An open socket. The token travels as a subprotocol: browsers can set no header. */
export async function openSocket(url: string, token: string | undefined): Promise<Socket> {
    const Class = await socketClass();
    const protocols = token === undefined ? [] : ["waifu-llm", bearer(token)];
    // Only `ws` reads the options; compression would only cost time on one machine.
    const socket = new Class(url, protocols, { perMessageDeflate: false, maxPayload: 128 * 2 ** 20 });
    await new Promise<void>((resolve, reject) => {
        const failed = () => {
            reject(
                new ModuleNotRunningError(
                    `no module answers at ${url} (or it wants another token): run \`waifu-llm serve\`, then try again`,
                ),
            );
        };
        socket.onopen = () => resolve();
        socket.onerror = failed;
        socket.onclose = failed;
    });
    return socket;
}
