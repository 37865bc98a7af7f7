// Views of the list that the reader has named, kept in this browser, and how high its rows are.
const nav = document.getElementById("views"), form = document.getElementById("save-view");
const compact = document.getElementById("compact"), root = document.documentElement;

function saved() {
  try {
    const found = JSON.parse(localStorage.getItem("fairchild.views") || "[]");
    return Array.isArray(found) ? found.filter((each) => typeof each?.name === "string" && typeof each?.query === "string") : [];
  } catch { return []; }
}

function keep(views) {
  try { localStorage.setItem("fairchild.views", JSON.stringify(views)); } catch { /* private mode */ }
  show();
}

function show() {
  for (const old of nav.querySelectorAll("[data-saved]")) old.remove();
  for (const view of saved()) {
    const item = document.createElement("li"), link = document.createElement("a"), gone = document.createElement("button");
    item.dataset.saved = "";
    item.className = "chip";
    link.textContent = view.name;
    link.href = view.query ? `?${view.query}` : location.pathname;
    if (here() === view.query) link.setAttribute("aria-current", "true");
    Object.assign(gone, { type: "button", textContent: "×", title: "Forget this view" });
    gone.setAttribute("aria-label", `Forget the view ${view.name}`);
    gone.addEventListener("click", () => keep(saved().filter((each) => each.name !== view.name)));
    item.append(link, gone);
    nav.querySelector("[data-last]").before(item);
  }
}

function here() {
  const query = new URLSearchParams(location.search);
  for (const each of ["before", "after", "did", "n", "at"]) query.delete(each);
  return query.toString();
}

if (nav && form) {
  const dialog = form.closest("dialog"), name = form.elements.namedItem("name");
  document.getElementById("save-open").addEventListener("click", () => dialog.showModal());
  form.addEventListener("submit", (event) => {
    if (event.submitter?.value !== "save") return;
    const wanted = name.value.trim();
    if (!wanted) return event.preventDefault();
    keep([...saved().filter((each) => each.name !== wanted), { name: wanted, query: here() }]);
    form.reset();
  });
  show();
}

function rows() { compact?.setAttribute("aria-pressed", String(root.dataset.rows === "compact")); }
compact?.addEventListener("click", () => {
  const on = root.dataset.rows !== "compact";
  if (on) root.dataset.rows = "compact"; else delete root.dataset.rows;
  try { if (on) localStorage.setItem("fairchild.rows", "compact"); else localStorage.removeItem("fairchild.rows"); } catch { /* private mode */ }
  rows();
});
rows();
