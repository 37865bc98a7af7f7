// Shortcuts. None fires while typing, and single keys can be switched off in the list that ? shows.
const help = document.getElementById("keys"), single = document.getElementById("single-keys");
let before = "", place = null;
try { if (single) single.checked = localStorage.getItem("fairchild.keys") !== "off"; } catch { /* private mode */ }
single?.addEventListener("change", () => {
  try { localStorage.setItem("fairchild.keys", single.checked ? "on" : "off"); } catch { /* private mode */ }
});
document.getElementById("keys-open")?.addEventListener("click", () => help?.showModal());

const rows = () => [...document.querySelectorAll("main tbody tr[id]")];
const current = () => document.activeElement?.closest?.("main tbody tr[id]") || document.querySelector("main tbody tr.at");

function put(all, n) {
  place = { id: all[n].id, n };
  all.forEach((row, each) => row.classList.toggle("at", each === n));
}

function move(step) {
  const all = rows(), now = all.indexOf(current());
  if (!all.length) return false;
  put(all, Math.max(0, Math.min(all.length - 1, now < 0 ? (step > 0 ? 0 : all.length - 1) : now + step)));
  const row = all[place.n];
  [...row.querySelectorAll("a")].find((link) => link.offsetParent)?.focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
  return true;
}

// After a swap the row is another element, or gone: then the one that has come to its place is meant.
document.addEventListener("fairchild:swap", () => {
  const all = rows();
  if (!place || !all.length) return;
  const found = all.findIndex((row) => row.id === place.id);
  put(all, found < 0 ? Math.min(place.n, all.length - 1) : found);
});

function tick(range) {
  const box = current()?.querySelector("input[data-row]");
  box?.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, shiftKey: range }));
  return Boolean(box);
}

// What acts on ticked rows acts on the row at hand if none is ticked, and on nothing if there is none at hand.
function press(key) {
  const hit = document.querySelector(`main [data-key="${key}"]:not([disabled])`), bulk = hit?.closest("[data-bulk]");
  if (!hit || (bulk && !bulk.hasAttribute("data-on") && !tick(false))) return false;
  hit.click();
  return true;
}

function up() {
  if (document.querySelector("[data-bulk][data-on]")) { document.dispatchEvent(new Event("fairchild:clear")); return true; }
  const parent = document.querySelector(".crumbs a:last-of-type");
  parent?.click();
  return Boolean(parent);
}

function arrow(step) {
  const at = document.activeElement;
  return (!at || at === document.body || at.id === "main" || at.closest("main tbody tr[id]")) && move(step);
}

const ACTIONS = {
  "/": () => { const box = document.getElementById("filter") || document.getElementById("jump"); box?.focus(); return Boolean(box); },
  p: () => { document.getElementById("pause")?.click(); return true; },
  j: () => move(1), k: () => move(-1), x: () => tick(false), X: () => tick(true),
  "*": () => { document.dispatchEvent(new Event("fairchild:all")); return true; },
  r: () => press("r"), c: () => press("c"), d: () => press("d"),
  "?": () => { help?.showModal(); return true; },
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches?.("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape") { if (typing) event.target.blur(); else up(); return; }
  if (typing) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (arrow(event.key === "ArrowDown" ? 1 : -1)) event.preventDefault();
    return;
  }
  if (single && !single.checked && event.key !== "?") return;
  const leading = before;
  before = event.key === "g" ? "g" : "";
  const page = leading === "g" && document.querySelector(`.rail a[data-go="${CSS.escape(event.key)}"]`);
  if (page) page.click();
  if (page || ACTIONS[event.key]?.()) event.preventDefault();
});
