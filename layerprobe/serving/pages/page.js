// The page's script: a recording from a file, a drop or the microphone goes to the server; its answer is drawn.
import { microphoneProblem, startRecording } from "/recorder.js";
import { digitsOf, scaleDrawing, shown, timeDrawing } from "/charts.js";

const PEAKS = 300, RETRIES = 5, TOKEN = "layerprobe-token";
const UNREACHABLE = "The server can't be reached. Is it still running?";
const at = (id) => document.getElementById(id);
const make = (name, text = "", attributes = {}) => {
  const element = document.createElement(name);
  element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`);
const state = { about: null, recorder: null, starting: false, sending: null, url: "", drawing: null, found: null };

// ---- requests ----
const token = () => sessionStorage.getItem(TOKEN) || "";
const authorised = () => (token() ? { Authorization: `Bearer ${token()}` } : {});
async function answer(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...options.headers, ...authorised() } });
  const content = await response.json().catch(() => ({}));
  if (response.ok) return content;
  const error = new Error(content.error ? content.error.message : `The server answered with ${response.status}.`);
  throw Object.assign(error, { status: response.status, wait: Number(response.headers.get("Retry-After")) });
}

async function describe() {
  try {
    state.about = await answer("/api/predictor");
  } catch (error) {
    if (error.status !== 401) return fail(error.status ? error.message : UNREACHABLE);
    const wrong = token() !== "";
    sessionStorage.removeItem(TOKEN);
    at("token-form").hidden = false;
    at("input").hidden = true;
    at("token").focus();
    return wrong && fail("This is not the token of this server.");
  }
  at("token-form").hidden = true;
  at("input").hidden = false;
  at("alert").hidden = true;
  showAbout(state.about);
}

function showAbout(about) {
  const names = about.targets.map((target) => target.name);
  document.title = `Rate ${listed(names)} · layerprobe`;
  at("title").textContent = `Rate ${listed(names)} in a recording of speech`;
  at("limits").textContent = `At most ${about.limits.seconds} s and ${about.limits.megabytes} MB.`;
  const encoder = about.encoder, trained = about.trained_on;
  const corpus = trained.corpus ? `the corpus ${trained.corpus}` : "its corpus";
  const kept = encoder.blocks === encoder.blocks_of_whole ? `all ${encoder.blocks} blocks` : `${encoder.blocks} of ${encoder.blocks_of_whole} blocks`;
  const layers = make("ul");
  for (const target of about.targets)
    layers.append(make("li", `${target.name}: ${layerText(target.layers, encoder)}; scale ${target.lowest}–${target.highest}`));
  const scores = make("ul");
  for (const { name, score } of about.targets) if (score) scores.append(make("li", `${name}: ${scoreText(score)}`));
  at("about").replaceChildren();
  const rows = [
    ["Encoder", `${encoder.name}, ${kept}`],
    ["Layers", layers],
    ["Trained on", `${corpus}: ${trained.utterances} recordings of ${trained.speakers} speakers`],
    ["Intervals", `at ${percent(about.level)}`],
    ["Predictor", about.predictor],
  ];
  if (scores.children.length) rows.splice(3, 0, [about.interval_unit === "utterance" ? "Scores on unseen recordings" : `Scores on unseen ${about.interval_unit}s`, scores]);
  for (const [term, content] of rows) {
    const value = make("dd");
    value.append(content);
    at("about").append(make("dt", term), value);
  }
  at("meaning").textContent = `Each number estimates how people like those who rated ${corpus} would rate a recording like those of that corpus. It is no measurement of what a speaker feels. Other languages, ages, microphones and situations than those of the corpus can make it wrong by more than its interval.`;
}

const METRICS = { ccc: "CCC", ccc_matched: "moment-matched CCC" };
const scoreText = (score) => {
  const bounds = score.ci_low === null ? "no interval could be measured" : `${shown(score.ci_low, 2)} to ${shown(score.ci_high, 2)}`;
  return `${METRICS[score.metric] || score.metric} ${shown(score.estimate, 2)} (${bounds})`;
};
const percent = (level) => `${+(100 * level).toFixed(1)} %`;
function layerText(layers, encoder) {
  const of = `of ${encoder.blocks_of_whole}`;
  return layers.length === 1 ? `layer ${layers[0]} ${of}` : `a mix of layers ${layers[0]} to ${layers.at(-1)} ${of}`;
}

// ---- sending ----
async function rate(blob, name) {
  if (state.sending) state.sending.abort();
  const sending = (state.sending = new AbortController());
  at("alert").hidden = true;
  at("result").hidden = true;
  if (!state.about) await describe(); // the server was not there when the page was opened
  if (!state.about) return undefined;
  const limits = state.about.limits;
  if (blob.size > 1e6 * limits.megabytes)
    return fail(`${name} has ${(blob.size / 1e6).toFixed(1)} MB; this server receives at most ${limits.megabytes} MB.`);
  if (!blob.size) return fail(`${name} is empty.`);
  say(`Rating ${name} …`, true);
  const type = /^(audio|video)\//.test(blob.type) ? blob.type : "application/octet-stream";
  const options = { method: "POST", body: blob, headers: { "Content-Type": type }, signal: sending.signal };
  for (let tried = 0; ; tried++) {
    try {
      const found = await answer(`/api/ratings?peaks=${PEAKS}`, options);
      if (state.sending === sending) show(found, blob, name);
      return undefined;
    } catch (error) {
      if (sending.signal.aborted) return undefined;
      if (error.status === 503 && tried < RETRIES) {
        say(`The server is busy; ${name} waits …`, true);
        await new Promise((resolve) => setTimeout(resolve, 1000 * (error.wait || 1)));
        continue;
      }
      if (error.status === 401) await describe();
      return fail(error.status ? error.message : UNREACHABLE);
    }
  }
}

function say(text, busy = false) {
  at("status").textContent = text;
  at("status").classList.toggle("busy", busy);
}
function fail(text) {
  say("");
  at("alert").textContent = text;
  at("alert").hidden = false;
}

// ---- the answer ----
function show(found, blob, name) {
  state.found = found;
  const sentences = Object.entries(found.ratings).map(([target, rating]) => `${target} ${shown(rating.value, digitsOf(found.scales[target]))}`);
  say(`Rated: ${listed(sentences)}.`);
  at("result").hidden = false;
  at("result-title").textContent = `Ratings of ${name}`;
  const factor = found.real_time_factor;
  at("facts").textContent = `${shown(found.duration)} s, rated in ${shown(found.seconds, 2)} s: real-time factor ${shown(factor, 3)}, ${factor < 1 ? `${shown(1 / factor, 0)} times as fast as the recording` : "slower than the recording"}.`;
  at("remarks").replaceChildren(...found.remarks.map((remark) => make("li", remark)));
  const unit = state.about.interval_unit;
  const by = { speaker: ", by speakers unseen in training", utterance: ", by the same speakers" }[unit] || `, of a ${unit} unseen in training`;
  at("interval-note").textContent = `An interval is made to hold ${percent(found.level)} of the ratings of recordings like those of the corpus${by}.`;
  if (state.url) URL.revokeObjectURL(state.url);
  at("player").src = state.url = URL.createObjectURL(blob);
  drawAll();
  showTable(found);
  at("result-title").focus({ preventScroll: true });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  at("result").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
}

function card(found, target, rating, k, width) {
  const box = make("section", "", { class: `target hue${k % 4}`, "aria-label": target });
  const scale = found.scales[target], digits = digitsOf(scale);
  const value = make("span", shown(rating.value, digits), { class: "value", "data-target": target });
  value.append(" ", make("small", `of ${scale.lowest} to ${scale.highest}`));
  const bounds = rating.low === null ? "no interval was calibrated" : `${percent(found.level)} interval ${shown(rating.low, digits)} to ${shown(rating.high, digits)}`;
  const outside = rating.value < scale.lowest || rating.value > scale.highest ? "; outside the scale, drawn at its end" : "";
  const used = layerText(found.layers[target], state.about.encoder);
  box.append(make("h3", target), value, scaleDrawing(rating, scale, width), make("p", `${bounds}${outside} · ${used}`, { class: "soft" }));
  return box;
}

function drawAll() {
  const found = state.found;
  if (!found) return;
  const width = Math.max(240, at("chart").clientWidth);
  const cards = Object.entries(found.ratings).map(([target, rating], k) => card(found, target, rating, k, width));
  at("targets").replaceChildren(...cards);
  state.drawing = timeDrawing(found, width);
  at("chart").replaceChildren(state.drawing.svg);
  at("time-title").textContent = found.trace ? "Over time" : "Waveform";
  at("cursor").hidden = !found.trace;
  at("time-note").textContent = found.trace
    ? `Each point rates ${+found.trace.window.toFixed(2)} s around it, every ${+found.trace.hop.toFixed(2)} s. Intervals were calibrated on whole recordings, so they may be too narrow here.`
    : "Recordings of at least 4 s have ratings over time.";
  if (!found.trace) return;
  at("moment").max = found.trace.windows.length - 1;
  at("moment").value = 0;
  showMoment();
}

function showMoment() {
  const one = state.found.trace.windows[Number(at("moment").value)];
  const values = Object.entries(one.ratings).map(([target, rating]) => `${target} ${rating ? shown(rating.value, digitsOf(state.found.scales[target])) : "no rating"}`);
  const text = `${shown(one.start)} to ${shown(one.end)} s: ${values.join(", ")}`;
  at("reading").textContent = text;
  at("moment").setAttribute("aria-valuetext", text);
  state.drawing.mark((one.start + one.end) / 2);
}

function showTable(found) {
  at("table-box").hidden = !found.trace;
  at("table-box").open = false;
  if (!found.trace) return;
  const targets = Object.keys(found.ratings);
  const head = make("tr");
  for (const name of ["seconds", ...targets]) head.append(make("th", name, { scope: "col" }));
  const rows = found.trace.windows.map((one) => {
    const row = make("tr");
    row.append(make("th", `${shown(one.start)} to ${shown(one.end)}`, { scope: "row" }));
    for (const target of targets) row.append(make("td", one.ratings[target] ? shown(one.ratings[target].value, 1 + digitsOf(found.scales[target])) : "no rating"));
    return row;
  });
  const top = make("thead"), body = make("tbody");
  top.append(head);
  body.append(...rows);
  at("table").replaceChildren(top, body);
}

// ---- the microphone ----
async function toggle() {
  if (state.starting) return;
  if (state.recorder) return finish();
  state.starting = true;
  if (!state.about) await describe();
  if (!state.about) return void (state.starting = false);
  try {
    const most = state.about.limits.seconds;
    state.recorder = await startRecording((level, seconds) => {
      at("loudness").value = level;
      at("elapsed").textContent = `${shown(seconds)} s`;
      if (seconds >= most - 0.5) finish();
    });
    showRecording(true);
  } catch (error) {
    fail(error.name === "NotAllowedError" ? "The microphone was not allowed; allow it for this page, or choose a file." : `The microphone can't be used: ${error.message}.`);
  } finally {
    state.starting = false;
  }
  return undefined;
}

function showRecording(on) {
  at("record").classList.toggle("recording", on);
  at("record-text").textContent = on ? "Stop and rate" : "Speak";
  at("clock").hidden = at("discard").hidden = !on;
  say(on ? "Recording. Press the button again to stop." : "");
}

function finish() {
  const recorder = state.recorder;
  if (!recorder) return;
  state.recorder = null;
  const blob = recorder.finish();
  showRecording(false);
  rate(blob, "your recording");
}

function discard() {
  if (!state.recorder) return;
  state.recorder.discard();
  state.recorder = null;
  showRecording(false);
  say("The recording was discarded.");
  at("record").focus();
}

// ---- events ----
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  if (file) rate(file, file.name);
  at("file").value = "";
});
at("record").addEventListener("click", toggle);
at("discard").addEventListener("click", discard);
at("moment").addEventListener("input", showMoment);
at("player").addEventListener("timeupdate", () => state.drawing && state.drawing.mark(at("player").currentTime));
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at("token").value.trim());
  at("token").value = "";
  describe();
});
let depth = 0;
const dragging = (change) => document.body.classList.toggle("dragging", (depth = Math.max(0, depth + change)) > 0);
addEventListener("dragenter", (event) => (event.preventDefault(), dragging(1)));
addEventListener("dragleave", () => dragging(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragging(-depth);
  const [file] = event.dataTransfer.files;
  if (file && !at("input").hidden) rate(file, file.name);
});
let width = 0;
new ResizeObserver(([entry]) => {
  if (Math.abs(entry.contentRect.width - width) > 8) {
    width = entry.contentRect.width;
    const moment = at("moment").value;
    drawAll();
    at("moment").value = moment;
    if (state.found && state.found.trace) showMoment();
  }
}).observe(at("chart"));

const problem = microphoneProblem();
at("record").disabled = problem !== "";
at("microphone").textContent = problem;
describe();
