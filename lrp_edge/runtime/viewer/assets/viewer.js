// The live page. State arrives as server-sent events, images are requested by the frame's id.

const SILENCE = 5000; // ms without a message after which the connection counts as lost
const RETRY = 1500;
const SPAN = 120; // seconds in a graph
const MOST_CLASSES = 8;
const BAD_KINDS = ["lost", "stalled", "unreadable", "failed", "dropped"];
const GOOD_KINDS = ["started", "reconnected", "recovered"];
const COUNTERS = {
  captured: "Captured", segmented: "Segmented", rejected: "Rejected",
  dropped: "Dropped", unreadable: "Unreadable", failed: "Failed",
  defects: "Defects", reconnects: "Reconnects", stalls: "Stalls",
};
const HARMLESS = ["captured", "segmented", "rejected", "defects"];

const $ = (id) => document.getElementById(id);
const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (value) => numbers.format(value);
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)}\u00a0%`);
const clock = (time) => new Date(time).toLocaleTimeString([], { hourCycle: "h23" });

// Texts of the line are never taken as HTML.
const make = (tag, ...content) => filled(document.createElement(tag), ...content);
const draw = (tag, ...content) => filled(document.createElementNS("http://www.w3.org/2000/svg", tag), ...content);

function filled(element, attributes = {}, ...children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function say(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

// Whatever is late is given up: the next message asks again. A slow link is given time for an image.
const get = (path) => fetch(path, { signal: AbortSignal.timeout(4 * SILENCE) });

function short(value) {
  return value === null ? "–" : Number(value.toPrecision(3)).toLocaleString("en");
}

// ---------------------------------------------------------------------------------------------- connection

let stream = null;
let heard = 0; // when the last message came
let lostSince = null;
let state = null;
let behind = false; // the newest frame's images did not arrive

function connect() {
  stream?.close();
  stream = new EventSource("events");
  heard = Date.now();
  stream.onmessage = (event) => {
    if (lostSince !== null) defectsShown = null;
    heard = Date.now();
    lostSince = null;
    state = JSON.parse(event.data);
    showState();
  };
  // The browser tries again by itself, unless the server refused.
  stream.onerror = ({ target }) => {
    lose("Connection lost");
    if (target.readyState !== EventSource.CLOSED) return;
    explain();
    setTimeout(() => target === stream && connect(), RETRY);
  };
}

function disconnect() {
  stream?.close();
  stream = null;
}

function lose(why) {
  lostSince ??= Date.now();
  say("lost", `${why} at ${clock(lostSince)}. Trying again…`);
  showConnection();
}

async function explain() {
  const answer = await get("defects").catch(() => null);
  if (lostSince === null || answer === null) return;
  lose(answer.status === 401 ? "The viewer requires a token: open it with /?token=TOKEN. Refused" : "Too many pages are open. Refused");
}

function showConnection() {
  const lost = lostSince !== null;
  const { running, stalled } = state?.status ?? {};
  // A stop that was announced is not a lost connection.
  $("lost").hidden = !lost || running === false;
  document.body.classList.toggle("old", lost || behind);
  const [name, text] = running === false ? ["waiting", "Stopped"]
    : lost ? ["lost", "Lost"]
    : !state ? ["waiting", "Connecting"]
    : stalled.length ? ["stalled", "Stalled"] : ["live", "Live"];
  $("state").dataset.state = name;
  say("state", text);
}

// Pages that nobody sees cost the line nothing.
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));

// ---------------------------------------------------------------------------------------------- the line

function showState() {
  const { status, events, frame, defects } = state;
  showConnection();
  document.title = `${status.model} · lrp-edge`;
  say("model", status.model);
  say("source", status.source);
  say("fps", status.fps.toFixed(1));
  say("latency", status.latency_ms.total.p50.toFixed(1));
  say("uptime", duration(status.uptime_s));
  say("policy", status.policy);
  $("stalled").hidden = !status.stalled.length || !status.running;
  say("stalled", `Stalled: ${status.stalled.join(", ")}. The display may be out of date.`);
  $("stopped").hidden = status.running;
  showCounters(status.counters);
  showSinks(status.sinks);
  showEvents(events);
  if (defects !== defectsShown) loadDefects(defects);
  if (frame) offer(frame);
}

function duration(seconds) {
  const s = Math.floor(seconds);
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  const two = (value) => String(value).padStart(2, "0");
  return h >= 24 ? `${Math.floor(h / 24)} d ${h % 24} h` : `${h}:${two(m)}:${two(s % 60)}`;
}

function showCounters(counters) {
  const list = $("counters");
  for (const [key, title] of Object.entries(COUNTERS)) {
    const id = `counter-${key}`;
    if (!$(id)) list.append(make("div", {}, make("dt", {}, title), make("dd", { id })));
    say(id, count(counters[key]));
    $(id).parentElement.classList.toggle("some", counters[key] > 0 && !HARMLESS.includes(key));
  }
}

function showSinks(sinks) {
  const rows = Object.entries(sinks).flatMap(([name, { delivered, waiting, dropped, failed, ...own }]) => {
    // A page need not show each frame.
    const matters = name !== "viewer";
    const cells = [delivered, waiting, dropped, failed].map((n, column) =>
      make("td", matters && column > 1 && n ? { class: "some" } : {}, count(n)));
    const row = make("tr", {}, make("th", { scope: "row" }, name), ...cells);
    const more = Object.entries(own).filter(([, n]) => n).map(([key, n]) => `${key.replace(/_/g, " ")} ${count(n)}`);
    return more.length ? [row, make("tr", { class: "more" }, make("td", { colspan: 5 }, more.join(" · ")))] : [row];
  });
  $("sinks").replaceChildren(...rows);
}

let eventsShown = "";

function showEvents(events) {
  const key = JSON.stringify(events);
  if (key === eventsShown) return;
  eventsShown = key;
  $("no-events").hidden = events.length > 0;
  $("events").replaceChildren(...[...events].reverse().map(({ time, kind, stage, message }) => {
    const mood = BAD_KINDS.includes(kind) ? "bad" : GOOD_KINDS.includes(kind) ? "good" : "";
    return make("li", { class: mood }, make("time", { datetime: time }, clock(time)),
      make("b", {}, `${stage} ${kind}`), make("span", {}, message));
  }));
}

// ---------------------------------------------------------------------------------------------- the frame

const picture = $("picture");
const paper = picture.getContext("2d", { alpha: false });
let layers = {}; // bitmaps of the frame that is shown
let shown = null; // that frame
let next = null; // the newest one
let loading = false;
let frozen = false;

// Verdict and image change together: a verdict beside another frame's image would be believed.
async function offer(frame) {
  collect(frame);
  next = frame;
  if (loading) return;
  loading = true;
  try {
    while (!frozen && !same(next, shown)) {
      const wanted = next;
      if (!await advance(wanted) && same(next, wanted)) break;
    }
  } finally {
    loading = false;
    showConnection();
  }
}

async function advance(wanted) {
  // Where it was too long ago, or the connection is lost, the next message tries again.
  const loaded = await loadLayers(wanted).catch(() => null);
  if (frozen) return false;
  behind = loaded === null;
  if (behind) return false;
  replaceLayers(loaded);
  shown = wanted;
  showFrame(wanted);
  return true;
}

const same = (one, other) => other !== null && one.id === other.id && one.time === other.time;

async function loadLayers(frame) {
  const wanted = frame.layers.filter((name) => name === "frame.jpg" || (opacity(name) > 0 && !isEmpty(frame, name)));
  const bitmaps = await Promise.all(wanted.map((name) => load(frame.id, name)));
  return Object.fromEntries(wanted.map((name, index) => [name, bitmaps[index]]));
}

const isEmpty = (frame, name) => name === "mask.png" && frame.mask_fraction === 0;

async function load(id, name) {
  const answer = await get(`live/${id}/${name}`);
  if (!answer.ok) throw new Error(`${answer.status}`);
  return createImageBitmap(await answer.blob());
}

function replaceLayers(loaded) {
  for (const bitmap of Object.values(layers)) bitmap.close();
  layers = loaded;
}

function paint() {
  const base = layers["frame.jpg"];
  $("nothing").hidden = Boolean(base);
  picture.style.visibility = base ? "visible" : "hidden";
  if (!base) return;
  const { width, height } = base;
  if (picture.width !== width || picture.height !== height) Object.assign(picture, { width, height });
  for (const name of ["frame.jpg", "relevance.png", "mask.png"]) {
    paper.globalAlpha = name === "frame.jpg" ? 1 : opacity(name);
    if (layers[name] && paper.globalAlpha > 0) paper.drawImage(layers[name], 0, 0, width, height);
  }
  paper.globalAlpha = 1;
}

function showFrame(frame) {
  const [verdict, word, reason] = judgement(frame);
  $("verdict").dataset.verdict = verdict;
  say("word", word);
  say("reason", reason);
  say("nothing", `No image: ${frame.error ?? ""}`);
  say("frame", `Frame ${count(frame.id)}`);
  say("taken", clock(frame.time));
  say("size", frame.size ? `${frame.size[0]} × ${frame.size[1]} px` : "");
  say("origin", frame.source === state.status.source ? "" : frame.source);
  picture.setAttribute("aria-label", `Frame ${frame.id}: ${word}, ${reason}`);
  showScores(frame);
  showRegions(frame);
  paint();
}

function judgement(frame) {
  if (frame.error) return ["error", "NO RESULT", frame.error];
  if (frame.reject) return ["reject", "REJECT", frame.reason];
  return ["accept", "ACCEPT", `class ${frame.name}, ${percent(frame.scores[frame.label])}`];
}

function showScores({ scores = [], label, defect }) {
  const classes = state.status.classes.map((name, index) => ({ name, index, score: scores[index] ?? null }));
  const some = classes.length <= MOST_CLASSES ? classes
    : classes.sort((a, b) => b.score - a.score).slice(0, MOST_CLASSES);
  const list = $("scores");
  while (list.children.length > some.length) list.lastChild.remove();
  some.forEach(({ score, index, name }, place) => {
    const row = list.children[place] ?? list.appendChild(make("li", {}, make("span"), make("span"), make("div", { class: "bar" }, make("i"))));
    const [title, value, bar] = row.children;
    row.classList.toggle("decided", index === label);
    row.classList.toggle("defect", index === label && defect);
    title.textContent = name;
    value.textContent = percent(score);
    bar.firstChild.style.setProperty("--share", `${100 * (score ?? 0)}%`);
  });
}

function showRegions({ regions = [], regions_found: found = 0, size }) {
  say("region-count", found > regions.length ? `${regions.length} largest of ${count(found)}` : found ? count(found) : "");
  $("no-regions").hidden = regions.length > 0;
  $("regions").closest("table").hidden = !regions.length;
  const unit = Math.max(...(size ?? [1])) / 100;
  const boxes = regions.map(({ box: [x, y, width, height] }, index) => {
    const label = draw("text", { x: x + width + unit / 2, y: y + 2 * unit, "font-size": 2.5 * unit });
    label.textContent = index + 1;
    return draw("g", {}, draw("rect", { x, y, width, height }), label);
  });
  if (size) $("boxes").setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  $("boxes").replaceChildren(...boxes);
  $("regions").replaceChildren(...regions.map((region, index) => {
    const [area, extent] = region.area_mm2 === undefined
      ? [`${count(region.area_px)} px`, `${short(region.extent_px)} px`]
      : [`${short(region.area_mm2)} mm²`, `${short(region.extent_mm)} mm`];
    const cells = [index + 1, area, extent, `${region.box[0]}, ${region.box[1]}`];
    const row = make("tr", {}, ...cells.map((text) => make("td", {}, String(text))));
    row.addEventListener("pointerenter", () => boxes[index].classList.add("marked"));
    row.addEventListener("pointerleave", () => boxes[index].classList.remove("marked"));
    return row;
  }));
}

// ---------------------------------------------------------------------------------------------- controls

const opacity = (name) => $(`${name.split(".")[0]}-opacity`).value / 100;

function recall(key, fallback) {
  try { return localStorage.getItem(`lrp-edge ${key}`) ?? fallback; } catch { return fallback; }
}

function remember(key, value) {
  try { localStorage.setItem(`lrp-edge ${key}`, value); } catch { /* A browser may forbid it. */ }
}

for (const name of ["relevance", "mask"]) {
  const slider = $(`${name}-opacity`);
  const label = () => say(`${name}-value`, `${slider.value} %`);
  slider.value = recall(slider.id, slider.value);
  label();
  slider.addEventListener("input", async () => {
    label();
    remember(slider.id, slider.value);
    const file = `${name}.png`;
    const frame = shown;
    if (frame && !layers[file] && opacity(file) > 0 && frame.layers.includes(file)) {
      const bitmap = await load(frame.id, file).catch(() => null);
      if (bitmap && frame === shown) layers[file] = bitmap;
    }
    paint();
  });
}

$("show-boxes").addEventListener("click", ({ currentTarget: button }) => {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", on);
  $("boxes").toggleAttribute("hidden", !on);
});

$("freeze").addEventListener("click", ({ currentTarget: button }) => {
  frozen = !frozen;
  button.setAttribute("aria-pressed", frozen);
  $("frozen").hidden = !frozen;
  if (!frozen && next) offer(next);
});

$("fullscreen").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("screen").requestFullscreen?.();
});

// ---------------------------------------------------------------------------------------------- defects

let defects = []; // the newest first
let defectsShown = null; // the server's number of defects when the list was asked for
let asking = false;
let opened = null;

const keyOf = ({ id, time }) => `${id}@${time}`;
// Ids restart with another run: the time keeps the browser from showing an older image.
const defectPicture = (defect, name) => `defects/${defect.id}/${name}?${encodeURIComponent(defect.time)}`;

async function loadDefects(number) {
  if (asking) return;
  asking = true;
  try {
    const answer = await get("defects");
    if (answer.ok) {
      defects = await answer.json();
      defectsShown = number;
      showDefects();
    }
  } catch {
    // Asked again with the next message.
  } finally {
    asking = false;
  }
}

function showDefects() {
  const list = $("defects");
  const old = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const items = defects.map((defect) => old.get(keyOf(defect)) ?? thumbnail(defect));
  const focused = document.activeElement;
  list.replaceChildren(...items);
  if (list.contains(focused)) focused.focus({ preventScroll: true });
  say("defect-count", defects.length ? count(defects.length) : "");
  $("no-defects").hidden = defects.length > 0;
  if (opened) showLarge(opened);
}

function thumbnail(defect) {
  const image = make("img", { src: defectPicture(defect, "thumbnail.jpg"), alt: "", loading: "lazy" });
  const name = make("span", { class: "name" }, titleOf(defect));
  const why = !defect.reject ? "accepted" : defect.reason === `class ${defect.name}` ? "rejected" : defect.reason;
  const reason = make("span", { class: "reason" }, why);
  const when = make("span", { class: "when" }, clock(defect.time));
  const label = `Open frame ${defect.id}: ${verdictOf(defect)}`;
  const button = make("button", { type: "button", "aria-label": label, title: label }, image, name, reason, when);
  button.addEventListener("click", () => showLarge(defect));
  return make("li", { "data-key": keyOf(defect), class: defect.reject ? "" : "accepted" }, button);
}

const titleOf = ({ name, scores, label }) => `${name} ${percent(scores[label])}`;
const verdictOf = ({ reject, name, reason }) => (reject ? `REJECT, ${reason}` : `ACCEPT, class ${name}`);

function showLarge(defect) {
  const changed = opened !== defect;
  opened = defect;
  const place = defects.findIndex((each) => keyOf(each) === keyOf(defect));
  say("large-title", `${defect.reject ? "REJECT" : "ACCEPT"}: ${titleOf(defect)}`);
  say("large-text", [defect.reason, `frame ${count(defect.id)}`, clock(defect.time), defect.source,
    `${count(defect.regions_found)} region${defect.regions_found === 1 ? "" : "s"}`].filter(Boolean).join(" · "));
  if (changed) {
    $("large-picture").src = defectPicture(defect, "large.jpg");
    $("large-picture").alt = `Overlay of frame ${defect.id}`;
  }
  // One that has left the list has only newer ones.
  $("newer").disabled = place === 0;
  $("older").disabled = place < 0 || place === defects.length - 1;
  if (!$("large").open) $("large").showModal();
}

function step(by) {
  const place = defects.findIndex((each) => keyOf(each) === keyOf(opened));
  const other = defects[place < 0 ? defects.length - 1 : place + by];
  if (other) showLarge(other);
}

$("older").addEventListener("click", () => step(1));
$("newer").addEventListener("click", () => step(-1));
$("close").addEventListener("click", () => $("large").close());
$("large").addEventListener("close", () => { opened = null; });
$("large").addEventListener("click", ({ target, currentTarget }) => { if (target === currentTarget) currentTarget.close(); });
$("large").addEventListener("keydown", ({ key }) => {
  if (key === "ArrowRight") step(1);
  if (key === "ArrowLeft") step(-1);
});

// ---------------------------------------------------------------------------------------------- graphs

const history = []; // one sample a second; null where nothing was heard
let collected = [];

function collect(frame) {
  if (frame.latency_ms !== undefined && !same(frame, next)) collected.push(frame);
}

const mean = (frames, key) =>
  frames.length ? frames.reduce((sum, frame) => sum + (frame[key] ?? 0), 0) / frames.length : null;

function sample() {
  const status = stream && lostSince === null ? state?.status : undefined;
  history.push(status ? { fps: status.fps, total: mean(collected, "latency_ms"), engine: mean(collected, "engine_ms") } : null);
  if (history.length > SPAN) history.shift();
  collected = [];
  if (status) {
    const { p50, p99 } = status.latency_ms.total;
    say("latency-now", `median ${p50.toFixed(1)} ms, 99 % within ${p99.toFixed(1)} ms`);
    say("fps-now", `${status.fps.toFixed(1)} fps`);
  }
  plotAll();
}

function plotAll() {
  plot($("latency-graph"), [["total", "--accent"], ["engine", "--second"]], "ms");
  plot($("fps-graph"), [["fps", "--accent"]], "fps");
}

function plot(canvas, lines, unit) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio;
  const colour = (name) => getComputedStyle(canvas).getPropertyValue(name);
  Object.assign(canvas, { width: width * scale, height: height * scale });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const [left, right, top, bottom] = [0, width - 46, 8, height - 20];
  const values = history.flatMap((each) => lines.map(([key]) => each?.[key] ?? 0));
  const most = roundUp(Math.max(...values, 0));
  const x = (index) => right - ((history.length - 1 - index) * (right - left)) / (SPAN - 1);
  const y = (value) => bottom - (value / most) * (bottom - top);

  pen.font = `11px ${getComputedStyle(canvas).fontFamily}`;
  pen.fillStyle = colour("--dim");
  pen.strokeStyle = colour("--line");
  pen.textBaseline = "middle";
  for (const share of [0, 0.5, 1]) {
    const level = Math.round(y(share * most)) + 0.5;
    pen.beginPath();
    pen.moveTo(left, level);
    pen.lineTo(right, level);
    pen.stroke();
    pen.fillText(share === 1 ? `${short(most)} ${unit}` : short(share * most), right + 6, level);
  }
  pen.textBaseline = "alphabetic";
  pen.fillText("2 min ago", left, height - 4);
  pen.textAlign = "right";
  pen.fillText("now", right, height - 4);

  pen.lineJoin = "round";
  pen.lineWidth = 1.75;
  for (const [key, name] of lines) {
    pen.strokeStyle = colour(name);
    pen.beginPath();
    let open = false;
    history.forEach((each, index) => {
      const value = each?.[key] ?? null;
      if (value !== null) pen[open ? "lineTo" : "moveTo"](x(index), y(value));
      open = value !== null;
    });
    pen.stroke();
  }
}

function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) * power;
}

window.addEventListener("resize", plotAll);
window.matchMedia("(prefers-color-scheme: light)").addEventListener("change", plotAll);

setInterval(() => {
  if (stream && Date.now() - heard > SILENCE) {
    lose("Connection lost");
    connect();
  }
  sample();
}, 1000);

if (!document.hidden) connect();
sample();
