// The last requests of one site that failed or took long: which, when, how long, by whom.

import { getJson } from "./api.js";
import { h, keyedList, setAttribute, setText } from "./dom.js";
import { clock, duration, plural } from "./format.js";
import { polling } from "./polling.js";

const AGAIN_MS = 10_000;
const FEW = 6;
const ALL = 200;

/** The panel; gives `{element, update, end}`. */
export function requestsPanel(name) {
  const failed = list("Failed", "newest", "Nothing has failed: no answer 5xx is remembered.");
  const slow = list("Slowest", "worst", "Nothing was slow.");
  const state = h("p", { class: "muted small", role: "status" }, "Loading…");
  const more = h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: toggle }, "Show all");
  let limit = FEW;

  async function load() {
    try {
      // One more than is shown tells whether there are more.
      const found = await getJson(`api/sites/${encodeURIComponent(name)}/requests?limit=${limit === FEW ? FEW + 1 : ALL}`);
      failed.show(found.failed, limit);
      slow.show(found.slowest, limit);
      setAttribute(more, "hidden", limit === FEW && found.failed.length <= FEW && found.slowest.length <= FEW);
      setText(state, `Answers 5xx, and those that took more than ${duration(found.slow_ms / 1000)}`);
    } catch (error) {
      setText(state, error.message);
    }
  }

  function toggle() {
    limit = limit === FEW ? ALL : FEW;
    setAttribute(more, "aria-pressed", String(limit === ALL));
    again.now();
  }

  const again = polling(() => AGAIN_MS, load);
  return {
    element: h(
      "section",
      { class: "panel", "aria-labelledby": "requests-title" },
      h("header", { class: "panel-head" }, h("h2", { id: "requests-title" }, "Failed and slow requests"), state, more),
      h("div", { class: "noted" }, failed.element, slow.element),
    ),
    update() {},
    end: again.end,
  };
}

function list(title, first, nothing) {
  const about = h("span", { class: "muted small" });
  const none = h("p", { class: "muted small", hidden: true }, nothing);
  const rows = h("ol", {});
  const keep = keyedList(rows, (each) => `${each.at} ${each.pid} ${each.method} ${each.path} ${each.duration_ms}`, row);
  return {
    element: h("div", {}, h("h3", {}, title, " ", about), rows, none),
    show(found, limit) {
      keep(found.slice(0, limit));
      setAttribute(none, "hidden", found.length > 0);
      setText(about, found.length > limit ? `the ${first} ${limit}` : found.length ? plural(found.length, "request") : "");
    },
  };
}

function row(each) {
  return {
    element: h(
      "li",
      {},
      h("time", { datetime: each.at, class: "mono muted" }, clock(each.at)),
      h("span", { class: "status", "data-class": `${Math.floor(each.status / 100)}xx` }, each.status || "gone"),
      h("span", { class: "noted-took" }, duration(each.duration_ms / 1000)),
      h("span", { class: "noted-what" }, h("span", { class: "method" }, each.method), " ", h("span", { class: "path mono" }, each.path)),
      h("span", { class: "muted small" }, `worker ${each.slot}`),
    ),
    update() {},
  };
}
