// Pages in the past: "Earlier" leads back from now, and the slider leads to the moment at which it is let go.
(() => {
  "use strict";
  const KEY_WAIT_MS = 800; // so that several steps with the arrow keys are one move
  const FOCUS = "queuedeck.moment-slider";
  const iso = (seconds) => new Date(seconds * 1000).toISOString().replace(/\.\d+Z$/, "Z");

  const urlOf = (seconds) => {
    const url = new URL(location.href);
    url.searchParams.set("at", iso(seconds));
    for (const name of ["page", "said", "from", "to"]) url.searchParams.delete(name);
    url.hash = "";
    return url;
  };

  // The page can have been open for hours, with other filters since.
  const entrance = document.querySelector("a.earlier[data-moment-earlier]");
  entrance?.addEventListener("click", () => {
    entrance.href = urlOf(Math.floor(window.queuedeck.now() / 1000) - Number(entrance.dataset.momentEarlier));
  });

  const bar = document.querySelector("[data-moment]");
  const slider = bar?.querySelector("[data-moment-slider]");
  if (!slider) return;
  const [clock, ago] = [bar.querySelector("[data-moment-clock] time"), bar.querySelector("[data-moment-ago]")];
  const first = clock.dateTime;
  let timer = 0;
  let byKey = false;

  const show = (moment) => {
    clock.dateTime = ago.dateTime = moment;
    window.queuedeck.showTimes();
    slider.setAttribute("aria-valuetext", clock.textContent);
    document.body.toggleAttribute("data-moving", moment !== first); // the figures below are not those of this moment
  };

  const go = () => {
    clearTimeout(timer);
    if (slider.value === slider.defaultValue) return;
    try {
      if (byKey) sessionStorage.setItem(FOCUS, "1");
    } catch {
      // the focus is at the beginning of the next page
    }
    location.assign(urlOf(Number(slider.value)));
  };

  slider.addEventListener("pointerdown", () => {
    byKey = false;
  });
  slider.addEventListener("keydown", (event) => {
    byKey = true;
    if (event.key === "Enter") {
      event.preventDefault();
      go();
    } else if (event.key === "Escape") {
      clearTimeout(timer);
      slider.value = slider.defaultValue;
      show(first);
    }
  });
  slider.addEventListener("input", () => {
    clearTimeout(timer);
    show(slider.value === slider.defaultValue ? first : iso(Number(slider.value)));
  });
  slider.addEventListener("change", () => {
    clearTimeout(timer);
    if (byKey) timer = setTimeout(go, KEY_WAIT_MS);
    else go();
  });
  // Back from another moment: the browser can restore the page as it was left.
  window.addEventListener("pageshow", ({ persisted }) => {
    if (!persisted) return;
    slider.value = slider.defaultValue;
    show(first);
  });
  show(first);
  try {
    if (sessionStorage.getItem(FOCUS)) slider.focus({ preventScroll: true });
    sessionStorage.removeItem(FOCUS);
  } catch {
    // the focus is at the beginning of the page
  }
})();
