// The story of the page: one live connection fills the store, the address (#/, #/sites/NAME, #/daemon) picks the view,
// the view is brought up to date after each change.

import { logOut } from "./actions.js";
import { getJson } from "./api.js";
import { daemonPage } from "./daemon.js";
import { h, setAttribute, setText } from "./dom.js";
import { duration } from "./format.js";
import { overview } from "./overview.js";
import { sitePage } from "./site.js";
import { changed, daemonNow, store, subscribe } from "./store.js";
import { begin } from "./stream.js";

const main = document.getElementById("content");
const byId = (id) => document.getElementById(id);
let view = null;
let shownRoute = null;

function route() {
  if (location.hash === "#/daemon") return { key: "/daemon", make: daemonPage };
  const site = /^#\/sites\/([^/]+)$/.exec(location.hash);
  if (!site) return { key: "/", make: overview };
  let name = site[1];
  try {
    name = decodeURIComponent(name);
  } catch {
    // Not an encoded name: taken as it is.
  }
  return { key: `/sites/${name}`, make: (place) => sitePage(place, name) };
}

function show() {
  showDaemon();
  showLink();
  if (!store.snapshot) {
    showWaiting();
    return;
  }
  const { key, make } = route();
  if (key !== shownRoute) {
    view?.end();
    const arrived = shownRoute !== null;
    shownRoute = key;
    for (const link of document.querySelectorAll(".places-nav a")) setAttribute(link, "aria-current", link.hash === `#${key}` ? "page" : null);
    view = make(main);
    view.update();
    if (arrived) {
      scrollTo(0, 0);
      main.querySelector("h1")?.focus();
    }
  } else {
    view.update();
  }
  setText(document.querySelector("title"), view.title());
  announce();
}

function showWaiting() {
  if (main.querySelector(".state-page") && main.dataset.waiting === store.link) return;
  main.dataset.waiting = store.link;
  const text = store.link === "connecting" ? "Asking the daemon…" : "There is nothing to show until the daemon answers.";
  main.replaceChildren(h("h1", { class: "unseen" }, "djsup"), h("p", { class: "state-page" }, text));
}

function showDaemon() {
  const daemon = store.snapshot?.daemon;
  setAttribute(byId("daemon"), "hidden", !daemon);
  if (!daemon) return;
  setText(byId("daemon-pid"), daemon.pid);
  setText(byId("daemon-version"), daemon.version);
  setText(byId("daemon-uptime"), duration(daemon.uptime_s));
  setText(byId("daemon-config"), daemon.config);
  setAttribute(byId("daemon-config"), "title", daemon.config);
}

const LINKS = {
  connecting: ["Connecting", ""],
  live: ["Live", ""],
  "daemon-gone": ["Disconnected", "Disconnected from the daemon."],
  "dashboard-gone": ["Disconnected", "Disconnected: the dashboard does not answer."],
};

function showLink() {
  const [word, title] = LINKS[store.link];
  setAttribute(byId("link"), "data-link", store.link);
  setText(byId("link-text"), word);
  setAttribute(byId("banner"), "hidden", !title);
  setAttribute(document.body, "data-stale", Boolean(title));
  if (!title) return;
  const since = store.snapshot ? ` What you see is from ${new Date(daemonNow() - (performance.now() - store.receivedAt)).toLocaleTimeString("en-GB")}.` : "";
  setText(byId("banner-title"), title);
  setText(byId("banner-text"), `Trying again by itself.${since}`);
  setAttribute(byId("banner"), "title", store.linkError || null);
}

const announced = new Map();

/** Tell a screen reader what an eye sees at once: a site whose state or last reload changed. */
function announce() {
  const news = [];
  for (const { name, state, last_reload: reload } of store.snapshot.sites) {
    const now = `${state}${reload?.result === "rolled-back" ? ", the last reload was rolled back" : ""}`;
    if (announced.has(name) && announced.get(name) !== now) news.push(`${name} is ${now}.`);
    announced.set(name, now);
  }
  if (news.length) setText(byId("announcer"), news.join(" "));
}

byId("logout").addEventListener("click", logOut);
document.querySelector(".skip").addEventListener("click", (event) => {
  // The hash is the route's: following the link would leave the page.
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
subscribe(show);
show();
begin();
getJson("api/session").then(
  ({ may_change: mayChange }) => {
    store.mayChange = mayChange;
    setAttribute(document.body, "data-looks-only", !mayChange);
    setAttribute(byId("looks-only"), "hidden", mayChange);
    changed();
  },
  () => {}, // The stream says that nobody answers; a change would be refused all the same.
);
