// One site: what it is, its figures, every worker with what it does now, what happened, what it printed.

import { pastPanels } from "./charts.js";
import { h, keyedList, setAttribute, setText } from "./dom.js";
import { age, bytes, count, duration, figure } from "./format.js";
import { followLog } from "./log.js";
import { addresses, asksInWords, buttons, eventItem, lastReload, milliseconds, pill, problem, queueInWords, stepper, workersOf } from "./parts.js";
import { profilePanel } from "./profile.js";
import { programsPanel } from "./programs.js";
import { requestsPanel } from "./requests.js";
import { rolloutPanel } from "./rollout.js";
import { markAge, stacksPanel } from "./stacks.js";
import { series, siteNamed, store } from "./store.js";

const EVENTS_SHOWN = 30;
const MINUTE_S = 60;
const AGE_TICK_MS = 100;

/** Build the page of one site into `main`; gives what updates and ends it. */
export function sitePage(main, name) {
  const past = pastPanels(name);
  const requests = requestsPanel(name);
  const parts = [heading(name), rolloutPanel(), trouble(), figures(name), workersPanel(name), past, requests, stacksPanel(name), profilePanel(name), programsPanel(name), eventsPanel(name)];
  const log = followLog(name);
  const gone = h("p", { class: "state-page", hidden: true }, `There is no site “${name}” now. `, h("a", { href: "#/" }, "Back to all sites"));
  const page = h("div", { class: "site-page" }, ...parts.map((part) => part.element), log.element);
  main.replaceChildren(gone, page);
  const ages = setInterval(() => store.link === "live" && tickAges(page), AGE_TICK_MS);
  return {
    update() {
      const site = siteNamed(name);
      setAttribute(gone, "hidden", Boolean(site));
      setAttribute(page, "hidden", !site);
      if (site) parts.forEach((part) => part.update(site));
    },
    end() {
      clearInterval(ages);
      log.end();
      past.end();
      requests.end();
    },
    title: () => `${name} · djsup`,
  };
}

function heading(name) {
  const state = pill();
  const actions = buttons(name);
  const steps = stepper(name, { editable: true });
  const scale = h("div", { class: "scale" }, h("span", { class: "muted small" }, "Workers"), steps.element);
  const facts = h("dl", { class: "facts" });
  let told = "";

  return {
    element: h(
      "header",
      { class: "site-head" },
      h("nav", { "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "Sites"), h("span", { "aria-hidden": "true" }, " / "), h("span", { "aria-current": "page" }, name)),
      h("div", { class: "site-title" }, h("h1", { tabindex: "-1" }, name), state.element, h("div", { class: "site-actions" }, scale, actions.element)),
      facts,
    ),
    update(site) {
      state.update(site.state);
      actions.update(site);
      steps.update(site);
      const known = JSON.stringify([site.listen, site.hosts, site.python, site.django, site.notes, site.generation]);
      if (known === told) return;
      told = known;
      const fact = (term, ...values) => h("div", {}, h("dt", {}, term), h("dd", {}, ...values));
      const list = (values) => values.flatMap((value, index) => (index ? [", ", value] : [value]));
      facts.replaceChildren(
        fact("Address", ...list(addresses(site))),
        ...(site.hosts.length ? [fact("Hosts", site.hosts.join(", "))] : []),
        fact("Generation", site.generation || "none yet"),
        ...(site.python ? [fact("Python", site.python)] : []),
        ...(site.django ? [fact("Django", site.django)] : []),
        ...(site.notes?.length ? [fact("Note", site.notes.join("; "))] : []),
      );
    },
  };
}

function trouble() {
  const part = problem();
  return { element: part.element, update: part.update };
}

function tile(title, ...content) {
  return h("div", { class: "tile" }, h("h2", {}, title), ...content);
}

function figures(name) {
  const reload = lastReload();
  const text = () => h("p", { class: "tile-value" });
  const sub = () => h("p", { class: "tile-sub" });
  const [rate, memory, busy, waiting] = [text(), text(), text(), text()];
  const [rateSub, memorySub, busySub, answersSub, waitingSub, awaySub] = Array.from({ length: 6 }, sub);
  const percentiles = ["p50", "p95", "p99"].map((key) => ({ key, value: h("dd") }));
  const classes = ["2xx", "3xx", "4xx", "5xx"].map((key) => ({ key, value: h("dd") }));
  // Requests of its shared addresses come through the router, where they wait for a worker.
  const queue = tile("Queue", waiting, waitingSub, awaySub);
  queue.classList.add("queue");
  const element = h(
    "section",
    { class: "tiles site-tiles", "aria-label": "Figures" },
    tile("Requests/s", rate, rateSub),
    tile("Latency in ms", h("dl", { class: "trio" }, ...percentiles.map(({ key, value }) => h("div", {}, h("dt", {}, key), value))), h("p", { class: "tile-sub" }, "of the last minute")),
    tile("Answers", h("dl", { class: "trio" }, ...classes.map(({ key, value }) => h("div", { "data-class": key }, h("dt", {}, key), value))), answersSub),
    tile("Memory", memory, memorySub),
    tile("Workers busy", busy, busySub),
    queue,
    tile("Last reload", reload.element),
  );
  return {
    element,
    update(site) {
      setText(rate, figure(site.requests_per_s));
      setText(rateSub, `${count(site.requests)} so far`);
      for (const { key, value } of percentiles) setText(value, milliseconds(site.latency_ms[key]));
      for (const { key, value } of classes) {
        setText(value, count(site.status[key]));
        setAttribute(value.parentElement, "data-some", site.status[key] > 0);
      }
      const lately = series(name).lately(MINUTE_S);
      setText(answersSub, lately.errors ? `${count(lately.errors)} × 5xx in the last minute` : "");
      setText(memory, bytes(site.memory_bytes));
      setText(memorySub, `CPU ${figure(site.cpu_percent)} %`);
      const workers = workersOf(site);
      setText(busy, `${workers.busy} / ${workers.serving}`);
      setText(busySub, asksInWords(site));
      const routed = site.shared.length > 0;
      setAttribute(queue, "hidden", !routed);
      setAttribute(element, "data-routed", routed);
      if (routed) {
        const { waited, turnedAway } = queueInWords(site);
        setText(waiting, `${count(site.queue.waiting)} wait`);
        setText(waitingSub, waited || "none in the last minute");
        setText(awaySub, turnedAway);
        setAttribute(queue, "data-tone", turnedAway ? "bad" : site.queue.waiting ? "warn" : "");
      }
      reload.update(site);
    },
  };
}

const WORKER_COLUMNS = [
  ["Slot", "number"], ["State", ""], ["Runs now", "grow"], ["PID", "number"], ["Gen", "number"], ["Requests", "number"],
  ["Threads", "number"], ["Conns", "number"], ["Memory", "number"], ["CPU", "number"], ["Up", "number"],
];

function workersPanel(name) {
  const table = h(
    "table",
    { role: "table", "aria-label": `Workers of ${name}` },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...WORKER_COLUMNS.map(([title, kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, title)))),
  );
  const body = h("tbody", { role: "rowgroup" });
  table.append(body);
  const none = h("p", { class: "muted empty" }, "No worker runs.");
  const templates = h("p", { class: "muted small templates" });
  const rows = keyedList(body, (worker) => `${worker.slot} ${worker.generation} ${worker.pid}`, workerRow);
  return {
    element: h("section", { class: "panel workers-panel", "aria-labelledby": "workers-title" }, h("header", { class: "panel-head" }, h("h2", { id: "workers-title" }, "Workers"), templates), table, none),
    update(site) {
      rows(site.workers);
      setAttribute(table, "hidden", site.workers.length === 0);
      setAttribute(none, "hidden", site.workers.length > 0);
      setText(
        templates,
        (site.templates ?? [])
          .map((each) => `Template of generation ${each.generation}: ${each.state}${each.pid ? `, pid ${each.pid}` : ""}${each.pss_bytes ? `, ${bytes(each.pss_bytes)}` : ""}`)
          .join(" · "),
      );
    },
  };
}

function workerRow() {
  const state = pill();
  const requests = h("ul", { class: "current" });
  const nothing = h("span", { class: "muted" }, "–");
  const plain = Array.from({ length: 9 }, () => h("span"));
  const [slot, pid, generation, served, threads, connections, memory, cpu, up] = plain;
  const busy = keyedList(requests, (request) => request.key, currentRequest);
  const cell = (label, kind, content) => h("td", { role: "cell", class: kind, "data-label": label }, content);
  return {
    element: h(
      "tr",
      { role: "row" },
      h("th", { role: "rowheader", scope: "row", class: "number" }, slot),
      cell("State", "", state.element),
      cell("Runs now", "grow", h("div", {}, requests, nothing)),
      cell("PID", "number", pid),
      cell("Gen", "number", generation),
      cell("Requests", "number", served),
      cell("Threads", "number", threads),
      cell("Conns", "number", connections),
      cell("Memory", "number", memory),
      cell("CPU", "number", cpu),
      cell("Up", "number", up),
    ),
    update(worker) {
      setText(slot, worker.slot);
      state.update(worker.state);
      busy(worker.current.map((request, index) => ({ ...request, key: `${index} ${request.method} ${request.path}` })));
      setAttribute(nothing, "hidden", worker.current.length > 0);
      setText(pid, worker.pid ?? "–");
      setText(generation, worker.generation);
      setText(served, count(worker.requests));
      setText(threads, `${worker.busy} / ${worker.threads}`);
      setText(connections, worker.connections);
      setText(memory, bytes(worker.pss_bytes || worker.rss_bytes));
      setText(cpu, `${figure(worker.cpu_percent)} %`);
      setText(up, duration(worker.uptime_s));
    },
  };
}

function currentRequest() {
  const method = h("span", { class: "method" });
  const path = h("span", { class: "path mono" });
  const time = h("span", { class: "age" });
  return {
    element: h("li", {}, time, method, path),
    update(request) {
      setText(method, request.method);
      setText(path, request.path);
      setAttribute(path, "title", request.path);
      time.dataset.age = request.age_s;
      showAge(time);
    },
  };
}

function showAge(time) {
  const seconds = Number(time.dataset.age) + (performance.now() - store.receivedAt) / 1000;
  setText(time, age(seconds));
  markAge(time, seconds);
}

function tickAges(page) {
  for (const time of page.querySelectorAll(".age")) showAge(time);
}

function eventsPanel(name) {
  const list = h("ol", { class: "events" });
  const none = h("p", { class: "muted empty" }, "Nothing has happened to this site yet.");
  const rows = keyedList(list, (event) => `${event.id} ${event.at}`, (event) => ({ element: eventItem(event), update() {} }));
  return {
    element: h("section", { class: "panel", "aria-labelledby": "site-events-title" }, h("header", { class: "panel-head" }, h("h2", { id: "site-events-title" }, "Recent events")), list, none),
    update() {
      const shown = store.events.filter((event) => event.site === name).slice(-EVENTS_SHOWN).reverse();
      rows(shown);
      setAttribute(none, "hidden", shown.length > 0);
    },
  };
}
