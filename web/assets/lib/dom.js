// Elements of the page. Everything that comes from the hub is added as text, never parsed.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Attributes of an element. A function is a listener, true an attribute without a value, and false or undefined none.
 * @typedef {Record<string, string | number | boolean | undefined | ((event: any) => void)>} Attributes
 */

/** Attributes that would run their value as code or as HTML. The page never sets them. */
const FORBIDDEN = /^(on|style$|srcdoc$|src$)/i;

/** Attributes that are shown or read out. */
const SEEN = new Set(["title", "aria-label", "placeholder"]);

/**
 * Returns a new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "value") /** @type {any} */ (element).value = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && !FORBIDDEN.test(name)) element.setAttribute(name, SEEN.has(name) ? visible(String(value)) : String(value));
  }
  append(element, ...children);
  return element;
}

/**
 * Adds children; strings are text.
 * @param {Element} element
 * @param {...Child} children
 */
export function append(element, ...children) {
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : shownIn(element, String(child)));
  }
}

/** Characters that are not seen but reorder or break the text around them: a group's name could look like another one. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/**
 * Returns a text with such characters as \u202e. Code that is to be copied (pre) keeps them.
 * @param {Element} element
 * @param {string} text
 */
function shownIn(element, text) {
  return element.localName === "pre" ? text : visible(text);
}

/** @param {string} text */
export function visible(text) {
  return text.replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

/**
 * Replaces the children of an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, ...children);
}

/**
 * Replaces the children of an element by one, unless it looks the same: a button in it then keeps the focus.
 * @param {Element} element
 * @param {Element} child
 */
export function fillChanged(element, child) {
  if (element.childNodes.length !== 1 || !element.firstChild?.isEqualNode(child)) element.replaceChildren(child);
}

/**
 * Sets the text of an element if it has changed, so that screen readers and the layout are left alone otherwise.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  text = shownIn(element, text);
  if (element.textContent !== text) element.textContent = text;
}

const SVG = "http:" + "//www.w3.org/2000/svg"; // the name of a namespace, which is never requested

/**
 * Returns an icon of icons.svg. It is decoration: the element around it has the text.
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", new URL(`../icons.svg#${name}`, import.meta.url).pathname + `#${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * Returns a button with text, and an icon if one is named.
 * @param {string} text
 * @param {(event: MouseEvent) => void} click
 * @param {Attributes & {icon?: string}} [attributes]
 */
export function button(text, click, { icon: name, ...attributes } = {}) {
  return h("button", { type: "button", ...attributes, click }, name && icon(name), h("span", {}, text));
}

/**
 * Returns a button that has only an icon.
 * @param {string} name of the icon
 * @param {string} label
 * @param {(event: MouseEvent) => void} click
 * @param {Attributes} [attributes]
 */
export function iconButton(name, label, click, attributes = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, ...attributes, click }, icon(name));
}

/**
 * Returns a labelled form control.
 * @param {string} label
 * @param {HTMLElement} control
 * @param {string} [help]
 */
export function field(label, control, help) {
  control.id ||= `field-${++fields}`;
  const note = help ? h("p", { class: "help", id: control.id + "-help" }, help) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

let fields = 0;

/**
 * Returns a select with options.
 * @param {[value: string, text: string][]} options
 * @param {Attributes} [attributes]
 */
export function select(options, attributes = {}) {
  const { value, ...others } = attributes;
  const element = h("select", others, ...options.map(([v, text]) => h("option", { value: v }, text)));
  if (value !== undefined) element.value = String(value);
  return element;
}

/**
 * Returns a panel for a state without content: empty, loading or an error.
 * @param {"empty" | "loading" | "error"} kind
 * @param {string} title
 * @param {...Child} more
 */
export function notice(kind, title, ...more) {
  const names = { empty: "inbox", loading: "loading", error: "alert" };
  return h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : undefined },
    icon(names[kind]), h("p", { class: "notice-title" }, title), ...more);
}

/**
 * Copies text. Over plain HTTP only pages on localhost have a clipboard; the old command works elsewhere.
 * @param {string} text
 * @param {HTMLElement} by the button, which shows the result
 */
export async function copy(text, by) {
  const label = by.querySelector("span") ?? by;
  const before = by.dataset.label ?? label.textContent ?? "";
  by.dataset.label = before;
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyByCommand(text);
  }
  if (label !== by) label.textContent = done ? "Copied" : "Not copied";
  announce(done ? "Copied" : "The browser refused to copy");
  setTimeout(() => { if (label !== by) label.textContent = before; }, 1500);
}

/** @param {string} text */
function copyByCommand(text) {
  const area = h("textarea", { class: "off-screen", value: text, "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/**
 * Tells screen readers something, and shows it for a moment.
 * @param {string} text
 * @param {"note" | "error"} [kind]
 */
export function announce(text, kind = "note") {
  const box = document.getElementById("toast");
  if (!box) return;
  box.textContent = text;
  box.dataset.kind = kind;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.textContent = ""; }, kind === "error" ? 8000 : 2500);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let toastTimer;

/**
 * Saves text as a file.
 * @param {string} name
 * @param {string[]} parts
 * @param {string} type
 */
export function download(name, parts, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * Asks a question in a dialog, and returns the answer.
 * @param {string} title
 * @param {string} text
 * @param {string} yes the text of the button that agrees
 * @returns {Promise<boolean>}
 */
export function confirm(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" },
      h("form", { method: "dialog" },
        h("h2", { id: "dialog-title" }, title), h("p", { id: "dialog-text" }, text),
        h("div", { class: "actions" },
          h("button", { value: "no", class: "quiet" }, "Cancel"), h("button", { value: "yes", class: "danger" }, yes))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
