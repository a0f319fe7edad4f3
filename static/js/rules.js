// The form of a rule: explains the chosen metric, makes the id from the name, and refreshes the preview.
(() => {
  "use strict";
  const WAIT_MS = 350;
  const LONG_MS = 1000; // a preview that takes longer is announced to screen readers
  const MAX_ID = 56;
  const form = document.getElementById("editor");
  const draft = document.getElementById("draft");
  const redraft = document.getElementById("redraft");
  const status = document.querySelector("[data-draft-status]");
  const busy = document.querySelector("[data-draft-busy]");
  const LEVELS = ["warning", "critical", "warning_recover", "critical_recover"];
  const field = (name) => form.elements[name];
  let timer = 0;
  let longTimer = 0;
  let current = null; // the request whose response counts

  // Until its preview is there, the one of what was typed before is dimmed and says so.
  const setChecking = (isChecking) => {
    clearTimeout(longTimer);
    draft.classList.toggle("old", isChecking);
    draft.querySelector("h2 .checking")?.remove();
    if (!isChecking) {
      busy.textContent = "";
      return;
    }
    status.textContent = "Checking…";
    longTimer = setTimeout(() => { busy.textContent = "Checking…"; }, LONG_MS);
    const note = document.createElement("small");
    note.className = "checking";
    note.textContent = " Checking…";
    draft.querySelector("h2")?.append(note);
  };

  // The preview. It replaces one that is still being read.
  const refresh = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = 0;
      htmx.trigger(redraft, "redraft");
    }, WAIT_MS);
    setChecking(true);
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

  // What is shown at a field was about what it had before.
  const forget = (names) => {
    for (const name of names) {
      if (field(name)) setError(name, "");
      const output = form.querySelector(`output[data-meaning="${name}"]`);
      if (output) output.textContent = "";
    }
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

  redraft.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
    current = ctx;
  });
  redraft.addEventListener("htmx:finally:request", ({ detail: { ctx } }) => {
    const failed = !ctx.response || ctx.response.status >= 400;
    setChecking(Boolean(timer) || ctx !== current);
    if (timer || ctx !== current) return; // the form has changed since
    draft.classList.toggle("old", failed);
    status.textContent = failed ? "The preview could not be refreshed." : "Not saved yet.";
    if (!failed) place();
  });

  // An id as the server makes it, which also looks whether it is taken.
  const slug = (name) => {
    const plain = name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
    return plain.split(/[^a-z0-9]+/).filter(Boolean).join("-").slice(0, MAX_ID);
  };

  // Thresholds in another unit mean something else: those that were suggested for the metric before are replaced.
  let chosen = field("metric").selectedOptions[0]?.dataset ?? {};
  const explain = () => {
    const { dataset, value } = field("metric").selectedOptions[0];
    if (dataset.measure !== chosen.measure) {
      for (const name of ["warning", "critical"]) {
        const suggested = chosen[name];
        if (suggested && field(name).value === suggested) field(name).value = dataset[name] ?? "";
      }
      forget(LEVELS);
    }
    chosen = dataset;
    form.querySelector("[data-meaning-shown]").textContent = dataset.meaning;
    form.querySelector("[data-metric]").textContent = value;
    for (const unit of form.querySelectorAll("small[data-measure]")) unit.textContent = dataset.measure;
    for (const name of ["warning", "critical"]) field(name).placeholder = dataset[name] ? `such as ${dataset[name]}` : "";
    if (dataset.op && !field("warning").value && !field("critical").value) field("op").value = dataset.op;
  };

  form.addEventListener("input", ({ target }) => {
    if (target.name === "name" && field("id")) field("id").placeholder = slug(target.value);
    if (target.name === "metric") explain();
    if (target.name) forget(LEVELS.includes(target.name) ? LEVELS : [target.name]);
    refresh();
  });
})();
