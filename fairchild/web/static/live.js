// Keeps a page fresh: asks for its fragments and swaps those that changed. Nothing moves under the reader.
// A page that stands still, and that nobody touches, is asked for half as often.
// Tabs ask at the same moments, a few in each second: who is awake already answers the next for a third of the cost.
const EVERY = 2000, STILL = 15, SELDOM = 4000, MOMENTS = 500, LATER = [2000, 4000, 8000, 30000], PATIENCE = 20000;
const status = document.getElementById("live"), button = document.getElementById("pause");
let etag = "", failures = 0, same = 0, paused = false, timer = 0, asked = new Date(), anew = false, afterwards = [];

const living = () => document.querySelectorAll("main [data-live]");
const list = () => document.querySelector("main [data-live=list]");
const rowsOf = (box) => [...(box?.querySelectorAll("tbody tr[id]") || [])];

function why() {
  if (paused) return "you paused it";
  if (document.hidden) return "hidden";
  if (document.querySelector("dialog[open], .footbar details[open], [role=combobox][aria-expanded=true]")) return "something is open";
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

// Nothing here changes any more.
function end(text = "Not live") {
  tell("still", text);
  if (button) button.hidden = true;
}

// The fragments of this page; of a list, the rows between the first and the last that the reader has before them.
function where() {
  const url = new URL(location.href), rows = anew ? [] : rowsOf(list());
  url.searchParams.set("_live", "1");
  if (rows.length) {
    url.searchParams.set("top", rows[0].id.slice(4));
    url.searchParams.set("last", rows.at(-1).id.slice(4));
  }
  return url;
}

async function ask() {
  clearTimeout(timer);
  if (!living().length) return end();
  const reason = why();
  let wait = EVERY;
  if (reason) same = 0;
  if (reason) tell("paused", "Paused: " + reason);
  else {
    try {
      const answer = await fetch(where(), {
        headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store", signal: AbortSignal.timeout(PATIENCE),
      });
      if (answer.status === 200 && !answer.redirected) {
        const text = await answer.text();
        if (!why()) { etag = answer.headers.get("ETag") || ""; swap(new DOMParser().parseFromString(text, "text/html")); }
      } else if (answer.status === 404) return end("No longer there");
      else if (answer.status !== 304) throw new Error(String(answer.status));
      failures = 0;
      same = answer.status === 304 ? same + 1 : 0;
      if (same >= STILL) wait = SELDOM;
      asked = new Date();
      if (!living().length) return end();
      tell("live", `Live · ${wait / 1000} s`);
    } catch {
      wait = LATER[Math.min(failures++, LATER.length - 1)];
      tell("late", "As of " + asked.toLocaleTimeString());
    }
  }
  clearTimeout(timer);
  timer = setTimeout(ask, wait - (Date.now() + wait) % MOMENTS);
}

// A fragment that has come to its end is sent without data-live, and is asked for no more.
function swap(fresh) {
  for (const old of living()) if (!fresh.getElementById(old.id)) old.remove();
  for (const next of fresh.querySelectorAll("div[id][data-hash]")) {
    const old = document.getElementById(next.id);
    if (!old) continue;
    if (old.dataset.hash === next.dataset.hash) { if (!next.dataset.live) delete old.dataset.live; }
    else if (old.dataset.live === "list" && !anew) mergeRows(old, next);
    else replace(old, next);
  }
  anew = false;
  document.dispatchEvent(new CustomEvent("fairchild:swap"));
  for (const each of afterwards.splice(0)) each();
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
  // Once the other modules have made of it what they do; what is gone leaves the focus to the row at its place.
  if (focused) afterwards.push(() => {
    (node.querySelectorAll(focused[0])[focused[1]] || node.querySelector("tr.at a"))?.focus({ preventScroll: true });
  });
}

// How to find an element again after its fragment was swapped.
function mark(element) {
  if (element.id) return ["#" + CSS.escape(element.id), 0];
  const href = element.getAttribute("href"), name = element.tagName.toLowerCase();
  const selector = href ? `${name}[href="${CSS.escape(href)}"]` : name;
  return [selector, [...element.closest("[data-hash]").querySelectorAll(selector)].indexOf(element)];
}

// A list the reader is in: rows change where they stand, new ones wait behind a button, those that have left the
// filter stay, dimmed. The answer holds every row from the reader's first to their last, unless it was cut short.
function mergeRows(old, next) {
  const rows = new Map(rowsOf(old).map((row) => [row.id, row])), coming = rowsOf(next);
  const said = next.querySelector("tbody, .empty");
  if (!rows.size) return replace(old, next);
  let added = Number(said?.dataset.new || 0);
  for (const row of coming) {
    const known = rows.get(row.id);
    if (!known) { added += 1; continue; }
    rows.delete(row.id);
    leave(known, false);
    if (known.dataset.hash === row.dataset.hash) continue;
    const node = document.importNode(row, true), at = known.contains(document.activeElement);
    if (known.dataset.st !== row.dataset.st) node.classList.add("fresh");
    known.replaceWith(node);
    if (at) node.querySelector("a, input")?.focus({ preventScroll: true });
  }
  for (const row of rows.values())
    if (said?.dataset.cut && row.id < coming.at(-1).id) row.remove(); else leave(row, true);
  news(added, said?.dataset.more);
}

function leave(row, gone) {
  row.classList.toggle("gone", gone);
  if (gone) row.title = "No longer matches the filter"; else row.removeAttribute("title");
}

function news(count, more) {
  const pill = document.getElementById("news"), text = count === 1 && !more ? "1 new job" : `${count}${more ? "+" : ""} new jobs`;
  if (!pill) return;
  pill.hidden = !count;
  if (pill.textContent !== text) pill.textContent = text;
}

document.getElementById("news")?.addEventListener("click", () => {
  anew = true;
  etag = "";
  news(0);
  document.getElementById("main")?.focus({ preventScroll: true });
  ask();
});
button?.addEventListener("click", () => {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
  ask();
});
document.addEventListener("visibilitychange", ask);
for (const kind of ["pointermove", "pointerdown", "keydown"])
  document.addEventListener(kind, () => {
    if (same < STILL) return;
    same = 0;
    clearTimeout(timer);
    timer = setTimeout(ask, EVERY);
  }, { passive: true });
if (living().length) timer = setTimeout(ask, EVERY); else end();
