// What a refresh must preserve: order of rows, open <details>, focus, times of times.js, attributes set by this page.
(() => {
  "use strict";
  const FRESH_MS = 10000;
  const REORDER_MS = 15000;
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

  // Order of rows. The one on the page is kept while the pointer or the focus is on the table, and for REORDER_MS after
  // each change: figures change in place, a row that leaves gives its place to one that came. A row is never moved, it is
  // replaced by a copy, so that nothing slides under the pointer.
  let view = location.search; // the filter, sort order and page of what is shown
  let orderedAt = performance.now();

  const rowsOf = (body) => [...body.children];
  const keyOf = (row) => row.id || row.className;
  const sameOrder = (rows, others) =>
    rows.length === others.length && rows.every((row, index) => keyOf(row) === keyOf(others[index]));

  const keepOrder = (shown, next) => {
    const coming = new Map(next.map((row) => [keyOf(row), row]));
    const places = shown.map((row) => coming.get(keyOf(row)) ?? null);
    for (const row of places) if (row) coming.delete(keyOf(row));
    const added = [...coming.values()];
    return [...places.map((row) => row ?? added.shift()).filter(Boolean), ...added];
  };

  const arrange = (body, target) => {
    const shown = rowsOf(body);
    const known = new Map(shown.map((row) => [keyOf(row), row]));
    const arranged = target.map((row, index) => {
      const old = known.get(keyOf(row));
      return old && old === shown[index] ? old : (old ?? row).cloneNode(true);
    });
    for (const [index, row] of arranged.entries()) {
      if (shown[index] === row) continue;
      if (shown[index]) shown[index].replaceWith(row);
      else body.append(row);
    }
    for (const row of shown.slice(arranged.length)) row.remove();
  };

  // `wanted`: the view that was requested. That of the address can be newer, and its response is still to come.
  const steady = (fragment, wanted) => {
    const sameView = view === wanted;
    view = wanted;
    const tables = [...document.querySelectorAll("#view table.grid")];
    const others = [...(fragment?.querySelectorAll?.("table.grid") ?? [])];
    const busy = tables.some((table) => table.matches(":hover") || table.contains(document.activeElement));
    const held = sameView && (busy || performance.now() - orderedAt < REORDER_MS);
    let changed = !sameView;
    for (const [index, table] of tables.entries()) {
      const other = others[index];
      if (other?.className !== table.className || other.tBodies.length !== table.tBodies.length) continue;
      for (const [at, body] of [...table.tBodies].entries()) {
        const incoming = other.tBodies[at];
        const next = rowsOf(incoming);
        if (!next.some((row) => row.id) || sameOrder(rowsOf(body), next)) continue;
        const target = held ? keepOrder(rowsOf(body), next) : next;
        if (held) incoming.replaceChildren(...target);
        else changed = true;
        arrange(body, target);
      }
    }
    if (changed) orderedAt = performance.now();
  };

  htmx.registerExtension("queuedeck", {
    // The fragment depends on the URL of the page: its query holds filter, sort order and page number.
    htmx_config_request: (element, { ctx }) => {
      if (element.id === "live") ctx.request.action = element.getAttribute("hx-get") + location.search;
    },
    htmx_before_swap: (element, { ctx, tasks }) => {
      const wanted = new URL(ctx.request.action, location.href).search;
      for (const { fragment } of tasks ?? []) {
        keepSamples(fragment);
        steady(fragment, wanted);
      }
      focused = document.activeElement === document.body ? null : document.activeElement;
    },
    htmx_before_morph_node: (element, { newNode }) => {
      if ("heatNow" in element.dataset || "kept" in element.dataset) return false;
      if (element.tagName !== "TIME") return true;
      return element.getAttribute("datetime") !== newNode.getAttribute("datetime");
    },
    htmx_before_morph_attr: (element, { attrName, newValue }) => {
      if (element.tagName === "DETAILS" && attrName === "open") return false;
      if (element.tagName === "TIME" && attrName === "title") return false;
      if (KEPT.has(attrName) || (attrName === "tabindex" && element.closest("[data-heat]"))) return false;
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
