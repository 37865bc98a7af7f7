// Charts say what a column stands for: under the pointer, and with the arrow keys. Without this, its title does.
const shown = document.createElement("p");
shown.className = "tip";
shown.hidden = true;
shown.setAttribute("role", "status");
document.body.append(shown);
let at = null;

function words(column) {
  const title = column.querySelector("title");
  if (title) { column.dataset.said = title.textContent; title.remove(); }
  if (!column.dataset.at) return column.dataset.said;
  const moment = new Date(column.dataset.at), rest = column.dataset.said.replace(/^.*? UTC: /, "");
  const when = moment.toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
  return when + ": " + rest;
}

function show(column) {
  at?.classList.remove("on");
  at = column;
  shown.hidden = !column;
  if (!column) return;
  column.classList.add("on");
  shown.textContent = words(column);
  const box = column.getBoundingClientRect(), half = shown.offsetWidth / 2;
  shown.style.left = Math.max(half + 4, Math.min(box.left + box.width / 2, innerWidth - half - 4)) + "px";
  shown.style.top = box.top - 6 + "px";
}

document.addEventListener("pointerover", (event) => {
  const column = event.target.closest?.(".cols g");
  if (column !== at) show(column);
});
document.addEventListener("focusin", (event) => { if (event.target.matches?.(".cols")) show(event.target.querySelector("g:last-of-type")); });
document.addEventListener("focusout", (event) => { if (event.target.matches?.(".cols")) show(null); });
document.addEventListener("scroll", () => show(null), { passive: true });
document.addEventListener("fairchild:swap", () => { if (at && !at.isConnected) show(null); });
document.addEventListener("keydown", (event) => {
  const chart = event.target.closest?.(".cols");
  if (!chart) return;
  if (event.key === "Escape") return show(null);
  const columns = [...chart.querySelectorAll("g")], place = columns.indexOf(at);
  const next = { ArrowLeft: place < 0 ? columns.length - 1 : place - 1, ArrowRight: place + 1, Home: 0, End: columns.length - 1 }[event.key];
  if (next === undefined || !columns[next]) return;
  event.preventDefault();
  show(columns[next]);
});
