// The playground: a Socket.IO program like any other, of the gateway that served it.
import { Conversation } from "./conversation.js";
import { byId, tell } from "./dom.js";
import { Generation } from "./generation.js";
import { Bindings, Models, countParameters, parameters } from "./models.js";
import { Personalities } from "./personalities.js";

const TRY_AGAIN_MS = 500;
const TRY_AGAIN_AT_MOST_MS = 3000;

const prompt = byId("prompt");
const socket = window.io({
    autoConnect: false,
    auth: (say) => say(byId("token").value === "" ? {} : { token: byId("token").value }),
    reconnectionDelay: TRY_AGAIN_MS,
    reconnectionDelayMax: TRY_AGAIN_AT_MOST_MS,
});

const conversation = new Conversation(byId("conversation"));
let persona = null;
const models = new Models(socket);
const bindings = new Bindings(socket, (name, model) => {
    models.switched(model);
    if (!model) byId("model-section").open = true;
    ask("list_available_models", "list_available_bindings");
});
const personalities = new Personalities(socket, (active) => {
    persona = active;
    conversation.show(active.id, active);
    update();
});
const generation = new Generation(socket, update, (sentence) => tell(byId("notice"), sentence));

function update() {
    const { running, cancelling } = generation;
    byId("send").hidden = running;
    byId("send").disabled = !socket.connected || persona === null;
    byId("cancel").hidden = !running;
    byId("cancel").disabled = cancelling;
    byId("restart").disabled = !socket.connected;
}

function ask(...events) {
    for (const event of events) socket.emit(event, {});
}

// -- The connection

function connectionIs(state, said) {
    byId("connection").dataset.state = state;
    byId("connection").textContent = said;
    byId("connection-now").textContent = state === "connected" ? socket.io.engine.transport.name : "";
    byId("connect").textContent = state === "connected" ? "Connect anew" : "Connect";
    update();
}

function connectAnew() {
    tell(byId("connection-error"), "");
    socket.disconnect();
    connectionIs("connecting", "Connecting…");
    socket.connect();
}

socket.on("connect", () => {
    connectionIs("connected", "Connected");
    tell(byId("connection-error"), "");
    byId("connection-section").open = false;
    socket.io.engine.on("upgrade", (transport) => (byId("connection-now").textContent = transport.name));
    conversation.divide("Connected anew: the server remembers nothing of what stands above");
    ask("list_available_bindings", "list_available_models", "list_available_personalities");
});

socket.on("connect_error", (error) => {
    // What the server itself refuses it will refuse again; all else is tried again.
    if (socket.active) {
        connectionIs("offline", "Offline, trying again…");
        return;
    }
    connectionIs("refused", "Refused");
    byId("connection-section").open = true;
    tell(byId("connection-error"), error.message || "The server refuses this connection.");
    openSettings(true);
    byId("token").focus();
});

socket.on("disconnect", (reason) => {
    if (reason === "io server disconnect") connectionIs("refused", "Closed by the server");
    else if (reason !== "io client disconnect") connectionIs("offline", "Offline, trying again…");
});

// Other programs choose for everybody too.
document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && socket.connected)
        ask("list_available_bindings", "list_available_models", "list_active_personalities");
});

byId("connect-form").addEventListener("submit", (event) => {
    event.preventDefault();
    connectAnew();
});

byId("restart").addEventListener("click", () => {
    conversation.clear();
    connectAnew();
    prompt.focus();
});

// -- The prompt

function send() {
    const said = prompt.value;
    if (said.trim() === "" || generation.running || byId("send").disabled) return;
    const chosen = parameters(byId("parameters"));
    if (chosen === null) return;
    prompt.value = "";
    tell(byId("notice"), "");
    conversation.asked(said);
    generation.start(conversation.answer(persona.name, persona.avatar), {
        prompt: said,
        personality: persona.id,
        ...chosen,
    });
    fit();
}

function fit() {
    prompt.style.height = "auto";
    prompt.style.height = `${prompt.scrollHeight}px`;
}

function cancel() {
    generation.cancel();
    prompt.focus();
}

byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
});
prompt.addEventListener("input", fit);
prompt.addEventListener("keydown", (event) => {
    // While an input method is composing a word, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
});
byId("cancel").addEventListener("click", cancel);
document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (generation.running) cancel();
    else openSettings(false);
});
byId("parameters").addEventListener("input", () => countParameters(byId("parameters")));
byId("parameters").addEventListener("reset", () => setTimeout(() => countParameters(byId("parameters"))));
byId("parameters").addEventListener("submit", (event) => event.preventDefault());

// -- The page itself

function openSettings(open) {
    document.body.classList.toggle("settings-open", open);
    byId("menu").setAttribute("aria-expanded", String(open));
    byId("shade").hidden = !open;
}

byId("menu").addEventListener("click", () => openSettings(byId("menu").getAttribute("aria-expanded") !== "true"));
byId("shade").addEventListener("click", () => openSettings(false));

function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function nameTheme() {
    byId("theme").setAttribute("aria-label", isDark() ? "Light theme" : "Dark theme");
}

byId("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    nameTheme();
    try {
        localStorage.setItem("playground-theme", theme);
    } catch {
        // A browser that stores nothing: the theme holds for this visit.
    }
});

nameTheme();
update();
socket.connect();
