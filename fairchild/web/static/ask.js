// What asks before it acts does so in a dialog instead of a page of its own; what is refused is said there too.
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

async function send(form, button) {
  if (busy) return;
  busy = true;
  clearTimeout(again);
  try {
    const answer = await fetch(button?.getAttribute("formaction") || form.getAttribute("action"), {
      method: "POST", body: new URLSearchParams(new FormData(form, button)),
    });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const refused = page.querySelector(".toast[role=alert]");
    if (refused) show("Not done", null, refused);
    else if (answer.redirected && answer.ok) {
      document.dispatchEvent(new Event("fairchild:done"));
      location.assign(answer.url);
    } else show(page.querySelector("h1")?.textContent || "Not done", page.querySelector("[data-confirm]"), page.querySelector("main .banner"));
  } catch {
    show("No answer", null, null);
  } finally {
    busy = false;
  }
}

function show(title, question, problem) {
  const head = document.createElement("h2"), body = document.createElement("div");
  head.id = "ask-h";
  head.textContent = title;
  body.className = "stack";
  if (question) body.append(...[...question.childNodes].map((each) => document.importNode(each, true)));
  else body.append(...refusal(problem));
  box.replaceChildren(head, body);
  if (!box.open) box.showModal();
  const form = body.querySelector("form"), danger = body.querySelector(".btn.danger");
  (body.querySelector("input:not([type=hidden])") || (danger ? body.querySelector("a.btn") : body.querySelector("button")))?.focus();
  // One request changes as many as it may in its time; the next goes on, until it is done or stopped.
  if (form?.hasAttribute("data-goes-on")) again = setTimeout(() => { if (box.open) send(form, form.querySelector("button")); }, 400);
}

function refusal(problem) {
  const text = problem ? document.importNode(problem, true) : document.createElement("p"), close = document.createElement("button");
  text.setAttribute("role", "alert");
  if (!problem) text.textContent = "The server did not answer, and may have done it or not. Look before you try again.";
  Object.assign(close, { type: "button", className: "btn", textContent: "Close" });
  close.addEventListener("click", () => box.close());
  return [text, close];
}

box.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link || box.querySelector("[data-goes-on]")) return;
  event.preventDefault();
  box.close();
});
box.addEventListener("close", () => clearTimeout(again));
