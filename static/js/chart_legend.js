// Legends of charts: the values under the crosshair, otherwise the newest; a line is hidden and shown by its button.
(() => {
  "use strict";
  const { format, moment } = window.queuedeck.charts;

  // The newest slot in which something is known.
  const newest = (lines, data) => {
    const count = data.values[lines[0].figure].length;
    for (let slot = count - 1; slot > 0; slot -= 1) {
      if (lines.some((line) => data.values[line.figure][slot] !== null)) return slot;
    }
    return null;
  };

  // Write the values of `slot` into the legend of a figure; those of the newest slot for null.
  const fill = (figure, chart, data, slot) => {
    const value = format(chart.unit);
    const shown = slot ?? newest(chart.lines, data);
    const time = figure.querySelector("[data-legend-time]");
    time.textContent = shown === null ? "–" : moment(data.start_s + shown * data.step_s, data.step_s);
    for (const line of chart.lines) {
      const key = figure.querySelector(`[data-line="${line.figure}"]`);
      const before = data.earlier[line.figure];
      key.querySelector("b").textContent = shown === null ? "–" : value(data.values[line.figure][shown]);
      if (before && shown !== null) key.querySelector("small").textContent = `before: ${value(before[shown])}`;
    }
  };

  // The same as a sentence, for screen readers.
  const sentence = (chart, data, slot) => {
    const value = format(chart.unit);
    const parts = chart.lines.map((line) => `${line.label} ${value(data.values[line.figure][slot])}`);
    return `${moment(data.start_s + slot * data.step_s, data.step_s)}: ${parts.join(", ")}`;
  };

  // Calls `redraw` when the user hides or shows a line.
  const listen = (figure, hidden, redraw) => {
    for (const key of figure.querySelectorAll("[data-line]")) {
      key.addEventListener("click", () => {
        if (!hidden.delete(key.dataset.line)) hidden.add(key.dataset.line);
        key.setAttribute("aria-pressed", String(!hidden.has(key.dataset.line)));
        redraw();
      });
    }
  };

  window.queuedeck.charts.legend = { fill, listen, sentence };
})();
