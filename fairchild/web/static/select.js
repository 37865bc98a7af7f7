// Ticked rows and the bar that acts on them. What is ticked on other pages of the same list goes along.
const form = document.getElementById("rows-form"), bar = document.querySelector("[data-bulk]");

if (form && bar) {
  const key = "fairchild.ticked:" + (bar.dataset.bulk || ""), count = bar.querySelector("[data-count]");
  const all = document.getElementById("tick-all"), matching = bar.querySelector("[name=all]");
  let elsewhere = new Set(), last = null;
  try { elsewhere = new Set(JSON.parse(sessionStorage.getItem(key) || "[]")); } catch { /* private mode */ }
  const boxes = () => [...form.querySelectorAll("input[data-row]")];

  for (const box of boxes()) if (elsewhere.has(box.value)) box.checked = true;

  function changed() {
    const here = boxes();
    for (const box of here) if (box.checked) elsewhere.add(box.value); else elsewhere.delete(box.value);
    try { sessionStorage.setItem(key, JSON.stringify([...elsewhere])); } catch { /* private mode */ }
    bar.toggleAttribute("data-on", elsewhere.size > 0);
    count.textContent = `${elsewhere.size.toLocaleString("en")} selected`;
    const ticked = here.filter((box) => box.checked).length;
    if (all) { all.checked = ticked > 0 && ticked === here.length; all.indeterminate = ticked > 0 && ticked < here.length; }
    if (!elsewhere.size && matching) matching.checked = false;
  }

  form.addEventListener("click", (event) => {
    const box = event.target;
    if (!box.matches?.("input[data-row]")) return;
    const list = boxes();
    if (event.shiftKey && last && list.includes(last)) {
      const [from, to] = [list.indexOf(last), list.indexOf(box)].sort((a, b) => a - b);
      for (const each of list.slice(from, to + 1)) each.checked = box.checked;
    }
    last = box;
    changed();
  });
  form.addEventListener("change", changed);
  all?.addEventListener("change", () => { for (const box of boxes()) box.checked = all.checked; changed(); });
  form.addEventListener("submit", () => {
    for (const old of form.querySelectorAll("input[data-elsewhere]")) old.remove();
    const here = new Set(boxes().map((box) => box.value));
    for (const id of elsewhere) if (!here.has(id)) {
      const hidden = document.createElement("input");
      Object.assign(hidden, { type: "hidden", name: "id", value: id });
      hidden.dataset.elsewhere = "";
      form.append(hidden);
    }
    sessionStorage.removeItem(key);
  });
  document.addEventListener("fairchild:clear", () => {
    elsewhere.clear();
    for (const box of boxes()) box.checked = false;
    changed();
  });
  changed();
}
