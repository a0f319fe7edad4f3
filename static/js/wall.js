// The wall board: shows from afar when its figures are old, leads back to the overview, and renews itself after an update.
(() => {
  "use strict";
  const AWAKE_MS = 3000;
  const SIGNED_OUT = 401;
  const alarm = document.getElementById("alarm");
  const leave = document.getElementById("leave");
  const lastSample = document.querySelector("[data-last-sample]");
  let sampledAt = null; // by the server's clock
  let timer = 0;

  const part = (name) => alarm.querySelector(`[data-alarm-${name}]`);
  const setText = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  // Each state: what, for how long in seconds, and what it means.
  const say = {
    down: ({ down }) => [`${down.name} down`, (Date.now() - down.since) / 1000, down.text],
    stale: ({ age }) => ["No data", age, "Queuedeck is responding but not sampling. Check its log and its Redis."],
    lost: ({ age, failure }) => ["No data", age, `${failure} Retrying…`],
    out: ({ age }) => ["Signed out", age, "The figures are out of date. Sign in to continue."],
  };

  const show = ({ detail }) => {
    const state = detail.state === "lost" && detail.status === SIGNED_OUT ? "out" : detail.state;
    document.body.dataset.state = detail.state;
    alarm.hidden = !(state in say);
    if (alarm.hidden) return;
    const [what, seconds, text] = say[state](detail);
    setText(part("what"), what);
    setText(part("age"), seconds === null ? "" : `for ${detail.words(seconds)}`);
    setText(part("text"), text);
    part("sign-in").hidden = state !== "out";
  };

  const showSample = () => {
    const date = new Date(sampledAt * 1000);
    if (sampledAt && !Number.isNaN(date.getTime())) setText(lastSample, `last sample ${window.queuedeck.clock(date)}`);
  };

  const takeSample = (text) => {
    sampledAt = Number.parseFloat(text) || sampledAt;
    showSample();
  };

  // A board that runs for weeks would otherwise show the fragments of a new version with the scripts of an old one.
  const renew = () => {
    const build = document.getElementById("board")?.dataset.build;
    if (build && build !== document.body.dataset.build) location.reload();
  };

  const wake = () => {
    document.body.classList.add("awake");
    clearTimeout(timer);
    timer = setTimeout(() => document.body.classList.remove("awake"), AWAKE_MS);
  };

  document.addEventListener("queuedeck:state", show);
  document.addEventListener("queuedeck:updated", renew);
  document.addEventListener("queuedeck:prefs", showSample);
  document.getElementById("live").addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    if (ctx.response && ctx.response.status < 400) takeSample(ctx.response.headers.get("Queuedeck-Sampled-At"));
  });
  document.addEventListener("pointermove", wake, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") location.assign(leave.href);
    else if (event.key === "t") window.queuedeck.cycle("theme");
    else if (event.key === "u") window.queuedeck.cycle("zone");
  });
  takeSample(document.body.dataset.sampledAt);
})();
