// "Profile": all workers look for some seconds where their threads are; shown as a flame graph and as a table.
// A box is a call, as wide as its share, above the call that made it. A click or Enter on one zooms to it.

import { post } from "./api.js";
import { h, setAttribute, setText, svg } from "./dom.js";
import { count, plural } from "./format.js";
import { store } from "./store.js";

const ROW = 19;
const NARROWEST = 0.0015; // of the whole width; what is narrower nobody can see
const TOPS = 10;
const SECONDS = [5, 10, 30, 60];
const TICK_MS = 500;

/** The panel of one site; gives `{element, update}`. */
export function profilePanel(name) {
  const seconds = h("select", { "aria-label": "How long" }, ...SECONDS.map((each) => h("option", { value: each }, `${each} s`)));
  seconds.value = "10";
  const button = h("button", { type: "submit", class: "button" }, "Profile");
  const form = h("form", { class: "profile-form changes" }, seconds, button);
  const about = h("p", { class: "muted small", role: "status" });
  const hint = h("p", { class: "muted empty" }, "Which functions take the time. The site serves on while its workers look at themselves.");
  const body = h("div", { class: "profile", hidden: true });
  let running = false;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const length = Number(seconds.value);
    const bar = h("progress", { max: length, value: 0, "aria-label": "Profile" });
    const begun = performance.now();
    const tick = setInterval(() => setAttribute(bar, "value", Math.min(length, (performance.now() - begun) / 1000).toFixed(1)), TICK_MS);
    running = true;
    setAttribute(hint, "hidden", true);
    setAttribute(body, "hidden", false);
    body.replaceChildren(bar);
    setText(about, `Looking for ${length} s…`);
    update();
    try {
      show(await post(`api/sites/${encodeURIComponent(name)}/profile`, { seconds: length }));
    } catch (error) {
      setText(about, error.message);
      setAttribute(body, "hidden", true);
    } finally {
      clearInterval(tick);
      running = false;
      update();
    }
  });

  function show(found) {
    setText(about, `${plural(found.samples, "sample")} of code, ${count(found.idle)} idle, at ${new Date().toLocaleTimeString("en-GB")}`);
    const silent = found.processes.filter((each) => each.error);
    body.replaceChildren(
      ...silent.map((each) => h("p", { class: "problem" }, `Nothing of worker ${each.slot} (pid ${each.pid}): ${each.error}`)),
      ...(found.samples ? [flame(found), tops(found)] : [h("p", {}, "No thread ran any code: all of them waited for requests.")]),
    );
  }

  function update() {
    const rest = running || store.link !== "live";
    setAttribute(button, "disabled", rest);
    setAttribute(seconds, "disabled", rest);
    setText(button, running ? "Profiling…" : "Profile");
  }

  return {
    element: h("section", { class: "panel", "aria-labelledby": "profile-title" }, h("header", { class: "panel-head" }, h("h2", { id: "profile-title" }, "Profile"), about, form), hint, body),
    update,
  };
}

function treeOf({ frames, stacks, samples }) {
  const root = { name: "all", where: "", count: samples, parent: null, children: new Map() };
  for (const [times, calls] of stacks) {
    let node = root;
    for (const index of calls) {
      let child = node.children.get(index);
      if (!child) {
        const [file, line, name] = frames[index];
        child = { name, where: `${file}:${line}`, file, count: 0, parent: node, children: new Map() };
        node.children.set(index, child);
      }
      child.count += times;
      node = child;
    }
  }
  return root;
}

function flame(found) {
  const root = treeOf(found);
  const picture = svg("svg", { class: "flame", role: "group", "aria-label": "Flame graph: arrow keys go from call to call, Enter zooms, Escape shows all" });
  const told = h("p", { class: "small", role: "status" });
  const all = h("button", { type: "button", class: "button compact", hidden: true, onclick: () => draw(root, root) }, "Show all");
  let boxes = new Map();

  function tell(node) {
    setText(told, `${percent(node.count, found.samples)} ${node.name} ${node.where}`);
  }

  function draw(zoomed, focused) {
    const hadFocus = picture.contains(document.activeElement);
    boxes = new Map();
    let deepest = 0;
    const place = (node, x, depth) => {
      const width = node.count / zoomed.count;
      if (width < NARROWEST) return;
      deepest = Math.max(deepest, depth);
      boxes.set(node, { x, depth, width });
      let left = x;
      for (const child of [...node.children.values()].sort((one, other) => other.count - one.count)) {
        place(child, left, depth + 1);
        left += child.count / zoomed.count;
      }
    };
    const below = [];
    for (let node = zoomed.parent; node; node = node.parent) below.unshift(node);
    below.forEach((node, depth) => boxes.set(node, { x: 0, depth, width: 1 }));
    place(zoomed, 0, below.length);
    const height = (Math.max(deepest, below.length) + 1) * ROW;
    setAttribute(picture, "height", height);
    const made = [...boxes].map(([node, { x, depth, width }]) => {
      const element = svg(
        "svg",
        {
          class: "box", x: `${(x * 100).toFixed(3)}%`, y: height - (depth + 1) * ROW, width: `${(width * 100).toFixed(3)}%`, height: ROW,
          role: "button", tabindex: node === focused ? "0" : "-1", "aria-label": `${node.name}, ${percent(node.count, found.samples)}`,
          onclick: () => draw(node, node), onmouseenter: () => tell(node), onfocus: () => tell(node), onkeydown: (event) => steer(event, node),
        },
        svg("rect", { class: colour(node), width: "100%", height: "100%", rx: 2 }),
        svg("text", { x: 4, y: 13, "aria-hidden": "true" }, node.name),
      );
      boxes.get(node).element = element;
      return element;
    });
    picture.replaceChildren(...made);
    setAttribute(all, "hidden", zoomed === root);
    tell(focused);
    if (hadFocus) boxes.get(focused)?.element.focus();
  }

  function steer(event, node) {
    const siblings = node.parent ? [...node.parent.children.values()].filter((each) => boxes.has(each)).sort((one, other) => boxes.get(one).x - boxes.get(other).x) : [node];
    const at = siblings.indexOf(node);
    const widest = [...node.children.values()].sort((one, other) => other.count - one.count)[0];
    const next = { ArrowLeft: siblings[at - 1], ArrowRight: siblings[at + 1], ArrowUp: widest, ArrowDown: node.parent }[event.key];
    if (event.key === "Enter" || event.key === " ") draw(node, node);
    else if (event.key === "Escape") draw(root, root);
    else if (next && boxes.has(next)) {
      setAttribute(boxes.get(node).element, "tabindex", "-1");
      setAttribute(boxes.get(next).element, "tabindex", "0");
      boxes.get(next).element.focus();
    } else if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
  }

  draw(root, root);
  return h("div", {}, h("div", { class: "told" }, all, told), picture);
}

function tops({ frames, stacks, samples }) {
  const own = new Map();
  const total = new Map();
  const add = (map, key, number) => map.set(key, (map.get(key) ?? 0) + number);
  for (const [times, calls] of stacks) {
    if (calls.length) add(own, calls.at(-1), times);
    for (const each of new Set(calls)) add(total, each, times);
  }
  const first = [...total.keys()].sort((one, other) => (own.get(other) ?? 0) - (own.get(one) ?? 0) || total.get(other) - total.get(one)).slice(0, TOPS);
  const head = ["Self", "Total", "Function", "Where"].map((each, at) => h("th", { scope: "col", class: at < 2 ? "number" : "" }, each));
  const row = (each) => {
    const [file, line, name] = frames[each];
    return h("tr", {}, h("td", { class: "number" }, percent(own.get(each) ?? 0, samples)), h("td", { class: "number" }, percent(total.get(each), samples)), h("th", { scope: "row", class: "function" }, name), h("td", {}, `${file}:${line}`));
  };
  return h("table", { class: "tops", "aria-label": "Functions that take the time" }, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...first.map(row)));
}

function colour(node) {
  if (!node.parent) return "all";
  if (/\/(site|dist)-packages\/|\/lib\/python3/.test(node.file)) return "lib";
  let sum = 0;
  for (const letter of node.name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return `c${sum % 6}`;
}

function percent(part, whole) {
  return `${((100 * part) / whole).toFixed(1)} %`;
}
