// Mounting and activating personalities. The active one is named by its number among the mounted; -1 is raw.
import { byId, choice, make, portrait, tell } from "./dom.js";

export const RAW = -1;
const list = (value) => (Array.isArray(value) ? value : []);
const table = (value) => (value !== null && typeof value === "object" ? value : {});

export class Personalities {
    /** `activated(persona)` is called with {id, name, avatar, welcome, hint} whenever another one is the active one. */
    constructor(socket, activated) {
        this.socket = socket;
        this.activated = activated;
        this.tree = {};
        this.listing = [];
        this.mounted = [];
        // Of those that were mounted from here: names alone may be those of several.
        this.paths = new Map();
        this.welcomes = new Map();
        this.wanted = null;
        this.active = null;
        socket.on("personalities_list", (said) => this.listed(said ?? {}));
        socket.on("active_personalities_list", (said) => this.mountedAre(said ?? {}));
        socket.on("personality_added", (said) => this.added(said ?? {}));
        socket.on("personality_add_failed", (said) => this.refused(said ?? {}));
        socket.on("activate_personality", (said) => this.answered(said ?? {}));
        socket.on("disconnect", () => this.forget());
        byId("language").addEventListener("change", () => this.fillCategories());
        byId("category").addEventListener("change", () => this.draw());
    }

    /** The server remembers nothing of this page, so that numbers may mean other personalities from now on. */
    forget() {
        this.wanted = null;
        this.active = null;
        this.paths.clear();
        this.welcomes.clear();
    }

    listed({ personalities, errors, error }) {
        this.tree = table(personalities);
        this.listing = Object.entries(this.tree).flatMap(([language, categories]) =>
            Object.entries(table(categories)).flatMap(([category, there]) =>
                list(there).map((one) => ({
                    ...one,
                    language,
                    category,
                    path: `${language}/${category}/${one.folder}`,
                })),
            ),
        );
        tell(byId("personality-error"), error);
        fill(byId("language"), Object.keys(this.tree));
        this.fillCategories();
        const broken = list(errors);
        byId("broken").hidden = broken.length === 0;
        byId("broken").querySelector("summary").textContent =
            broken.length === 1 ? "One cannot be read" : `${broken.length} cannot be read`;
        byId("broken")
            .querySelector("ul")
            .replaceChildren(...broken.map((one) => make("li", { text: described(one) })));
        // Only now: the one to start with has its picture and description from the list.
        this.socket.emit("list_active_personalities", {});
    }

    fillCategories() {
        fill(byId("category"), Object.keys(table(this.tree[byId("language").value])));
        this.draw();
    }

    draw() {
        const language = byId("language").value;
        const category = byId("category").value;
        const active = this.active === null ? undefined : this.find(this.active);
        const items = this.listing
            .filter((one) => one.language === language && one.category === category)
            .map((one) =>
                choice({
                    title: one.name || one.folder,
                    lines: [one.description, [one.author, one.version].filter((fact) => fact).join(" · ")],
                    chosen: one === active,
                    picture: portrait(one.name || one.folder, one.avatar),
                    onclick: () => this.mount(one.path),
                }),
            );
        byId("personalities").replaceChildren(...items);
    }

    drawMounted() {
        const chip = (id, name) =>
            make(
                "li",
                {},
                make(
                    "button",
                    { type: "button", "aria-pressed": String(id === this.active), onclick: () => this.activate(id) },
                    id === RAW ? null : portrait(name, this.find(id)?.avatar),
                    make("span", { text: name }),
                ),
            );
        byId("mounted").replaceChildren(...this.mounted.map((name, id) => chip(id, name)), chip(RAW, "Raw"));
        byId("personality-now").textContent = this.active === null ? "" : this.name(this.active);
    }

    name(id) {
        return id === RAW ? "Raw" : (this.mounted[id] ?? "");
    }

    /** What the list says of a mounted one. */
    find(id) {
        const path = this.paths.get(id);
        return this.listing.find((one) => (path === undefined ? one.name === this.mounted[id] : one.path === path));
    }

    mount(path) {
        if (this.wanted !== null) return;
        this.wanted = path;
        tell(byId("personality-error"), "");
        this.socket.emit("add_personality", { path });
    }

    added({ id, name, welcome_message, warning }) {
        this.mounted[id] = name;
        this.welcomes.set(id, welcome_message);
        if (this.wanted !== null) this.paths.set(id, this.wanted);
        tell(byId("personality-error"), warning);
        if (this.wanted !== null) this.socket.emit("activate_personality", { id });
    }

    activate(id) {
        tell(byId("personality-error"), "");
        if (id === RAW) this.use(RAW);
        else this.socket.emit("activate_personality", { id });
    }

    answered({ success, id, error, warning }) {
        this.wanted = null;
        if (warning) tell(byId("personality-error"), warning);
        if (success) this.use(id);
        else this.refused({ error });
    }

    refused({ error }) {
        this.wanted = null;
        tell(byId("personality-error"), error || "This personality cannot be used.");
    }

    /** Those mounted before this page came; it starts with the active one. */
    mountedAre({ personalities, active_personality_id }) {
        this.mounted = list(personalities).map(String);
        if (this.active === null) {
            const id = Number.isInteger(active_personality_id) ? active_personality_id : 0;
            this.use(id in this.mounted ? id : RAW);
        } else this.drawMounted();
    }

    use(id) {
        this.active = id;
        this.draw();
        this.drawMounted();
        const name = this.name(id);
        const hint =
            id === RAW
                ? "The model gets your prompt and nothing else. No turn is remembered."
                : (this.find(id)?.description ?? "");
        this.activated({
            id,
            name: id === RAW ? "The model" : name,
            avatar: this.find(id)?.avatar ?? "",
            welcome: this.welcomes.get(id),
            hint,
        });
    }
}

function fill(select, names) {
    const before = select.value;
    select.replaceChildren(...names.map((name) => make("option", { value: name, text: name })));
    if (names.includes(before)) select.value = before;
}

function described(one) {
    return typeof one === "string"
        ? one
        : [one?.path ?? one?.folder, one?.message ?? one?.error].filter((part) => part).join(": ");
}
