// The daemon itself: what it is, where it listens, what a reload would change now, and the configuration in force.

import { reloadAll, resting } from "./actions.js";
import { getJson } from "./api.js";
import { h, setAttribute, setText } from "./dom.js";
import { bytes, clock, duration, figure, plural } from "./format.js";
import { polling } from "./polling.js";
import { siteNamed, store } from "./store.js";

const AGAIN_MS = 15_000; // the daemon reads the configuration file for it

/** Build the page into `main`; gives what updates and ends it. */
export function daemonPage(main) {
  const parts = [facts(), planPanel(), listenersPanel(), configurationPanel()];
  const state = h("p", { class: "muted small", role: "status" }, "Loading…");
  const again = h("button", { type: "button", class: "button", onclick: () => asked.now() }, "Look again");
  const reload = h("button", { type: "button", class: "button primary changes", onclick: () => reloadAll().then(() => asked.now()) }, "Reload everything");
  main.replaceChildren(
    h(
      "div",
      { class: "site-page" },
      h("header", { class: "site-head" }, h("div", { class: "site-title" }, h("h1", { tabindex: "-1" }, "Daemon"), state, h("div", { class: "site-actions" }, again, reload))),
      ...parts.map((part) => part.element),
    ),
  );

  async function load() {
    const [daemon, plan] = await Promise.allSettled([getJson("api/daemon"), getJson("api/plan")]);
    for (const part of parts) part.show(daemon.value, plan.value, plan.reason);
    setText(state, daemon.reason?.message ?? "");
  }

  const asked = polling(() => AGAIN_MS, load);
  return {
    update() {
      setAttribute(again, "disabled", store.link !== "live");
      setAttribute(reload, "disabled", resting("*") || store.pending.size > 0);
      setText(reload, store.pending.has("*") ? "Reloading…" : "Reload everything");
    },
    end: asked.end,
    title: () => "Daemon · djsup",
  };
}

function panel(id, title, ...content) {
  return h("section", { class: "panel", "aria-labelledby": id }, h("header", { class: "panel-head" }, h("h2", { id }, title)), ...content);
}

function terms(pairs) {
  return pairs.map(([term, value, kind = ""]) => h("div", {}, h("dt", {}, term), h("dd", { class: kind }, value)));
}

function facts() {
  const runs = h("dl", { class: "terms" });
  const versions = h("dl", { class: "terms" });
  const element = h("div", { class: "pair" }, panel("runs-title", "Process", runs), panel("versions-title", "Versions", versions));
  return {
    element,
    show(daemon) {
      if (!daemon) return;
      runs.replaceChildren(
        ...terms([
          ["PID", daemon.pid],
          ["User", daemon.user],
          ["Up", duration(daemon.uptime_s)],
          ["Since", clock(daemon.started_at)],
          ["Memory", bytes(daemon.memory_bytes)],
          ["CPU", `${figure(daemon.cpu_percent)} %`],
          ["Configuration", daemon.config, "mono"],
          ["Runtime folder", daemon.runtime_dir, "mono"],
        ]),
      );
      versions.replaceChildren(...terms(Object.entries(daemon.versions)));
    },
  };
}

/** What a difference costs, in words: the values of `core/difference.py`. */
const COSTS = {
  nothing: "nothing; it counts from then on",
  "processes started later": "nothing; it counts for processes started later",
  told: "nothing; running processes are told",
  workers: "workers are added or drained",
  "new generation": "the code is loaded anew beside the old",
  "new listener": "addresses are bound or closed, the code is loaded anew",
  program: "its programs are started, stopped or replaced",
  dashboard: "the dashboard is started anew",
  daemon: "counts when the daemon is stopped and started",
};

function table(label, columns, rows) {
  return h(
    "table",
    { role: "table", "aria-label": label, class: "plain" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...columns.map((each) => h("th", { role: "columnheader", scope: "col" }, each)))),
    h(
      "tbody",
      { role: "rowgroup" },
      ...rows.map(([first, ...others]) =>
        h("tr", { role: "row" }, h("th", { role: "rowheader", scope: "row" }, first), ...others.map((each, at) => h("td", { role: "cell", "data-label": columns[at + 1] }, each))),
      ),
    ),
  );
}

function planPanel() {
  const told = h("p", { class: "plan-told muted" }, "Loading…");
  const place = h("div", {});
  return {
    element: panel("plan-title", "What a reload would change", told, place),
    show(_daemon, plan, error) {
      if (!plan) {
        setText(told, error.message);
        const mistakes = (error.problems ?? []).map((each) => h("li", { class: "mono" }, each));
        place.replaceChildren(...(mistakes.length ? [h("ul", { class: "mistakes" }, ...mistakes)] : []));
        return;
      }
      const added = plan.sites.filter((site) => site.does === "added");
      const removed = plan.sites.filter((site) => site.does === "removed");
      const names = (sites) => sites.map((site) => site.name).join(", ");
      const rows = [
        ...plan.daemon.map((each) => ["(daemon)", each]),
        ...plan.sites.flatMap((site) => site.differences.map((each) => [site.name, each])),
      ].map(([site, each]) => [site, h("span", { class: "mono" }, each.setting), value(each.before), value(each.after), COSTS[each.cost] ?? each.cost]);
      const loads = plan.sites.filter((site) => site.does === "stays" && site.loads_code);
      const same = !(rows.length || added.length || removed.length);
      setText(
        told,
        [
          same ? "The file says what runs: no setting differs." : "",
          rows.length ? `${plural(rows.length, "setting")} in the file ${rows.length === 1 ? "differs" : "differ"} from what runs.` : "",
          added.length ? `New: ${names(added)}.` : "",
          removed.length ? `Ends: ${names(removed)}.` : "",
          loads.length ? `The code of ${loads.length === plan.sites.length ? "every site" : names(loads)} is loaded anew, beside the old.` : "",
        ]
          .filter(Boolean)
          .join(" "),
      );
      place.replaceChildren(...(rows.length ? [table("Settings that differ", ["Site", "Setting", "From", "To", "Costs"], rows)] : []));
    },
  };
}

function value(text) {
  return h("span", { class: "mono value" }, text === "" ? "–" : text);
}

/** Whether somebody listens on an address; that nobody does is no trouble where an operator has stopped its sites. */
function listening({ bound, used_by: users }) {
  if (bound) return "bound";
  const stopped = users.length > 0 && users.every((name) => siteNamed(name)?.stopped_by);
  return h("span", { class: stopped ? "muted" : "hot" }, stopped ? "closed, as its site is stopped" : "not bound");
}

function listenersPanel() {
  const place = h("div", {});
  return {
    element: panel("listeners-title", "Listeners", place),
    show(daemon) {
      if (!daemon) return;
      const rows = daemon.listeners.map((each) => [
        h("span", { class: "mono" }, each.address),
        each.used_by.join(", "),
        listening(each),
        each.waiting,
      ]);
      place.replaceChildren(
        rows.length ? table("Listeners", ["Address", "Used by", "State", "Connections waiting"], rows) : h("p", { class: "muted empty" }, "The configuration names no address."),
      );
    },
  };
}

function configurationPanel() {
  const place = h("div", { class: "configuration" });
  let shown = "";
  return {
    element: panel("configuration-title", "Configuration in force", h("p", { class: "plan-told muted" }, "Defaults filled in, secrets hidden."), place),
    show(daemon) {
      const known = JSON.stringify(daemon?.configuration);
      if (!daemon || known === shown) return; // what was opened stays open
      shown = known;
      const { sites = [], ...own } = daemon.configuration;
      place.replaceChildren(block("daemon", own, true), ...sites.map((site) => block(`sites.${site.name}`, site, false)));
    },
  };
}

function block(title, settings, open) {
  const lines = [...flat(settings)];
  return h(
    "details",
    { open },
    h("summary", { class: "mono" }, title),
    h("dl", { class: "settings" }, ...lines.map(([key, text]) => h("div", {}, h("dt", { class: "mono" }, key), h("dd", { class: "mono" }, text)))),
  );
}

/** Every setting with its whole name, as `limits.keepalive_s`. */
function* flat(settings, before = "") {
  for (const [key, found] of Object.entries(settings)) {
    if (found !== null && typeof found === "object" && !Array.isArray(found) && Object.keys(found).length) yield* flat(found, `${before}${key}.`);
    else if (Array.isArray(found) && found.some((each) => each !== null && typeof each === "object")) {
      for (const [at, each] of found.entries()) yield* flat({ [each?.name ?? at]: each }, `${before}${key}.`);
    } else yield [before + key, inWords(found)];
  }
}

function inWords(found) {
  if (found === null) return "–";
  if (Array.isArray(found)) return found.length ? found.join(", ") : "none";
  if (typeof found === "object") return "none";
  return found === "" ? "–" : String(found);
}
