// What the page knows: the newest snapshot, the connection, events, running actions, and a minute of
// counters for each site. Changed by stream.js and actions.js; views subscribe and are called once a frame.

const HISTORY_S = 75; // a minute, and what a late snapshot may add
/** Answers, those of them that are 5xx; requests that had to wait for a worker, how long, and that were turned away. */
const COUNTED = ["answers", "errors", "waited", "waitedS", "turnedAway"];
export const EVENTS_MAX = 500;
/** States in which something goes on that ends by itself. */
export const MOVING = new Set(["starting", "reloading", "stopping"]);

export const store = {
  /** The object of GET api/status, null before the first. */
  snapshot: null,
  /** When it came, on performance.now()'s clock. */
  receivedAt: 0,
  /** connecting, live, daemon-gone, dashboard-gone */
  link: "connecting",
  linkError: "",
  /** Whether this session may do more than look; the server refuses it otherwise. */
  mayChange: true,
  /** Newest last. */
  events: [],
  /** Site name (or "*") to the action that this page runs: reload, restart, stop, start, scale. */
  pending: new Map(),
  /** Site name to the last progress text of its running action. */
  progress: new Map(),
  /** Site name (or "*") to its Series. */
  series: new Map(),
};

const listeners = new Set();
let scheduled = false;

/** Call `listener` after changes, at most once a frame; gives the function that ends it. */
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Something changed. */
export function changed() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    for (const listener of [...listeners]) listener();
  });
}

/** Counters of the last minute, oldest first: what a snapshot says of "lately". */
export class Series {
  #points = [];

  /** `counts` is an object of COUNTED numbers. */
  add(at, counts) {
    const last = this.#points.at(-1);
    // Counters that fall began anew (the site was restarted): what was before says nothing about now.
    if (last && COUNTED.some((key) => counts[key] < last[key])) this.#points = [];
    this.#points.push({ at, ...counts });
    while (this.#points[0].at < at - HISTORY_S * 1000) this.#points.shift();
  }

  /** What was counted in the last `seconds`, and how many seconds are really known. */
  lately(seconds) {
    const last = this.#points.at(-1);
    const first = last && this.#points.find((point) => point.at >= last.at - seconds * 1000);
    const counts = Object.fromEntries(COUNTED.map((key) => [key, last ? last[key] - first[key] : 0]));
    return { ...counts, seconds: last ? (last.at - first.at) / 1000 : 0 };
  }
}

/** A snapshot came. */
export function take(snapshot) {
  const now = performance.now();
  const total = Object.fromEntries(COUNTED.map((key) => [key, 0]));
  const names = new Set(["*"]);
  for (const site of snapshot.sites) {
    const answers = Object.values(site.status).reduce((sum, each) => sum + each, 0);
    const { waited, waited_s: waitedS, turned_away: turnedAway } = site.queue;
    const counts = { answers, errors: site.status["5xx"], waited, waitedS, turnedAway };
    series(site.name).add(now, counts);
    for (const key of COUNTED) total[key] += counts[key];
    names.add(site.name);
    // Another page's action has ended; our own clears up after itself.
    if (!MOVING.has(site.state) && !store.pending.has(site.name)) store.progress.delete(site.name);
  }
  series("*").add(now, total);
  for (const name of store.series.keys()) if (!names.has(name)) store.series.delete(name);
  store.snapshot = snapshot;
  store.receivedAt = now;
  changed();
}

/** The figures of one site, "*" for all together. */
export function series(name) {
  let known = store.series.get(name);
  if (!known) {
    known = new Series();
    store.series.set(name, known);
  }
  return known;
}

/** An event came; the same one comes again after a reconnect. */
export function takeEvent(event) {
  if (store.events.some((known) => known.id === event.id && known.at === event.at)) return;
  store.events.push(event);
  if (store.events.length > EVENTS_MAX) store.events.shift();
  changed();
}

/** The site of that name in the newest snapshot. */
export function siteNamed(name) {
  return store.snapshot?.sites.find((site) => site.name === name);
}

/** The daemon's clock, in milliseconds since the epoch: the browser's may be wrong. */
export function daemonNow() {
  const daemon = store.snapshot.daemon;
  return Date.parse(daemon.started_at) + daemon.uptime_s * 1000 + (performance.now() - store.receivedAt);
}
