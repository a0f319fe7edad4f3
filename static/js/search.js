// Search results accumulate: the next part, a page that also works without script, is added below those before it.
(() => {
  "use strict";
  const TIMEOUT_MS = 20000;
  const MAX_PARTS = 20; // in a row, without a further click
  const MAX_ROWS = 1000; // likewise: the search pauses where so many further ones are there
  const find = (name, root = document) => root.querySelector(`[data-search-${name}]`);
  const progress = find("progress");
  if (!find("more")) return;
  let busy = false; // a part is being read
  let going = false; // the next part follows without a click
  let parts = 0; // added to the page; the history entry remembers it for a reload and for coming back

  // XMLHttpRequest parses the page; text never becomes markup here.
  const load = (url) =>
    new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.open("GET", url);
      request.responseType = "document";
      request.timeout = TIMEOUT_MS;
      const part = () => (request.status === 200 && request.response && find("progress", request.response) ? request.response : null);
      request.onload = () => resolve(part());
      request.onerror = request.ontimeout = () => resolve(null);
      request.send();
    });

  const rows = () => document.querySelectorAll("#results tbody tr");

  const addRows = (part) => {
    const results = find("results");
    const more = find("results", part);
    if (!rows().length) {
      results.replaceWith(document.adoptNode(more));
      return;
    }
    const added = [...more.querySelectorAll("tbody tr")].filter((row) => !document.getElementById(row.id));
    results.querySelector("tbody").append(...added);
    const bar = results.querySelector(".bulk-bar");
    for (const button of more.querySelectorAll(".bulk-bar [data-verb]")) {
      if (!bar.querySelector(`[data-verb][value="${button.value}"]`)) bar.querySelector("[data-clear-selection]").after(button);
    }
  };

  // Only the contents change, so that the buttons keep the focus and screen readers hear the new totals.
  const addPart = (part) => {
    addRows(part);
    const next = find("more", part);
    find("status").replaceChildren(...find("status", part).childNodes);
    find("part", part)?.remove();
    find("limits").replaceChildren(...find("limits", part).childNodes);
    find("earlier", part)?.remove();
    const known = [...find("problems").children].map((notice) => notice.textContent);
    find("problems").append(...[...find("problems", part).children].filter((notice) => !known.includes(notice.textContent)));
    find("whole").replaceChildren(...find("whole", part).childNodes);
    if (next) find("more").href = next.href;
    else for (const name of ["more", "on", "stop"]) find(name).remove();
    parts += 1;
    history.replaceState({ ...history.state, parts }, "");
    document.dispatchEvent(new CustomEvent("queuedeck:updated"));
  };

  const step = async () => {
    if (busy || !find("more")) return false;
    busy = true;
    find("more").setAttribute("aria-busy", "true");
    const focused = progress.contains(document.activeElement);
    const part = await load(find("more").href);
    busy = false;
    find("more").removeAttribute("aria-busy");
    if (part) addPart(part);
    else find("limits").textContent = "Could not search further: no answer from Queuedeck. What was found is kept; search more to try again.";
    if (focused && !progress.contains(document.activeElement)) document.getElementById("main").focus({ preventScroll: true });
    return part !== null && find("more") !== null;
  };

  const visible = () =>
    new Promise((resolve) => {
      if (!document.hidden) resolve();
      else document.addEventListener("visibilitychange", () => resolve(), { once: true });
    });

  const show = () => {
    if (!find("on")) return;
    find("on").hidden = going;
    find("stop").hidden = !going;
  };

  const keepSearching = async (most, enough) => {
    if (going) return;
    going = true;
    const focused = document.activeElement === find("on");
    show();
    if (focused) find("stop").focus();
    for (let count = 0; going && count < most && rows().length < enough; count += 1) {
      await visible();
      if (!going || !(await step())) break;
    }
    going = false;
    const back = document.activeElement === find("stop");
    show();
    if (back) find("on")?.focus();
  };

  progress.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-search-more], [data-search-on], [data-search-stop]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!target || !plain) return;
    event.preventDefault();
    if (target === find("stop")) going = false;
    else if (target === find("on")) keepSearching(MAX_PARTS, rows().length < MAX_ROWS ? MAX_ROWS : rows().length + MAX_ROWS);
    else step();
  });

  // Back from a job, or after a reload: the parts that were here before.
  const before = Number(history.state?.parts);
  if (before > 0) keepSearching(Math.min(before, MAX_PARTS), Infinity);
})();
