// Links and the filter that change only the query of the URL: refresh the view and update the URL and the history. And the
// sheet of all pages on a phone.
(() => {
  "use strict";
  const TYPING_MS = 180;
  const search = document.querySelector("[data-search]");
  const filters = "filters" in document.body.dataset;
  let timer = 0;
  let typing = false; // one history entry per visit to the box, not per key

  const go = (url, replace = false) => {
    if (url.href !== location.href) history[replace ? "replaceState" : "pushState"](null, "", url);
    window.queuedeck.refresh();
  };

  const scrollTo = (link, url) => {
    const place = url.hash ? document.querySelector(`[id="${CSS.escape(url.hash.slice(1))}"]`) : null;
    const section = place ?? (link.rel === "next" || link.rel === "prev" ? link.closest("section") : null);
    section?.scrollIntoView({ block: "start" });
  };

  const follow = (event) => {
    const link = event.target.closest?.("a[data-go]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !plain || event.defaultPrevented) return;
    const url = new URL(link.href);
    if (url.pathname !== location.pathname) return;
    event.preventDefault();
    clearTimeout(timer);
    go(url);
    showText();
    scrollTo(link, url);
  };

  const showText = () => {
    if (filters) search.value = new URLSearchParams(location.search).get("q") ?? "";
  };

  const filter = () => {
    const url = new URL(location.href);
    const text = search.value.trim();
    if (text === (url.searchParams.get("q") ?? "")) return;
    if (text) url.searchParams.set("q", text);
    else url.searchParams.delete("q");
    url.searchParams.delete("page");
    go(url, typing);
    typing = true;
  };

  // On a phone the tabs scroll sideways: scroll to the current one.
  const tab = document.querySelector(".tabs [aria-current]");
  const tabs = tab?.closest(".tabs");
  if (tabs) tabs.scrollLeft += tab.getBoundingClientRect().left - tabs.getBoundingClientRect().left - 24;

  // On a phone, the sheet with all pages closes with Escape, and when something else is pressed or focused.
  const sheet = document.querySelector("details[data-sheet]");
  const leaveSheet = ({ target }) => {
    if (sheet?.open && !sheet.contains(target)) sheet.open = false;
  };
  const escapeSheet = (event) => {
    if (event.key !== "Escape" || !sheet?.open) return;
    event.stopImmediatePropagation(); // Escape also leaves what has the focus
    sheet.open = false;
    sheet.querySelector("summary").focus();
  };
  for (const what of ["click", "focusin"]) document.addEventListener(what, leaveSheet);
  document.addEventListener("keydown", escapeSheet);
  document.addEventListener("click", follow);
  window.addEventListener("popstate", () => {
    showText();
    window.queuedeck.refresh();
  });
  if (!filters) return;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(filter, TYPING_MS);
  });
  search.addEventListener("blur", () => {
    typing = false;
  });
  search.form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    filter();
  });
  // On a slow connection the box appears before this script runs: apply what was typed since.
  if (search.value !== search.defaultValue) timer = setTimeout(filter, TYPING_MS);
})();
