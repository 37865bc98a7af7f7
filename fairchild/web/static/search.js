// Completion of the filter: keys, then what is there for them. Chips are links; Backspace in the empty field goes to the last that was typed.
import { combobox } from "./combo.js";

const input = document.getElementById("filter"), box = document.getElementById("filter-list");
// The condition at the end, with its quotes: what comes before it stays as it is.
const LAST = /(?:[^\s"]|"(?:[^"\\]|\\.)*(?:"|$))*$/;

async function find(text) {
  const url = new URL(input.form.dataset.find, location.href);
  url.searchParams.set("for", text.match(LAST)[0]);
  const answer = await fetch(url, { cache: "no-store" });
  return answer.ok ? answer.json() : [];
}

if (input && box) {
  const list = combobox(input, box, find, (option) => {
    input.value = input.value.replace(LAST, "") + option.text;
    if (option.text.endsWith(":") || option.text.endsWith(".")) list.open();
    else input.form.requestSubmit();
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Backspace" || input.value) return;
    [...input.form.querySelectorAll(".chip:not(.added) a")].at(-1)?.focus();
  });
  for (const link of document.querySelectorAll("[data-begin]")) link.addEventListener("click", () => {
    input.value = link.dataset.begin;
    input.focus();
    list.open();
  });
}
