// A text field for several filters.

import { h, iconButton } from "../lib/dom.js";

export class Chips {
  /** @type {string[]} */
  #values = [];
  #input;

  /**
   * @param {string} label
   * @param {string} placeholder
   * @param {(values: string[]) => void} onChange
   */
  constructor(label, placeholder, onChange) {
    this.onChange = onChange;
    this.#input = h("input", {
      type: "text", "aria-label": label, placeholder, maxlength: 255, autocomplete: "off", autocapitalize: "none", spellcheck: "false",
      keydown: (event) => this.#onKey(event), blur: () => this.#take(),
    });
    this.element = h("div", { class: "chips grow", click: (event) => { if (event.target === this.element) this.#input.focus(); } }, this.#input);
  }

  get values() { return this.#values; }

  set values(values) {
    this.#values = values;
    for (const chip of this.element.querySelectorAll(".chip")) chip.remove();
    this.#input.before(...values.map((value) => h("span", { class: "chip" }, h("span", { title: value }, value),
      iconButton("close", `Remove ${value}`, () => this.#set(values.filter((v) => v !== value)), { class: "" }))));
  }

  /** @param {string[]} values */
  #set(values) {
    this.values = values;
    this.#input.focus();
    this.onChange(values);
  }

  #take() {
    const value = this.#input.value.trim();
    if (value === "") return;
    this.#input.value = "";
    if (this.#values.includes(value)) return;
    this.values = [...this.#values, value];
    this.onChange(this.#values);
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Enter") {
      event.preventDefault();
      this.#take();
    } else if (event.key === "Backspace" && this.#input.value === "" && this.#values.length > 0) {
      this.#set(this.#values.slice(0, -1));
    }
  }
}
