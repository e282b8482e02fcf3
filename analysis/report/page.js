// Draws the figures from the top of the page: without a pause at first, then one by one, those near the screen
// first, and what is left before printing. When all are drawn, the root element says so in data-figures.
const figures = JSON.parse(document.getElementById("figures").textContent);
const config = {responsive: true, displaylogo: false, displayModeBar: false};
const waiting = new Set(document.querySelectorAll(".plot"));

function draw(div, name) {
  const {data, layout} = structuredClone(figures[name]);
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
  // Labels to the left of steep curves would run into the axis.
  for (const trace of data) if (trace.text) trace.textposition = "top right";
  if (layout.showlegend) {
    // A legend that wraps takes height from the plot; give it back.
    layout.height += 22 * data.filter((trace) => trace.name && trace.showlegend !== false).length;
    layout.margin.l = 48;
    layout.font.size = 12;
  }
}

function drawOnce(div) {
  if (waiting.delete(div)) draw(div, div.dataset.figure);
}

const near = new IntersectionObserver((entries) => {
  for (const {isIntersecting, target} of entries) if (isIntersecting) drawOnce(target);
}, {rootMargin: "50% 0px"});
for (const div of waiting) near.observe(div);

// So that a usual page is complete when it has loaded, and a large one can be scrolled meanwhile (ms; chosen, not studied).
const busyUntil = performance.now() + 1500;
function drawRest() {
  do {
    const [next] = waiting;
    if (!next) {
      document.documentElement.dataset.figures = "drawn";
      return;
    }
    drawOnce(next);
  } while (performance.now() < busyUntil);
  setTimeout(drawRest);
}
drawRest();

const choose = document.getElementById("choose");
if (choose) choose.addEventListener("change", () => draw(document.getElementById("chosen"), choose.value));

window.addEventListener("beforeprint", () => {
  for (const div of waiting) drawOnce(div);
});
