// Figures, moments and axes of charts as text: the same words as on the other pages.
(() => {
  "use strict";
  const powers = (base, factors, count) => Array.from({ length: count }, (_, power) => factors.map((one) => one * base ** power)).flat();
  const WHOLE = powers(10, [1, 2, 5], 13);
  const SIZES = powers(2, [1], 50);
  const DURATIONS = [
    ...powers(10, [0.001, 0.002, 0.005], 3),
    ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200],
    ...powers(10, [86400, 172800, 432000], 5),
  ];
  const INCREMENTS = { s: DURATIONS, bytes: SIZES, jobs: WHOLE, workers: WHOLE, clients: WHOLE, keys: WHOLE };

  const shorten = (value) => {
    for (const [name, factor] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (Math.abs(value) >= factor) return `${Number((value / factor).toPrecision(3))}${name}`;
    }
    return `${Number(value.toPrecision(3))}`;
  };
  const span = (value) => {
    if (!value) return "0 s";
    if (value > 0 && value < 0.0001) return "<0.1 ms"; // the lowest bucket of run times
    if (value < 1) return `${Number((value * 1000).toPrecision(3))} ms`;
    for (const [name, factor] of [["d", 86400], ["h", 3600], ["m", 60]]) {
      if (value >= factor) return `${Number((value / factor).toPrecision(3))} ${name}`;
    }
    return `${Number(value.toPrecision(3))} s`;
  };
  const bytes = (value) => {
    for (const [name, factor] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
      if (value >= factor) return `${Number((value / factor).toPrecision(3))} ${name}`;
    }
    return `${Math.round(value)} B`;
  };
  const formats = { s: span, bytes, ratio: (value) => `${Number((value * 100).toPrecision(3))}%` };

  // How to write the values of a unit; a dash for those that are not known.
  const format = (unit) => {
    const known = formats[unit] ?? shorten;
    return (value) => (value === null || value === undefined ? "–" : known(value));
  };

  const isUtc = () => document.documentElement.dataset.zone !== "local";
  const clockOf = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: isUtc() ? "UTC" : undefined, ...options });
  const HOUR = { hour: "2-digit", minute: "2-digit" };
  const DAY = { day: "numeric", month: "short" };

  // Hours and minutes, and the day where it begins: short, and never in a 12-hour clock.
  const timeLabels = (_, ticks) => {
    const [clock, day] = [clockOf(HOUR), clockOf(DAY)];
    let shown = "";
    return ticks.map((tick) => {
      const date = day.format(tick * 1000);
      const time = clock.format(tick * 1000);
      const isNew = date !== shown;
      shown = date;
      if (time === "00:00") return date;
      return isNew ? `${time}\n${date}` : time;
    });
  };

  // The beginning of a slot, with seconds only where slots are shorter than a minute.
  const moment = (at, stepS) =>
    clockOf({ ...DAY, ...HOUR, ...(stepS < 60 ? { second: "2-digit" } : {}) }).format(at * 1000) + (isUtc() ? " UTC" : "");

  window.queuedeck.charts = { format, increments: (unit) => INCREMENTS[unit], isUtc, moment, timeLabels };
})();
