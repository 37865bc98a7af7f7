// Keeps relative times fresh by the database's clock; a click on any shows all as local time, then UTC, then relative.
const ahead = Date.parse(document.documentElement.dataset.now) - Date.now() || 0;
const HOW = ["relative", "local", "utc"];
let how = 0;

function relative(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  const [unit, per] = size < 60 ? ["s", 1] : size < 3600 ? ["min", 60] : size < 86400 ? ["h", 3600] : ["d", 86400];
  const count = Math.floor(size / per);
  return seconds > 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
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
    let text;
    if ("clock" in each.dataset) text = clock(moment, each.dataset.clock === "day");
    else if ("elapsed" in each.dataset) text = elapsed(-seconds);
    else if ("exact" in each.dataset) text = HOW[how] === "local" ? moment.toLocaleString() : each.dateTime.slice(0, 23).replace("T", " ") + " UTC";
    else if (HOW[how] === "utc") text = each.dateTime.slice(0, 19).replace("T", " ") + " UTC";
    else if (HOW[how] === "local") text = moment.toLocaleString();
    else text = relative(seconds);
    if (each.textContent !== text) each.textContent = text;
  }
}

document.addEventListener("click", (event) => {
  const time = event.target.closest?.("time[datetime]:not([data-elapsed], [data-clock])");
  if (!time || time.closest("a")) return;
  how = (how + 1) % HOW.length;
  refresh();
});
document.addEventListener("fairchild:swap", refresh);
setInterval(() => { if (!document.hidden) refresh(); }, 1000);
