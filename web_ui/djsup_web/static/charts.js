// What a site did in the last quarter of an hour or day: three charts over one time, with its deploys and crashes
// marked on all of them. The figures stand beside the lines in words: those under the pointer, else the newest.

import { getJson } from "./api.js";
import { h, setAttribute, setText, svg } from "./dom.js";
import { bytes, clock, duration, figure, plural } from "./format.js";
import { polling } from "./polling.js";
import { daemonNow, store } from "./store.js";

const WIDTH = 1000;
const HEIGHT = 120;
const RANGES = [
  { name: "15 min", seconds: 900, step: 10, again: 10_000 },
  { name: "24 h", seconds: 86_400, step: 300, again: 60_000 },
];
const DEATHS = /died|killed|overdue|crash/;
const CHARTS = [
  { title: "Requests/s", show: figure, lines: [["requests_per_s", "requests", "l0"], ["errors_per_s", "5xx", "l3"]] },
  { title: "Latency", show: (value) => `${figure(value)} ms`, lines: [["p50_ms", "p50", "l0"], ["p95_ms", "p95", "l1"], ["p99_ms", "p99", "l2"]] },
  { title: "Memory", show: bytes, lines: [["memory_bytes", "PSS", "l0"]] },
];

/** The panels of one site's past; gives `{element, update, end}`. */
export function pastPanels(name) {
  const path = `api/sites/${encodeURIComponent(name)}`;
  const charts = CHARTS.map(chart);
  const state = h("p", { class: "muted small", role: "status" }, "Loading…");
  const choices = RANGES.map((each) => h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => choose(each) }, each.name));
  const marked = h("p", { class: "muted small marks-told" });
  const deploys = h("ol", { class: "deploys" });
  const none = h("p", { class: "muted empty", hidden: true }, "No deploy yet: the first reload will stand here.");
  let range = RANGES[0];
  let known = [];
  let reloads = null;

  async function load() {
    const asked = range;
    try {
      const from = Math.floor(daemonNow() / 1000) - asked.seconds;
      const found = await getJson(`${path}/series?from=${from}&step=${asked.step}`);
      if (asked !== range) return;
      const marks = [
        ...known.map((each) => ({ at: Date.parse(each.started_at) / 1000, kind: each.result, text: `deploy of generation ${each.generation ?? "?"}, ${each.result}` })),
        ...store.events.filter((each) => each.site === name && DEATHS.test(each.kind)).map((each) => ({ at: Date.parse(each.at) / 1000, kind: "crash", text: each.text })),
      ].filter((each) => each.at >= from);
      for (const each of charts) each.draw(found, from, asked, marks);
      setText(state, found.t.length ? "" : "Nothing was measured in this time.");
      setText(marked, marks.length ? inWords(marks) : "");
    } catch (error) {
      setText(state, error.message);
    }
  }

  async function loadDeploys() {
    try {
      known = (await getJson(`${path}/deploys?limit=20`)).deploys;
      deploys.replaceChildren(...known.map(deploy));
      setAttribute(none, "hidden", known.length > 0);
    } catch (error) {
      setText(none, error.message);
      setAttribute(none, "hidden", false);
    }
    again.now();
  }

  function choose(chosen) {
    range = chosen;
    press();
    setText(state, "Loading…");
    again.now();
  }

  function press() {
    choices.forEach((each, at) => setAttribute(each, "aria-pressed", String(RANGES[at] === range)));
  }

  const again = polling(() => range.again, load);
  press();
  const element = h(
    "div",
    { class: "site-page" },
    h("section", { class: "panel", "aria-labelledby": "past-title" }, h("header", { class: "panel-head" }, h("h2", { id: "past-title" }, "The last"), ...choices, state, marked), h("div", { class: "charts" }, ...charts.map((each) => each.element))),
    h("section", { class: "panel", "aria-labelledby": "deploys-title" }, h("header", { class: "panel-head" }, h("h2", { id: "deploys-title" }, "Deploys")), deploys, none),
  );
  return {
    element,
    update(site) {
      // Only when one has ended is there another deploy to be told.
      const last = `${site.last_reload?.started_at} ${site.last_reload?.result}`;
      if (last === reloads) return;
      reloads = last;
      loadDeploys();
    },
    end: again.end,
  };
}

function chart({ title, show, lines }) {
  const drawn = lines.map(([, , tone]) => svg("path", { class: `line ${tone}` }));
  const marks = svg("g", {});
  const cross = svg("path", { class: "cross" });
  const picture = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, marks, ...[...drawn].reverse(), cross);
  const values = lines.map(() => h("dd"));
  const legend = h("dl", {}, ...lines.map(([, label, tone], at) => h("div", { class: tone }, h("dt", {}, label), values[at])));
  const when = h("span", { class: "muted small" });
  const first = h("span");
  const most = h("span");
  let shown = null;

  function tell(index) {
    if (!shown) return;
    const at = index ?? shown.t.length - 1;
    lines.forEach(([key], line) => {
      const value = shown[key][at];
      setText(values[line], value === null || value === undefined ? "–" : show(value));
    });
    setText(when, index === undefined ? "" : new Date(shown.t[at] * 1000).toLocaleTimeString("en-GB"));
    setAttribute(cross, "d", index === undefined ? "" : `M${shown.x(shown.t[at]).toFixed(1)} 0V${HEIGHT}`);
  }

  picture.addEventListener("pointermove", (event) => {
    if (!shown?.t.length) return;
    const box = picture.getBoundingClientRect();
    const at = shown.from + ((event.clientX - box.left) / box.width) * shown.seconds;
    tell(shown.t.reduce((best, each, index) => (Math.abs(each - at) < Math.abs(shown.t[best] - at) ? index : best), 0));
  });
  picture.addEventListener("pointerleave", () => tell());

  return {
    element: h("figure", { class: "chart-box" }, h("figcaption", {}, h("h3", {}, title), when, legend), picture, h("p", { class: "axis muted small" }, first, most)),
    draw(found, from, { name, seconds }, happened) {
      const x = (at) => ((at - from) / seconds) * WIDTH;
      shown = { ...found, from, seconds, x };
      const top = Math.max(...lines.flatMap(([key]) => found[key].filter((each) => each !== null)), 1e-9) * 1.08;
      lines.forEach(([key], line) => {
        let path = "";
        let last = -Infinity;
        found[key].forEach((value, index) => {
          if (value === null) return;
          const at = found.t[index];
          path += `${at - last > found.step_s * 1.5 ? "M" : "L"}${x(at).toFixed(1)} ${(HEIGHT - 1 - (value / top) * (HEIGHT - 4)).toFixed(1)}`;
          last = at;
        });
        setAttribute(drawn[line], "d", path);
      });
      marks.replaceChildren(...happened.map((each) => svg("path", { class: `mark ${each.kind}`, d: `M${x(each.at).toFixed(1)} 0V${HEIGHT}` }, svg("title", {}, each.text))));
      setText(first, `${name} ago`);
      setText(most, `top of the chart: ${show(top / 1.08)}`);
      setAttribute(picture, "aria-label", `${title} over ${name}, at most ${show(top / 1.08)}`);
      tell();
    },
  };
}

function inWords(marks) {
  const crashes = marks.filter((each) => each.kind === "crash").length;
  return `Marked: ${plural(marks.length - crashes, "deploy")}, ${plural(crashes, "crash", "crashes")}`;
}

function deploy(each) {
  const took = `generation ${each.generation ?? "–"}, ${duration(each.duration_s)}`;
  return h(
    "li",
    { "data-result": each.result },
    h("time", { datetime: each.started_at, class: "muted" }, clock(each.started_at)),
    h("strong", { class: "reload-result", "data-result": each.result }, each.result.replace("-", " ")),
    h("span", { class: "muted" }, `${took}, by ${each.by || "the daemon"}`),
    each.error ? h("span", { class: "error" }, each.error) : null,
    each.traceback ? h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, each.traceback)) : null,
  );
}
