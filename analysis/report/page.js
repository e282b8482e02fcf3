// Draws the figures from the top of the page: without a pause at first, then one by one, those near the screen
// first, and what is left before printing. Those in a folded section are drawn when it opens. When all that are open are
// drawn, the root element says so in data-figures.
const figures = JSON.parse(document.getElementById("figures").textContent);
const config = {responsive: true, displaylogo: false, displayModeBar: false};
const waiting = new Set(document.querySelectorAll(".plot"));
const topics = document.querySelectorAll("details.topic");
const root = document.documentElement;

function draw(div, name) {
  const {data, layout} = structuredClone(figures[name]);
  if (root.classList.contains("printing")) layout.width = div.clientWidth;
  if (div.clientWidth < 600) makeNarrow(data, layout);
  Plotly.react(div, data, layout, config);
}

function makeNarrow(data, layout) {
  const ticks = layout.xaxis.tickvals;
  if (ticks && ticks.length > 6) {
    // Labels would stand askew; the largest stays.
    const kept = (_, place) => (ticks.length - 1 - place) % 2 === 0;
    layout.xaxis.tickvals = ticks.filter(kept);
    layout.xaxis.ticktext = layout.xaxis.ticktext.filter(kept);
  }
  layout.annotations = layout.annotations?.filter((note) => note.name !== "wide only");
  // Labels to the left of steep curves would run into the axis.
  for (const trace of data) if (trace.text) trace.textposition = "top right";
  if (layout.showlegend) {
    // A legend that wraps takes height from the plot: what is beyond six rows is given back, so that a curve and its axis
    // stay on the first screen of a phone.
    const rows = data.filter((trace) => trace.name && trace.showlegend !== false).length;
    layout.height += 22 * Math.max(0, rows - 6);
    layout.margin.l = 48;
    layout.font.size = 12;
  }
}

function drawOnce(div) {
  if (!waiting.delete(div)) return;
  draw(div, div.dataset.figure);
  const save = document.createElement("button");
  save.type = "button";
  save.className = "data";
  save.textContent = "Data as CSV";
  save.addEventListener("click", () => download(div));
  div.after(save);
}

const near = new IntersectionObserver((entries) => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) drawOnce(target);
}, {rootMargin: "50% 0px"});
for (const div of waiting) near.observe(div);

// So that a usual page is complete when it has loaded, and a large one can be scrolled meanwhile (ms; chosen, not studied).
const busyUntil = performance.now() + 1500;
let pausing = false;
function drawRest() {
  pausing = false;
  do {
    const next = [...waiting].find((div) => !div.closest("details.topic:not([open])"));
    if (!next) {
      root.dataset.figures = "drawn";
      return;
    }
    drawOnce(next);
  } while (performance.now() < busyUntil);
  pausing = true;
  setTimeout(drawRest);
}

function follow() {
  const hash = decodeURIComponent(location.hash.slice(1));
  const section = document.getElementById(hash);
  for (const topic of topics) if (hash === "all" || section?.contains(topic)) topic.open = true;
  section?.scrollIntoView();
  delete root.dataset.figures;
  drawRest();
}
addEventListener("hashchange", follow);
for (const topic of topics) topic.addEventListener("toggle", () => pausing || drawRest());
follow();

const choose = document.getElementById("choose");
if (choose) choose.addEventListener("change", () => {
  const div = document.getElementById("chosen");
  div.dataset.figure = choose.value;
  draw(div, choose.value);
});

// A figure keeps the width that it was drawn for, so that all are drawn again for the width of the paper, and after it.
function redraw(paper) {
  root.classList.toggle("printing", paper);
  if (paper) for (const topic of topics) topic.open = true;
  for (const div of document.querySelectorAll(".plot")) {
    if (!waiting.has(div)) draw(div, div.dataset.figure);
    else if (paper) drawOnce(div);
    if (!paper) Plotly.Plots.resize(div);
  }
}
addEventListener("beforeprint", () => redraw(true));
addEventListener("afterprint", () => redraw(false));

for (const button of document.querySelectorAll("[data-copy]")) {
  const name = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    } catch {  // no permission: the text itself, to be copied by hand
      button.after(Object.assign(document.createElement("pre"), {textContent: button.dataset.copy}));
    }
    setTimeout(() => { button.textContent = name; }, 1500);
  });
}

// One row a point, with the words of its hover box as they stand.
function asCsv(name) {
  const cell = (value) => `"${String(value ?? "").replaceAll("<br>", "; ").replaceAll('"', '""')}"`;
  const rows = [["series", "x", "y", "low", "high", "words"]];
  for (const trace of figures[name].data) {
    const bars = trace.error_y || {};
    if (trace.z) trace.z.forEach((line, k) => line.forEach((z, j) => rows.push([trace.name, trace.x[j], trace.y[k], "", "", z])));
    else trace.x.forEach((x, k) => {
      const y = trace.y[k];
      const low = bars.arrayminus ? y - bars.arrayminus[k] : "", high = bars.array ? y + bars.array[k] : "";
      const words = Array.isArray(trace.hovertext) ? trace.hovertext[k] : "";
      if (x !== null && y !== null) rows.push([trace.name, x, y, low, high, words]);
    });
  }
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function download(div) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asCsv(div.dataset.figure)], {type: "text/csv"}));
  link.download = div.dataset.figure + ".csv";
  link.click();
  URL.revokeObjectURL(link.href);
}
