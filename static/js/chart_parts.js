// Charts that are a part of another page: read once they are in sight, so that a page is light without them. Those that
// can be folded stay as this browser left them.
(() => {
  "use strict";
  const { choose, get } = window.queuedeck;
  const TIMEOUT_MS = 10000; // as that of polls
  const refreshes = new WeakMap(); // box -> reads newer figures
  const known = new WeakSet(); // details that were opened or left closed already

  const signedOut = () => Object.assign(new Error("You are signed out."), { isSignedOut: true });
  // What to say then: a link to this page leads to the sign-in form, and from there back here.
  const signInAgain = () => {
    const link = document.createElement("a");
    link.href = location.pathname + location.search;
    link.textContent = "Sign in";
    return ["Your sign-in has ended. ", link, " to see the charts."];
  };
  // What an error page says: without a sign-in form, also how to get access again.
  const errorOn = (page) => Array.from(page?.querySelectorAll("[data-error]") ?? [], (line) => line.textContent.trim()).join(" ");

  // As a document, since the page's policy permits no markup from strings.
  const read = (url) =>
    new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("GET", url);
      request.responseType = "document";
      request.onload = () => {
        const { response, status } = request;
        const part = status === 200 ? response?.querySelector("[data-chart-part]") : null;
        if (part) resolve(part);
        // A redirect leads to the sign-in form.
        else if (status === 200 || status === 401) reject(signedOut());
        else reject(new Error(errorOn(response) || `The server responded with status ${status}.`));
      };
      request.timeout = TIMEOUT_MS;
      request.onerror = request.ontimeout = () => reject(new Error("Cannot reach Queuedeck."));
      request.send();
    });

  const load = async (box) => {
    if (box.dataset.isRead) return;
    box.dataset.isRead = "";
    try {
      const [part] = await Promise.all([read(box.dataset.chartFrom), import(box.dataset.chartScript)]);
      box.replaceChildren(document.adoptNode(part));
      const charts = box.querySelector("#charts");
      if (charts) refreshes.set(box, window.queuedeck.startCharts(charts));
      document.dispatchEvent(new CustomEvent("queuedeck:updated"));
    } catch (error) {
      delete box.dataset.isRead;
      const note = box.querySelector("[data-chart-note]");
      const again = box.closest("details") ? "Fold and unfold" : "Reload the page";
      const why = error.isSignedOut ? signInAgain() : [`Charts could not be read: ${error.message} ${again} to try again.`];
      note?.replaceChildren(...why);
    }
  };

  const sight = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) load(target);
    },
    { rootMargin: "400px" }, // a little before they are in sight
  );
  const look = () => {
    for (const details of document.querySelectorAll("details[data-remember]")) {
      if (!known.has(details) && get("charts") === "open") details.open = true;
      known.add(details);
    }
    for (const box of document.querySelectorAll("[data-chart-from]")) sight.observe(box);
  };

  document.addEventListener(
    "toggle",
    ({ target }) => {
      if (!target.matches("details[data-remember]")) return;
      choose("charts", target.open ? "open" : "closed");
      if (target.open) for (const box of target.querySelectorAll("[data-chart-from]")) refreshes.get(box)?.();
    },
    true,
  );
  Object.assign(window.queuedeck, { signedOut, signInAgain });
  document.addEventListener("queuedeck:updated", look);
  look();
})();
