// The form of a rule: explains the chosen metric, makes the id from the name, refreshes the preview, and lets thresholds be
// dragged on the graph.
(() => {
  "use strict";
  const WAIT_MS = 350;
  const PAGE_STEPS = 10;
  const MAX_ID = 56;
  const MARGIN = 8; // of a label, from the edges
  const REACH = 7; // pixels from a line that still count as on it
  const NAMES = {
    s: [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]], // combined: 1 h 30 m
    bytes: [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 1024], ["B", 1]],
  };
  const form = document.getElementById("editor");
  const draft = document.getElementById("draft");
  const redraft = document.getElementById("redraft");
  const status = document.querySelector("[data-draft-status]");
  const field = (name) => form.elements[name];
  let timer = 0;
  let dragged = null;

  // The preview. It replaces one that is still being read.
  const refresh = (waitMs = WAIT_MS) => {
    clearTimeout(timer);
    timer = setTimeout(() => htmx.trigger(redraft, "redraft"), waitMs);
  };

  const setError = (name, text) => {
    const control = field(name);
    const first = control instanceof RadioNodeList ? control[0] : control;
    const row = first?.closest(".row");
    let shown = document.getElementById(`wrong-${name}`);
    if (!text) {
      shown?.remove();
      first?.removeAttribute("aria-invalid");
      first?.removeAttribute("aria-describedby");
      return;
    }
    if (!row) return;
    if (!shown) {
      shown = document.createElement("em");
      shown.className = "wrong";
      shown.id = `wrong-${name}`;
      row.append(shown);
    }
    if (shown.textContent !== text) shown.textContent = text;
    first.setAttribute("aria-invalid", "true");
    first.setAttribute("aria-describedby", shown.id);
    const folded = row.closest("details");
    if (folded) folded.open = true;
  };

  // The texts that came with the preview, at their fields.
  const place = () => {
    const notes = document.getElementById("field-notes");
    if (!notes) return;
    const errors = new Map();
    const meanings = new Map();
    for (const { dataset } of notes.children) {
      if (dataset.error !== undefined) errors.set(dataset.field, dataset.error);
      else meanings.set(dataset.field, dataset.meaning);
    }
    for (const name of new Set([...form.elements].map((control) => control.name).filter(Boolean))) {
      setError(name, errors.get(name));
    }
    for (const output of form.querySelectorAll("output[data-meaning]")) {
      output.textContent = meanings.get(output.dataset.meaning) ?? "";
    }
    if (field("id") && notes.dataset.suggested) field("id").placeholder = notes.dataset.suggested;
  };

  redraft.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
    const failed = !ctx.response || ctx.response.status >= 400;
    draft.classList.toggle("old", failed);
    status.textContent = failed ? "The preview could not be refreshed." : "Not saved yet.";
    if (!failed) place();
  });

  // An id as the server makes it, which also looks whether it is taken.
  const slug = (name) => {
    const plain = name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
    return plain.split(/[^a-z0-9]+/).filter(Boolean).join("-").slice(0, MAX_ID);
  };

  const explain = () => {
    const { dataset, value } = field("metric").selectedOptions[0];
    form.querySelector("[data-meaning-shown]").textContent = dataset.meaning;
    form.querySelector("[data-metric]").textContent = value;
    for (const unit of form.querySelectorAll("small[data-measure]")) unit.textContent = dataset.measure;
    for (const name of ["warning", "critical"]) field(name).placeholder = dataset[name] ? `such as ${dataset[name]}` : "";
    if (dataset.op && !field("warning").value && !field("critical").value) field("op").value = dataset.op;
  };

  form.addEventListener("input", ({ target }) => {
    if (target.name === "name" && field("id")) field("id").placeholder = slug(target.value);
    if (target.name === "metric") explain();
    refresh();
  });

  // Thresholds on the graph.
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

  const handleOf = (target) => target.closest?.(".handles.script [data-level]") ?? null;

  // The handle of the line under the pointer. A finger scrolls there, it drags only the handle itself.
  const handleNear = ({ target, clientY, pointerType }) => {
    const plot = target.closest?.("svg.levels");
    if (!plot || pointerType === "touch") return null;
    const y = clientY - plot.getBoundingClientRect().top;
    const near = [...plot.closest(".chart").querySelectorAll(".handles.script [data-value]")];
    return near.find((handle) => Math.abs(Number(handle.dataset.y) - y) <= REACH) ?? null;
  };

  draft.addEventListener("pointerdown", (event) => {
    const handle = handleOf(event.target) ?? handleNear(event);
    if (!handle || event.button !== 0) return;
    event.preventDefault();
    clearTimeout(timer);
    handle.focus({ preventScroll: true });
    handle.setPointerCapture(event.pointerId);
    dragged = { handle, pointer: event.pointerId, from: event.clientY, y: Number(handle.dataset.y) };
  });
  draft.addEventListener("pointermove", (event) => {
    if (!dragged) event.target.closest?.("svg.levels")?.classList.toggle("near", Boolean(handleNear(event)));
    if (event.pointerId !== dragged?.pointer || event.clientY === dragged.from) return;
    const { height, perValue } = scaleOf(dragged.handle);
    moveTo(dragged.handle, (height - 1 - (dragged.y + event.clientY - dragged.from)) / perValue);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    draft.addEventListener(end, (event) => {
      if (event.pointerId !== dragged?.pointer) return;
      dragged = null;
      refresh(0);
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
    refresh();
  });
})();
