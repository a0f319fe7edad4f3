// Charts of the history: draws each figure of the page with uPlot, keeps their crosshairs together, zooms into what is
// dragged over, and asks for the newest slots while the page is visible.
(() => {
  "use strict";
  const LEAST_WAIT_MS = 10000;
  const HEIGHT = 200;
  const NARROW_HEIGHT = 160;
  const NARROW = 700; // CSS pixels
  const root = document.getElementById("charts");
  if (!root || root.hidden) return;
  const status = root.querySelector("[data-chart-status]");
  const figures = [...root.querySelectorAll("figure.history-chart")];
  const plots = new Map(); // figure -> uPlot
  const sync = uPlot.sync("charts");
  const logarithmic = new Set(); // ids of charts
  let data = null;
  let timer = 0;

  const colorOf = (tone) => getComputedStyle(root.querySelector(`[data-tone="${tone}"]`)).color;
  const isUtc = () => document.documentElement.dataset.zone !== "local";
  const short = (value, unit = "") => {
    const size = Math.abs(value);
    for (const [name, factor] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
      if (size >= factor) return `${Number((value / factor).toPrecision(3))} ${name}${unit}`;
    }
    return `${Number(value.toPrecision(3))}${unit && ` ${unit}`}`;
  };
  const span = (value) => {
    if (!value) return "0 s";
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
  const format = (unit) => {
    const known = formats[unit] ?? ((value) => short(value));
    return (value) => (value === null || value === undefined ? "–" : known(value));
  };

  // A canvas knows no color-mix(); the colors of the page are oklch(…).
  const faded = (color) => (color.startsWith("oklch(") ? color.replace(")", " / 0.5)") : color);
  const times = () => Array.from(data.values[Object.keys(data.values)[0]], (_, slot) => data.start_s + slot * data.step_s);

  const drawMarks = (plot) => {
    const { ctx, bbox } = plot;
    for (const mark of data.marks ?? []) {
      const x = Math.round(plot.valToPos(mark.at_s, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.save();
      ctx.strokeStyle = colorOf(mark.tone);
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.restore();
    }
  };

  const zoom = (plot) => {
    const { left, width } = plot.select;
    if (width < 4) return;
    const [from, to] = [left, left + width].map((x) => Math.round(plot.posToVal(x, "x")));
    const url = new URL(location.href);
    url.searchParams.delete("range");
    url.searchParams.set("from", from);
    url.searchParams.set("to", Math.max(to, from + 60));
    location.assign(url);
  };

  const seriesOf = (line, value, isEarlier) => {
    const color = colorOf(line.tone);
    const bars = line.stacked && !isEarlier;
    return {
      label: isEarlier ? `${line.label}, before` : line.label,
      stroke: color,
      width: isEarlier ? 1 : 1.5,
      alpha: isEarlier ? 0.45 : 1,
      dash: isEarlier ? [3, 3] : undefined,
      fill: bars ? faded(color) : undefined,
      paths: bars ? uPlot.paths.bars({ size: [0.9, 40], align: 1 }) : undefined,
      points: { show: false },
      spanGaps: false,
      value: (_, one) => value(one),
    };
  };

  const linesOf = (chart) => chart.lines.filter((line) => data.values[line.figure].some((value) => value !== null));

  const columns = (chart) => {
    const lines = linesOf(chart);
    const found = [times(), ...lines.map((line) => data.values[line.figure])];
    for (const line of lines) if (data.earlier[line.figure]) found.push(data.earlier[line.figure]);
    return found;
  };

  // Hours and minutes, and the day where it begins: short, and never in a 12-hour clock.
  const timeLabels = (plot, ticks) => {
    const options = { timeZone: isUtc() ? "UTC" : undefined };
    const clock = new Intl.DateTimeFormat("en-GB", { ...options, hour: "2-digit", minute: "2-digit" });
    const day = new Intl.DateTimeFormat("en-GB", { ...options, day: "numeric", month: "short" });
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

  const optionsOf = (chart, width) => {
    const value = format(chart.unit);
    const lines = linesOf(chart);
    const isLog = logarithmic.has(chart.id);
    const axis = { stroke: colorOf("text"), grid: { stroke: colorOf("line"), width: 1 }, ticks: { show: false } };
    return {
      width,
      height: width < NARROW ? NARROW_HEIGHT : HEIGHT,
      tzDate: (at) => (isUtc() ? uPlot.tzDate(new Date(at * 1000), "Etc/UTC") : new Date(at * 1000)),
      cursor: { sync: { key: sync.key }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
      legend: { markers: { width: 2 } },
      scales: {
        x: { time: true, range: () => [data.start_s, data.end_s] },
        y: isLog ? { distr: 3 } : { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] },
      },
      axes: [{ ...axis, values: timeLabels, space: 70 }, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : value(tick))) }],
      series: [
        { label: isUtc() ? "Time (UTC)" : "Time", value: isUtc() ? "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" : undefined },
        ...lines.map((line) => seriesOf(line, value, false)),
        ...lines.filter((line) => data.earlier[line.figure]).map((line) => seriesOf(line, value, true)),
      ],
      hooks: { setSelect: [zoom], draw: [drawMarks] },
    };
  };

  const draw = (figure) => {
    const chart = JSON.parse(figure.dataset.chart);
    const known = columns(chart);
    const old = plots.get(figure);
    figure.querySelector("[data-no-data]").hidden = known.length > 1;
    if (old && old.series.length === known.length && !old.isStale) return old.setData(known);
    old?.destroy();
    plots.delete(figure);
    if (known.length > 1) {
      const plot = new uPlot(optionsOf(chart, figure.clientWidth), known, figure);
      plots.set(figure, plot);
    }
    return undefined;
  };

  const redraw = () => {
    for (const plot of plots.values()) plot.isStale = true;
    for (const figure of figures) draw(figure);
  };

  // The slots that the page has, followed by newer ones: the last of them had not ended.
  const join = (newer) => {
    if (!data || newer.step_s !== data.step_s || newer.start_s <= data.start_s) return newer;
    const dropped = Math.round((newer.end_s - data.end_s) / data.step_s); // the oldest, so that the range keeps its length
    const kept = Math.round((newer.start_s - data.start_s) / data.step_s);
    const joined = (old, added) =>
      Object.fromEntries(Object.entries(added).map(([name, values]) => [name, [...old[name].slice(dropped, kept), ...values]]));
    return {
      ...newer,
      start_s: data.start_s + dropped * data.step_s,
      values: joined(data.values, newer.values),
      earlier: joined(data.earlier, newer.earlier),
    };
  };

  const load = async () => {
    const url = new URL(root.dataset.url, location.href);
    for (const [name, value] of new URL(location.href).searchParams) url.searchParams.set(name, value);
    if (data) url.searchParams.set("since", data.end_s - 2 * data.step_s);
    try {
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error?.message ?? `HTTP ${response.status}`);
      data = join(answer);
      status.textContent = "";
      for (const figure of figures) draw(figure);
    } catch (error) {
      status.textContent = `The charts could not be refreshed: ${error.message}`;
    }
    plan();
  };

  const plan = () => {
    clearTimeout(timer);
    const isOpen = !new URL(location.href).searchParams.get("to");
    if (isOpen && !document.hidden) timer = setTimeout(load, Math.max(LEAST_WAIT_MS, (data?.step_s ?? 0) * 1000));
  };

  const moveCursor = (figure, places) => {
    const plot = plots.get(figure);
    if (!plot) return;
    const last = plot.data[0].length - 1;
    const slot = Math.min(last, Math.max(0, (plot.cursor.idx ?? last + 1) + places));
    plot.setCursor({ left: plot.valToPos(plot.data[0][slot], "x"), top: 10 });
  };

  for (const figure of figures) {
    figure.addEventListener("keydown", (event) => {
      const places = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!places) return;
      event.preventDefault();
      moveCursor(figure, places * (event.shiftKey ? 10 : 1));
    });
    figure.querySelector("[data-log]")?.addEventListener("click", ({ currentTarget }) => {
      const { id } = JSON.parse(figure.dataset.chart);
      if (!logarithmic.delete(id)) logarithmic.add(id);
      currentTarget.setAttribute("aria-pressed", String(logarithmic.has(id)));
      redraw();
    });
  }
  new ResizeObserver(() => {
    for (const [figure, plot] of plots) plot.setSize({ width: figure.clientWidth, height: plot.height });
  }).observe(root);
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme", "data-zone"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : load()));
  load();
})();
