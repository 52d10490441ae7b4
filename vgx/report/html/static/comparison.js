"use strict";
/* Nets side by side, step by step. */

const DATA = read("data"), SPECS = read("specs");
const WIDTH = DATA.positions.length;
const [FIRST, ...OTHERS] = DATA.contenders;
const state = {step: DATA.step, whole: false};

function bytes(text) {
  const binary = atob(text), made = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) made[i] = binary.charCodeAt(i);
  return made.buffer;
}

const floats = text => new Float64Array(bytes(text)), counts = text => new Int32Array(bytes(text));
const unpacked = course =>
  ({steps: course.steps, mean: floats(course.mean), spread: floats(course.spread), seeds: counts(course.seeds)});
const COURSES = DATA.courses.map(unpacked);
const OVER_STEPS = {loss: DATA.loss.map(unpacked), accuracy: DATA.accuracy.map(unpacked)};
const PARTINGS = DATA.partings.map(one =>
  ({...one, difference: floats(one.difference), limit: floats(one.limit), apart: counts(one.apart)}));

const flag = (x, log10) =>
  Number.isFinite(x) ? "" : Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : log10 ? "0" : "−∞";
const digits = (x, count = 6) => String(Number(x.toPrecision(count)));
const place = p => DATA.names.length ? DATA.names[p] : DATA.layers ? `layer ${p + 1}` : `${Math.round(100 * DATA.positions[p])} % of the depth`;
/* A mean in words: one whose logarithm is drawn is said as it is, as the axis names it. */
const said = (x, log10) => flag(x, log10) || (log10 ? plain(x) : digits(x));
const shown = x => flag(x, DATA.log10) || (DATA.log10 ? power(x) : digits(x, 4));

/* Which of the steps is the last one that is no later. */
function lastAt(steps, step) {
  let at = -1;
  while (at + 1 < steps.length && steps[at + 1] <= step) at++;
  return at;
}

function point(contender, course, i, log10) {
  const mean = course.mean[i], spread = course.spread[i], band = Number.isFinite(mean) && Number.isFinite(spread);
  return {
    name: contender.name, shape: contender.shape, value: drawn(mean),
    spread: drawn(spread), seeds: course.seeds[i], low: band ? mean - spread : null, high: band ? mean + spread : null,
    flag: flag(mean, log10), said: said(mean, log10),
  };
}

/* Where what cannot be drawn begins or changes along `key`, in words in the first of its rows. */
function marked(rows, key) {
  const odd = new Map();
  for (const row of rows) odd.set(row[key], [...(odd.get(row[key]) ?? []), ...(row.flag ? [row] : [])]);
  let before = "";
  for (const [, here] of [...odd].sort(([a], [b]) => a - b)) {
    const text = here.map(row => `${row.name} ${row.flag}`).join(", ");
    here.forEach((row, i) => row.mark = i || text === before ? "" : text);
    before = text;
  }
  return rows;
}

/* A row for each contender and place at a step; of one that had ended by then, its last. */
function curveRows(step) {
  return marked(COURSES.flatMap((course, k) => {
    const at = lastAt(course.steps, step);
    return at < 0 ? [] : DATA.positions.map((position, p) => {
      const row = point(DATA.contenders[k], course, at * WIDTH + p, DATA.log10);
      return {...row, x: DATA.layers ? p + 1 : position, where: place(p), point: row.flag === ""};
    });
  }), "x");
}

/* A row for each contender and step. */
function courseRows(name) {
  return marked(OVER_STEPS[name].flatMap((course, k) => course.steps.map((step, t) => {
    const row = point(DATA.contenders[k], course, t, false);
    return {...row, step, point: row.flag === "" && course.steps.length <= 60};
  })), "step");
}

/* A row for each drawn step and place: how far a contender is from the first. */
function partingRows(number) {
  const one = PARTINGS[number], other = OTHERS[number], steps = one.drawn.map(t => one.steps[t]);
  const width = steps.length > 1 ? steps[steps.length - 1] - steps[steps.length - 2] : 1;
  const half = DATA.layers || WIDTH < 2 ? 0.5 : 0.5 / (WIDTH - 1);
  return one.drawn.flatMap((t, s) => DATA.positions.map((position, p) => {
    const i = t * WIDTH + p, middle = DATA.layers ? p + 1 : position;
    const [a, b] = [0, number + 1].map(k => COURSES[k].mean[COURSES[k].steps.indexOf(one.steps[t]) * WIDTH + p]);
    const marks = [flag(a, DATA.log10), flag(b, DATA.log10)];
    const kind = !one.apart[i] ? "level" : marks[0] + marks[1] === "" ? "apart"
      : marks.every(mark => mark === "" || mark === "0") ? "zero" : "broken";
    return {
      x: steps[s], x2: s + 1 < steps.length ? steps[s + 1] : steps[s] + width, y: middle - half, y2: middle + half,
      step: steps[s], where: place(p), value: drawn(one.difference[i]), limit: drawn(one.limit[i]), kind,
      mark: marks[0] + marks[1] === "" ? "" : `${FIRST.name} is ${shown(a)}, ${other.name} is ${shown(b)}`,
    };
  }));
}

function sentence(step) {
  const said = COURSES.map((course, k) => {
    const at = lastAt(course.steps, step), {name} = DATA.contenders[k];
    if (at < 0) return `${name} not measured`;
    const late = course.steps[at] === step ? "" : ` (at its step ${course.steps[at].toLocaleString("en")})`;
    const low = shown(course.mean[at * WIDTH]), high = shown(course.mean[(at + 1) * WIDTH - 1]);
    const ends = DATA.names.length ? [place(0), place(WIDTH - 1)] : ["the bottom", "the top"];
    return WIDTH > 1 ? `${name} ${low} at ${ends[0]} and ${high} at ${ends[1]}${late}` : `${name} ${high}${late}`;
  });
  return `step ${step.toLocaleString("en")}: ${said.join("; ")}`;
}

/* The ends of the axis of the curves: those of the step that is shown, with room for what has no place, or of all. */
function endsNow(rows) {
  if (state.whole) return DATA.ends;
  const [lo, hi] = endsOf(rows, ["low", "high", "value"], DATA.log10 ? 2 : 0);
  return [rows.some(row => row.flag) ? lo - 0.1 * (hi - lo) : lo, hi];
}

const nameOf = at => `step ${DATA.steps[at].toLocaleString("en")}`;

async function showStep() {
  const step = DATA.steps[state.step], text = sentence(step), rows = curveRows(step), [lo, hi] = endsNow(rows);
  stepper.show();
  byId("curves-now").textContent = text;
  describe("curves", `${DATA.label}, ${text}`);
  await set(views.curves.view, {lo, hi}, {curves: rows});
  document.querySelectorAll("details[open] table[data-of=curves]").forEach(fill);
}

const stepper = SPECS.curves && player({
  count: () => DATA.steps.length, at: () => state.step, name: nameOf,
  go: at => {
    state.step = at;
    return showStep();
  },
});

/* Tables of numbers, made when they are opened. */
function fill(table) {
  const {of, columns} = table.dataset;
  fillTable(table, ...(of === "curves" ? curveTable() : of === "parting" ? partingTable(columns - 1) : courseTable(of)));
}

const heads = log10 => DATA.contenders.flatMap(({name}) => [name, `± of ${name}${log10 ? ", decades" : ""}`]);
const pair = (course, i, log10) =>
  [said(course.mean[i], log10), Number.isFinite(course.spread[i]) ? digits(course.spread[i], 3) : ""];

function curveTable() {
  const at = COURSES.map(course => lastAt(course.steps, DATA.steps[state.step]));
  return [["place", ...heads(DATA.log10)], DATA.positions.map((_, p) => [place(p), ...COURSES.flatMap((course, k) =>
    at[k] < 0 ? ["not measured", ""] : pair(course, at[k] * WIDTH + p, DATA.log10))])];
}

function courseTable(name) {
  const steps = [...new Set(OVER_STEPS[name].flatMap(course => course.steps))].sort((a, b) => a - b);
  const seats = OVER_STEPS[name].map(course => new Map(course.steps.map((step, t) => [step, t])));
  return [["step", ...heads(false)], steps.map(step => [String(step), ...OVER_STEPS[name].flatMap((course, k) =>
    seats[k].has(step) ? pair(course, seats[k].get(step), false) : ["not measured", ""])])];
}

/* A star stands where they are apart. */
function partingTable(number) {
  const one = PARTINGS[number], [a, b] = [COURSES[0], COURSES[number + 1]];
  const cell = (t, p) => {
    const i = t * WIDTH + p, star = one.apart[i] ? " *" : "";
    if (Number.isFinite(one.difference[i])) return digits(one.difference[i], 5) + star;
    const [x, y] = [a, b].map(course => shown(course.mean[course.steps.indexOf(one.steps[t]) * WIDTH + p]));
    return `${x} → ${y}${star}`;
  };
  return [["step; * diverge", ...DATA.positions.map((_, p) => place(p))],
          one.steps.map((step, t) => [String(step), ...DATA.positions.map((_, p) => cell(t, p))])];
}

async function showPartings() {
  for (const [number, one] of PARTINGS.entries()) {
    if (!one.steps.length) continue;
    const rows = partingRows(number);
    const most = Math.max(...rows.filter(row => row.kind === "apart").map(row => Math.abs(row.value)), 0) || 1;
    const [bottom, top] = [rows[0].y, rows[WIDTH - 1].y2];
    const signals = {lo: -most, hi: most, first: rows[0].x, last: rows[rows.length - 1].x2, bottom, top};
    await embed(`parting-${number + 1}`, withParams(withData(SPECS.parting, "cells", rows), signals));
  }
}

async function start() {
  listenToTheme();
  listenToZoom();
  for (const details of document.querySelectorAll("details"))
    details.addEventListener("toggle", () => details.open && details.querySelectorAll("table[data-of]").forEach(fill));
  if (SPECS.curves) {
    const rows = curveRows(DATA.steps[state.step]), [lo, hi] = endsNow(rows);
    await embed("curves", withParams(withData(SPECS.curves, "curves", rows), {lo, hi}));
    byId("whole-range").addEventListener("change", event => {
      state.whole = event.target.checked;
      inTurn(showStep);
    });
    byId("play").addEventListener("click", () => state.whole = byId("whole-range").checked = true);
    await showStep();
  }
  for (const name of ["loss", "accuracy"])
    if (SPECS[name]) await embed(name, withData(SPECS[name], name, courseRows(name)));
  await showPartings();
  document.documentElement.dataset.ready = "yes";
}

addEventListener("DOMContentLoaded", start);
