// The programs of one site: what runs beside it, and when what is scheduled runs next.

import { h, keyedList, setAttribute, setText } from "./dom.js";
import { duration } from "./format.js";
import { pill } from "./parts.js";

const COLUMNS = [
  ["Program", ""],
  ["State", ""],
  ["Now", "grow"],
  ["PID", "number"],
  ["Up", "number"],
];

/** The panel; it is not there for a site without programs. */
export function programsPanel(name) {
  const body = h("tbody", { role: "rowgroup" });
  const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...COLUMNS.map(([title, kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, title))));
  const table = h("table", { role: "table", "aria-label": `Programs of ${name}` }, head, body);
  const title = h("header", { class: "panel-head" }, h("h2", { id: "programs-title" }, "Programs"));
  const element = h("section", { class: "panel workers-panel programs-panel", "aria-labelledby": "programs-title", hidden: true }, title, table);
  const rows = keyedList(body, (program) => `${program.name} ${program.instance}`, programRow);
  return {
    element,
    update(site) {
      const programs = site.programs ?? [];
      rows(programs);
      setAttribute(element, "hidden", programs.length === 0);
    },
  };
}

function programRow() {
  const state = pill();
  const [name, now, pid, up] = Array.from({ length: 4 }, () => h("span"));
  const cell = (label, kind, content) => h("td", { role: "cell", class: kind, "data-label": label }, content);
  return {
    element: h(
      "tr",
      { role: "row" },
      h("th", { role: "rowheader", scope: "row" }, name),
      cell("State", "", state.element),
      cell("Now", "grow", now),
      cell("PID", "number", pid),
      cell("Up", "number", up),
    ),
    update(program) {
      setText(name, program.schedule ? program.name : `${program.name}/${program.instance}`);
      state.update(program.state);
      setText(now, whatNow(program));
      setText(pid, program.pid ?? "–");
      setText(up, program.pid ? duration(program.uptime_s) : "–");
    },
  };
}

function whatNow({ status_text: status, next_try_s: nextTry, next_run_at: nextRun, last_result: last }) {
  const parts = [];
  if (status) parts.push(status);
  if (nextTry !== null && nextTry !== undefined) parts.push(`next try in ${duration(nextTry)}`);
  if (nextRun) parts.push(`next run ${new Date(nextRun).toLocaleString()}`);
  if (last) parts.push(`last: ${last}`);
  return parts.join("; ") || "–";
}
