// The published socket.io-client in a test's hand: commands come as lines of JSON, what happens goes back the same way.
//
//   {"do": "connect", "as": NAME, "auth"?}    {"do": "emit", "as": NAME, "event", "args"}    {"do": "disconnect", "as": NAME}
//
// and {"as": NAME, "event", "args"} for every event; "connect" has the session id and the transport as its arguments,
// "connect_error" the message, "upgrade" the transport. Arguments: the server's URL and the transports, as JSON.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const [url, transports] = process.argv.slice(2);
const sockets = new Map();

function tell(as, event, args) {
    process.stdout.write(`${JSON.stringify({ as, event, args })}\n`);
}

function connect({ as, auth }) {
    const socket = io(url, { transports: JSON.parse(transports), auth, forceNew: true, reconnection: false });
    sockets.set(as, socket);
    socket.on("connect", () => {
        const { transport } = socket.io.engine;
        tell(as, "connect", [socket.id, transport.name]);
        socket.io.engine.on("upgrade", (upgraded) => tell(as, "upgrade", [socket.id, upgraded.name]));
    });
    socket.on("connect_error", (error) => tell(as, "connect_error", [error.message]));
    socket.on("disconnect", (reason) => tell(as, "disconnect", [reason]));
    socket.onAny((event, ...args) => tell(as, event, args));
}

// A published client's own guard forbids sending events named like its life; an old program's had none.
function emit({ as, event, args }) {
    const socket = sockets.get(as);
    if (event === "connect" || event === "disconnect") socket.packet({ type: 2, data: [event, ...args], options: {} });
    else socket.emit(event, ...args);
}

for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.do === "connect") connect(command);
    else if (command.do === "emit") emit(command);
    else sockets.get(command.as).disconnect();
}
for (const socket of sockets.values()) socket.disconnect();
