// Live updates: requests the fragment while the page is visible, shows the age of the data, backs off after failures, and
// polls rarely once the object of the page no longer exists.
(() => {
  "use strict";
  const MAX_WAIT_MS = 15000;
  const STALE_AFTER_INTERVALS = 3;
  const MIN_STALE_MS = 6000; // with short intervals, a busy server is not an outage
  const MAX_MESSAGE = 400;
  const live = document.getElementById("live");
  const button = document.querySelector("[data-live-button]");
  const banner = document.getElementById("connection");
  if (!live) {
    button.hidden = true;
    window.queuedeck.refresh = () => location.reload();
    window.queuedeck.pause = () => {};
    return;
  }

  const intervalMs = Number(live.dataset.interval) * 1000;
  const staleAfterMs = Math.max(MIN_STALE_MS, STALE_AFTER_INTERVALS * intervalMs);
  const { title } = window.queuedeck;
  let takenAt = null; // when the data was sampled, by our clock
  let paused = false;
  let failures = 0;
  let failure = "";
  let status = 0; // of the response that failed; 0: there was none
  let down = null; // a Redis that cannot be read: since when (our clock), its name, and what to do
  let gone = ""; // why there is nothing to show now
  let current = null; // the request in progress
  let timer = 0;
  let nextAt = 0; // 0: no timer runs
  let polledAt = 0;

  const age = () => (takenAt === null ? null : Math.max(0, (Date.now() - takenAt) / 1000));
  const words = (seconds) => {
    if (seconds < 100) return `${Math.round(seconds)} s`;
    return seconds < 6000 ? `${Math.round(seconds / 60)} m` : `${Math.round(seconds / 3600)} h`;
  };
  const setText = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  const state = () => {
    if (down && !paused) return "down"; // whatever else fails then, Redis is the cause
    if (failures) return "lost";
    if (gone) return "gone";
    if (paused) return "paused";
    return age() !== null && age() * 1000 > staleAfterMs ? "stale" : "live";
  };

  const show = () => {
    const now = state();
    const old = age();
    const word = { live: "live", paused: "paused", stale: "stale", lost: "offline", gone: "not found", down: `${down?.name} down` }[now];
    button.dataset.state = now;
    button.setAttribute("aria-pressed", String(paused));
    const seconds = now === "down" ? (Date.now() - down.since) / 1000 : old;
    const text = seconds === null || now === "paused" ? word : `${word}${now === "live" ? " · " : " "}${words(seconds)}`;
    setText(button.querySelector("[data-live-word]"), text);
    // Set here: the fragment would differ with every sample. Outside the live region of screen readers.
    for (const element of document.querySelectorAll("[data-checked]")) {
      setText(element, old === null ? "" : `Last check ${words(old)} ago.`);
    }
    const critical = document.querySelectorAll(".problems li.critical").length;
    const count = window.queuedeck.firing() || critical;
    document.title = (count && now !== "lost" ? `(${count}) ` : now === "lost" || now === "down" ? "(!) " : "") + title;
    showBanner(now, old);
    document.dispatchEvent(new CustomEvent("queuedeck:state", { detail: { state: now, age: old, down, failure, status, words } }));
  };

  const showBanner = (now, old) => {
    // A list of problems on the page says itself that Redis is down.
    const said = now === "down" && !failures && document.querySelector(".problems, [data-outage]");
    banner.hidden = said || !["lost", "stale", "gone", "down"].includes(now);
    if (banner.hidden) return;
    const what = { lost: failure, stale: "Data is no longer updating.", gone, down: down && (down.name === "Redis" ? down.text : `${down.name}: ${down.text}`) }[now];
    // While Redis is down, samples are still taken without it: their age is not that of the figures.
    const since = now === "down" ? " Its figures are from before the outage." : old === null ? "" : ` Showing data from ${words(old)} ago.`;
    // The age rises; a screen reader should announce the message once.
    setText(banner.querySelector("[data-banner-text]"), what);
    const wait = nextAt ? Math.ceil((nextAt - Date.now()) / 1000) : 0;
    const next = current || wait <= 0 ? " Retrying…" : ` Retrying in ${wait} s.`;
    setText(banner.querySelector("[data-banner-next]"), since.trim() + (failures ? next : ""));
  };

  const schedule = () => {
    clearTimeout(timer);
    nextAt = 0;
    if (document.hidden || (paused && !failures)) return;
    const calm = gone ? Math.max(MAX_WAIT_MS, intervalMs) : intervalMs;
    const wait = failures ? Math.min(MAX_WAIT_MS, intervalMs * 2 ** (failures - 1)) : calm;
    nextAt = Date.now() + wait;
    timer = setTimeout(refresh, wait);
  };

  const refresh = () => {
    clearTimeout(timer);
    nextAt = 0;
    polledAt = performance.now();
    htmx.trigger(live, "poll");
  };

  // Keep polling, whatever happened to the last request.
  const revive = () => {
    if (current || nextAt || document.hidden || (paused && !failures)) return;
    if (performance.now() - polledAt > intervalMs) refresh();
  };

  const tookAge = (headers) => {
    const seconds = Number.parseFloat(headers.get("Queuedeck-Age"));
    if (!Number.isFinite(seconds)) return;
    takenAt = Date.now() - seconds * 1000;
    window.queuedeck.setClock(headers.get("Queuedeck-Sampled-At"), seconds);
  };

  // The header counts seconds; without them, the outage began when this page first heard of it.
  const tookOutage = (headers) => {
    const [seconds, name, text] = (headers.get("Queuedeck-Down") ?? "").split(" ");
    if (!text) {
      down = null;
      return;
    }
    const since = seconds === "-" ? (down?.since ?? Date.now()) : Date.now() - Number(seconds) * 1000;
    down = { since, name: decodeURIComponent(name), text: decodeURIComponent(text) };
  };

  const failed = (message, code = 0) => {
    failures += 1;
    failure = message;
    status = code;
  };

  const signedOut = () => failed("Your sign-in has ended. Reload the page to sign in again.", 401);
  const isOurs = ({ headers }) => headers.has("Queuedeck-Response");

  live.addEventListener("htmx:before:request", ({ detail }) => {
    current = detail.ctx;
    current.request.redirect = "manual";
  });
  // A proxy whose session ended responds with its sign-in page, or redirects: the policy blocks that for forms.
  document.addEventListener("htmx:before:response", (event) => {
    const { ctx } = event.detail;
    if (ctx.response.status >= 400 || isOurs(ctx.response)) return;
    event.preventDefault();
    if (ctx === current) signedOut();
  });
  document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => {
    if (effectiveDirective !== "form-action") return;
    signedOut();
    schedule();
    show();
  });
  live.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    if (ctx !== current || ctx.response.status >= 400) return;
    failures = 0;
    gone = decodeURIComponent(ctx.response.headers.get("Queuedeck-Gone") ?? "");
    if (!gone) tookAge(ctx.response.headers);
    tookOutage(ctx.response.headers);
    const cost = ctx.response.headers.get("Queuedeck-Cost");
    if (cost !== null) setText(document.querySelector("[data-cost]"), cost);
  });
  live.addEventListener("htmx:response:error", ({ detail: { ctx } }) => {
    const { headers, status } = ctx.response;
    tookOutage(headers);
    if (isOurs(ctx.response) && (headers.get("Content-Type") ?? "").startsWith("text/plain")) {
      failed(ctx.text.slice(0, MAX_MESSAGE), status);
    } else if ([401, 403].includes(status)) signedOut();
    else failed(`The server responded with status ${status}.`, status);
  });
  live.addEventListener("htmx:error", () => {
    down = null; // no longer known
    failed("Cannot reach Queuedeck.");
  });
  live.addEventListener("htmx:after:swap", () => document.dispatchEvent(new CustomEvent("queuedeck:updated")));
  live.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
    if (ctx !== current) return; // a newer request replaced it
    current = null;
    schedule();
    show();
  });

  window.queuedeck.refresh = refresh;
  window.queuedeck.pause = () => {
    paused = !paused;
    if (paused) schedule();
    else refresh();
    show();
  };

  button.addEventListener("click", window.queuedeck.pause);
  banner.querySelector("[data-retry]").addEventListener("click", refresh);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) clearTimeout(timer);
    else if (!paused || failures) refresh();
    show();
  });
  window.addEventListener("online", () => failures && refresh());
  window.addEventListener("pageshow", (event) => event.persisted && refresh());
  if (document.body.dataset.down) tookOutage(new Headers({ "Queuedeck-Down": document.body.dataset.down }));
  if (document.body.dataset.age) takenAt = Date.now() - Number(document.body.dataset.age) * 1000;
  setInterval(() => {
    revive();
    if (!document.hidden) show();
  }, 1000);
  schedule();
  show();
})();
