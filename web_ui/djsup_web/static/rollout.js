// A reload while it runs, phase by phase, and how its trial on a share of the traffic stands or has ended.

import { h, setAttribute, setText } from "./dom.js";
import { duration } from "./format.js";

const PHASES = [
  ["binding", "Bind"],
  ["checking", "Check"],
  ["loading", "Load"],
  ["proving", "Prove"],
  ["trying", "Try"],
  ["changing", "Change over"],
];
/** What each phase does, for people. */
export const DOING = {
  binding: "binding its addresses",
  checking: "a command of the site checks it",
  loading: "the code is being loaded",
  proving: "its first worker proves itself",
  trying: "it answers a share of the traffic",
  changing: "the workers change over",
};

/** The panel of one site; it is there while a reload runs, and after one that had a trial. */
export function rolloutPanel() {
  const title = h("h2", { id: "rollout-title" });
  const spent = h("p", { class: "muted small" });
  const steps = PHASES.map(([phase, word]) => ({ phase, element: h("li", {}, word) }));
  const list = h("ol", { class: "phases" }, ...steps.map((each) => each.element));
  const told = h("p", { class: "trial" });
  const bar = h("progress", { "aria-label": "How much of the trial is over" });
  const element = h(
    "section",
    { class: "panel rollout", "aria-labelledby": "rollout-title", hidden: true },
    h("header", { class: "panel-head" }, title, spent),
    h("div", { class: "rollout-body" }, list, told, bar),
  );
  return {
    element,
    update({ last_reload: report }) {
      const running = report?.result === "running";
      setAttribute(element, "hidden", !running && !report?.canary);
      if (element.hidden) return;
      setText(title, running ? `Generation ${report.generation}: ${DOING[report.phase] ?? "it begins"}` : `Trial of generation ${report.generation}`);
      setText(spent, running ? `${duration(report.duration_s)} so far, asked for by ${report.by}` : `${report.result.replace("-", " ")} after ${duration(report.duration_s)}`);
      setAttribute(list, "hidden", !running);
      const now = PHASES.findIndex(([phase]) => phase === report.phase);
      steps.forEach(({ element: step }, at) => {
        setAttribute(step, "data-past", at < now);
        setAttribute(step, "aria-current", at === now ? "step" : null);
      });
      setText(told, report.canary);
      const share = /^(\d+) of (\d+) s/.exec(report.canary);
      setAttribute(bar, "hidden", !running || !share);
      if (share) {
        setAttribute(bar, "max", share[2]);
        setAttribute(bar, "value", Math.min(share[1], share[2]));
      }
    },
  };
}
