// Firing alerts: the banner, the icon and title of the tab, and, if enabled, browser notifications of new incidents.
(() => {
  "use strict";
  const AWAY_MS = 15000; // interval of a hidden tab, or of a page without live updates
  const MAX_SINGLE = 3;
  const MAX_SEEN = 300;
  const banner = document.getElementById("firing");
  const icon = document.querySelector("link[rel=icon]");
  const live = document.getElementById("live");
  const title = document.title;
  window.queuedeck.title = title; // without a count: a hidden tab gets one before the next script runs
  let shown = banner?.dataset.firing ?? "";

  // Level, count, how many of them are acknowledged or silenced, a mark of the open ones, and a text about the worst.
  const read = (text) => {
    const [level = "none", count = "0", handled = "0", mark = "-", words = ""] = text.split(" ");
    return { level, count: Number(count), handled: Number(handled), mark, words: decodeURIComponent(words) };
  };

  const open = () => {
    const { count, handled } = read(shown);
    return count - handled;
  };

  const line = ({ level, count, handled, words }) => {
    if (count === handled) return `${count} ${count === 1 ? "alert" : "alerts"} firing, all acknowledged or silenced`;
    const rest = count - 1;
    const more = rest ? `, and ${rest} more firing` : "";
    return `${level}: ${words}${more}${handled ? ` (${handled} acknowledged or silenced)` : ""}`;
  };

  const show = () => {
    const now = read(shown);
    banner.className = `banner firing ${now.level}${now.count && now.count === now.handled ? " handled" : ""}`;
    banner.hidden = !now.count;
    banner.querySelector("[data-firing-text]").textContent = now.count ? line(now) : "";
    const href = (open() && icon.dataset[now.level]) || icon.dataset.calm;
    if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
    if (!live || document.hidden) document.title = (open() ? `(${open()}) ` : "") + title;
  };

  const take = (headers) => {
    const text = headers.get("Queuedeck-Firing");
    if (text === null || text === shown) return;
    const before = read(shown).mark;
    shown = text;
    show();
    if (read(text).mark !== before) tellNew();
  };

  window.queuedeck.firing = () => (banner ? open() : 0);
  if (!banner) return; // not signed in

  const ask = async () => {
    try {
      const answer = await fetch(banner.dataset.url, { headers: { "HX-Request": "true" } });
      if (answer.ok) take(answer.headers);
    } catch {
      // the next request tries again
    }
  };
  live?.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    if (ctx.response && ctx.response.status < 400) take(ctx.response.headers);
  });
  setInterval(() => (document.hidden || !live) && ask(), AWAY_MS);

  // Notifications. If storage is blocked, this page remembers in memory what it has already shown.
  const button = document.querySelector("[data-notify]");
  const said = document.querySelector("[data-notify-status]");
  const memory = new Map();
  const recall = (key) => {
    try {
      return localStorage.getItem(`queuedeck.${key}`);
    } catch {
      return memory.get(key) ?? null;
    }
  };
  const remember = (key, value) => {
    memory.set(key, value);
    try {
      localStorage.setItem(`queuedeck.${key}`, value);
    } catch {
      // blocked storage: memory only
    }
  };
  const able = "Notification" in window && window.isSecureContext;
  const wanted = () => able && Notification.permission === "granted" && recall("notify") === "on";
  const seen = () => {
    try {
      return new Set(JSON.parse(recall("notified") ?? "[]"));
    } catch {
      return new Set();
    }
  };

  const place = (labels) => labels.job_class ?? labels.title ?? labels.queue ?? labels.backend ?? labels.source ?? labels.channel ?? "";
  const notify = (heading, body, tag) => {
    try {
      const note = new Notification(heading, { body, tag, icon: icon.dataset.critical });
      note.addEventListener("click", () => {
        window.focus();
        location.assign(banner.querySelector("a").href);
      });
    } catch {
      said.textContent = "This browser cannot show notifications from a page.";
    }
  };

  const openAlerts = async () => {
    const answer = await fetch(banner.dataset.alerts);
    const { alerts } = answer.ok ? await answer.json() : { alerts: [] };
    return alerts.filter((alert) => alert.episode && !alert.acknowledged_by && !alert.silenced_until);
  };

  // Every open tab does this. Stored episodes keep one tab from repeating another's; the tag merges simultaneous notifications.
  const tellNew = async ({ silently = false } = {}) => {
    if (!wanted()) return;
    let alerts;
    try {
      alerts = await openAlerts();
    } catch {
      return;
    }
    const known = seen();
    const fresh = alerts.filter((alert) => !known.has(alert.episode));
    if (!fresh.length) return;
    remember("notified", JSON.stringify([...known, ...fresh.map((alert) => alert.episode)].slice(-MAX_SEEN)));
    if (silently) return;
    if (fresh.length > MAX_SINGLE) {
      notify(`${fresh.length} new alerts`, fresh.slice(0, MAX_SINGLE).map((alert) => alert.name).join(", "), fresh[0].episode);
      return;
    }
    for (const alert of fresh) notify(`${alert.severity}: ${alert.name}`, place(alert.labels), alert.episode);
  };

  const showButton = () => {
    if (!button) return;
    button.hidden = !able || Notification.permission === "denied";
    button.textContent = wanted() ? "Disable browser notifications" : "Enable browser notifications";
    button.setAttribute("aria-pressed", String(wanted()));
    if (!able) said.textContent = "Browser notifications need HTTPS or localhost.";
    else if (Notification.permission === "denied") said.textContent = "This browser blocks notifications from this page. Allow them in its site settings.";
    else said.textContent = wanted() ? "New alerts are shown while a Queuedeck tab is open." : "";
  };

  button?.addEventListener("click", async () => {
    if (wanted()) remember("notify", "off");
    else if ((await Notification.requestPermission()) === "granted") {
      remember("notify", "on");
      await tellNew({ silently: true }); // alerts that already fire are not new
    }
    showButton();
  });

  showButton();
  show();
  if (read(shown).count) tellNew();
})();
