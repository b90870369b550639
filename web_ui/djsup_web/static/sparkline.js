// Up to two minutes of a figure as a small line; less at first, so that it need not stay empty. The number stands beside it in words: to a screen reader it is nothing.

import { h, setAttribute, svg } from "./dom.js";
import { HISTORY_S } from "./store.js";

const WIDTH = 120;
const HEIGHT = 28;
const SHORTEST_MS = 30_000;
const GAP_MS = 4_000; // a hole in the samples is shown as one

/** `{element, update(series)}` */
export function sparkline() {
  const area = svg("path", { class: "spark-area" });
  const line = svg("path", { class: "spark-line" });
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
    area,
    line,
    svg("path", { class: "spark-floor", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
  );
  const element = h("span", { class: "spark" }, picture);
  return {
    element,
    update({ points }) {
      const now = points.at(-1)?.at ?? 0;
      const span = Math.min(HISTORY_S * 1000, Math.max(SHORTEST_MS, now - (points[0]?.at ?? now)));
      const top = Math.max(1, ...points.map((point) => point.rate)) * 1.08;
      const runs = [];
      let previous = -Infinity;
      for (const { at, rate } of points) {
        if (at - previous > GAP_MS) runs.push([]);
        previous = at;
        const x = WIDTH * (1 - (now - at) / span);
        runs.at(-1).push([x.toFixed(1), (HEIGHT - 1 - (rate / top) * (HEIGHT - 3)).toFixed(1)]);
      }
      const drawn = runs.filter((run) => run.length > 1);
      setAttribute(line, "d", drawn.map((run) => `M${run.map((point) => point.join(" ")).join("L")}`).join(""));
      setAttribute(
        area,
        "d",
        drawn
          .map((run) => `M${run[0][0]} ${HEIGHT}L${run.map((point) => point.join(" ")).join("L")}L${run.at(-1)[0]} ${HEIGHT}Z`)
          .join(""),
      );
    },
  };
}
