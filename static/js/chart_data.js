// What charts read: newer slots joined to those that the page has, and what a failed response says.
(() => {
  "use strict";
  const TIMEOUT_MS = 10000; // as that of polls

  // `data` followed by newer slots: the last of the slots that the page has had not ended.
  const join = (data, newer) => {
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

  const errorOf = async (response) => {
    const { error } = (await response.json().catch(() => null)) ?? {};
    return error ? [error.message, error.hint].filter(Boolean).join(" ") : `The server responded with status ${response.status}.`;
  };

  // The data at `url`; throws an error whose message the page shows.
  const read = async (url) => {
    const asking = new AbortController();
    const timer = setTimeout(() => asking.abort(), TIMEOUT_MS);
    const wanted = { headers: { Accept: "application/json" }, signal: asking.signal };
    try {
      const response = await fetch(url, wanted).catch(() => null);
      if (!response) throw new Error("Cannot reach Queuedeck.");
      if (response.status === 401) throw window.queuedeck.signedOut();
      if (!response.ok) throw new Error(await errorOf(response));
      return await response.json();
    } finally {
      clearTimeout(timer);
    }
  };

  Object.assign(window.queuedeck.charts, { join, read });
})();
