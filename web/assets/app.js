// @ts-check
// The dashboard: shows one page at a time, its own connection, and who looks at it. Each page is a module in pages/
// and a client like any other: everything goes through /v1 with the viewer's own rights.

import { errorText } from "./lib/api.js";
import { announce, button, fill, h, icon, iconButton, notice, setText } from "./lib/dom.js";
import { hub } from "./lib/hub.js";
import { current, go, link } from "./lib/router.js";
import { bytes, plural, rate } from "./lib/format.js";
import { retry } from "./lib/schedule.js";
import { stats } from "./lib/stats.js";
import { viewer } from "./lib/viewer.js";
import { loginForm } from "./widgets/login.js";

/**
 * A page. It is mounted into an empty element, told about changes of the URL's parameters, and ended.
 * @typedef {object} Page
 * @property {(params: URLSearchParams) => void} [update] the parameters have changed
 * @property {(event: KeyboardEvent) => void} [key] a key outside of form controls
 * @property {() => void} [end]
 */
/** @typedef {(view: HTMLElement, params: URLSearchParams) => Page} Mount */

/** @type {{name: string, title: string, shown?: () => boolean, needs?: string, load: () => Promise<{mount: Mount}>}[]} */
const PAGES = [
  { name: "live", title: "Live", load: () => import("./pages/live.js") },
  { name: "groups", title: "Groups", load: () => import("./pages/groups.js") },
  { name: "listeners", title: "Listeners", shown: () => viewer.isAdmin, needs: "It needs a token with admin.", load: () => import("./pages/listeners.js") },
  { name: "health", title: "Health", load: () => import("./pages/health.js") },
  { name: "publish", title: "Publish", shown: () => viewer.mayPublish, needs: "It needs a token that allows to publish.", load: () => import("./pages/publish.js") },
  { name: "access", title: "Access", shown: () => viewer.needsTokens, needs: "This hub has no authentication: everyone may do everything.", load: () => import("./pages/access.js") },
  { name: "try", title: "Try it", load: () => import("./pages/try.js") },
];

const view = /** @type {HTMLElement} */ (document.getElementById("view"));
const side = /** @type {HTMLElement} */ (document.querySelector(".side"));

/** @type {{name: string, page: Page} | undefined} */
let shown;
let showing = 0;

/**
 * Shows the page that the URL names.
 * @param {boolean} [isNew] whether the URL has changed. Otherwise a page that is shown stays as it is.
 */
async function show(isNew = true) {
  const { page: name, params } = current();
  const entry = PAGES.find((p) => p.name === name) ?? PAGES[0];
  if (shown?.name === entry.name && viewer.state === "known" && isShown(entry)) {
    if (isNew) shown.page.update?.(params);
    return;
  }
  const turn = ++showing;
  shown?.page.end?.();
  shown = undefined;
  document.title = `${entry.title} · Watchbox`;
  fillNav(entry.name);
  if (viewer.state !== "known") return showViewer();
  if (!isShown(entry)) return showRefusal(entry);
  /** @type {Mount | undefined} */
  let mount;
  try {
    ({ mount } = await entry.load());
    if (turn !== showing) return;
    view.replaceChildren();
    view.className = `page-${entry.name}`;
    shown = { name: entry.name, page: mount(view, current().params) };
  } catch (error) {
    if (turn !== showing) return;
    fill(view, notice("error", "The page cannot be loaded", h("p", {}, errorText(error)), button("Reload", () => location.reload())));
    if (!mount) retry(async () => { if (turn === showing) await show(); return true; });
    throw error;
  }
}

/** @param {typeof PAGES[number]} entry */
function isShown(entry) { return entry.shown?.() ?? true; }

/** Shows why the viewer does not get a page. @param {typeof PAGES[number]} entry */
function showRefusal({ name, title, needs = "" }) {
  view.className = `page-${name}`;
  fill(view, h("div", { class: "head" }, h("h1", {}, title)), notice("empty", "There is nothing to show here", h("p", {}, needs)));
}

/** Shows why there is no page yet. */
function showViewer() {
  view.className = "";
  if (viewer.state === "loading") fill(view, notice("loading", "Loading"));
  else if (viewer.state === "login") fill(view, loginForm());
  else {
    fill(view, notice("error", "The hub does not answer", h("p", {}, errorText(viewer.error)), button("Try again", () => viewer.load())));
  }
}

/** @param {string} name of the page that is shown */
function fillNav(name) {
  const nav = /** @type {HTMLElement} */ (document.getElementById("nav"));
  fill(nav, ...PAGES.filter(isShown).map((p) =>
    h("a", { href: link(p.name), "aria-current": p.name === name ? "page" : undefined }, icon(p.name), p.title)));
  openMenu(false);
}

// ---- the connection

const figures = h("p", { class: "figures", "aria-live": "off" });
stats.addEventListener("change", () => {
  const { latest } = stats;
  if (latest?.rates) setText(figures, `${rate(latest.rates.in)} in · ${rate(latest.rates.out)} out\n${plural(latest.watchbox_streams ?? 0, "stream")} · ${bytes(latest.memory.used)}`);
});

const STATES = { idle: "No stream open", connecting: "Connecting", open: "Connected", waiting: "Reconnecting", closed: "Disconnected" };

/** @type {ReturnType<typeof setInterval> | undefined} */
let countdown;

function showConnection() {
  const box = /** @type {HTMLElement} */ (document.getElementById("status"));
  const { state, error } = hub;
  clearInterval(countdown);
  box.dataset.state = state;
  const title = h("span", { class: "state" }, STATES[state]);
  fill(box, title, error && state !== "open" && h("p", { title: errorText(error) }, errorText(error)), state === "open" && figures,
    state === "closed" && button("Connect", () => { viewer.load(); hub.open(); }, { class: "small" }));
  if (state !== "waiting") return;
  const count = () => {
    const seconds = Math.ceil((hub.retryAt - Date.now()) / 1000);
    setText(title, seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting");
  };
  count();
  countdown = setInterval(count, 1000);
}

/** Shows nothing that was shown to another subject. */
function takeOver() {
  const before = subject;
  subject = JSON.stringify([viewer.grant.subject, viewer.grant.anonymous]);
  if (before === "" || before === subject) return;
  shown?.page.end?.();
  shown = undefined;
  hub.open();
}

// ---- theme, login and menu

/** @type {[theme: string, icon: string, text: string][]} */
const THEMES = [["", "system", "Colours of the system"], ["light", "sun", "Light"], ["dark", "moon", "Dark"]];

function showTools() {
  const root = document.documentElement;
  const at = THEMES.findIndex(([theme]) => theme === (root.dataset.theme ?? ""));
  const [next] = THEMES[(at + 1) % THEMES.length];
  const theme = iconButton(THEMES[at][1], `Theme: ${THEMES[at][2]}`, () => {
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    try {
      localStorage.setItem("watchbox theme", next);
    } catch {
      // There is no storage: the theme lasts until the reload.
    }
    dispatchEvent(new Event("themechange"));
    showTools();
    /** @type {HTMLElement | null} */ (document.querySelector("#tools button"))?.focus();
  });
  const { grant } = viewer;
  const known = viewer.state === "known";
  const who = !known ? "" : viewer.hasToken ? grant.subject || "token" : grant.anonymous ? "no token" : "";
  fill(/** @type {HTMLElement} */ (document.getElementById("tools")), theme,
    h("span", { class: "who", title: who }, who),
    known && grant.anonymous && button("Log in", () => { viewer.state = "login"; showing++; shown?.page.end?.(); shown = undefined; showViewer(); }, { class: "quiet small" }),
    known && viewer.hasToken && iconButton("logout", "Log out", () => viewer.logout().catch((error) => announce(errorText(error), "error"))));
}

/** @param {boolean} open */
function openMenu(open) {
  side.classList.toggle("open", open);
  menu.setAttribute("aria-expanded", String(open));
}

const menu = /** @type {HTMLElement} */ (document.getElementById("menu"));
menu.append(icon("menu"));
menu.addEventListener("click", () => openMenu(!side.classList.contains("open")));
/** @type {HTMLElement} */ (document.getElementById("skip")).addEventListener("click", () => view.focus());

// ---- keys: g and a letter shows a page, / goes to the search

const JUMPS = { l: "live", g: "groups", s: "listeners", h: "health", p: "publish", a: "access", t: "try" };
let jump = 0;

addEventListener("keydown", (event) => {
  const inControl = event.target instanceof Element && event.target.closest("input, textarea, select, dialog");
  if (event.key === "Escape") openMenu(false);
  if (inControl || event.ctrlKey || event.metaKey || event.altKey) return;
  const page = JUMPS[/** @type {keyof typeof JUMPS} */ (event.key)];
  if (Date.now() - jump < 1500 && page && PAGES.some((p) => p.name === page && isShown(p))) {
    event.preventDefault();
    jump = 0;
    return go(page);
  }
  jump = event.key === "g" ? Date.now() : 0;
  if (event.key === "/") {
    const search = /** @type {HTMLElement | null} */ (view.querySelector("[data-search]"));
    if (search) event.preventDefault();
    search?.focus();
  } else shown?.page.key?.(event);
});

addEventListener("hashchange", () => show());
hub.addEventListener("change", showConnection);
hub.addEventListener("change", () => {
  if (hub.state !== "closed") return;
  if (hub.error?.status === 401) viewer.load(); // the token has expired or was revoked
  if (hub.error?.code === "session-of-another") { // the browser has the cookie of another login by now
    hub.open();
    viewer.load();
  }
});
hub.addEventListener("replaced", () => {
  stats.reset();
  if (viewer.isAdmin) stats.open();
});
hub.addEventListener("resumed", () => viewer.load()); // perhaps with another login
let subject = ""; // of the grant that is shown
viewer.addEventListener("change", () => {
  if (viewer.state === "known") takeOver();
  if (viewer.isAdmin) stats.open();
  showTools();
  show(false);
});

showConnection();
showTools();
show();
viewer.load();
