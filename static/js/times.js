// Times: relative where the page asks for it, absolute on hover, in UTC or the local time zone.
(() => {
  "use strict";
  const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const THIN = "\u202f";
  let offsetMs = 0; // the server's clock minus ours

  const pad = (number) => String(number).padStart(2, "0");

  const absolute = (date) => {
    const local = window.queuedeck.get("zone") === "local";
    const shifted = local ? new Date(date.getTime() - date.getTimezoneOffset() * 60000) : date;
    return shifted.toISOString().slice(0, 19).replace("T", " ");
  };

  const zone = (date) => {
    if (window.queuedeck.get("zone") !== "local") return "UTC";
    const minutes = -date.getTimezoneOffset();
    const size = Math.abs(minutes);
    return `UTC${minutes < 0 ? "−" : "+"}${pad(Math.floor(size / 60))}:${pad(size % 60)}`;
  };

  const weekday = (date) => {
    const timeZone = window.queuedeck.get("zone") === "local" ? undefined : "UTC";
    return date.toLocaleDateString("en", { weekday: "short", timeZone });
  };

  const span = (seconds) => {
    for (const [index, [unit, factor]] of UNITS.entries()) {
      if (seconds < factor) continue;
      const whole = Math.floor(seconds / factor);
      const [small, part] = UNITS[index + 1] ?? [];
      const rest = small && whole < 10 && unit !== "m" ? Math.floor((seconds % factor) / part) : 0;
      return `${whole}${THIN}${unit}` + (rest ? ` ${rest}${THIN}${small}` : "");
    }
    return "";
  };

  const relative = (date) => {
    const seconds = Math.round((Date.now() + offsetMs - date.getTime()) / 1000);
    if (seconds === 0) return "now";
    return seconds > 0 ? `${span(seconds)} ago` : `in ${span(-seconds)}`;
  };

  const show = (element) => {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) return;
    const exact = absolute(date);
    const full = "day" in element.dataset ? `${weekday(date)} ${exact} ${zone(date)}` : exact;
    const text = "rel" in element.dataset ? relative(date) : full;
    const title = "rel" in element.dataset ? `${exact} ${zone(date)}` : `${relative(date)}, ${zone(date)}`;
    if (element.textContent !== text) element.textContent = text;
    if (element.title !== title) element.title = title;
  };

  const showAll = () => {
    for (const element of document.querySelectorAll("time[datetime]")) show(element);
  };

  // `sampledAt` by the server's clock, and its age when the server responded, both in seconds.
  window.queuedeck.setClock = (sampledAt, age) => {
    const now = (Number(sampledAt) + Number(age)) * 1000;
    if (Number.isFinite(now) && now > 0) offsetMs = now - Date.now();
  };

  window.queuedeck.now = () => Date.now() + offsetMs;
  window.queuedeck.showTimes = showAll;
  window.queuedeck.clock = (date) => `${absolute(date).slice(11)} ${zone(date)}`;
  window.queuedeck.setClock(document.body.dataset.sampledAt, document.body.dataset.age);
  document.addEventListener("queuedeck:updated", showAll);
  document.addEventListener("queuedeck:prefs", showAll);
  document.addEventListener("visibilitychange", () => document.hidden || showAll());
  setInterval(() => document.hidden || showAll(), 1000);
  showAll();
})();
