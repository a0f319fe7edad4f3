// The command palette: pages, queues, jobs and actions by what is typed. An action asks first.
(() => {
  "use strict";
  const TYPING_MS = 100;
  const MAX_RECENT = 10;
  const RECENT = "queuedeck.recent";
  const { make, asker, choices } = window.queuedeck;
  const dialog = document.getElementById("palette");
  if (!dialog) return;
  const box = dialog.querySelector("input");
  const list = dialog.querySelector("[role=listbox]");
  const note = dialog.querySelector("[role=status]");
  const ask = asker();
  let timer = 0;
  let isWaiting = false; // for the answer to what was typed
  let entered = false; // Enter was pressed meanwhile

  // Storage can be full or blocked: then recent choices are those of this page.
  let recent = [];
  const recall = () => {
    try {
      const stored = JSON.parse(localStorage.getItem(RECENT));
      if (Array.isArray(stored)) recent = stored.filter((key) => typeof key === "string").slice(0, MAX_RECENT);
    } catch {}
    return recent;
  };
  const remember = (keys) => {
    recent = keys;
    try {
      localStorage.setItem(RECENT, JSON.stringify(keys));
    } catch {}
  };

  const commands = {
    live: () => window.queuedeck.pause(),
    refresh: () => window.queuedeck.refresh(),
    theme: () => window.queuedeck.cycle("theme"),
    density: () => window.queuedeck.cycle("density"),
    zone: () => window.queuedeck.cycle("zone"),
    help: () => document.getElementById("help").showModal(),
    leave: () => document.querySelector("form.user").requestSubmit(),
  };
  const isThere = ({ command }) =>
    !command || (Object.hasOwn(commands, command) && !(command === "live" && document.querySelector("[data-live-button]").hidden));

  // The browser opens a link, and confirm.js shows the question of one that asks.
  const choose = (option, event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // in a new tab
    const { key, command } = option.dataset;
    if (key) remember([key, ...recall().filter((each) => each !== key)].slice(0, MAX_RECENT));
    dialog.close();
    if (command) commands[command]();
  };
  const options = choices(box, list, choose);

  const line = ({ key, label, detail, url, command, asks, keys }) => {
    const target = url ? { href: url, tabindex: "-1", "data-confirm": asks ? "" : null } : { "data-command": command };
    return make(
      url ? "a" : "div",
      { role: "option", "aria-selected": "false", "data-key": key, ...target },
      make("span", {}, label),
      make("small", {}, detail),
      make("span", { "aria-hidden": "true" }, ...keys.map((each) => make("kbd", {}, each))),
    );
  };

  const render = (found) => {
    const groups = found.groups
      .map((group) => [group.title, group.entries.filter(isThere)])
      .filter(([_, entries]) => entries.length)
      .map(([title, entries], index) =>
        make(
          "div",
          { role: "group", "aria-labelledby": `palette-group-${index}` },
          make("div", { id: `palette-group-${index}`, class: "title", role: "presentation" }, title),
          ...entries.map(line),
        ),
      );
    options.fill(groups);
    options.mark(0);
    list.scrollTop = 0;
    const nothing = found.found ? "" : `Nothing matches “${box.value.trim()}”.`;
    note.textContent = [nothing, found.note ?? ""].filter(Boolean).join(" ");
  };

  const search = async () => {
    isWaiting = true;
    try {
      const found = await ask(dialog.dataset.url, [["q", box.value], ...recall().map((key) => ["recent", key])]);
      if (!found) return; // a newer request waits
      render(found);
      isWaiting = false;
      if (entered && dialog.open) options.active()?.click();
    } catch {
      isWaiting = false;
      options.fill([]);
      note.textContent = "No answer from Queuedeck. Type again to retry, or reload the page.";
    }
    entered = false;
  };

  const open = () => {
    if (document.querySelector("dialog[open]")) return;
    box.value = "";
    entered = false;
    dialog.showModal();
    search();
  };

  box.addEventListener("input", () => {
    clearTimeout(timer);
    isWaiting = true;
    entered = false;
    timer = setTimeout(search, TYPING_MS);
  });
  box.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "ArrowDown") options.step(1);
    else if (event.key === "ArrowUp") options.step(-1);
    else if (event.key !== "Enter") return;
    else if (isWaiting) entered = true;
    else options.active()?.click();
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close-palette]")) dialog.close();
  });
  dialog.addEventListener("close", () => clearTimeout(timer));
  document.querySelector("form.user")?.addEventListener("submit", () => remember([]));

  const isMac = /Mac|iP/.test(navigator.platform);
  for (const key of isMac ? document.querySelectorAll("[data-palette-key]") : []) key.textContent = "⌘ K";
  for (const button of document.querySelectorAll("[data-palette]")) {
    button.setAttribute("aria-keyshortcuts", isMac ? "Meta+K" : "Control+K");
    button.addEventListener("click", open);
  }
  document.addEventListener("keydown", (event) => {
    const isCommand = isMac ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
    if (!isCommand || event.altKey || event.shiftKey || event.key.toLowerCase() !== "k") return;
    event.preventDefault();
    if (dialog.open) dialog.close();
    else open();
  });
})();
