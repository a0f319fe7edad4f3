// Actions that destroy ask first: the page with the question, which works without script, is shown as a dialog. Its form
// names the object by its id, so a refresh behind the dialog cannot change what is confirmed.
(() => {
  "use strict";
  const TIMEOUT_MS = 10000;
  const dialog = document.getElementById("question");
  let asking = false; // one request at a time: a second click is the same question

  // XMLHttpRequest parses the page; text never becomes markup here.
  const load = (method, url, body) =>
    new Promise((resolve) => {
      const request = new XMLHttpRequest();
      request.open(method, url);
      request.responseType = "document";
      request.timeout = TIMEOUT_MS;
      request.onload = () => resolve(request.status === 200 ? request.response?.querySelector("[data-question]") : null);
      request.onerror = request.ontimeout = () => resolve(null);
      request.send(body);
    });

  // Shows the question; without one, `otherwise` opens its page, which says why.
  const ask = async (method, url, body, otherwise) => {
    if (asking) return;
    asking = true;
    const question = await load(method, url, body);
    asking = false;
    if (!question) {
      otherwise();
      return;
    }
    const opener = document.activeElement;
    dialog.replaceChildren(document.adoptNode(question));
    dialog.showModal();
    dialog.querySelector("[data-cancel]").focus();
    dialog.onclose = () => {
      dialog.replaceChildren();
      if (opener?.isConnected) opener.focus({ preventScroll: true });
    };
  };

  document.addEventListener("submit", (event) => {
    const button = event.submitter;
    if (!button || !("confirm" in button.dataset)) return;
    event.preventDefault();
    const form = event.target;
    ask("POST", button.formAction, new URLSearchParams(new FormData(form, button)), () => {
      delete button.dataset.confirm;
      form.requestSubmit(button);
    });
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-confirm], a[data-cancel]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !plain) return;
    if ("cancel" in link.dataset && !dialog.open) return;
    event.preventDefault();
    if ("cancel" in link.dataset) dialog.close();
    else ask("GET", link.href, null, () => location.assign(link.href));
  });
})();
