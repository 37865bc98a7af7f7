// A graph under the hand: drag to move, ctrl and wheel or the buttons to zoom, arrow keys along the edges, follow.
let zoom = 0, follow = false, worst = "";
const box = () => document.querySelector(".dag"), drawing = () => document.querySelector(".dag svg");

function scale(to) {
  const svg = drawing();
  if (!svg) return;
  zoom = Math.max(0.2, Math.min(2, to));
  svg.setAttribute("width", svg.viewBox.baseVal.width * zoom);
  svg.setAttribute("height", svg.viewBox.baseVal.height * zoom);
}

function fit() {
  const view = drawing()?.viewBox.baseVal;
  if (view) scale(Math.min(1, (box().clientWidth - 8) / view.width));
}

function center(node, smooth) {
  const area = box().getBoundingClientRect(), place = node.getBoundingClientRect();
  box().scrollBy({
    left: place.left - area.left - (area.width - place.width) / 2, top: place.top - area.top - (area.height - place.height) / 2,
    behavior: smooth && !matchMedia("(prefers-reduced-motion: reduce)").matches ? "smooth" : "auto",
  });
}

const ORDER = ["failed", "retrying", "running", "available", "waiting"];

function chase() {
  if (!follow) return;
  const node = ORDER.map((state) => box().querySelector(`a[data-s="${state}"]`)).find(Boolean);
  if (node && node.id !== worst) { worst = node.id; center(node, true); }
}

function near(node, direction) {
  const down = box().dataset.dir === "down", [on, back] = down ? ["ArrowDown", "ArrowUp"] : ["ArrowRight", "ArrowLeft"];
  const along = { [on]: "ft", [back]: "tf" }[direction];
  if (along) {  // edges name nodes by their number
    const nodes = [...document.querySelectorAll(".dag a")];
    const edge = document.querySelector(`.dag path[data-${along[0]}="${nodes.indexOf(node)}"]`);
    return edge && nodes[edge.dataset[along[1]]];
  }
  const side = (each, which) => Math.round(each.getBoundingClientRect()[which]), [rank, place] = down ? ["top", "left"] : ["left", "top"];
  const column = [...document.querySelectorAll(".dag a")].filter((each) => side(each, rank) === side(node, rank));
  const at = (each) => each.getBoundingClientRect()[place];
  column.sort((a, b) => at(a) - at(b));
  return column[column.indexOf(node) + (direction === (down ? "ArrowRight" : "ArrowDown") ? 1 : -1)];
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-zoom]");
  if (!button) return;
  const what = button.dataset.zoom;
  if (what === "fit") fit();
  else if (what === "follow") { follow = !follow; button.setAttribute("aria-pressed", String(follow)); worst = ""; chase(); }
  else scale((zoom || 1) * (what === "in" ? 1.2 : 1 / 1.2));
});

document.addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  const node = document.activeElement?.closest?.(".dag a");
  if (node && event.key.startsWith("Arrow")) {
    const next = near(node, event.key);
    if (next) { next.focus({ preventScroll: true }); center(next, false); }
    event.preventDefault();
  } else if (document.activeElement?.closest?.(".dag")) {
    const what = { "+": "in", "-": "out", 0: "fit", f: "follow" }[event.key];
    if (what) document.querySelector(`[data-zoom="${what}"]`)?.click();
  }
});

document.addEventListener("wheel", (event) => {
  if (!event.ctrlKey || !event.target.closest?.(".dag")) return;
  event.preventDefault();
  scale((zoom || 1) * (event.deltaY < 0 ? 1.1 : 1 / 1.1));
}, { passive: false });

let held = null;
document.addEventListener("pointerdown", (event) => {
  const area = event.target.closest?.(".dag");
  if (!area || event.pointerType === "touch" || event.button || event.target.closest("a")) return;
  held = [event.clientX + area.scrollLeft, event.clientY + area.scrollTop];
  area.classList.add("drag");
});
document.addEventListener("pointermove", (event) => {
  if (held) box().scrollTo(held[0] - event.clientX, held[1] - event.clientY);
});
document.addEventListener("pointerup", () => { held = null; box()?.classList.remove("drag"); });
document.addEventListener("fairchild:swap", () => { if (zoom) scale(zoom); chase(); });
if (drawing() && drawing().viewBox.baseVal.width > box().clientWidth * 2.2) box().scrollLeft = 0;
