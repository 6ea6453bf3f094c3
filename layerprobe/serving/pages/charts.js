// Drawings of a recording's ratings, as SVG: a scale for each target, and the waveform above traces over time.
const LEFT = 8, RIGHT = 8, WAVE = 70, PANEL = 92, GAP = 14, AXIS = 20;
const SVG = "http://www.w3.org/2000/svg";

export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A number with so many digits after the point; what rounds to 0 has no minus. */
export const shown = (value, digits = 1) =>
  value === null ? "–" : value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");

/** Digits after the point that show about a fiftieth of a scale: 1 for 1 to 7, 2 for 0 to 1, none for 0 to 100. */
export const digitsOf = (scale) => Math.max(0, -Math.floor(Math.log10((scale.highest - scale.lowest) / 2.5)) + 1);
const ended = (value) => String(+value.toFixed(3)).replace("-", "−");

function clipped(value, scale) {
  return Math.min(scale.highest, Math.max(scale.lowest, value));
}

/** The value of a target on its scale, with its interval. */
export function scaleDrawing(rating, scale, width) {
  const x = (value) => 8 + (width - 16) * ((clipped(value, scale) - scale.lowest) / (scale.highest - scale.lowest));
  const parts = [draw("rect", { class: "rail", x: 8, y: 9, width: width - 16, height: 8, rx: 4 })];
  if (rating.low !== null && rating.high !== null)
    parts.push(draw("rect", { class: "band", x: x(rating.low), y: 5, width: Math.max(1, x(rating.high) - x(rating.low)), height: 16, rx: 4 }));
  parts.push(draw("circle", { class: "point", cx: x(rating.value), cy: 13, r: 8 }));
  for (const [value, anchor] of [[scale.lowest, "start"], [scale.highest, "end"]])
    parts.push(draw("text", { x: anchor === "start" ? 8 : width - 8, y: 36, "text-anchor": anchor }, ended(value)));
  return draw("svg", { viewBox: `0 0 ${width} 40`, "aria-hidden": "true" }, ...parts);
}

/** The waveform, and below it a trace of each target with its intervals; returns the drawing and a function that marks a time. */
export function timeDrawing(found, width) {
  const targets = found.trace ? Object.keys(found.ratings) : [];
  const height = WAVE + targets.length * (PANEL + GAP) + AXIS;
  const x = (seconds) => LEFT + (width - LEFT - RIGHT) * (seconds / found.duration);
  const parts = [waveform(found.peaks || [], width)];
  targets.forEach((target, k) => parts.push(panel(found, target, k, x, WAVE + GAP + k * (PANEL + GAP), width)));
  const step = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800].find((s) => found.duration / s <= width / 70) || 3600;
  for (let at = 0; at <= found.duration; at += step) {
    const anchor = at === 0 ? "start" : x(at) > width - 30 ? "end" : "middle";
    parts.push(draw("text", { x: x(at), y: height - 4, "text-anchor": anchor }, `${+at.toFixed(1)} s`));
  }
  const moment = draw("line", { class: "moment", y1: 0, y2: height - AXIS, visibility: "hidden" });
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": summary(found) }, ...parts, moment);
  return {
    svg,
    mark(seconds) {
      moment.setAttribute("visibility", "visible");
      moment.setAttribute("x1", x(seconds));
      moment.setAttribute("x2", x(seconds));
    },
  };
}

function summary(found) {
  const length = `Waveform of ${shown(found.duration)} seconds.`;
  if (!found.trace) return length;
  const traces = Object.keys(found.ratings).map((target) => {
    const values = found.trace.windows.map((w) => w.ratings[target]).filter(Boolean).map((r) => r.value);
    const digits = digitsOf(found.scales[target]);
    return values.length ? `${target} from ${shown(Math.min(...values), digits)} to ${shown(Math.max(...values), digits)}` : `${target} without a value`;
  });
  return `${length} Over time: ${traces.join(", ")}.`;
}

function waveform(peaks, width) {
  const most = Math.max(0.001, ...peaks), each = (width - LEFT - RIGHT) / Math.max(1, peaks.length);
  return draw("g", { class: "wave" }, ...peaks.map((peak, k) => {
    const height = Math.max(1, (WAVE - 6) * (peak / most));
    return draw("rect", { x: LEFT + k * each, y: (WAVE - height) / 2, width: Math.max(0.5, 0.75 * each), height });
  }));
}

function panel(found, target, k, x, top, width) {
  const scale = found.scales[target];
  const y = (value) => top + PANEL - (PANEL - 18) * ((clipped(value, scale) - scale.lowest) / (scale.highest - scale.lowest));
  const parts = [draw("text", { class: "name", x: LEFT, y: top + 8 }, target)];
  for (const value of [scale.lowest, scale.highest]) {
    parts.push(draw("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(draw("text", { x: width - RIGHT, y: y(value) - 3, "text-anchor": "end" }, ended(value)));
  }
  const middle = (one) => x((one.start + one.end) / 2);
  for (const run of runs(found.trace.windows, target)) {
    const bounded = run.filter((one) => one.ratings[target].low !== null);
    const edge = (name) => bounded.map((one) => `${middle(one)},${y(one.ratings[target][name])}`);
    if (bounded.length) parts.push(draw("polygon", { class: "band", points: [...edge("high"), ...edge("low").reverse()].join(" ") }));
    parts.push(draw("polyline", { class: "line", points: run.map((one) => `${middle(one)},${y(one.ratings[target].value)}`).join(" ") }));
    if (run.length === 1) parts.push(draw("circle", { class: "point", cx: middle(run[0]), cy: y(run[0].ratings[target].value), r: 3 }));
  }
  return draw("g", { class: `hue${k % 4}` }, ...parts);
}

/** Windows that follow each other with a rating; a silent window ends a run. */
function runs(windows, target) {
  const found = [[]];
  for (const one of windows) {
    if (one.ratings[target]) found.at(-1).push(one);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((run) => run.length);
}
