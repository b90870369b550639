// A quarter of an hour of requests as a small line beside each name, red where answers failed. One question brings those
// of all sites. The number stands beside the line in words: to a screen reader it is nothing.

import { getJson } from "./api.js";
import { h, setAttribute, svg } from "./dom.js";
import { polling } from "./polling.js";
import { changed } from "./store.js";

const MINUTES = 15;
const AGAIN_MS = 10_000;
const WIDTH = 120;
const HEIGHT = 28;
const NONE = { points: [] };

/** The figures of all sites: `of(name)`, `all()`, asked for until `end()`. */
export function sparks() {
  let bySite = new Map();
  let together = NONE;

  async function load() {
    try {
      const { sites } = await getJson(`api/series?minutes=${MINUTES}`);
      // Every list has the same times, the newest last.
      const found = Object.entries(sites).map(([name, { requests_per_s: rates, errors_per_s: errors }]) => [
        name,
        { points: rates.map((rate, index) => ({ x: index / (rates.length - 1), rate, errors: errors[index] })) },
      ]);
      bySite = new Map(found);
      together = sum(found.map(([, line]) => line.points));
      changed();
    } catch {
      // The lines stay as they are; the banner says what is wrong.
    }
  }

  const again = polling(() => AGAIN_MS, load);
  return { of: (name) => bySite.get(name) ?? NONE, all: () => together, end: again.end };
}

/** All sites' points by time; null where nothing was measured of any. */
function sum(lines) {
  const byTime = new Map();
  for (const { x, rate, errors } of lines.flat()) {
    const known = byTime.get(x) ?? { x, rate: null, errors: 0 };
    if (rate !== null) known.rate = (known.rate ?? 0) + rate;
    known.errors += errors ?? 0;
    byTime.set(x, known);
  }
  return { points: [...byTime.values()].sort((one, other) => one.x - other.x) };
}

/** `{element, update(line)}` */
export function sparkline() {
  const area = svg("path", { class: "spark-area" });
  const line = svg("path", { class: "spark-line" });
  const failed = svg("path", { class: "spark-failed" });
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
    area,
    line,
    svg("path", { class: "spark-floor", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
    failed,
  );
  let drawn = null;
  return {
    element: h("span", { class: "spark" }, picture),
    update(found) {
      if (found === drawn) return;
      drawn = found;
      const { points } = found;
      const top = Math.max(1, ...points.map((point) => point.rate ?? 0)) * 1.08;
      const runs = [[]];
      for (const { x, rate } of points) {
        if (rate === null) runs.push([]);
        else runs.at(-1).push([(x * WIDTH).toFixed(1), (HEIGHT - 1 - (rate / top) * (HEIGHT - 3)).toFixed(1)]);
      }
      const whole = runs.filter((run) => run.length > 1);
      setAttribute(line, "d", whole.map((run) => `M${run.map((point) => point.join(" ")).join("L")}`).join(""));
      setAttribute(area, "d", whole.map((run) => `M${run[0][0]} ${HEIGHT}L${run.map((point) => point.join(" ")).join("L")}L${run.at(-1)[0]} ${HEIGHT}Z`).join(""));
      setAttribute(failed, "d", points.filter((point) => point.errors > 0).map(({ x }) => `M${(x * WIDTH).toFixed(1)} ${HEIGHT}v-5`).join(""));
    },
  };
}
