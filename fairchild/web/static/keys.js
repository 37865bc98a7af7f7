// Shortcuts. None fires while typing, and single keys can be switched off in the list that ? shows.
const help = document.getElementById("keys"), single = document.getElementById("single-keys");
const go = Object.fromEntries([...document.querySelectorAll(".rail a[data-go]")].map((a) => [a.dataset.go, a]));
let before = "", at = -1;
try { if (single) single.checked = localStorage.getItem("fairchild.keys") !== "off"; } catch { /* private mode */ }
single?.addEventListener("change", () => {
  try { localStorage.setItem("fairchild.keys", single.checked ? "on" : "off"); } catch { /* private mode */ }
});
document.getElementById("keys-open")?.addEventListener("click", () => help?.showModal());

const rows = () => [...document.querySelectorAll("main tbody tr[id]")];
const press = (key) => { const hit = document.querySelector(`main [data-key="${key}"]:not([disabled])`); hit?.click(); return Boolean(hit); };

function move(step) {
  const all = rows();
  if (!all.length) return false;
  const now = all.findIndex((row) => row.classList.contains("at"));
  at = Math.max(0, Math.min(all.length - 1, now < 0 ? (step > 0 ? 0 : all.length - 1) : now + step));
  all.forEach((row, n) => row.classList.toggle("at", n === at));
  all[at].querySelector("a")?.focus();
  all[at].scrollIntoView({ block: "nearest" });
  return true;
}

function tick(range) {
  const row = document.querySelector("main tbody tr.at"), box = row?.querySelector("input[data-row]");
  if (!box) return false;
  box.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, shiftKey: range }));
  return true;
}

function up() {
  if (document.querySelector("input[data-row]:checked")) { document.dispatchEvent(new Event("fairchild:clear")); return true; }
  const parent = document.querySelector(".crumbs a:last-of-type");
  parent?.click();
  return Boolean(parent);
}

const ACTIONS = {
  "/": () => { const box = document.getElementById("filter") || document.getElementById("jump"); box?.focus(); return Boolean(box); },
  p: () => { document.getElementById("pause")?.click(); return true; },
  j: () => move(1), k: () => move(-1), x: () => tick(false), X: () => tick(true),
  "*": () => { const all = document.getElementById("tick-all"); all?.click(); return Boolean(all); },
  r: () => press("r"), c: () => press("c"), d: () => press("d"),
  "?": () => { help?.showModal(); return true; },
};

document.addEventListener("keydown", (event) => {
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
    document.getElementById("jump")?.focus();
    return event.preventDefault();
  }
  if (event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches?.("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape") { if (typing) event.target.blur(); else up(); return; }
  if (typing || (single && !single.checked && event.key !== "?")) return;
  const leading = before;
  before = event.key === "g" ? "g" : "";
  if (leading === "g" && go[event.key]) { go[event.key].click(); return event.preventDefault(); }
  if (ACTIONS[event.key]?.()) event.preventDefault();
});
