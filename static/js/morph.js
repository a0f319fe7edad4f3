// State that a refresh must preserve: open <details>, focus, times updated by times.js, attributes set by this page.
(() => {
  "use strict";
  const FRESH_MS = 10000;
  const KEPT = new Set(["data-fresh", "data-done"]);
  let focused = null;

  const markFresh = (cell) => {
    cell.dataset.fresh = "";
    setTimeout(() => delete cell.dataset.fresh, FRESH_MS);
  };

  // Whether the cell of a queue shows more dead letters than before.
  const grew = (cell, value) => {
    const before = parseInt(cell.dataset.dead, 10);
    const now = parseInt(value, 10);
    return Number.isFinite(before) && Number.isFinite(now) && now > before;
  };

  // Open samples stay open, even when newer ones replace them, and no other one opens: a copy of each open sample is added
  // to the fragment under the same id, so that the morph finds it and leaves the original in place.
  const keepSamples = (fragment) => {
    const shown = document.getElementById("samples");
    const list = shown && fragment?.querySelector?.("#samples");
    if (!list) return;
    for (const sample of list.querySelectorAll(".sample[open]")) sample.removeAttribute("open");
    for (const sample of shown.querySelectorAll(".sample[open]")) {
      if (!list.querySelector(`#${CSS.escape(sample.id)}`)) list.append(sample.cloneNode(true));
    }
  };

  htmx.registerExtension("queuedeck", {
    // The fragment depends on the URL of the page: its query holds filter, sort order and page number.
    htmx_config_request: (element, { ctx }) => {
      if (element.id === "live") ctx.request.action = element.getAttribute("hx-get") + location.search;
    },
    htmx_before_swap: (element, { tasks }) => {
      for (const { fragment } of tasks ?? []) keepSamples(fragment);
      focused = document.activeElement === document.body ? null : document.activeElement;
    },
    htmx_before_morph_node: (element, { newNode }) => {
      if (element.tagName !== "TIME") return true;
      return element.getAttribute("datetime") !== newNode.getAttribute("datetime");
    },
    htmx_before_morph_attr: (element, { attrName, newValue }) => {
      if (element.tagName === "DETAILS" && attrName === "open") return false;
      if (element.tagName === "TIME" && attrName === "title") return false;
      if (KEPT.has(attrName)) return false;
      if (attrName === "data-dead" && newValue !== null && grew(element, newValue)) markFresh(element);
      return true;
    },
    htmx_after_swap: () => {
      // Moving a row removes the focus from the link in it.
      if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
      focused = null;
    },
  });
})();
