// Ticked rows and the bar that acts on them. What is ticked on other pages of the same list goes along.
const form = document.getElementById("rows-form"), bar = document.querySelector("[data-bulk]");

if (form && bar) {
  const key = "fairchild.ticked:" + (bar.dataset.bulk || ""), count = bar.querySelector("[data-count]");
  const matching = bar.querySelector("[name=all]");
  let elsewhere = new Set(), last = null;
  try { elsewhere = new Set(JSON.parse(sessionStorage.getItem(key) || "[]")); } catch { /* private mode */ }
  const boxes = () => [...form.querySelectorAll("input[data-row]")], every = () => document.getElementById("tick-all");

  function restore() {
    for (const box of boxes()) if (elsewhere.has(box.value)) box.checked = true;
    changed();
  }

  function changed() {
    const here = boxes(), all = every();
    for (const box of here) if (box.checked) elsewhere.add(box.value); else elsewhere.delete(box.value);
    try { sessionStorage.setItem(key, JSON.stringify([...elsewhere])); } catch { /* private mode */ }
    const ticked = here.filter((box) => box.checked).length;
    if (all) { all.checked = ticked > 0 && ticked === here.length; all.indeterminate = ticked > 0 && ticked < here.length; }
    if (matching && !elsewhere.size) matching.checked = false;
    bar.hidden = false;
    bar.toggleAttribute("data-on", elsewhere.size > 0);
    // In the page's own language, as the numbers beside it are.
    count.textContent = matching?.checked ? "Selected:" : `${elsewhere.size.toLocaleString(document.documentElement.lang)} selected`;
  }

  function tickAll(on) {
    for (const box of boxes()) box.checked = on;
    changed();
  }

  form.addEventListener("click", (event) => {
    const box = event.target;
    if (!box.matches?.("input[data-row]")) return;
    const rows = boxes();
    if (event.shiftKey && last && rows.includes(last)) {
      const [from, to] = [rows.indexOf(last), rows.indexOf(box)].sort((a, b) => a - b);
      for (const each of rows.slice(from, to + 1)) each.checked = box.checked;
    }
    last = box;
    changed();
  });
  form.addEventListener("change", (event) => {
    if (event.target.id === "tick-all") tickAll(event.target.checked); else changed();
  });
  form.addEventListener("submit", () => {
    for (const old of form.querySelectorAll("input[data-elsewhere]")) old.remove();
    const here = new Set(boxes().map((box) => box.value));
    for (const id of elsewhere) if (!here.has(id)) {
      const hidden = document.createElement("input");
      Object.assign(hidden, { type: "hidden", name: "id", value: id });
      hidden.dataset.elsewhere = "";
      form.append(hidden);
    }
  });
  document.addEventListener("fairchild:clear", () => { elsewhere.clear(); tickAll(false); });
  // First all of this page, then all that match, then none.
  document.addEventListener("fairchild:all", () => {
    if (!boxes().length) return;
    if (!every()?.checked) tickAll(true);
    else if (matching && !matching.checked) { matching.checked = true; changed(); }
    else document.dispatchEvent(new Event("fairchild:clear"));
  });
  document.addEventListener("fairchild:done", () => sessionStorage.removeItem(key));
  document.addEventListener("fairchild:swap", restore);
  restore();
}
