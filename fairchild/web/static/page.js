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
  const said = button.textContent;
  try { await navigator.clipboard.writeText(await whole(button)); button.textContent = "Copied"; }
  catch { button.textContent = "Not copied"; }
  setTimeout(() => { button.textContent = said; }, 1500);
});

// Of what is too long to be shown whole, all that the link beside it leads to.
async function whole(button) {
  const source = document.getElementById(button.dataset.copy), link = button.parentElement.querySelector("a[download]");
  if (!link) return source ? source.textContent : button.dataset.copy;
  const answer = await fetch(link.href);
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.text();
}

// What was done has been said: the address is that of the page again, to be reloaded, kept and sent to others.
const address = new URL(location.href);
if (address.searchParams.has("did")) {
  for (const each of ["did", "n", "at"]) address.searchParams.delete(each);
  history.replaceState(history.state, "", address);
}

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
