// A text field with a list of what it may become, after the ARIA pattern of a combobox.
// ask(text) gives a promise of [{text, note}, ...]; pick(option, field) is told what was chosen.
const PAUSE = 120;

export function combobox(input, box, ask, pick) {
  let options = [], at = -1, asked = 0, timer = 0;
  input.removeAttribute("list");
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", box.id);
  input.setAttribute("aria-expanded", "false");

  function show() {
    box.replaceChildren(...options.map((option, n) => {
      const item = document.createElement("li"), name = document.createElement("span"), note = document.createElement("small");
      Object.assign(item, { id: `${box.id}-${n}`, role: "option" });
      item.setAttribute("aria-selected", String(n === at));
      name.textContent = option.text;
      note.textContent = option.note || "";
      item.append(name, note);
      return item;
    }));
    const open = options.length > 0;
    box.hidden = !open;
    input.setAttribute("aria-expanded", String(open));
    if (at < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `${box.id}-${at}`);
    box.children[at]?.scrollIntoView({ block: "nearest" });
  }

  function close() {
    clearTimeout(timer);
    asked += 1;
    options = [];
    at = -1;
    show();
  }

  function open(wait = 0) {
    clearTimeout(timer);
    const number = ++asked;
    timer = setTimeout(async () => {
      const found = await ask(input.value).catch(() => []);
      if (number !== asked || document.activeElement !== input) return;
      options = found;
      at = -1;
      show();
    }, wait);
  }

  function choose(option) {
    close();
    pick(option);
  }

  input.addEventListener("input", () => open(PAUSE));
  input.addEventListener("focus", () => open(PAUSE));
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.isComposing) return;
    if (step && !options.length) open();
    else if (step) { at = (at + step + options.length + (at < 0 && step < 0 ? 1 : 0)) % options.length; show(); }
    else if (event.key === "Enter" && at >= 0) choose(options[at]);
    else if (event.key === "Escape" && options.length) close();
    else return;
    event.preventDefault();
  });
  // The field keeps the focus.
  box.addEventListener("pointerdown", (event) => event.preventDefault());
  box.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) choose(options[[...box.children].indexOf(item)]);
  });
  return { open, close };
}
