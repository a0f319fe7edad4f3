// Selected rows: they stay selected while the list refreshes, on its other pages and after a reload, until an action on them;
// the bar counts them, and the result of an action gets the focus.
(() => {
  "use strict";
  const KEY = "queuedeck.selected";
  let ticked = new Set();
  let list = ""; // the list to which they belong

  const boxes = () => [...document.querySelectorAll("[data-tick]")];
  const form = () => document.querySelector("form.ticks");
  // A queue has a list per state and native name, a search one per query; an error group has one.
  const listOf = (of) => [of.action, ...["state", "native", "q"].map((name) => of.elements[name]?.value ?? "")].join(" ");

  // Where storage is blocked or full, the selection is kept until the next page.
  const recall = () => {
    try {
      return JSON.parse(sessionStorage.getItem(KEY));
    } catch {
      return null; // or not written by this version
    }
  };
  const remember = (kept) => {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(kept));
    } catch {}
  };

  const store = () => {
    if (list) remember({ list, picks: [...ticked] });
  };
  // `sent` = an action on them is under way, so that its result ends the selection.
  const mark = (sent) => {
    const kept = recall();
    if (kept?.picks) remember({ ...kept, sent });
  };

  const load = () => {
    const of = form();
    if (!of || listOf(of) === list) return;
    list = listOf(of);
    const kept = recall();
    const done = kept?.sent && document.getElementById("flash");
    ticked = new Set(kept?.list === list && Array.isArray(kept.picks) && !done ? kept.picks : []);
    store();
  };

  const show = () => {
    const count = ticked.size;
    const shown = count.toLocaleString("en");
    const isTooMany = count > 1000;
    if (form()) form().toggleAttribute("data-selected", count > 0);
    const text = document.querySelector("[data-ticked]");
    if (text) text.textContent = `${shown} ${count === 1 ? "job" : "jobs"} selected${isTooMany ? ": at most 1,000 at a time" : ""}`;
    for (const button of document.querySelectorAll("[data-verb]")) {
      const { verb, after = "" } = button.dataset;
      button.textContent = `${verb} ${shown}${after}`;
      button.disabled = isTooMany;
    }
    const all = document.querySelector("[data-tick-all]");
    if (all) {
      const here = boxes();
      const checked = here.filter((box) => box.checked).length;
      all.checked = checked > 0 && checked === here.length;
      all.indeterminate = checked > 0 && checked < here.length;
      const whole = document.querySelector("[data-whole]");
      if (whole) {
        whole.toggleAttribute("data-shown", all.checked);
        if (!all.checked) whole.open = false;
      }
    }
  };

  const check = () => {
    for (const box of boxes()) box.checked = ticked.has(box.value);
  };
  const note = (...changed) => {
    for (const box of changed) {
      if (box.checked) ticked.add(box.value);
      else ticked.delete(box.value);
    }
    store();
  };

  document.addEventListener("change", ({ target }) => {
    if (target.matches?.("[data-tick-all]")) {
      const all = boxes();
      for (const box of all) box.checked = target.checked;
      note(...all);
    } else if (target.matches?.("[data-tick]")) note(target);
    else return;
    show();
  });

  // A refresh can put another job into a row: the selection belongs to the job, not the row.
  document.addEventListener("queuedeck:updated", () => {
    load();
    check();
    show();
  });

  document.addEventListener("click", ({ target }) => {
    if (!target.closest?.("[data-clear-selection]")) return;
    ticked.clear();
    check();
    store();
    show();
  });

  // Jobs selected on other pages are sent as well. The server checks the stamp of each.
  document.addEventListener("formdata", ({ target, formData }) => {
    if (target !== form()) return;
    formData.delete("pick");
    for (const pick of ticked) formData.append("pick", pick);
  });

  // A form of which the dialog asks first is not sent: the form of the question is.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    if (event.target === form() || event.target.closest("[data-question]")) mark(true);
  });

  window.queuedeck.tick = (row) => {
    const box = row?.querySelector("[data-tick]");
    if (!box) return;
    box.checked = !box.checked;
    note(box);
    show();
  };

  // The result is in the URL, where the next refresh would find it again.
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("[data-close]");
    if (!button) return;
    const url = new URL(location.href);
    for (const name of button.dataset.close.split(" ")) url.searchParams.delete(name);
    history.replaceState(null, "", url);
    button.closest(".flash").remove();
  });

  // After going back, the browser can restore some checkboxes on its own.
  load();
  if (document.querySelector("main [data-question]")) mark(false); // asked on a page of its own, not answered yet
  for (const box of boxes()) {
    if (ticked.has(box.value)) box.checked = true;
    else if (box.checked) note(box);
  }
  show();
  document.getElementById("flash")?.focus({ preventScroll: true });
})();
