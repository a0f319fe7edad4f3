// Theme, row height and time zone of this browser. Loaded in the head, so that the first paint is already right.
(() => {
  "use strict";
  const CHOICES = {
    theme: ["system", "light", "dark"],
    density: ["dense", "comfortable"],
    zone: ["utc", "local"],
    charts: ["closed", "open"], // those that are a part of other pages
  };
  const WORDS = { theme: "Theme", density: "Row height", zone: "Times" };
  const root = document.documentElement;
  const key = (name) => `queuedeck.${name}`;

  // Storage can be full or blocked by the browser: then a choice only lasts for this page.
  const stored = (name) => {
    try {
      return localStorage.getItem(key(name));
    } catch {
      return null;
    }
  };
  const store = (name, value) => {
    try {
      localStorage.setItem(key(name), value);
    } catch {
      // the choice only lasts for this page
    }
  };

  const get = (name) => root.dataset[name];

  const show = (name) => {
    for (const button of document.querySelectorAll(`[data-switch="${name}"]`)) {
      const word = button.querySelector("[data-word]");
      if (word) word.textContent = get(name) === "utc" ? "UTC" : "local";
      button.setAttribute("aria-label", `${WORDS[name]}: ${get(name)}`);
    }
  };

  const set = (name, value) => {
    if (!CHOICES[name].includes(value)) return;
    root.dataset[name] = value;
    show(name);
    document.dispatchEvent(new CustomEvent("queuedeck:prefs"));
  };

  const choose = (name, value) => {
    if (get(name) === value) return;
    set(name, value);
    store(name, value);
  };
  const cycle = (name) => {
    const values = CHOICES[name];
    choose(name, values[(values.indexOf(get(name)) + 1) % values.length]);
  };

  window.queuedeck = { get, choose, cycle };
  root.classList.add("js");
  for (const name of Object.keys(CHOICES)) set(name, stored(name));
  window.addEventListener("storage", (event) => {
    for (const name of Object.keys(CHOICES)) if (event.key === key(name)) set(name, event.newValue);
  });
  document.addEventListener("DOMContentLoaded", () => {
    for (const name of Object.keys(CHOICES)) show(name);
    for (const button of document.querySelectorAll("[data-switch]")) {
      button.addEventListener("click", () => cycle(button.dataset.switch));
    }
  });
})();
