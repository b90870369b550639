// Short messages about what the operator did. Good news leaves by itself, bad news waits to be read.

import { h } from "./dom.js";

const GOOD_NEWS_MS = 6_000;
const SHOWN_MAX = 4;

/** Show a message. `kind`: good, bad, info; `details` is shown on request. */
export function toast(kind, title, text = "", details = "") {
  const region = document.getElementById("toasts");
  const element = h(
    "div",
    { class: `toast ${kind}`, role: kind === "bad" ? "alert" : "status" },
    h("span", { class: "dot" }),
    h(
      "div",
      { class: "toast-body" },
      h("strong", {}, title),
      text ? h("p", {}, text) : null,
      details ? h("details", {}, h("summary", {}, "Show details"), h("pre", { tabindex: "0" }, details)) : null,
    ),
    h("button", { type: "button", class: "toast-close", "aria-label": "Dismiss", onclick: () => element.remove() }, "×"),
  );
  region.append(element);
  while (region.childElementCount > SHOWN_MAX) region.firstElementChild.remove();
  if (kind === "bad") return;
  let timer = setTimeout(() => element.remove(), GOOD_NEWS_MS);
  const stay = () => clearTimeout(timer);
  const leave = () => {
    clearTimeout(timer);
    timer = setTimeout(() => element.remove(), GOOD_NEWS_MS / 2);
  };
  element.addEventListener("pointerenter", stay);
  element.addEventListener("pointerleave", leave);
  element.addEventListener("focusin", stay);
  element.addEventListener("focusout", leave);
}
