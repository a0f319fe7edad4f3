// Buttons that copy the text of the element in their data-copy attribute.
(() => {
  "use strict";
  const SHOWN_MS = 1500;

  // The clipboard API exists on HTTPS and localhost only; elsewhere execCommand still works.
  const copyOldWay = (element) => {
    const selection = getSelection();
    const range = document.createRange();
    range.selectNodeContents(element);
    selection.removeAllRanges();
    selection.addRange(range);
    const done = document.execCommand("copy");
    selection.removeAllRanges();
    return done;
  };

  const copy = async (element) => {
    if (!navigator.clipboard) return copyOldWay(element);
    try {
      await navigator.clipboard.writeText(element.textContent);
      return true;
    } catch {
      return copyOldWay(element);
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button[data-copy]");
    const element = button && document.getElementById(button.dataset.copy);
    if (!element) return;
    button.dataset.done = (await copy(element)) ? "copied" : "failed";
    setTimeout(() => delete button.dataset.done, SHOWN_MS);
  });
})();
