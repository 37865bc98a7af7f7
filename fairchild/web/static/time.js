// Keeps relative times fresh by the database's clock, in the reader's own words. The absolute time shows on hover and
// focus; a click on any shows all as local time, then UTC, then relative again.
const ahead = Date.parse(document.documentElement.dataset.now) - Date.now() || 0;
const HOW = ["relative", "local", "utc"], UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const words = new Intl.RelativeTimeFormat(undefined, { style: "short", numeric: "always" });
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const utc = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", timeZone: "UTC" });
let how = 0;

function relative(seconds) {
  const size = Math.abs(seconds), [unit, per] = UNITS.find(([, each]) => size >= each) || UNITS.at(-1);
  return words.format(Math.sign(seconds) * Math.floor(size / per), unit);
}

function elapsed(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => whole >= size);
  const rest = Math.floor((whole % units[first][1]) / units[first + 1][1]);
  return `${Math.floor(whole / units[first][1])}${units[first][0]}` + (rest ? ` ${rest}${units[first + 1][0]}` : "");
}

// On an axis: in the reader's zone, unless all is shown as UTC.
function clock(moment, days) {
  const form = { hour: "2-digit", minute: "2-digit", ...(days && { day: "numeric", month: "short" }), ...(HOW[how] === "utc" && { timeZone: "UTC" }) };
  return moment.toLocaleString([], form);
}

function refresh() {
  const now = Date.now() + ahead;
  for (const each of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(each.dateTime), seconds = (moment - now) / 1000;
    if (isNaN(moment)) continue;
    let text;
    if ("clock" in each.dataset) text = clock(moment, each.dataset.clock === "day");
    else if ("elapsed" in each.dataset) text = elapsed(-seconds);
    else if ("exact" in each.dataset) text = HOW[how] === "local" ? local.format(moment) : each.dateTime.slice(0, 23).replace("T", " ") + " UTC";
    else if (HOW[how] === "utc") text = `${utc.format(moment)} UTC`;
    else if (HOW[how] === "local") text = local.format(moment);
    else text = relative(seconds);
    if (each.textContent !== text) each.textContent = text;
  }
}

// Only a time that is not a part of something else to press can be pressed itself, nor one that is absolute as it is.
function reach() {
  for (const each of document.querySelectorAll("time[datetime]:not([role], [data-elapsed], [data-clock], [data-exact])")) {
    if (each.closest("a, button, summary, label")) continue;
    each.tabIndex = 0;
    each.setAttribute("role", "button");
  }
}

function absolute(time, moment) {
  const here = local.format(moment), there = `${utc.format(moment)} UTC`;
  return ("elapsed" in time.dataset ? "since " : "") + (there.startsWith(here) ? there : `${here} · ${there}`);
}

// A browser shows a title on hover alone; on focus it is shown here, above all that would cut it off.
const tip = document.createElement("div");
tip.className = "moment";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true");  // the title says it already
document.body.append(tip);

function say(event) {
  const time = event.target.closest?.("time[datetime]"), moment = time && new Date(time.dateTime);
  if (event.type === "focusin") tip.hidden = true;
  if (!time || isNaN(moment)) return;
  time.title = absolute(time, moment);
  if (event.type !== "focusin" || !time.matches(":focus-visible")) return;
  tip.textContent = time.title;
  tip.hidden = false;
  const at = time.getBoundingClientRect(), below = at.bottom + 6 + tip.offsetHeight < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${below ? at.bottom + 6 : at.top - 6 - tip.offsetHeight}px`;
}

function turn(event) {
  const time = event.target.closest?.("time[role=button]");
  if (!time) return;
  if (event.type === "keydown" && event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  how = (how + 1) % HOW.length;
  refresh();
}

document.addEventListener("pointerover", say);
document.addEventListener("focusin", say);
for (const each of ["focusout", "scroll"]) document.addEventListener(each, () => { tip.hidden = true; }, true);
document.addEventListener("click", turn);
document.addEventListener("keydown", turn);
document.addEventListener("fairchild:swap", () => { refresh(); reach(); });
setInterval(() => { if (!document.hidden) refresh(); }, 1000);
refresh();
reach();
