// A site's log as it is written: the last lines, then each further one. Stays at the end while the reader is there.

import { h, setAttribute, setText } from "./dom.js";
import { clock } from "./format.js";

const LINES_MAX = 500;
const NEAR_END_PX = 24;
const AGAIN_MS = 2_000;

/** `{element, end()}` */
export function followLog(name) {
  const lines = h("div", { class: "log", role: "log", "aria-live": "off", tabindex: "0", "aria-label": `Log of ${name}` });
  const none = h("p", { class: "muted empty" }, "Nothing was printed yet.");
  const state = h("p", { class: "muted small", role: "status" });
  let source = null;
  let timer = 0;
  let waiting = [];

  function open() {
    source = new EventSource(`api/sites/${encodeURIComponent(name)}/logs?follow=1`);
    source.addEventListener("open", () => {
      // The server sends the last lines again.
      waiting = [];
      lines.replaceChildren();
      setAttribute(none, "hidden", false);
      setText(state, "");
    });
    source.addEventListener("log", (message) => {
      waiting.push(JSON.parse(message.data));
      if (waiting.length === 1) requestAnimationFrame(show);
    });
    source.addEventListener("error", () => {
      setText(state, "Interrupted, trying again");
      if (source?.readyState === EventSource.CLOSED) timer = setTimeout(open, AGAIN_MS);
    });
  }

  function show() {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < NEAR_END_PX;
    lines.append(...waiting.slice(-LINES_MAX).map(lineOf));
    waiting = [];
    while (lines.childElementCount > LINES_MAX) lines.firstElementChild.remove();
    setAttribute(none, "hidden", lines.childElementCount > 0);
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  function watchVisibility() {
    if (document.hidden) close();
    else if (!source) open();
  }

  function close() {
    clearTimeout(timer);
    source?.close();
    source = null;
  }

  open();
  document.addEventListener("visibilitychange", watchVisibility);
  return {
    element: h("section", { class: "panel", "aria-labelledby": "log-title" }, h("header", { class: "panel-head" }, h("h2", { id: "log-title" }, "Log"), state), lines, none),
    end() {
      document.removeEventListener("visibilitychange", watchVisibility);
      close();
    },
  };
}

function lineOf({ at, slot, program, pid, stream, text }) {
  const who = program ?? (slot === null || slot === undefined ? "template" : `worker ${slot}`);
  return h(
    "div",
    { class: "log-line", "data-stream": stream },
    h("time", { datetime: at }, clock(at)),
    h("span", { class: "log-who", title: pid ? `pid ${pid}, ${stream}` : stream }, who),
    h("span", { class: "log-text" }, text),
  );
}
