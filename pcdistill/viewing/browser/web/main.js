// The page: one state, what changes it, and a picture of it.

import { Batch, Stage } from "./clouds.js";
import { Clouds, unpack } from "./data.js";
import { build, measure, neighbour } from "./layout.js";
import { dragging, Orbit } from "./orbit.js";
import * as panel from "./panel.js";

const $ = (id) => document.getElementById(id);
const SECONDS = 0.7; // of playing from one snapshot to the next
const HOLD = 1; // and at the end

const state = {
  time: 0, // in snapshots, between two of them where it is no whole number
  real: false,
  colour: null, // until a set is there
  size: 1,
  playing: false,
  hidden: new Set(), // labels
  open: null, // the cloud that is shown alone
  focused: null,
};
let clouds, stage, orbit, wallBatch, oneBatch, made, places, curve;
let wanted = true; // a picture is to be drawn
let laidOut = false;
let placedAt = null; // where the wall was scrolled to when its cells were placed
let paper = [1, 1, 1];

const last = () => clouds.frames - 1;
const redraw = () => (wanted = true);
const relayout = () => {
  laidOut = false;
  redraw();
};

async function start() {
  const meta = JSON.parse($("meta").textContent);
  stage = new Stage($("canvas"));
  orbit = new Orbit(meta.azimuth, meta.elevation);
  fill(meta, await unpack($("data").textContent.trim()));
  // For whoever drives the page; the test does.
  window.viewer = { state, orbit, stage, redraw, get clouds() { return clouds; }, get places() { return places; } };
  listen();
  setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
  requestAnimationFrame(tick);
  if (meta.live) follow(meta.live);
}

/** Show a set; what the user has chosen stays, where it still means something. */
function fill(meta, buffer) {
  const atEnd = !clouds || state.time === last();
  clouds = new Clouds(meta, buffer);
  state.time = atEnd ? last() : Math.min(state.time, last());
  if (!clouds.colourings.some(({ name }) => name === state.colour)) state.colour = meta.colour;
  const [same, look] = [wallBatch?.count === clouds.count && wallBatch.size === clouds.points, clouds];
  if (!same) {
    wallBatch?.dispose();
    oneBatch?.dispose();
    wallBatch = new Batch(clouds.count, clouds.points, look);
    oneBatch = new Batch(3, clouds.points, look);
    made = build($("wall"), clouds, open);
    classList();
  }
  for (const radio of $("show").children) {
    radio.disabled = radio.dataset.show === "initial" ? clouds.frames < 2 : radio.dataset.show === "real" && !clouds.hasReal;
    radio.hidden = radio.disabled;
  }
  $("show").hidden = clouds.frames < 2 && !clouds.hasReal;
  $("time").hidden = clouds.frames < 2;
  $("slider").max = last();
  $("colour").replaceChildren(
    ...clouds.colourings.map(({ name, label }) => new Option(label, name, false, name === state.colour)),
  );
  scale();
  panel.facts($("facts"), clouds.facts);
  $("scores").hidden = !clouds.scores;
  if (clouds.scores) panel.scores($("scores"), clouds.scores);
  curve = clouds.losses.length > 1 ? panel.loss($("curve"), clouds.losses, clouds.lossSteps) : null;
  $("loss").hidden = !curve;
  if (curve) $("loss").firstElementChild.textContent = curve.caption;
  told();
  relayout();
}

/** Controls and numbers as the state has it. */
function told() {
  const shown = state.real ? "real" : state.time === last() ? "distilled" : state.time === 0 ? "initial" : "";
  for (const radio of $("show").children) radio.setAttribute("aria-checked", radio.dataset.show === shown);
  $("slider").value = state.time;
  const step = Math.round(stepNow());
  $("step").textContent = `step ${step} of ${clouds.total}`;
  $("slider").setAttribute("aria-valuetext", $("step").textContent);
  $("play").textContent = state.playing ? "\u23f8" : "\u25b6";
  $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  $("colour").value = state.colour;
  $("size").value = state.size;
  legend(clouds.colourings.find(({ name }) => name === state.colour));
  curve?.mark(step);
  const seen = clouds.rows.filter((row, label) => row.length && !state.hidden.has(label)).length;
  const all = clouds.rows.filter((row) => row.length).length;
  $("chosen").textContent = seen === all ? `all ${all}` : `${seen} of ${all}`;
  $("none").hidden = seen > 0 || state.open !== null;
  if (state.open !== null) tellOne();
}

function stepNow() {
  const [from, share] = between();
  return clouds.steps[from] + share * (clouds.steps[Math.min(from + 1, last())] - clouds.steps[from]);
}

/** The snapshot before the moment that is shown, and the share of the way to the next. */
function between() {
  const from = Math.min(Math.floor(state.time), last());
  return [from, state.time - from];
}

function change(values) {
  Object.assign(state, values);
  told();
  redraw();
}

/** What the colours say: a scale from low to high, or the names of parts. */
function legend({ label, low, high, parts }) {
  $("low").textContent = low;
  $("high").textContent = high;
  $("legend").title = label;
  $("scale").hidden = parts.length > 0;
  panel.parts($("parts"), parts, clouds.map);
}

function scale() {
  const context = $("scale").getContext("2d");
  const image = context.createImageData(128, 1);
  for (let i = 0; i < 128; i++) {
    const at = 3 * Math.round((i * (clouds.grey - 1)) / 127);
    image.data.set([...clouds.map.slice(at, at + 3), 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

function classList() {
  $("classes").replaceChildren(
    ...clouds.rows.flatMap((row, label) => {
      if (!row.length) return [];
      const item = document.createElement("li");
      const text = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.value = label;
      box.checked = !state.hidden.has(label);
      text.append(box, clouds.classes[label]);
      item.append(text);
      return [item];
    }),
  );
}

function hide() {
  const boxes = [...$("classes").querySelectorAll("input")];
  state.hidden = new Set(boxes.filter((box) => !box.checked).map((box) => Number(box.value)));
  for (const section of made.sections) {
    const label = Number(section.dataset.label);
    section.hidden = state.hidden.has(label) || !clouds.rows[label].length;
  }
  told();
  relayout();
}

// One cloud alone

function open(cloud) {
  state.open = state.focused = cloud;
  orbit.zoom = 1;
  const kinds = [];
  if (clouds.frames > 1) kinds.push("initial");
  kinds.push("now");
  if (clouds.hasReal) kinds.push("real");
  $("views").replaceChildren(
    ...kinds.map((kind) => {
      const figure = document.createElement("figure");
      figure.dataset.kind = kind;
      figure.append(document.createElement("figcaption"));
      return figure;
    }),
  );
  $("one").hidden = false;
  $("wall").inert = true;
  $("wall").style.visibility = "hidden";
  told();
  relayout();
  $("close").focus({ preventScroll: true });
}

function close() {
  const cloud = state.open;
  state.open = null;
  orbit.zoom = 1;
  $("one").hidden = true;
  $("wall").inert = false;
  $("wall").style.visibility = "";
  told();
  relayout();
  const shown = state.hidden.has(clouds.labels[cloud]) ? $("filter").firstElementChild : null;
  if (shown) shown.focus();
  else focusCell(cloud);
}

function tellOne() {
  const cloud = state.open;
  $("one-name").textContent = clouds.nameOf(cloud);
  const names = { initial: "initial", now: $("time").hidden ? "stored" : $("step").textContent, real: "nearest real" };
  for (const figure of $("views").children) figure.firstChild.textContent = names[figure.dataset.kind];
  const told = [];
  if (clouds.nearest) {
    told.push(["Chamfer distance to the nearest real cloud", clouds.nearest.chamfer[cloud]]);
    told.push(["earth mover's distance", clouds.nearest.emd[cloud]], ["its place in the real set", clouds.nearest.index[cloud]]);
  }
  if (clouds.soft) told.push(["label", clouds.soft[cloud]]);
  panel.facts($("one-facts"), told);
}

/** To the next or previous cloud among those on the wall. */
function other(by) {
  const shown = clouds.rows.flatMap((row, label) => (state.hidden.has(label) ? [] : row));
  if (!shown.length) return;
  const at = shown.indexOf(state.open); // -1 where its class was hidden meanwhile
  open(at < 0 ? shown[0] : shown[(at + by + shown.length) % shown.length]);
}

function focusCell(cloud) {
  if (state.focused !== null && made.buttons[state.focused]) made.buttons[state.focused].tabIndex = -1;
  state.focused = cloud;
  made.buttons[cloud].tabIndex = 0;
  made.buttons[cloud].focus();
}

// What users do

const ACTIONS = {
  " ": () => play(!state.playing),
  "[": () => jump(Math.ceil(state.time) - 1),
  "]": () => jump(Math.floor(state.time) + 1),
  i: () => jump(state.time === last() && !state.real ? 0 : last()),
  r: () => clouds.hasReal && change({ real: !state.real, playing: false }),
  c: () => {
    const names = clouds.colourings.map(({ name }) => name);
    change({ colour: names[(names.indexOf(state.colour) + 1) % names.length] });
  },
  "+": () => change({ size: Math.min(2.5, state.size * 1.15) }),
  "-": () => change({ size: Math.max(0.4, state.size / 1.15) }),
  a: () => turn(-0.15, 0),
  d: () => turn(0.15, 0),
  w: () => turn(0, 0.1),
  x: () => turn(0, -0.1),
  0: () => (orbit.reset(), redraw()),
  s: () => save(),
  t: () => setTheme(!document.documentElement.classList.contains("dark")),
  "?": () => $("keys").showModal(),
};
ACTIONS["="] = ACTIONS["+"];

function turn(azimuth, elevation) {
  orbit.by(azimuth, elevation);
  redraw();
}

function jump(time) {
  change({ time: Math.max(0, Math.min(last(), time)), real: false, playing: false });
}

function play(on) {
  if (clouds.frames < 2) return;
  if (on && state.time === last()) state.time = 0;
  change({ playing: on, real: on ? false : state.real });
}

function save() {
  draw();
  $("canvas").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${document.title.replace(/[^\w-]+/g, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}

function setTheme(dark) {
  document.documentElement.classList.toggle("dark", dark);
  paper = dark ? [20 / 255, 21 / 255, 25 / 255] : [1, 1, 1];
  $("theme").textContent = dark ? "Light" : "Dark";
  redraw();
}

function listen() {
  const zooms = () => state.open !== null;
  dragging($("wall"), orbit, zooms, redraw);
  dragging($("views"), orbit, zooms, redraw);
  $("wall").addEventListener("scroll", redraw, { passive: true });
  new ResizeObserver(relayout).observe($("stage"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ({ matches }) => setTheme(matches));

  $("show").onclick = ({ target }) => {
    const show = target.closest("[data-show]")?.dataset.show;
    if (show === "real") change({ real: true, playing: false });
    else if (show) jump(show === "initial" ? 0 : last());
  };
  $("slider").oninput = ({ target }) => change({ time: Number(target.value), real: false, playing: false });
  $("play").onclick = () => play(!state.playing);
  $("colour").onchange = ({ target }) => change({ colour: target.value });
  $("size").oninput = ({ target }) => change({ size: Number(target.value) });
  $("cell").oninput = ({ target }) => {
    document.documentElement.style.setProperty("--cell", `${target.value}px`);
    relayout();
  };
  $("classes").onchange = hide;
  $("filter").querySelector("p").onclick = ({ target }) => {
    if (!target.dataset.all) return;
    for (const item of $("classes").children) {
      if (!item.hidden) item.querySelector("input").checked = target.dataset.all === "yes";
    }
    hide();
  };
  $("search").oninput = ({ target }) => {
    const words = target.value.toLowerCase();
    for (const item of $("classes").children) item.hidden = !item.textContent.toLowerCase().includes(words);
  };
  $("shot").onclick = save;
  $("theme").onclick = ACTIONS.t;
  $("help").onclick = ACTIONS["?"];
  $("numbers").onclick = () => {
    $("panel").hidden = !$("panel").hidden;
    $("numbers").setAttribute("aria-expanded", !$("panel").hidden);
    relayout();
  };
  $("close").onclick = close;
  $("before").onclick = () => other(-1);
  $("after").onclick = () => other(1);
  document.addEventListener("click", ({ target }) => {
    if (!target.closest("#filter")) $("filter").open = false;
  });
  document.addEventListener("click", ({ target, detail }) => {
    if (detail && target.closest("button:not(.cell)")) target.closest("button").blur(); // so that space plays again
  });
  document.addEventListener("keydown", pressed);
  if (innerWidth <= 760) $("numbers").click();
}

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || $("keys").open) return;
  const { target, key } = event;
  if (key === "Escape") {
    if ($("filter").open) $("filter").open = false;
    else if (state.open !== null) close();
    return;
  }
  if (target.closest("input, select, summary")) return; // keys of their own
  if (/^Arrow|^Home$|^End$/.test(key)) {
    if (target.closest("[role=radiogroup]")) return radios(event);
    if (state.open !== null) {
      if (key === "ArrowLeft" || key === "ArrowRight") other(key === "ArrowLeft" ? -1 : 1);
    } else if (target.closest("#wall")) {
      const next = neighbour(places, state.focused ?? places[0]?.[0], key);
      if (next !== undefined) focusCell(next);
    } else return;
  } else if (key === " " && target.closest("button:not(.cell)")) {
    return; // presses the button
  } else if (key in ACTIONS) ACTIONS[key]();
  else return;
  event.preventDefault();
}

/** Arrows move among radio buttons, as in a form. */
function radios(event) {
  const shown = [...$("show").children].filter((radio) => !radio.hidden);
  const by = /Right|Down/.test(event.key) ? 1 : -1;
  const next = shown[(shown.indexOf(event.target) + by + shown.length) % shown.length];
  next.focus();
  next.click();
  event.preventDefault();
}

// Drawing

let before = 0;

function tick(now) {
  const seconds = Math.min(0.1, (now - before) / 1000);
  before = now;
  if (state.playing) advance(seconds);
  if (wanted) {
    wanted = false;
    draw();
  }
  requestAnimationFrame(tick);
}

let held = 0;

function advance(seconds) {
  if (state.time === last()) {
    held += seconds;
    if (held > HOLD) state.time = held = 0;
  } else {
    state.time = Math.min(last(), state.time + seconds / SECONDS);
  }
  told();
  redraw();
}

function draw() {
  const box = $("stage").getBoundingClientRect();
  if (!laidOut) {
    laidOut = true;
    placedAt = null;
    stage.resize(box.width, box.height);
    if (state.open === null) {
      places = measure($("wall"), made, clouds);
      if (state.focused === null && places.length) {
        state.focused = places[0][0];
        made.buttons[state.focused].tabIndex = 0;
      }
    }
  }
  stage.clear(paper);
  const view = { turn: orbit.matrix, size: state.size, paper, focal: clouds.focal * orbit.zoom };
  if (state.open === null) drawWall(view, box);
  else drawOne(view, box);
  $("stage").dataset.drawn = stage.drawn;
}

function drawWall(view, box) {
  const [from, share] = state.real ? ["real", 0] : between();
  const to = state.real ? "real" : Math.min(from + 1, last());
  wallBatch.set(clouds.points4(state.colour, from), clouds.points4(state.colour, to));
  const { scrollTop } = $("wall");
  if (scrollTop !== placedAt) {
    placedAt = scrollTop;
    wallBatch.place(inSight(scrollTop, box.height));
  }
  stage.draw(wallBatch, { ...view, time: share });
}

/** The cells that are to be seen of the scrolled wall, in device pixels. */
function inSight(scrollTop, height) {
  const { ratio } = stage;
  const seen = [];
  for (const [cloud, x, y, half] of places) {
    const top = y - scrollTop;
    if (top + half > 0 && top - half < height) seen.push([cloud, x * ratio, top * ratio, half * ratio]);
  }
  return seen;
}

function drawOne(view, box) {
  const [from, share] = between();
  const frames = { initial: [0, 0], now: [from, Math.min(from + 1, last())], real: ["real", "real"] };
  const figures = [...$("views").children];
  const width = 4 * clouds.points;
  const Kind = clouds.arrays.way.constructor;
  const parts = [new Kind(3 * width), new Kind(3 * width)];
  let stretch = 1;
  const cells = figures.map((figure, i) => {
    const own = frames[figure.dataset.kind];
    own.forEach((frame, k) => {
      const all = clouds.points4(state.colour, frame);
      parts[k].set(all.subarray(state.open * width, (state.open + 1) * width), i * width);
    });
    const caption = figure.firstChild.getBoundingClientRect();
    const { left, top, width: wide } = figure.getBoundingClientRect();
    const half = Math.min(wide, caption.top - top) / 2;
    const place = [left - box.left + wide / 2, top - box.top + (caption.top - top) / 2, half, wide / 2];
    stretch = (caption.top - top) / wide;
    return [i, ...place.map((length) => length * stage.ratio)];
  });
  oneBatch.set(...parts);
  oneBatch.place(cells);
  stage.draw(oneBatch, { ...view, time: share, stretch });
}

// A run that is still going on

async function follow({ version: known, every }) {
  let version = known;
  $("live").hidden = false;
  for (let missed = 0; ; ) {
    try {
      const answer = await fetch(`state?after=${version}`, { cache: "no-store" });
      if (answer.status === 200) {
        const { meta, data } = await answer.json();
        version = meta.live.version;
        fill(meta, await unpack(data));
      }
      missed = 0;
      $("live").textContent = clouds.live.ended ? "finished" : "live";
      if (clouds.live.ended) break;
    } catch {
      missed += 1;
      $("live").textContent = "not answering";
      if (missed > 5) break; // the run has ended, and what it showed last stays
    }
    await new Promise((resolve) => setTimeout(resolve, every * 1000));
  }
  $("live").classList.add("ended");
}

document.documentElement.style.setProperty("--cell", `${$("cell").value}px`);
start().catch((error) => {
  const told = document.createElement("p");
  told.id = "failed";
  told.setAttribute("role", "alert");
  told.textContent = `The clouds cannot be drawn here: ${error.message}. It takes a browser with WebGL 2.`;
  $("stage").replaceChildren(told);
  console.error(error);
});
