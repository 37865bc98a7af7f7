// What asks before it acts does so in a dialog instead of a page of its own; what is refused is said there too. So do
// links to a form (data-opens). Esc and a click beside it close a dialog.
const box = document.createElement("dialog");
box.id = "ask";
box.setAttribute("aria-labelledby", "ask-h");
document.body.append(box);
let busy = false, again = 0;

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !form.matches("form[data-asks], #ask form")) return;
  event.preventDefault();
  send(form, event.submitter);
});

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-opens]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  open(link.href);
});

async function open(url) {
  if (busy) return;
  busy = true;
  try {
    const answer = await fetch(url);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const form = answer.ok && !answer.redirected && page.querySelector("[data-confirm]");
    if (form) show(page.querySelector("h1").textContent, form, null, answer.url); else location.assign(url);
  } catch {
    location.assign(url);
  } finally {
    busy = false;
  }
}

async function send(form, button) {
  const action = button?.getAttribute("formaction") || form.getAttribute("action");
  if (form.method === "get") {
    const url = new URL(action, location.href);
    url.search = new URLSearchParams(new FormData(form, button));
    open(url.href);
    return;
  }
  if (busy) return;
  busy = true;
  clearTimeout(again);
  try {
    const answer = await fetch(action, { method: "POST", body: new URLSearchParams(new FormData(form, button)) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const refused = page.querySelector(".toast[role=alert]");
    if (refused) show("Not done", null, refused, answer.url);
    else if (answer.redirected && answer.ok) {
      document.dispatchEvent(new Event("fairchild:done"));
      location.assign(answer.url);
    } else show(page.querySelector("h1")?.textContent || "Not done", page.querySelector("[data-confirm]"), page.querySelector("main .banner"), answer.url);
  } catch {
    show("No answer", null, null, location.href);
  } finally {
    busy = false;
  }
}

function show(title, question, problem, base) {
  const head = document.createElement("h2"), body = document.createElement("div"), long = question?.dataset.confirm === "form";
  head.id = "ask-h";
  head.textContent = title;
  body.className = "stack";
  box.toggleAttribute("data-wide", long);
  if (question) body.append(...[...question.childNodes].map((each) => document.importNode(each, true)));
  else body.append(...refusal(problem));
  for (const link of body.querySelectorAll("a")) link.href = new URL(link.getAttribute("href"), base).href;
  box.replaceChildren(head, body);
  if (long) head.after(closes());
  if (!box.open) box.showModal();
  const form = body.querySelector("form"), danger = body.querySelector(".btn.danger");
  (body.querySelector("[aria-invalid]") || body.querySelector("[id^=arg-], #raw-args") || body.querySelector("input:not([type=hidden])") || (danger ? body.querySelector("a.btn") : body.querySelector("button")))?.focus();
  // One request changes as many as it may in its time; the next goes on, until it is done or stopped.
  if (form?.hasAttribute("data-goes-on")) again = setTimeout(() => { if (box.open) send(form, form.querySelector("button")); }, 400);
}

function refusal(problem) {
  const text = problem ? document.importNode(problem, true) : document.createElement("p");
  text.setAttribute("role", "alert");
  if (!problem) text.textContent = "The server did not answer, and may have done it or not. Look before you try again.";
  return [text, closes()];
}

function closes() {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "btn", textContent: "Close" });
  button.addEventListener("click", () => box.close());
  return button;
}

box.addEventListener("click", (event) => {
  const link = event.target.closest("a:not([data-opens])");
  if (!link || box.querySelector("[data-goes-on]")) return;
  event.preventDefault();
  box.close();
});
box.addEventListener("close", () => clearTimeout(again));

// Beside a dialog is whatever of it lies outside of its frame. What is dragged out of it, as selected text, closes nothing.
let began = null;
document.addEventListener("pointerdown", (event) => { began = beside(event); });
document.addEventListener("click", (event) => { if (began && began === beside(event)) began.close(); began = null; });

function beside(event) {
  const at = event.target;
  if (!(at instanceof HTMLDialogElement)) return null;
  const frame = at.getBoundingClientRect();
  const inside = event.clientX >= frame.left && event.clientX <= frame.right && event.clientY >= frame.top && event.clientY <= frame.bottom;
  return inside ? null : at;
}
