// Keeps a page fresh: asks for its fragments and swaps those that changed. Nothing moves under the reader.
const EVERY = 2000, LATER = [2000, 4000, 8000, 30000];
const status = document.getElementById("live"), button = document.getElementById("pause");
let etag = "", failures = 0, paused = false, timer = 0, asked = new Date(), held = null;

const fragments = () => document.querySelectorAll("main [data-live]");

function why() {
  if (paused) return "you paused it";
  if (document.hidden) return "hidden";
  if (document.querySelector("dialog[open], .footbar details[open]")) return "something is open";
  if (document.querySelector("input[data-row]:checked")) return "rows are ticked";
  const chosen = getSelection();
  if (chosen && !chosen.isCollapsed && chosen.anchorNode && inLive(chosen.anchorNode)) return "text is selected";
  const at = document.activeElement;
  if (at && at.matches("input:not([type=checkbox]), select, textarea") && inLive(at)) return "you are typing";
  return "";
}

const inLive = (node) => (node.nodeType === 1 ? node : node.parentElement)?.closest("[data-live]");

function tell(how, text) {
  if (!status || status.textContent === text) return;
  status.dataset.how = how;
  status.textContent = text;
}

async function ask() {
  clearTimeout(timer);
  if (!fragments().length) return tell("still", "Not live");
  const reason = why();
  let wait = EVERY;
  if (reason) tell("paused", reason === "hidden" ? "Paused" : "Paused: " + reason);
  else {
    try {
      const url = new URL(location.href);
      url.searchParams.set("_live", "1");
      const answer = await fetch(url, { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
      if (answer.status === 200 && !answer.redirected) {
        const text = await answer.text();
        if (!why()) { etag = answer.headers.get("ETag") || ""; swap(new DOMParser().parseFromString(text, "text/html")); }
      } else if (answer.status !== 304) throw new Error(String(answer.status));
      failures = 0;
      asked = new Date();
      tell("live", "Live · 2 s");
    } catch (error) {
      wait = LATER[Math.min(failures++, LATER.length - 1)];
      tell("late", "As of " + asked.toLocaleTimeString());
    }
  }
  timer = setTimeout(ask, wait);
}

function swap(fresh) {
  for (const next of fresh.querySelectorAll("[data-live]")) {
    const old = document.getElementById(next.id);
    if (!old || old.dataset.hash === next.dataset.hash) continue;
    if (old.dataset.live === "list") mergeRows(old, next); else replace(old, next);
  }
  document.dispatchEvent(new CustomEvent("fairchild:swap"));
}

function replace(old, next) {
  const at = document.activeElement, focused = old.contains(at) ? mark(at) : null;
  const scrolled = [...old.querySelectorAll(".scroll, .dag, pre")].map((box) => [box.scrollLeft, box.scrollTop]);
  const open = new Map([...old.querySelectorAll("details")].map((each, n) => [each.id || n, each.open]));
  const states = new Map([...old.querySelectorAll("tr[data-st]")].map((row) => [row.id, row.dataset.st]));
  const node = document.importNode(next, true);
  [...node.querySelectorAll("details")].forEach((each, n) => { if (open.has(each.id || n)) each.open = open.get(each.id || n); });
  for (const row of node.querySelectorAll("tr[data-st]"))
    if (states.has(row.id) && states.get(row.id) !== row.dataset.st) row.classList.add("fresh");
  old.replaceWith(node);
  [...node.querySelectorAll(".scroll, .dag, pre")].forEach((box, n) => {
    if (scrolled[n]) [box.scrollLeft, box.scrollTop] = scrolled[n];
  });
  if (focused) node.querySelectorAll(focused[0])[focused[1]]?.focus({ preventScroll: true });
}

// How to find an element again after its fragment was swapped.
function mark(element) {
  if (element.id) return ["#" + CSS.escape(element.id), 0];
  const href = element.getAttribute("href"), name = element.tagName.toLowerCase();
  const selector = href ? `${name}[href="${CSS.escape(href)}"]` : name;
  return [selector, [...element.closest("[data-live]").querySelectorAll(selector)].indexOf(element)];
}

// A list the reader is in: rows change where they stand, new ones wait behind a button, gone ones stay, dimmed.
function mergeRows(old, next) {
  const rows = new Map([...old.querySelectorAll("tbody tr[id]")].map((row) => [row.id, row]));
  const coming = [...next.querySelectorAll("tbody tr[id]")];
  if (!rows.size || !coming.length) return replace(old, next);
  let added = 0;
  for (const row of coming) {
    const known = rows.get(row.id);
    if (!known) { added += 1; continue; }
    rows.delete(row.id);
    known.classList.remove("muted");
    if (known.dataset.hash === row.dataset.hash) continue;
    const node = document.importNode(row, true), at = known.contains(document.activeElement);
    if (known.dataset.st !== row.dataset.st) node.classList.add("fresh");
    if (known.classList.contains("at")) node.classList.add("at");
    known.replaceWith(node);
    if (at) node.querySelector("a, input")?.focus({ preventScroll: true });
  }
  for (const row of rows.values()) row.classList.add("muted");
  held = added ? next : null;
  const pill = document.getElementById("news");
  if (pill) {
    pill.hidden = !added;
    if (added) pill.textContent = added === 1 ? "1 new job" : `${added} new jobs`;
  }
}

document.getElementById("news")?.addEventListener("click", (event) => {
  const old = held && document.getElementById(held.id);
  if (old) replace(old, held);
  held = null;
  event.currentTarget.hidden = true;
});

button?.addEventListener("click", () => {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
  ask();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); else clearTimeout(timer); });
if (fragments().length) timer = setTimeout(ask, EVERY); else { tell("still", "Not live"); if (button) button.hidden = true; }
