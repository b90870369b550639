// Asks again and again, but only while somebody looks and the daemon answers: an open page that is not seen costs nothing.

import { store } from "./store.js";

/** Call `load` now and every `pause()` milliseconds; gives `{now, end}`. `load` deals with its own failures. */
export function polling(pause, load) {
  let timer = 0;
  let ended = false;

  async function turn() {
    clearTimeout(timer);
    if (ended) return;
    if (!document.hidden && store.link === "live") await load();
    clearTimeout(timer);
    if (!ended) timer = setTimeout(turn, pause());
  }

  const seen = () => document.hidden || turn();
  document.addEventListener("visibilitychange", seen);
  turn();
  return {
    now: turn,
    end() {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    },
  };
}
