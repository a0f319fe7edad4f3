// What charts read: newer slots joined to those that the page has, and what a failed response says.
(() => {
  "use strict";

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

  Object.assign(window.queuedeck.charts, { errorOf, join });
})();
