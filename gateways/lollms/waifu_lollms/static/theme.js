// Before the first paint, so that a dark page does not begin with a white one.
"use strict";
try {
    const chosen = localStorage.getItem("playground-theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
    // A browser that stores nothing: the system's theme holds.
}
