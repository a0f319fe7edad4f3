// Marks of the charts: lines where something was deployed, or an alert fired or resolved; their labels next to the
// crosshair; and a list of them that follows the charts.
(() => {
  "use strict";
  const NEAR = 6; // CSS pixels
  const MOST_LABELS = 3;
  const DASHES = { mark: [], firing: [6, 3], resolved: [2, 3] }; // no two kinds differ only in color

  const clock = (seconds) => {
    const timeZone = document.documentElement.dataset.zone === "local" ? undefined : "UTC";
    return new Intl.DateTimeFormat("en-GB", { timeZone, hour: "2-digit", minute: "2-digit" }).format(seconds * 1000);
  };

  const draw = (plot, marks, colorOf) => {
    const { ctx, bbox } = plot;
    for (const mark of marks) {
      const x = Math.round(plot.valToPos(mark.at_s, "x", true));
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = colorOf(mark.tone);
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash(DASHES[mark.kind].map((length) => length * devicePixelRatio));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (mark.kind === "mark") {
        const size = 4 * devicePixelRatio;
        ctx.beginPath();
        ctx.moveTo(x - size, bbox.top);
        ctx.lineTo(x + size, bbox.top);
        ctx.lineTo(x, bbox.top + 1.5 * size);
        ctx.fill();
      }
      ctx.restore();
    }
  };

  const nearby = (plot, marks) => {
    const { left } = plot.cursor;
    if (left === null || left < 0) return [];
    const [first, second] = plot.data[0];
    const slot = second === undefined ? 0 : plot.valToPos(second, "x") - plot.valToPos(first, "x");
    return marks.filter((mark) => Math.abs(plot.valToPos(mark.at_s, "x") - left) <= Math.max(NEAR, slot / 2));
  };

  // Shows what is marked at the crosshair, in the chart that has the pointer or the focus; returns its text.
  const show = (plot, marks) => {
    const figure = plot.root.closest("figure");
    const found = figure.matches(":hover, :focus-within") ? nearby(plot, marks) : [];
    const label = plot.over.querySelector(".mark-label") ?? plot.over.appendChild(document.createElement("div"));
    const lines = found.slice(0, MOST_LABELS).map((mark) => `${clock(mark.at_s)} ${mark.label}`);
    if (found.length > lines.length) lines.push(`and ${found.length - lines.length} more`);
    // On the other side, where it does not hide what is read.
    label.className = `mark-label ${plot.cursor.left > plot.over.clientWidth / 2 ? "is-left" : "is-right"}`;
    label.hidden = !lines.length;
    label.textContent = lines.join("\n");
    return lines.join(", ");
  };

  // The time of the next mark after the crosshair, or of the one before it; undefined if there is none.
  const next = (plot, marks, isForward) => {
    const at = plot.cursor.left >= 0 ? plot.posToVal(plot.cursor.left, "x") : isForward ? -Infinity : Infinity;
    const step = plot.data[0].length > 1 ? (plot.data[0][1] - plot.data[0][0]) / 2 : 0;
    const times = marks.map((mark) => mark.at_s).filter((time) => (isForward ? time > at + step : time < at - step));
    return times.length ? (isForward ? Math.min(...times) : Math.max(...times)) : undefined;
  };

  // The list is as new as the page, and read again when the charts know other marks: already the first figures can be
  // newer than the page. What fails is read again with the next figures. An open form, or what has the focus, stays.
  const follow = (digest) => {
    const list = document.getElementById("marks");
    const isUsed = () => list.querySelector("details[open]") || list.contains(document.activeElement);
    if (!list || digest === list.dataset.digest || isUsed()) return;
    const request = new XMLHttpRequest();
    request.open("GET", location.href);
    request.responseType = "document";
    request.onload = () => {
      const newer = request.response?.getElementById("marks");
      if (newer && list.isConnected && !isUsed()) {
        list.replaceWith(document.adoptNode(newer));
        document.dispatchEvent(new CustomEvent("queuedeck:updated"));
      }
    };
    request.send();
  };

  Object.assign(window.queuedeck, { marks: { draw, show, next, follow } });
})();
