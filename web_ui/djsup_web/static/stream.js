// Keeps the live connection: opens it, notices when it is dead, comes back by itself, and closes it while
// the page is hidden (browsers allow six connections to one host; a forgotten tab should not hold one).

import { changed, store, take, takeEvent } from "./store.js";

const HIDDEN_MS = 60_000;
const SILENCE_MS = 25_000; // the server says something every 15 s
const AGAIN_MS = 2_000;
const PATIENCE_MS = 1_500; // a blink is not worth a banner

let source = null;
let heard = 0;
let againTimer = 0;
let hiddenTimer = 0;
let bannerTimer = 0;

/** Begin; the page lives on this from now on. */
export function begin() {
  open();
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.hidden) hiddenTimer = setTimeout(close, HIDDEN_MS);
    else if (!source) open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && !source && open());
  setInterval(() => {
    if (source && performance.now() - heard > SILENCE_MS) lost();
  }, 5_000);
}

function open() {
  clearTimeout(againTimer);
  heard = performance.now();
  source = new EventSource("api/events");
  const on = (kind, act) =>
    source.addEventListener(kind, (message) => {
      heard = performance.now();
      act(JSON.parse(message.data));
    });
  on("snapshot", (snapshot) => {
    setLink("live");
    take(snapshot);
  });
  on("link", (link) => {
    if (!link.connected) setLink("daemon-gone", link.error);
  });
  on("event", takeEvent);
  on("progress", ({ site, text }) => {
    store.progress.set(site, text);
    changed();
  });
  source.addEventListener("open", () => {
    heard = performance.now();
  });
  source.addEventListener("error", lost);
}

function close() {
  source?.close();
  source = null;
  clearTimeout(againTimer);
  clearTimeout(bannerTimer);
}

async function lost() {
  close();
  bannerTimer = setTimeout(() => setLink("dashboard-gone"), PATIENCE_MS);
  try {
    const answer = await fetch("api/session", { signal: AbortSignal.timeout(AGAIN_MS) });
    if (answer.ok && !(await answer.json()).logged_in) {
      location.assign(`login${location.hash}`);
      return;
    }
  } catch {
    // Nobody answers: the next try will tell.
  }
  if (!document.hidden) againTimer = setTimeout(open, AGAIN_MS / 2);
}

function setLink(link, error = "") {
  clearTimeout(bannerTimer);
  if (store.link === link && store.linkError === error) return;
  store.link = link;
  store.linkError = error;
  changed();
}
