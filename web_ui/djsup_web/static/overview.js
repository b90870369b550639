// Every site at a glance: totals above, a row a site, what happened last.

import { reloadAll, resting } from "./actions.js";
import { h, keyedList, setAttribute, setText } from "./dom.js";
import { bytes, count, figure, plural } from "./format.js";
import { addresses, asks, buttons, eventItem, lastReload, milliseconds, pill, problem, queueInWords, stepper, workersOf } from "./parts.js";
import { sparkline, sparks } from "./sparkline.js";
import { series, store } from "./store.js";

const FILTER_FROM = 8;
const EVENTS_SHOWN = 12;
const WELL = new Set(["serving", "sleeping"]);
const MINUTE_S = 60;

/** Whether an operator should look at a site. */
export function isTrouble(site) {
  if (site.stopped_by) return false; // somebody wants it so
  return !(WELL.has(site.state) || site.state === "reloading") || site.last_reload?.result === "rolled-back";
}

/** Build the page into `main`; gives what updates and ends it. */
export function overview(main) {
  const lines = sparks();
  const parts = [tiles(lines), sitesTable(lines), recentEvents()];
  main.replaceChildren(
    h("h1", { class: "unseen", tabindex: "-1" }, "Overview"),
    ...parts.map((part) => part.element),
  );
  return {
    update: () => parts.forEach((part) => part.update()),
    end: lines.end,
    title() {
      const trouble = store.snapshot.sites.filter(isTrouble).length;
      return trouble ? `(${trouble}) djsup` : "djsup";
    },
  };
}

function tile(name, extra = null) {
  const value = h("p", { class: "tile-value" });
  const sub = h("p", { class: "tile-sub" });
  const element = h("div", { class: "tile" }, h("h2", {}, name), value, sub, extra);
  return {
    element,
    show(text, below, tone = "") {
      setText(value, text);
      setText(sub, below);
      setAttribute(element, "data-tone", tone);
    },
  };
}

function tiles(lines) {
  const spark = sparkline();
  const sites = tile("Sites");
  const rate = tile("Requests/s", spark.element);
  const latency = tile("Slowest p95");
  const errors = tile("5xx, last minute");
  const workers = tile("Workers busy");
  const memory = tile("Memory");
  return {
    element: h("section", { class: "tiles", "aria-label": "All sites together" }, ...[sites, rate, latency, errors, workers, memory].map((each) => each.element)),
    update() {
      const all = store.snapshot.sites;
      const sum = (of) => all.reduce((total, site) => total + of(site), 0);
      const stopped = all.filter((site) => site.stopped_by);
      const well = all.filter((site) => !isTrouble(site)).length - stopped.length;
      const troubles = all.filter(isTrouble);
      const rest = stopped.length === 1 ? `${stopped[0].name} is stopped` : stopped.length ? `${stopped.length} are stopped` : "all is well";
      sites.show(
        `${well} / ${all.length}`,
        troubles.length ? `${troubles[0].name}${troubles.length > 1 ? ` and ${troubles.length - 1} more need` : " needs"} a look` : rest,
        troubles.length ? (troubles.every((site) => WELL.has(site.state)) ? "warn" : "bad") : "",
      );
      rate.show(figure(sum((site) => site.requests_per_s)), `${count(sum((site) => site.requests))} so far`);
      spark.update(lines.all());
      const timed = all.filter((site) => site.latency_ms.p95 !== null);
      const slowest = timed.sort((one, other) => other.latency_ms.p95 - one.latency_ms.p95)[0];
      latency.show(slowest ? `${milliseconds(slowest.latency_ms.p95)} ms` : "–", slowest ? slowest.name : "no request in the last minute");
      const lately = series("*").lately(MINUTE_S);
      const share = lately.answers ? (100 * lately.errors) / lately.answers : 0;
      errors.show(count(lately.errors), lately.errors ? `${share < 0.01 ? "below 0.01" : share.toFixed(2)} % of answers` : sinceText(lately), lately.errors ? "bad" : "");
      const busy = sum((site) => workersOf(site).busy);
      workers.show(`${busy} / ${sum((site) => workersOf(site).serving)}`, `${sum(asks)} asked for`);
      memory.show(bytes(sum((site) => site.memory_bytes)), `CPU ${figure(sum((site) => site.cpu_percent))} %`);
    },
  };
}

function sinceText({ seconds, answers }) {
  const known = seconds < MINUTE_S - 5 ? ` in ${Math.round(seconds)} s` : "";
  return `of ${plural(answers, "answer")}${known}`;
}

const COLUMNS = [
  ["Site", ""], ["State", ""], ["Requests/s", ""],
  ["p50", "number ms"], ["p95", "number ms"], ["p99", "number ms"],
  ["5xx", "number"], ["Memory", "number"], ["Workers", ""], ["Last reload", ""], ["", ""],
];

function sitesTable(lines) {
  const table = h(
    "table",
    { role: "table", "aria-label": "Sites" },
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        ...COLUMNS.map(([name, kind]) =>
          h("th", { role: "columnheader", scope: "col", class: kind }, name || h("span", { class: "unseen" }, "Actions"), kind.includes("ms") ? h("span", { class: "unit" }, " ms") : null),
        ),
      ),
    ),
  );
  const filter = h("input", { type: "search", id: "filter", placeholder: "Filter by name, state or address", "aria-label": "Filter sites", autocomplete: "off", spellcheck: "false", oninput: () => update() });
  const onlyTrouble = h("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: toggle });
  const shown = h("p", { class: "muted small", role: "status" });
  const tools = h("div", { class: "filter" }, filter, onlyTrouble, shown);
  const reload = h("button", { type: "button", class: "button changes", onclick: reloadAll }, "Reload all");
  const none = h("p", { class: "state-page", hidden: true });
  const element = h(
    "section",
    { class: "panel sites", "aria-labelledby": "sites-title" },
    h("header", { class: "panel-head" }, h("h2", { id: "sites-title" }, "Sites"), tools, reload),
    table,
    none,
  );
  const rows = keyedList(table, (site) => site.name, (site) => siteRow(site, lines), 1);

  function toggle() {
    setAttribute(onlyTrouble, "aria-pressed", onlyTrouble.getAttribute("aria-pressed") === "true" ? "false" : "true");
    update();
  }

  function update() {
    const all = store.snapshot.sites;
    const many = all.length > FILTER_FROM;
    setAttribute(tools, "hidden", !many);
    const words = many ? filter.value.trim().toLowerCase().split(/\s+/) : [];
    const troubles = all.filter(isTrouble);
    setText(onlyTrouble, `Needs a look (${troubles.length})`);
    const base = many && onlyTrouble.getAttribute("aria-pressed") === "true" ? troubles : all;
    const wanted = base.filter((site) => {
      const text = [site.name, site.state, ...site.listen, ...site.hosts].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    rows(wanted);
    setText(shown, wanted.length < all.length ? `${wanted.length} of ${all.length}` : "");
    setAttribute(table, "hidden", wanted.length === 0);
    setAttribute(none, "hidden", wanted.length > 0);
    setText(none, all.length ? "No site matches." : "The configuration names no site yet. Add a table [sites.NAME] to it, then reload.");
    setAttribute(reload, "disabled", resting("*") || store.pending.size > 0);
    setText(reload, store.pending.has("*") ? "Reloading…" : "Reload all");
  }

  return { element, update };
}

function siteRow({ name }, lines) {
  const state = pill();
  const spark = sparkline();
  const reload = lastReload();
  const trouble = problem();
  const actions = buttons(name, { compact: true });
  const steps = stepper(name);
  const listens = h("span", { class: "sub mono" });
  const generation = h("span", { class: "sub" });
  const rate = h("span", { class: "rate" });
  const [p50, p95, p99, errors, errorsSub, memory, memorySub, busy, queue] = Array.from({ length: 9 }, () => h("span"));
  for (const each of [errorsSub, memorySub]) each.className = "sub";
  busy.className = queue.className = "sub";
  const cell = (label, kind, ...children) => h("td", { role: "cell", class: kind, "data-label": label }, ...children);
  const main = h(
    "tr",
    { role: "row" },
    h("th", { role: "rowheader", scope: "row", class: "site-name" }, h("a", { href: `#/sites/${encodeURIComponent(name)}` }, name), listens),
    cell("State", "state", state.element, generation),
    cell("Requests/s", "rate-cell", h("div", {}, rate, spark.element)),
    cell("p50 ms", "number", p50),
    cell("p95 ms", "number", p95),
    cell("p99 ms", "number", p99),
    cell("5xx", "number", errors, errorsSub),
    cell("Memory", "number", memory, memorySub),
    cell("Workers", "workers", steps.element, busy, queue),
    cell("Last reload", "reload", reload.element),
    cell("", "actions", actions.element),
  );
  const below = h("tr", { role: "row", class: "problem-row" }, h("td", { role: "cell", colspan: COLUMNS.length }, trouble.element));
  const element = h("tbody", { role: "rowgroup", "data-site": name }, main, below);
  let listened = "";
  return {
    element,
    update(site) {
      if (listened !== site.listen.join()) {
        listened = site.listen.join();
        listens.replaceChildren(...addresses(site, site.listen.slice(0, 1)), site.listen.length > 1 ? ` +${site.listen.length - 1}` : "");
      }
      state.update(site.state);
      setText(generation, site.generation ? `generation ${site.generation}` : "");
      setText(rate, figure(site.requests_per_s));
      spark.update(lines.of(name));
      setText(p50, milliseconds(site.latency_ms.p50));
      setText(p95, milliseconds(site.latency_ms.p95));
      setText(p99, milliseconds(site.latency_ms.p99));
      const lately = series(name).lately(MINUTE_S);
      setText(errors, count(lately.errors));
      setAttribute(errors, "class", lately.errors ? "hot" : "zero");
      setText(errorsSub, site.status["5xx"] ? `${count(site.status["5xx"])} in all` : "");
      setText(memory, bytes(site.memory_bytes));
      setText(memorySub, `CPU ${figure(site.cpu_percent)} %`);
      const workers = workersOf(site);
      setText(busy, workers.serving ? `${workers.busy} of ${workers.serving} busy` : site.stopped_by ? "" : "none serves");
      const waits = queueInWords(site);
      setText(queue, [site.queue.waiting ? `${count(site.queue.waiting)} wait` : "", waits.turnedAway].filter(Boolean).join(", "));
      setAttribute(queue, "class", waits.turnedAway ? "sub hot" : "sub warm");
      setAttribute(queue, "title", waits.waited ? `In the last minute ${waits.waited}` : "");
      steps.update(site);
      reload.update(site);
      actions.update(site);
      setAttribute(below, "hidden", !trouble.update(site));
      setAttribute(element, "data-trouble", isTrouble(site));
    },
  };
}

function recentEvents() {
  const list = h("ol", { class: "events" });
  const none = h("p", { class: "muted empty" }, "Nothing has happened yet.");
  const rows = keyedList(list, (event) => `${event.id} ${event.at}`, (event) => ({ element: eventItem(event), update() {} }));
  return {
    element: h("section", { class: "panel", "aria-labelledby": "events-title" }, h("header", { class: "panel-head" }, h("h2", { id: "events-title" }, "Recent events")), list, none),
    update() {
      const shown = store.events.slice(-EVENTS_SHOWN).reverse();
      rows(shown);
      setAttribute(none, "hidden", shown.length > 0);
    },
  };
}
