// The form of a rule: lets thresholds be dragged on the graph, and moved with the keyboard.
(() => {
  "use strict";
  const PAGE_STEPS = 10;
  const MARGIN = 8; // of a label, from the edges
  const REACH = 7; // pixels from a line that still count as on it
  const DRAGGED_ON = ".chart svg.levels.large"; // that of the last week shows thresholds too, which are not dragged there
  const NAMES = {
    s: [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]], // combined: 1 h 30 m
    bytes: [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024], ["B", 1]],
  };
  const form = document.getElementById("editor");
  const draft = document.getElementById("draft");
  const redraft = document.getElementById("redraft");
  const field = (name) => form.elements[name];
  let dragged = null;

  const tidy = (number) => String(Number(number.toPrecision(12)));
  const write = (value, unit) => {
    if (unit === "ratio") return `${tidy(value * 100)}%`;
    const names = NAMES[unit];
    if (!names) return tidy(value);
    if (unit === "s" && value >= 60 && Number.isInteger(value)) {
      const parts = names.map(([name, size], at) => [Math.floor((at ? value % names[at - 1][1] : value) / size), name]);
      return parts.filter(([count]) => count).map(([count, name]) => `${count} ${name}`).join(" ");
    }
    const [name, size] = (value && names.find(([, worth]) => value % worth === 0)) || names.at(-1);
    return `${tidy(value / size)} ${name}`;
  };

  const scaleOf = (handle) => {
    const { top, step, unit } = handle.closest(".chart").dataset;
    const height = handle.ownerSVGElement.height.baseVal.value;
    return { top: Number(top), step: Number(step), unit, height, perValue: (height - 2) / Number(top) };
  };

  // Readable, on the scale, and on its own side of the other threshold.
  const snap = (handle, value) => {
    const { top, step } = scaleOf(handle);
    let low = 0;
    let high = top;
    const other = [...handle.ownerSVGElement.querySelectorAll("[data-value]")].find((each) => each !== handle);
    if (other) {
      const upwards = field("op").value.startsWith("g");
      const limit = Number(other.dataset.value);
      if ((handle.dataset.level === "critical") === upwards) low = (Math.floor(limit / step) + 1) * step;
      else high = (Math.ceil(limit / step) - 1) * step;
    }
    const readable = Math.round(Math.max(low, Math.min(high, value)) / step) * step;
    return Number(tidy(Math.max(0, readable)));
  };

  const lineOf = (handle) => {
    const plot = handle.closest(".chart").querySelector(".levels");
    const known = plot.querySelector(`path.${handle.dataset.level}`);
    if (known) return known;
    const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
    made.setAttribute("class", handle.dataset.level);
    plot.append(made);
    return made;
  };

  const moveTo = (handle, wanted) => {
    const { unit, height, perValue } = scaleOf(handle);
    const value = snap(handle, wanted);
    const words = write(value, unit);
    const y = Math.round(height - 1 - value * perValue);
    const at = Math.min(height - MARGIN, Math.max(MARGIN, y));
    handle.classList.remove("unset");
    handle.dataset.value = String(value);
    handle.dataset.y = String(y);
    handle.setAttribute("aria-valuenow", String(value));
    handle.setAttribute("aria-valuetext", words);
    handle.querySelector("rect").setAttribute("y", String(at - 12));
    handle.querySelector("path").setAttribute("d", `M1 ${y}L9 ${at - 5}V${at + 5}z`);
    handle.querySelector("text").setAttribute("y", String(at + 4));
    handle.querySelector("text").textContent = `${handle.dataset.level} ${words}`;
    lineOf(handle).setAttribute("d", `M0 ${y}H640`);
    field(handle.dataset.level).value = words;
  };

  // The form follows the field, as if it had been typed.
  const changed = (handle) => {
    field(handle.dataset.level).dispatchEvent(new Event("input", { bubbles: true }));
  };

  const handleOf = (target) => target.closest?.(".handles.script [data-level]") ?? null;

  // The handle of the line under the pointer. A finger scrolls there, it drags only the handle itself.
  const handleNear = ({ target, clientY, pointerType }) => {
    const plot = target.closest?.(DRAGGED_ON);
    if (!plot || pointerType === "touch") return null;
    const y = clientY - plot.getBoundingClientRect().top;
    const near = [...plot.closest(".chart").querySelectorAll(".handles.script [data-value]")];
    return near.find((handle) => Math.abs(Number(handle.dataset.y) - y) <= REACH) ?? null;
  };

  draft.addEventListener("pointerdown", (event) => {
    const handle = handleOf(event.target) ?? handleNear(event);
    if (!handle || event.button !== 0) return;
    event.preventDefault();
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
    dragged = { handle, pointer: event.pointerId, from: event.clientY, y: Number(handle.dataset.y) };
  });
  draft.addEventListener("pointermove", (event) => {
    if (!dragged) event.target.closest?.(DRAGGED_ON)?.classList.toggle("near", Boolean(handleNear(event)));
    if (event.pointerId !== dragged?.pointer || event.clientY === dragged.from) return;
    const { height, perValue } = scaleOf(dragged.handle);
    moveTo(dragged.handle, (height - 1 - (dragged.y + event.clientY - dragged.from)) / perValue);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    draft.addEventListener(end, (event) => {
      if (event.pointerId !== dragged?.pointer) return;
      changed(dragged.handle);
      dragged = null;
    });
  }
  redraft.addEventListener("htmx:before:swap", (event) => {
    if (dragged) event.preventDefault(); // the graph must not change under the pointer
  });

  draft.addEventListener("keydown", (event) => {
    const handle = handleOf(event.target);
    if (!handle) return;
    const { top, step } = scaleOf(handle);
    const now = handle.dataset.value === undefined ? top : Number(handle.dataset.value);
    const wanted = {
      ArrowUp: now + step, ArrowRight: now + step, ArrowDown: now - step, ArrowLeft: now - step,
      PageUp: now + PAGE_STEPS * step, PageDown: now - PAGE_STEPS * step, Home: 0, End: top,
    }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    moveTo(handle, wanted);
    changed(handle);
  });
})();
