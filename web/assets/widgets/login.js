// The form for a token.

import { errorText } from "../lib/api.js";
import { field, h, setText } from "../lib/dom.js";
import { viewer } from "../lib/viewer.js";

/** Returns a form that asks for a token and logs in with it. */
export function loginForm() {
  const token = h("input", { type: "password", name: "token", required: true, autocomplete: "off", spellcheck: "false" });
  const error = h("p", { class: "error-text", role: "alert" });
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setText(error, "");
    try {
      await viewer.login(token.value.trim());
    } catch (e) {
      setText(error, errorText(e));
      token.focus();
      token.select();
    }
  };
  return h("form", { class: "panel stack login", submit },
    h("h1", {}, "Log in"),
    h("p", { class: "soft" }, "This hub wants a token: an API token, or a JWT of your organisation. The browser keeps it in a cookie that scripts cannot read, until you log out or it expires."),
    field("Token", token),
    error,
    h("button", { class: "main" }, "Log in"),
    h("p", { class: "help" }, "An operator creates API tokens by ", h("code", {}, "watchbox token create NAME --subscribe '#'"), "."));
}
