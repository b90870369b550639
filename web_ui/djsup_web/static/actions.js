// What the operator can do: ask the server, say how it went. While an action of this page runs for a site
// its buttons rest (store.pending).

import { post } from "./api.js";
import { setAttribute } from "./dom.js";
import { duration, plural } from "./format.js";
import { changed, store } from "./store.js";
import { toast } from "./toasts.js";

const ALL = "*";

/** Whether buttons for a site are to be disabled. */
export function resting(site) {
  return store.link !== "live" || store.pending.has(site) || store.pending.has(ALL);
}

export function reloadSite(name) {
  return run(name, "reload", `sites/${encodeURIComponent(name)}/reload`, undefined, tellReloads);
}

/** Load the new code for a trial on a share of the traffic first. */
export async function trySite(name) {
  const seconds = document.getElementById("ask-seconds");
  const yes = await ask({
    title: `Try the new code of ${name} first?`,
    text: "One worker of the new code answers a share of the traffic beside all workers of the old code, for so many seconds. Then the two are compared, and it takes over or goes back by itself.",
    yes: "Load and try",
    seconds: true,
  });
  if (yes) await run(name, "reload", `sites/${encodeURIComponent(name)}/reload`, { canary_s: seconds.valueAsNumber }, tellReloads);
}

export async function reloadAll() {
  const yes = await ask({
    title: "Reload the configuration and all sites?",
    text: "Reads the configuration file again, starts sites that were added, stops those that were removed, and loads the code of all others anew. No request is dropped.",
    yes: "Reload all",
  });
  if (yes) await run(ALL, "reload", "reload", undefined, tellReloads);
}

export async function rollBackSite(name, generation) {
  const yes = await ask({
    title: `Bring generation ${generation} of ${name} back?`,
    text: `The code that served before the last reload takes over again, from its template, whatever the disk holds now. No request is dropped.`,
    yes: "Roll back",
  });
  if (yes) await run(name, "rollback", `sites/${encodeURIComponent(name)}/rollback`, undefined, tellReloads);
}

export async function restartSite(name) {
  const yes = await ask({
    title: `Restart ${name}?`,
    text: `${name} is stopped and started. Running requests are finished, new ones wait until it is up again. To take new code without a pause, reload instead.`,
    yes: "Restart",
    danger: true,
  });
  if (!yes) return;
  await run(name, "restart", `sites/${encodeURIComponent(name)}/restart`, undefined, (result) => {
    if (result.state === "serving") toast("good", `${name} restarted`);
    else toast("bad", `${name} is ${result.state} after the restart`, result.error ?? "");
  });
}

/** Stop one site; it stays stopped until somebody starts it. */
export async function stopSite(name) {
  const yes = await ask({
    title: `Stop ${name}?`,
    text: `${name} refuses new requests, finishes those that run, and ends with its programs. It stays stopped, whatever is reloaded, until somebody starts it. All other sites serve on.`,
    yes: "Stop",
    danger: true,
  });
  if (!yes) return;
  await run(name, "stop", `sites/${encodeURIComponent(name)}/stop`, undefined, ({ state, error }) => {
    if (state === "stopped" && !error) toast("good", `${name} is stopped`);
    else toast("bad", `${name} is ${state}`, error ?? "");
  });
}

/** Start a site that was stopped. */
export function startSite(name) {
  return run(name, "start", `sites/${encodeURIComponent(name)}/start`, undefined, ({ state, error }) => {
    if (state === "serving" && !error) toast("good", `${name} serves`);
    else toast("bad", `${name} is ${state}`, error ?? "");
  });
}

/** `workers` is a number, or "+1" or "-1". */
export function scaleSite(name, workers) {
  return run(name, "scale", `sites/${encodeURIComponent(name)}/scale`, { workers }, (result) =>
    toast("good", `${name}: ${plural(result.workers, "worker")}`),
  );
}

export async function logOut() {
  await post("logout");
  location.assign("login");
}

function tellReloads({ sites }) {
  if (sites.length === 0) toast("good", "Configuration reloaded", "It has no sites.");
  const failed = sites.filter((site) => site.result === "rolled-back");
  for (const site of failed) {
    toast("bad", `${site.name}: reload rolled back`, site.error ?? "", site.details ?? "");
  }
  for (const site of sites.filter((each) => each.result === "superseded")) {
    toast("info", `${site.name}: a newer reload took over`);
  }
  for (const site of sites.filter((each) => each.result === "asleep")) {
    toast("info", `${site.name} sleeps, nothing of it is loaded`, "Its next connection loads the new code.");
  }
  if (sites.length === 1 && sites[0].result === "stopped") {
    toast("info", `${sites[0].name} stays stopped`, "It loads the new code when it is started.");
  }
  const done = sites.filter((site) => site.result === "done");
  if (done.length === 1) {
    toast("good", `${done[0].name} reloaded`, `Generation ${done[0].generation} serves, after ${duration(done[0].duration_s ?? 0)}.`);
  } else if (done.length > 1) {
    toast("good", `${plural(done.length, "site")} reloaded`);
  }
}

async function run(site, kind, path, body, tell) {
  if (resting(site)) return;
  store.pending.set(site, kind);
  changed();
  try {
    tell(await post(`api/${path}`, body));
  } catch (error) {
    toast("bad", `${site === ALL ? "All sites" : site}: ${kind} failed`, error.message, (error.problems ?? []).join("\n"));
  } finally {
    store.pending.delete(site);
    if (site === ALL) store.progress.clear();
    else store.progress.delete(site);
    changed();
  }
}

/** Ask back before what hurts. */
function ask({ title, text, yes, danger = false, seconds = false }) {
  const dialog = document.getElementById("ask");
  setAttribute(document.getElementById("ask-seconds-row"), "hidden", !seconds);
  setAttribute(document.getElementById("ask-seconds"), "disabled", !seconds);
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-text").textContent = text;
  const button = document.getElementById("ask-yes");
  button.textContent = yes;
  button.classList.toggle("danger", danger);
  button.classList.toggle("primary", !danger);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
