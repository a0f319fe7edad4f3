// What a refresh must leave alone: open details, focus, times that are counted on here, marks that this page set.
(() => {
  "use strict";
  const FRESH_MS = 10000;
  const KEPT = new Set(["data-fresh", "data-done"]);
  let focused = null;

  const markFresh = (cell) => {
    cell.dataset.fresh = "";
    setTimeout(() => delete cell.dataset.fresh, FRESH_MS);
  };

  // More dead letters than a moment ago in the cell of the same queue.
  const grew = (cell, value) => {
    const before = parseInt(cell.dataset.dead, 10);
    const now = parseInt(value, 10);
    return Number.isFinite(before) && Number.isFinite(now) && now > before;
  };

  // Samples that stand open stay, also when newer ones took their place, and no other one opens: what goes along with the
  // fragment under the id of an old one is found by the morph, which then leaves the old one where it is.
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
    // The fragment belongs to the address of the page: filter, sorting and page number are in its query.
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
      // Moving a row takes the focus away from the link in it.
      if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
      focused = null;
    },
  });
})();
