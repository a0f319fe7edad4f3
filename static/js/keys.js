// Keyboard shortcuts: single keys, off while typing, all listed under "?".
(() => {
  "use strict";
  const SEQUENCE_MS = 1000;
  const ROWS = "table.grid tbody tr:not(.group) th a";
  const search = document.querySelector("[data-search]");
  const help = document.getElementById("help");
  let leadAt = 0; // when "g" was pressed

  // Heat map: one cell is in the tab order, and arrow keys lead to the others.
  let cellId = "";
  const cellsOf = () => [...document.querySelectorAll("[data-heat] .cells > a")];
  const rove = () => {
    const cells = cellsOf();
    const current = cells.find((cell) => cell.id === cellId) ?? cells[0];
    for (const cell of cells) {
      const place = cell === current ? 0 : -1;
      if (cell.getAttribute("tabindex") !== String(place)) cell.tabIndex = place;
    }
  };

  // The cell nearest to `from` in the next row above or below.
  const acrossRows = (cells, from, by) => {
    const { left, top } = from.getBoundingClientRect();
    const boxes = cells.map((cell) => [cell, cell.getBoundingClientRect()]).filter(([, box]) => (box.top - top) * by > 1);
    const row = Math.min(...boxes.map(([, box]) => (box.top - top) * by));
    const near = boxes.filter(([, box]) => (box.top - top) * by < row + 2);
    return near.sort(([, one], [, other]) => Math.abs(one.left - left) - Math.abs(other.left - left))[0]?.[0];
  };

  const moves = {
    ArrowRight: (cells, at) => cells[at + 1],
    ArrowLeft: (cells, at) => cells[at - 1],
    ArrowDown: (cells, at) => acrossRows(cells, cells[at], 1),
    ArrowUp: (cells, at) => acrossRows(cells, cells[at], -1),
    Home: (cells) => cells[0],
    End: (cells) => cells.at(-1),
  };

  // Whether the key moved the focus within the heat map, or into it.
  const moveInHeat = (key) => {
    const cells = cellsOf();
    const at = cells.indexOf(document.activeElement);
    if (!cells.length || (at < 0 && !["j", "k"].includes(key))) return false;
    const move = moves[{ j: "ArrowRight", k: "ArrowLeft" }[key] ?? key];
    if (!move) return false;
    const next = at < 0 ? cells.find((cell) => cell.tabIndex === 0) : move(cells, at);
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
    return true;
  };

  const showLabel = (event) => {
    const cell = event.target.closest?.("[data-heat] .cells > a");
    if (!cell) return;
    document.querySelector("[data-heat-now]").textContent = cell.getAttribute("aria-label");
    if (event.type !== "focusin") return;
    cellId = cell.id;
    rove();
  };

  const step = (by) => {
    const links = [...document.querySelectorAll(ROWS)];
    if (!links.length) return;
    const row = document.activeElement?.closest("tr");
    const at = links.findIndex((link) => link.closest("tr") === row);
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by));
    links[next].focus({ preventScroll: true });
    links[next].scrollIntoView({ block: "nearest" });
  };

  const turn = (rel) => document.querySelector(`.pages a[rel="${rel}"]`)?.click();

  const focusSearch = () => {
    search.focus();
    search.select();
  };

  // "g" and a letter open the rail's entry for it; without "g", the letter does what `alone` says, if anything.
  const jump = (letter, alone) => {
    if (Date.now() - leadAt < SEQUENCE_MS) document.querySelector(`.rail [data-letter="${letter}"]`)?.click();
    else alone?.();
  };

  const keys = {
    "/": focusSearch,
    "?": () => help.showModal(),
    j: () => step(1),
    k: () => step(-1),
    "[": () => turn("prev"),
    "]": () => turn("next"),
    x: () => window.queuedeck.tick?.(document.activeElement?.closest("tr")),
    R: () => document.querySelector('.bulk-bar [data-verb][value="retry"]')?.click(),
    D: () => document.querySelector('.bulk-bar [data-verb][value="delete"]')?.click(),
    r: () => jump("r", () => window.queuedeck.refresh()),
    p: () => window.queuedeck.pause(),
    t: () => window.queuedeck.cycle("theme"),
    d: () => jump("d", () => window.queuedeck.cycle("density")),
    u: () => window.queuedeck.cycle("zone"),
    g: () => {
      leadAt = Date.now();
    },
    o: () => jump("o"),
    w: () => jump("w"),
    s: () => jump("s"),
    f: () => jump("f"),
    a: () => jump("a"),
    c: () => jump("c"),
    e: () => document.querySelector("[data-moment-earlier]")?.click(),
    l: () => jump("l", () => document.querySelector("[data-moment-later]")?.click()),
    n: () => document.querySelector("[data-moment-now]")?.click(),
  };

  const leave = () => {
    if (document.activeElement !== search) {
      document.activeElement?.blur();
      return;
    }
    if (!search.value) search.blur();
    else {
      search.value = "";
      search.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      leave();
      return;
    }
    // Shortcuts work in checkboxes: users select with the mouse and continue with keys.
    if (event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    if (moveInHeat(event.key)) {
      event.preventDefault();
      return;
    }
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (!act) return;
    event.preventDefault();
    act();
  });
  document.addEventListener("focusin", showLabel);
  document.addEventListener("pointerover", showLabel);
  document.addEventListener("queuedeck:updated", rove);
  rove();
  for (const button of document.querySelectorAll("[data-help]")) {
    button.addEventListener("click", () => help.showModal());
  }
})();
