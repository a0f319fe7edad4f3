// Completion of the search term under the caret, and what it shares with the command palette: a text box with a list of
// choices from the server. The focus stays in the box, and the arrow keys move through the list.
(() => {
  "use strict";
  const TYPING_MS = 100;
  const TIMEOUT_MS = 8000;

  const set = (element, attributes) => {
    for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  };
  const make = (tag, attributes, ...children) => {
    const made = document.createElement(tag);
    set(made, attributes);
    made.append(...children);
    return made;
  };

  // One request at a time: a newer one replaces it, and `drop()` drops it. Null for one that was replaced or dropped;
  // throws when there is no answer.
  const asker = () => {
    let current = null;
    const drop = () => {
      current?.abort();
      current = null;
    };
    const ask = async (address, query) => {
      current?.abort();
      const mine = (current = new AbortController());
      const url = new URL(address, location.href);
      for (const [name, value] of query) url.searchParams.append(name, value);
      const timer = setTimeout(() => mine.abort(), TIMEOUT_MS);
      try {
        // A redirect leads to the sign-in form: there is no answer then.
        const answer = await fetch(url, { signal: mine.signal, redirect: "manual" });
        if (!answer.ok) throw new Error(String(answer.status));
        const found = await answer.json();
        return mine === current ? found : null;
      } catch (error) {
        if (mine !== current) return null;
        throw error;
      } finally {
        clearTimeout(timer);
      }
    };
    return Object.assign(ask, { drop });
  };

  // The options of a list, one of which can be active. `take` gets the one that the user chooses.
  const choices = (box, list, take) => {
    let options = [];
    let active = -1;

    const mark = (index) => {
      options[active]?.setAttribute("aria-selected", "false");
      active = index;
      const option = options[active];
      if (!option) return box.removeAttribute("aria-activedescendant");
      option.setAttribute("aria-selected", "true");
      box.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    };

    // The active option stays active where it is offered again.
    const fill = (nodes) => {
      const kept = options[active]?.textContent;
      list.replaceChildren(...nodes);
      options = [...list.querySelectorAll("[role=option]")];
      for (const [index, option] of options.entries()) option.id = `${list.id}-${index}`;
      mark(options.findIndex((option) => option.textContent === kept));
      list.hidden = !options.length;
      box.setAttribute("aria-expanded", String(options.length > 0));
    };

    const step = (by) => {
      if (options.length) mark(active < 0 ? (by > 0 ? 0 : options.length - 1) : (active + by + options.length) % options.length);
    };

    list.addEventListener("pointerdown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) take(option, event);
    });
    return { fill, mark, step, active: () => options[active], isOpen: () => options.length > 0 };
  };

  const complete = (box, number) => {
    const id = `completions-${number}`;
    const list = make("div", { id, class: "completions", "aria-label": "Completions", role: "listbox", hidden: "" });
    const ask = asker();
    let timer = 0;
    let range = [0, 0]; // in characters, which can have two code units
    let size = 0; // of the text that has this range

    const close = () => {
      clearTimeout(timer);
      ask.drop(); // its answer would open the list again
      options.fill([]);
    };

    // What was typed since belongs to the word that is replaced.
    const take = (option) => {
      const units = (count) => [...box.value].slice(0, count).join("").length;
      const end = Math.max(range[0], range[1] + [...box.value].length - size);
      box.setRangeText(option.dataset.text, units(range[0]), units(end), "end");
      close();
      box.focus();
      box.dispatchEvent(new Event("input", { bubbles: true }));
    };

    const options = choices(box, list, take);

    const show = async (marked) => {
      const whole = box.value;
      const before = whole.slice(0, box.selectionStart ?? 0);
      try {
        const found = await ask(box.dataset.completeUrl, [["q", whole], ["at", [...before].length]]);
        if (!found || document.activeElement !== box) return;
        range = [found.start, found.end];
        size = [...whole].length;
        options.fill(
          found.offered.map(({ text, label, detail }) =>
            make("div", { role: "option", "aria-selected": "false", "data-text": text }, make("span", {}, label), make("small", {}, detail)),
          ),
        );
        if (marked && options.isOpen()) options.mark(0);
      } catch {
        close(); // the search itself says what is wrong
      }
    };

    const typed = () => {
      clearTimeout(timer);
      options.mark(-1); // a choice is for what was typed before it
      const before = box.value.slice(0, box.selectionStart ?? 0);
      const isInQuotes = before.split('"').length % 2 === 0;
      if (!before.trim() || (/\s$/.test(before) && !isInQuotes)) close();
      else timer = setTimeout(show, TYPING_MS, false);
    };

    const keys = {
      ArrowDown: () => (options.isOpen() ? options.step(1) : show(true)),
      ArrowUp: () => options.step(-1),
      Enter: () => take(options.active()),
      Tab: () => take(options.active()),
      Escape: close,
    };

    box.addEventListener("keydown", (event) => {
      const isPlain = !(event.isComposing || event.ctrlKey || event.metaKey || event.shiftKey);
      const takes = ["Enter", "Tab"].includes(event.key);
      const isNeeded = event.key === "ArrowDown" || (takes ? options.active() : options.isOpen());
      if (isPlain && isNeeded && Object.hasOwn(keys, event.key)) {
        event.preventDefault();
        event.stopPropagation();
        keys[event.key]();
      } else if (["Enter", "ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) close();
    });
    box.addEventListener("input", typed);
    box.addEventListener("blur", close);
    set(box, { role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": list.id });
    box.removeAttribute("list"); // what browsers offer without this script
    box.form.append(list);
  };

  for (const [number, box] of document.querySelectorAll("[data-complete-url]").entries()) complete(box, number);

  Object.assign(window.queuedeck, { make, asker, choices });
})();
