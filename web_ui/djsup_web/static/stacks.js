// "Stacks now": where every thread of a site is, asked for by a button; threads at the same place are one entry.

import { getJson } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import { age, plural } from "./format.js";
import { store } from "./store.js";

const THREADS_SHOWN = 6;
const WARM_S = 1; // ages of a running request that are worth a colour
const LONG_S = 5;

/** The panel of one site; gives `{element, update}`. */
export function stacksPanel(name) {
  const body = h("div", { class: "places", "aria-live": "polite" });
  const hint = h("p", { class: "muted empty" }, "Where every thread is at this moment, and for which request. It works while all of the site is stuck.");
  const about = h("p", { class: "muted small", role: "status" });
  const button = h("button", { type: "button", class: "button", onclick: ask }, "Stacks now");
  let asking = false;

  async function ask() {
    asking = true;
    update();
    try {
      show(await getJson(`api/sites/${encodeURIComponent(name)}/stacks`));
    } catch (error) {
      setText(about, error.message);
    } finally {
      asking = false;
      update();
    }
  }

  function show(found) {
    const silent = found.processes.filter((each) => each.error);
    const signalled = found.processes.filter((each) => !each.error && each.asked_by === "signal");
    const busy = found.places.filter((each) => each.idle === null);
    const idle = found.places.filter((each) => each.idle !== null);
    setText(about, `${plural(found.threads, "thread")} in ${plural(found.processes.length, "process", "processes")} at ${new Date().toLocaleTimeString("en-GB")}`);
    setAttribute(hint, "hidden", true);
    body.replaceChildren(
      ...silent.map((each) => h("p", { class: "silent" }, `No stacks of ${who(each)} (pid ${each.pid}): ${each.error}`)),
      ...signalled.map((each) => h("p", { class: "muted small" }, `${who(each)} (pid ${each.pid}) did not answer, and was asked by a signal.`)),
      ...busy.map((each) => place(each, found.threads)),
      ...(busy.length || silent.length ? [] : [h("p", {}, "No thread runs a request.")]),
      h("p", { class: "muted small" }, idle.map((each) => `${plural(each.threads.length, "thread")}: ${each.idle}`).join(" · ")),
    );
  }

  function update() {
    setAttribute(button, "disabled", asking || store.link !== "live");
    setText(button, asking ? "Asking…" : "Stacks now");
  }

  return {
    element: h(
      "section",
      { class: "panel", "aria-labelledby": "stacks-title" },
      h("header", { class: "panel-head" }, h("h2", { id: "stacks-title" }, "Stacks"), about, button),
      hint,
      body,
    ),
    update,
  };
}

/** How worrying the age of a running request is. */
export function markAge(element, seconds) {
  setAttribute(element, "data-warm", seconds >= WARM_S);
  setAttribute(element, "data-long", seconds >= LONG_S);
}

function place({ threads, frames }, total) {
  const shown = threads.slice(0, THREADS_SHOWN);
  const more = threads.length - shown.length;
  return h(
    "article",
    { class: "place" },
    h("h3", {}, `${threads.length} of ${plural(total, "thread")} ${threads.length === 1 ? "is" : "are"} here`),
    h("ul", {}, ...shown.map(thread), more ? h("li", { class: "muted" }, `and ${plural(more, "thread")} more`) : null),
    h("ol", { class: "frames" }, ...grouped(frames)),
    h("details", {}, h("summary", {}, `All ${plural(frames.length, "call")}`), h("pre", { tabindex: "0" }, frames.map((each) => `${each.function}  ${each.file}:${each.line}`).join("\n"))),
  );
}

function thread(each) {
  const about = h("span", { class: "muted" }, `${who(each)}, pid ${each.pid}`);
  if (!each.request) return h("li", {}, h("span", { class: "muted" }, "no request"), about);
  const time = h("span", { class: "took" }, age(each.request.age_s));
  markAge(time, each.request.age_s);
  return h("li", {}, time, h("span", { class: "method" }, each.request.method), h("span", { class: "path mono" }, each.request.path), about);
}

/** The calls, the most recent first; of those of libraries the first is shown, others are counted. */
function grouped(frames) {
  const lines = frames.length ? [call(frames[0])] : [h("li", { class: "muted" }, "no Python code")];
  for (let at = 1; at < frames.length; ) {
    const library = libraryOf(frames[at].file);
    let end = at + 1;
    while (library && end < frames.length && libraryOf(frames[end].file) === library) end += 1;
    lines.push(library ? h("li", { class: "muted" }, `… ${plural(end - at, "call")} in ${library}`) : call(frames[at]));
    at = end;
  }
  return lines;
}

function call(frame) {
  return h("li", {}, h("span", { class: "function" }, frame.function), h("span", { class: "muted" }, `${frame.file}:${frame.line}`));
}

function libraryOf(file) {
  const found = /\/(?:site|dist)-packages\/([^/]+)/.exec(file);
  if (found) return found[1];
  return /\/lib\/python3\.\d+\//.test(file) ? "Python's own library" : null;
}

function who(each) {
  return each.slot === null ? "template" : `worker ${each.slot}`;
}
