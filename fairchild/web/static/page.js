// Small things of every page: the theme, copying, numbers to type before what cannot be undone.
const root = document.documentElement, toggle = document.getElementById("theme");
const THEMES = ["", "light", "dark"], NAMES = { "": "System", light: "Light", dark: "Dark" };

function show() {
  if (toggle) toggle.querySelector("span").textContent = NAMES[root.dataset.theme || ""];
}

toggle?.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(root.dataset.theme || "") + 1) % THEMES.length];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
  try { if (next) localStorage.setItem("fairchild.theme", next); else localStorage.removeItem("fairchild.theme"); } catch { /* private mode */ }
  show();
});
show();

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy), text = source ? source.textContent : button.dataset.copy;
  const said = button.textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
  catch { button.textContent = "Not allowed"; }
  setTimeout(() => { button.textContent = said; }, 1500);
});

// The menu of a phone closes when something else is touched.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(".footbar details[open]"))
    if (!menu.contains(event.target)) menu.open = false;
});

// A bulk action that takes longer than one request sends itself again, until it is done or stopped.
const going = document.querySelector("form[data-goes-on]");
if (going) {
  const timer = setTimeout(() => going.requestSubmit(), 400);
  going.querySelector("a")?.addEventListener("click", () => clearTimeout(timer));
}
