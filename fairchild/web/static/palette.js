// "Jump to" with what it may lead to: what can be done on this page, then places that the server knows.
import { combobox } from "./combo.js";

const input = document.getElementById("jump"), box = document.getElementById("jump-list");

function says(button) {
  if (button.dataset.palette) return button.dataset.palette;
  const copy = button.cloneNode(true);
  for (const each of copy.querySelectorAll("kbd, .sr")) each.remove();
  return copy.textContent.trim();
}

function actions(which, text) {
  const wanted = text.trim().toLowerCase();
  return [...document.querySelectorAll(which)].filter((each) => !each.disabled && !each.hidden)
    .map((each) => ({ text: says(each), note: "on this page", run: () => each.click() }))
    .filter((each) => each.text.toLowerCase().includes(wanted));
}

async function find(text) {
  const url = new URL(input.form.dataset.find, location.href);
  url.searchParams.set("for", text);
  const answer = await fetch(url, { cache: "no-store" });
  return answer.ok ? answer.json() : [];
}

if (input && box) {
  const list = combobox(input, box, async (text) => {
    const own = actions("main .head .acts :is(button, a), [data-bulk][data-on] button", text);
    return [...own, ...await find(text).catch(() => []), ...actions("[data-palette]", text)];
  }, (option) => {
    input.value = "";
    input.blur();
    if (option.run) option.run(); else location.assign(option.href);
  });
  input.addEventListener("blur", () => { input.value = ""; });
  document.addEventListener("keydown", (event) => {
    if (!(event.metaKey || event.ctrlKey) || event.key.toLowerCase() !== "k" || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    input.focus();
    input.select();
    list.open();
  });
  const hint = input.form.querySelector("kbd");
  if (hint && /Mac|iP(hone|ad)/.test(navigator.platform)) hint.textContent = "⌘K";
}
