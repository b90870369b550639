// Pieces that the overview and a site's page share. Each is `{element, update(site)}`.

import { reloadSite, resting, restartSite, rollBackSite, scaleSite, startSite, stopSite, trySite } from "./actions.js";
import { h, setAttribute, setText } from "./dom.js";
import { ago, clock, count, duration, figure } from "./format.js";
import { daemonNow, series, siteNamed, store } from "./store.js";

const TONES = {
  serving: "ok", idle: "ok", loaded: "ok", ready: "ok", running: "ok",
  busy: "info", reloading: "info", starting: "info", booting: "info", loading: "info",
  degraded: "warn", draining: "warn", "backing-off": "warn", stopping: "warn",
  failed: "bad", overdue: "bad",
};

const ACTIONS = { restart: "Restarting", stop: "Stopping", start: "Starting" };
const MINUTE_S = 60;

/** A state, as a word in its colour. */
export function pill() {
  const word = h("span");
  const element = h("span", { class: "pill" }, h("span", { class: "dot" }), word);
  return {
    element,
    update(state) {
      setText(word, state.replace("-", " "));
      setAttribute(element, "data-tone", TONES[state] ?? "idle");
    },
  };
}

/** How the last reload went, in two lines. */
export function lastReload() {
  const result = h("span", { class: "reload-result" });
  const about = h("span", { class: "sub" });
  return {
    element: h("span", { class: "last-reload" }, result, about),
    update(site) {
      const report = site.last_reload;
      const action = store.pending.get(site.name);
      const running = report?.result === "running";
      const doing = ACTIONS[action];
      const stopped = Boolean(site.stopped_by) && !doing;
      const busy = running || action === "reload" || doing || (store.pending.has("*") && !stopped);
      let tone = "none";
      if (busy) {
        tone = "running";
        const elapsed = running && report.duration_s >= 1 ? `, ${Math.floor(report.duration_s)} s` : "";
        const loading = report?.phase === "trying" ? "Trying" : "Loading";
        setText(result, doing ?? `${loading} generation ${running ? report.generation : site.generation + 1}${elapsed}`);
        setText(about, (running && report.canary) || store.progress.get(site.name)?.replace(/^site "[^"]*":? /, "") || (report?.by ? `by ${report.by}` : ""));
      } else if (!report) {
        setText(result, "None yet");
        setText(about, "");
      } else {
        tone = report.result;
        const failed = report.result === "rolled-back";
        setText(result, failed ? "Rolled back" : `Done in ${duration(report.duration_s)}`);
        setText(about, `${ago((daemonNow() - Date.parse(report.started_at)) / 1000)} by ${report.by}`);
      }
      setAttribute(result, "data-result", tone);
      setAttribute(about, "title", about.textContent);
    },
  };
}

/** What is wrong with a site, with its traceback, or who has stopped it; hidden while nothing is to be said. */
export function problem() {
  const title = h("strong");
  const text = h("span", { class: "problem-text" });
  const pre = h("pre", { tabindex: "0" });
  const details = h("details", {}, h("summary", {}, "Show traceback"), pre);
  details.addEventListener("toggle", () => setText(details.firstElementChild, details.open ? "Hide traceback" : "Show traceback"));
  const element = h("div", { class: "problem", hidden: true }, h("p", {}, title, " ", text), details);
  return {
    element,
    /** Whether there is a problem to be seen. */
    update(site) {
      if (site.stopped_by) {
        setAttribute(element, "hidden", false);
        setAttribute(element, "data-tone", "idle");
        setText(title, site.state === "stopped" ? `Stopped by ${site.stopped_by}.` : `${site.stopped_by} has told it to stop.`);
        const meets = site.shared.length === site.listen.length ? "Requests are answered 503" : "It refuses requests";
        setText(text, site.state === "stopped" ? `${meets} until somebody starts it, whatever is reloaded.` : "Requests that run are finished.");
        setAttribute(details, "hidden", true);
        return true;
      }
      const rolledBack = site.last_reload?.result === "rolled-back" ? site.last_reload : null;
      const error = site.error ?? rolledBack?.error;
      const shown = Boolean(error);
      setAttribute(element, "hidden", !shown);
      if (!shown) return false;
      const wait = site.next_try_s ? ` Next try in ${duration(site.next_try_s)}.` : "";
      if (site.error) setText(title, site.state === "failed" ? "It cannot be loaded." : "It does not serve as asked.");
      else setText(title, `Generation ${rolledBack.generation} was rolled back, generation ${site.generation} goes on serving.`);
      setText(text, error + wait);
      const traceback = rolledBack?.details ?? "";
      setAttribute(details, "hidden", !traceback);
      setText(pre, traceback);
      setAttribute(element, "data-tone", site.error ? "bad" : "warn");
      return true;
    },
  };
}

/** Reload, Restart, Stop and, while the former code is kept, Roll back; Start alone for what is stopped. */
export function buttons(name, { compact = false } = {}) {
  const size = compact ? " compact" : "";
  const reload = h("button", { type: "button", class: `button${size}`, onclick: () => reloadSite(name) }, "Reload");
  const restart = h("button", { type: "button", class: `button${size}`, onclick: () => restartSite(name) }, "Restart");
  const trial = compact ? null : h("button", { type: "button", class: "button", onclick: () => trySite(name) }, "Try first…", h("span", { class: "unseen" }, ` the new code of ${name} on a share of the traffic`));
  const about = h("span", { class: "unseen" }, ` ${name}`);
  const back = h("button", { type: "button", class: `button back${size}`, hidden: true, onclick: () => rollBackSite(name, siteNamed(name)?.previous_generation) }, "Roll back");
  const stop = h("button", { type: "button", class: "button stop", hidden: compact, onclick: () => stopSite(name) }, "Stop");
  const start = h("button", { type: "button", class: `button start${size}`, hidden: true, onclick: () => startSite(name) }, "Start");
  const labels = [reload, restart, back, stop, start].map((button) => {
    const label = h("span", {}, button.textContent);
    button.replaceChildren(label, about.cloneNode(true));
    return label;
  });
  return {
    element: h("span", { class: "buttons changes" }, reload, trial, back, restart, stop, start),
    update() {
      const action = store.pending.get(name) ?? (store.pending.has("*") ? "reload" : undefined);
      const rest = resting(name);
      const stopped = Boolean(siteNamed(name)?.stopped_by) && action !== "stop";
      for (const button of [reload, restart, back, trial, stop, start]) if (button) setAttribute(button, "disabled", rest);
      for (const button of [reload, restart, trial]) if (button) setAttribute(button, "hidden", stopped);
      setAttribute(stop, "hidden", compact || stopped);
      setAttribute(start, "hidden", !stopped);
      setAttribute(back, "hidden", compact || stopped || !siteNamed(name)?.previous_generation);
      setText(labels[0], action === "reload" ? "Reloading…" : "Reload");
      setText(labels[2], action === "rollback" ? "Rolling back…" : "Roll back");
      setText(labels[1], action === "restart" ? "Restarting…" : "Restart");
      setText(labels[3], action === "stop" ? "Stopping…" : "Stop");
      setText(labels[4], action === "start" ? "Starting…" : "Start");
      setAttribute(stop, "aria-busy", action === "stop" ? "true" : null);
      setAttribute(start, "aria-busy", action === "start" ? "true" : null);
      setAttribute(reload, "aria-busy", action === "reload" ? "true" : null);
      setAttribute(restart, "aria-busy", action === "restart" ? "true" : null);
    },
  };
}

/** Fewer and more workers, around the number that is asked for; with `editable` another one can be typed. */
export function stepper(name, { editable = false } = {}) {
  const number = editable
    ? h("input", { type: "number", min: "1", max: "128", required: true, "aria-label": `Workers of ${name}; Enter sets the number` })
    : h("output", { "aria-label": `Workers asked for, ${name}` });
  const fewer = h("button", { type: "button", class: "changes", "aria-label": `One worker fewer for ${name}`, onclick: () => scaleSite(name, "-1") }, "−");
  const more = h("button", { type: "button", class: "changes", "aria-label": `One worker more for ${name}`, onclick: () => scaleSite(name, asked ? "+1" : 1) }, "+");
  const element = h(editable ? "form" : "span", { class: "stepper" }, fewer, number, more);
  let asked = 0;
  if (editable) {
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      if (number.valueAsNumber !== asked) scaleSite(name, number.valueAsNumber);
    });
    // What was typed and not set is not what is: leaving shows the truth again.
    number.addEventListener("blur", () => {
      number.value = asked;
    });
  }
  return {
    element,
    update(site) {
      asked = asks(site);
      const rest = resting(name) || Boolean(site.stopped_by);
      if (!editable) setText(number, asked);
      else if (document.activeElement !== number) number.value = asked;
      if (editable) setAttribute(number, "disabled", rest || !store.mayChange);
      setAttribute(fewer, "disabled", rest || asked <= 1);
      setAttribute(more, "disabled", rest);
    },
  };
}

/** How many workers a site is asked to have. */
export function asks(site) {
  return site.workers_asked ?? site.workers.length;
}

/** How many workers a site is asked to have, and where the load decides: between which bounds, and why so many. */
export function asksInWords(site) {
  const words = `${asks(site)} asked for`;
  if (!(site.workers_min < site.workers_max)) return words;
  return `${words}, ${site.workers_min} to ${site.workers_max} allowed${site.workers_why ? `: ${site.workers_why}` : ""}`;
}

/** Workers of the site that answer, and how many of them run a request. */
export function workersOf(site) {
  const serving = site.workers.filter((worker) => worker.state === "idle" || worker.state === "busy" || worker.state === "overdue");
  return { serving: serving.length, busy: serving.filter((worker) => worker.busy > 0 || worker.state !== "idle").length };
}

/** The last minute of a site behind the router: requests that had to wait for a worker, and that were turned away. */
export function queueInWords(site) {
  const { waited, waitedS, turnedAway } = series(site.name).lately(MINUTE_S);
  return {
    waited: waited ? `${count(waited)} waited, ${figure((1000 * waitedS) / waited)} ms each` : "",
    turnedAway: turnedAway ? `${count(turnedAway)} turned away` : "",
  };
}

/** Where a site is to be opened in a browser, null when its address is none for browsers. */
export function addressOf(listen, scheme = "http") {
  const parts = /^(.*):(\d+)$/.exec(listen);
  if (!parts || /^(unix|fd):/.test(listen)) return null;
  const everywhere = parts[1] === "0.0.0.0" || parts[1] === "[::]";
  return `${scheme}://${everywhere ? location.hostname : parts[1]}:${parts[2]}/`;
}

/** A list of a site's listen addresses, those that a browser opens as links. */
export function addresses(site, listens = site.listen) {
  const secured = site.tls_listen ?? [];
  return listens.map((listen) => {
    const url = addressOf(listen, secured.includes(listen) ? "https" : "http");
    return url
      ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, listen, h("span", { class: "unseen" }, " (opens in a new tab)"))
      : h("span", {}, listen);
  });
}

/** Milliseconds of a percentile. */
export function milliseconds(value) {
  return figure(value);
}

/** One event of the history. */
export function eventItem(event) {
  const details = event.details
    ? h("details", {}, h("summary", {}, "Details"), h("pre", { tabindex: "0" }, event.details))
    : null;
  return h(
    "li",
    { class: "event", "data-level": event.level },
    h("time", { datetime: event.at, class: "mono" }, clock(event.at)),
    h("span", { class: "dot" }, h("span", { class: "unseen" }, event.level === "info" ? "" : `${event.level}: `)),
    h("div", { class: "event-body" }, h("span", {}, event.text), event.by ? h("span", { class: "muted" }, ` by ${event.by}`) : null, details),
  );
}
