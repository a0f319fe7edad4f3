// Charts of the history: draws each figure of the page with uPlot, keeps their crosshairs together, zooms into what is
// dragged over, and asks for the newest slots while the page is visible.
(() => {
  "use strict";
  const LEAST_WAIT_MS = 10000;
  const MOST_WAIT_MS = 60000;
  const LEAST_ZOOM_S = 60;
  const LEAST_RATIO = 0.05; // an axis up to 100% would hide the first errors, one without a limit would exaggerate them
  const { format, increments, isUtc, join, legend, moment, read, timeLabels } = window.queuedeck.charts;

  // Draws the figures in `root`; returns the function that asks for newer slots at once.
  window.queuedeck.startCharts = (root) => {
    const status = document.querySelector("[data-chart-status]");
    const said = root.querySelector("[data-chart-said]");
    const empty = document.querySelector("[data-chart-empty]");
    const figures = [...root.querySelectorAll("figure.history-chart")];
    const charts = new Map(figures.map((figure) => [figure, JSON.parse(figure.dataset.chart)]));
    const hidden = new Map(figures.map((figure) => [figure, new Set()])); // names of lines
    const plots = new Map(); // figure -> uPlot
    const sync = uPlot.sync("charts");
    const logarithmic = new Set(); // ids of charts
    let data = null;
    let timer = 0;
    let asked = 0; // how often figures were asked for: what comes after newer ones is dropped
    let edge = null; // the time at which a zoom by keyboard begins
    let kept = null; // the chart and the time last chosen by keyboard: each refresh puts the crosshair back there

    const colorOf = (tone) => getComputedStyle(root.querySelector(`i[data-tone="${tone}"]`)).color;
    // A canvas knows no color-mix(); the colors of the page are oklch(…).
    const faded = (color, alpha) => (color.startsWith("oklch(") ? color.replace(")", ` / ${alpha})`) : color);
    const times = () => Array.from(data.values[Object.keys(data.values)[0]], (_, slot) => data.start_s + slot * data.step_s);

    const { marks } = window.queuedeck;
    const drawMarks = (plot) => marks.draw(plot, data.marks ?? [], colorOf);

    // The range before stays in the address: the page has a link back to it.
    const openRange = (from, to) => {
      const url = new URL(root.dataset.page ?? location.href, location.href);
      url.searchParams.delete("said"); // the range stays: a button leads back to it
      url.searchParams.set("from", Math.round(from));
      url.searchParams.set("to", Math.round(Math.max(to, from + LEAST_ZOOM_S)));
      location.assign(url);
    };
    const zoom = (plot) => {
      const { left, width } = plot.select;
      if (width >= 4) openRange(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
    };

    const seriesOf = (line, isEarlier) => {
      const color = colorOf(line.tone);
      const bars = line.stacked && !isEarlier;
      return {
        stroke: color,
        width: isEarlier ? 1 : bars ? 0 : 1.5,
        alpha: isEarlier ? 0.5 : 1,
        dash: isEarlier ? [3, 3] : undefined,
        fill: bars ? faded(color, line.tone === "critical" ? 1 : 0.5) : line.area && !isEarlier ? faded(color, 0.12) : undefined,
        paths: bars ? uPlot.paths.bars({ size: [1, Infinity], gap: 0, align: 1 }) : undefined,
        points: { show: false },
        spanGaps: false,
      };
    };

    // The lines to draw, the most important last and so on top. One that is 0 throughout would only color the axis.
    const linesOf = (figure) => {
      const { lines } = charts.get(figure);
      const known = lines.filter((line) => data.values[line.figure].some((value) => value !== null));
      const nonzero = known.filter((line) => data.values[line.figure].some(Boolean) || data.earlier[line.figure]?.some(Boolean));
      const shown = (nonzero.length ? nonzero : known.slice(0, 1)).filter((line) => !hidden.get(figure).has(line.figure));
      return [...shown.filter((line) => line.stacked), ...shown.filter((line) => !line.stacked).reverse()];
    };

    const columns = (figure, lines) => {
      const isLog = logarithmic.has(charts.get(figure).id); // on which 0 has no place
      const values = (of) => (isLog ? of.map((value) => value || null) : of);
      const earlier = lines.filter((line) => data.earlier[line.figure]);
      return [times(), ...earlier.map((line) => values(data.earlier[line.figure])), ...lines.map((line) => values(data.values[line.figure]))];
    };

    const topOf = (unit) => (_, __, most) => [0, Math.max(most * 1.1, unit === "ratio" ? LEAST_RATIO : 0) || 1];

    const optionsOf = (figure, lines, box) => {
      const chart = charts.get(figure);
      const value = format(chart.unit);
      const axis = { stroke: colorOf("text"), grid: { stroke: colorOf("line"), width: 1 }, ticks: { show: false } };
      const labels = (_, ticks) => ticks.map((tick) => (tick === null ? "" : value(tick)));
      return {
        width: box.clientWidth,
        height: box.clientHeight,
        padding: [10, 20, 0, 0],
        tzDate: (at) => (isUtc() ? uPlot.tzDate(new Date(at * 1000), "Etc/UTC") : new Date(at * 1000)),
        cursor: { y: false, sync: { key: sync.key }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
        legend: { show: false },
        scales: {
          x: { time: true, range: () => [data.start_s, data.end_s] },
          y: logarithmic.has(chart.id) ? { distr: 3 } : { range: topOf(chart.unit) },
        },
        axes: [
          { ...axis, values: timeLabels, space: 70, gap: 4, size: (_, shown) => (shown?.some((one) => one.includes("\n")) ? 38 : 22) },
          { ...axis, size: 62, incrs: increments(chart.unit), values: labels },
        ],
        series: [{}, ...lines.filter((line) => data.earlier[line.figure]).map((line) => seriesOf(line, true)), ...lines.map((line) => seriesOf(line, false))],
        hooks: { setSelect: [zoom], draw: [drawMarks], setCursor: [(plot) => marks.show(plot, data.marks ?? []), (plot) => legend.fill(figure, chart, data, plot.cursor.idx ?? null)] },
      };
    };

    const draw = (figure) => {
      const lines = linesOf(figure);
      const isKnown = charts.get(figure).lines.some((line) => data.values[line.figure].some((value) => value !== null));
      figure.querySelector("[data-no-data]").textContent = isKnown ? "" : "Not known in this range.";
      legend.fill(figure, charts.get(figure), data, plots.get(figure)?.cursor.idx ?? null);
      const drawn = lines.map((line) => line.figure).join();
      const about = data.notes?.[charts.get(figure).id] ?? "";
      const line = figure.querySelector("[data-note]");
      if (line.textContent !== about) line.textContent = about;
      line.hidden = !about;
      const old = plots.get(figure);
      if (old?.drawn === drawn) return old.setData(columns(figure, lines));
      old?.destroy();
      plots.delete(figure);
      if (lines.length) {
        const box = figure.querySelector("[data-plot]");
        plots.set(figure, Object.assign(new uPlot(optionsOf(figure, lines, box), columns(figure, lines), box), { drawn }));
      }
      return undefined;
    };

    const drawAll = () => {
      for (const figure of figures) draw(figure);
      // uPlot applies new figures in a microtask: only after it do times have their places.
      queueMicrotask(() => kept && moveCursorTo(kept.figure, Math.max(kept.at, data.start_s)));
    };
    const redraw = () => {
      for (const plot of plots.values()) plot.drawn = null;
      if (data) drawAll();
    };

    const load = async () => {
      clearTimeout(timer);
      asked += 1;
      const turn = asked;
      const url = new URL(root.dataset.url, location.href);
      if (!root.dataset.page) for (const [name, value] of new URL(location.href).searchParams) url.searchParams.set(name, value);
      if (data) url.searchParams.set("since", data.end_s - 2 * data.step_s);
      let isDone = true;
      try {
        const newer = await read(url);
        if (turn !== asked) return;
        data = join(data, newer);
        root.hidden = !Object.values(data.values).flat().some((value) => value !== null);
        empty.hidden = !root.hidden;
        status.hidden = true;
        if (!root.hidden) drawAll();
        marks.follow(data.marks_digest);
      } catch (error) {
        if (turn !== asked) return;
        isDone = false;
        const until = data ? `Charts end at ${moment(data.end_s, data.step_s)}. ` : "";
        const other = `New figures could not be read: ${error.message.replace(/([^.])$/, "$1.")} Trying again every 10 s.`;
        status.querySelector("span").replaceChildren(until, ...(error.isSignedOut ? window.queuedeck.signInAgain() : [other]));
        status.hidden = false;
      }
      plan(isDone);
    };

    const isShown = () => root.isConnected && root.closest("details")?.open !== false;
    const plan = (isDone) => {
      clearTimeout(timer);
      const { searchParams } = new URL(location.href);
      const isOpen = !isDone || root.dataset.page || !(searchParams.get("to") || searchParams.get("at"));
      const waitMs = isDone ? Math.min(MOST_WAIT_MS, (data?.step_s ?? 0) * 1000) : 0;
      if (isOpen && !document.hidden && isShown()) timer = setTimeout(load, Math.max(LEAST_WAIT_MS, waitMs));
    };

    const moveCursorTo = (figure, at) => {
      kept = { figure, at };
      const plot = plots.get(figure);
      plot?.setCursor({ left: plot.valToPos(at, "x"), top: 10 }, true, true);
    };
    const lastSlot = () => Object.values(data.values)[0].length - 1;
    const say = (figure, slot) => {
      const texts = [legend.sentence(charts.get(figure), data, slot), marks.show(plots.get(figure), data.marks ?? [])];
      said.textContent = texts.filter(Boolean).join(". ");
    };
    const moveCursor = (figure, places) => {
      const plot = plots.get(figure);
      if (!plot) return;
      const slot = Math.min(lastSlot(), Math.max(0, (plot.cursor.idx ?? lastSlot() + 1) + places));
      moveCursorTo(figure, plot.data[0][slot]);
      say(figure, slot);
    };

    // Enter marks where a zoom begins, and at another slot zooms.
    const markEdge = (figure) => {
      const at = times()[plots.get(figure)?.cursor.idx ?? -1];
      if (at === undefined) return;
      if (edge !== null && edge !== at) openRange(Math.min(edge, at), Math.max(edge, at) + data.step_s);
      else {
        edge = at;
        said.textContent = `Zoom begins at ${moment(at, data.step_s)}. Move and press Enter again.`;
      }
    };

    const moveToMark = (figure, isForward) => {
      const plot = plots.get(figure);
      const at = plot && marks.next(plot, data.marks, isForward);
      if (at === undefined) return;
      moveCursorTo(figure, at);
      say(figure, plot.cursor.idx ?? lastSlot());
    };

    for (const figure of figures) {
      figure.addEventListener("keydown", (event) => {
        if (event.target !== figure || !data) return;
        if (event.key.toLowerCase() === "m" && !event.ctrlKey && !event.metaKey && !event.altKey) moveToMark(figure, !event.shiftKey);
        const places = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!places && event.key !== "Enter") return;
        event.preventDefault();
        if (places) moveCursor(figure, places * (event.shiftKey ? 10 : 1));
        else markEdge(figure);
      });
      figure.addEventListener("blur", () => {
        if (document.activeElement !== figure) edge = kept = null; // else another window has the focus
      });
      figure.addEventListener("pointermove", () => (kept = null));
      figure.querySelector("[data-log]")?.addEventListener("click", ({ currentTarget }) => {
        const { id } = charts.get(figure);
        if (!logarithmic.delete(id)) logarithmic.add(id);
        currentTarget.setAttribute("aria-pressed", String(logarithmic.has(id)));
        redraw();
      });
      legend.listen(figure, hidden.get(figure), redraw);
    }
    const sizes = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const { clientWidth: width, clientHeight: height } = target;
        plots.get(target.closest("figure"))?.setSize({ width, height });
      }
    });
    for (const figure of figures) sizes.observe(figure.querySelector("[data-plot]"));
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme", "data-zone"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : isShown() && load()));
    load();
    return load;
  };

  for (const root of document.querySelectorAll("#charts")) window.queuedeck.startCharts(root);
})();
