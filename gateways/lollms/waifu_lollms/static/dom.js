// Making and filling elements. Whatever a server or a model says enters the page as text, never as HTML.

/** @param {string} id */
export function byId(id) {
    const found = document.getElementById(id);
    if (found === null) throw new Error(`the page has no #${id}`);
    return found;
}

/** An element: `text` and `on…` are what they say, all else are attributes; false, null and undefined leave one out. */
export function make(tag, given = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) {
        if (value === false || value === null || value === undefined) continue;
        if (name === "text") element.textContent = value;
        else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
        else element.setAttribute(name, value === true ? "" : String(value));
    }
    element.append(...children.filter((child) => child !== null));
    return element;
}

/** Show a sentence in `element`, or hide it where there is none. */
export function tell(element, sentence) {
    element.textContent = sentence || "";
    element.hidden = !sentence;
}

/** `12 MB`; "" where the size is not known. */
export function size(bytes) {
    if (!Number.isFinite(bytes) || bytes <= 0) return "";
    const units = ["B", "kB", "MB", "GB", "TB"];
    const power = Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
    const value = bytes / 1000 ** power;
    return `${value < 10 && power > 0 ? value.toFixed(1) : Math.round(value)}\u00a0${units[power]}`;
}

const text = (value) => (typeof value === "string" ? value : "");

function monogram(name) {
    const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 6, 0);
    return make("span", {
        class: `avatar letter tint-${hue}`,
        "aria-hidden": "true",
        text: [...name.trim()][0] || "?",
    });
}

/** A personality's picture, or the first letter of its name. Its address counts by its path: it is this server's. */
export function portrait(name, avatar) {
    if (!text(avatar)) return monogram(text(name));
    let path;
    try {
        path = new URL(avatar, location.href).pathname;
    } catch {
        return monogram(text(name));
    }
    const picture = make("img", { class: "avatar", src: path, alt: "", loading: "lazy", width: 40, height: 40 });
    picture.addEventListener("error", () => picture.replaceWith(monogram(text(name))), { once: true });
    return picture;
}

/** One entry of a list of choices: a button with a title, a line or two below it, and a mark where it is the one. */
export function choice({ title, lines, chosen, picture, onclick }) {
    const below = lines.filter((line) => text(line)).map((line) => make("span", { class: "line", text: line }));
    const words = make("span", { class: "words" }, make("span", { class: "title", text: title }), ...below);
    const button = make(
        "button",
        { type: "button", "aria-pressed": chosen ? "true" : "false", onclick },
        picture ?? null,
        words,
    );
    return make("li", {}, button);
}
