// Selected rows: they stay selected while the list refreshes, the bar counts them, and the result of an action gets the focus.
(() => {
  "use strict";
  const ticked = new Set();

  const boxes = () => [...document.querySelectorAll("[data-tick]")];

  const show = () => {
    const here = boxes();
    const count = here.filter((box) => box.checked).length;
    const text = document.querySelector("[data-ticked]");
    if (text) text.textContent = `${count} ${count === 1 ? "job" : "jobs"} selected`;
    for (const button of document.querySelectorAll("[data-verb]")) {
      const label = `${button.dataset.verb} ${count}`;
      if (button.textContent !== label) button.textContent = label;
    }
    const all = document.querySelector("[data-tick-all]");
    if (all) {
      all.checked = count > 0 && count === here.length;
      all.indeterminate = count > 0 && count < here.length;
    }
  };

  const note = (box) => {
    if (box.checked) ticked.add(box.value);
    else ticked.delete(box.value);
  };

  document.addEventListener("change", ({ target }) => {
    if (target.matches?.("[data-tick-all]")) {
      for (const box of boxes()) {
        box.checked = target.checked;
        note(box);
      }
    } else if (target.matches?.("[data-tick]")) note(target);
    else return;
    show();
  });

  // A refresh can put another job into a row: the selection belongs to the job, not the row.
  document.addEventListener("queuedeck:updated", () => {
    for (const box of boxes()) box.checked = ticked.has(box.value);
    show();
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
  for (const box of boxes()) note(box);
  show();
  document.getElementById("flash")?.focus({ preventScroll: true });
})();
