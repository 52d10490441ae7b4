"use strict";
/* A sweep's grid, and what leads from a cell to its curves. */

const SWEEP = read("sweep");
const sweepState = {rows: null, columns: null, value: "score", fixed: {}};
const short = path => path.split(".").pop();
const optionOf = (cell, option) => DATA.lanes[cell.lanes[0]].options[option];
const valuesOf = option => [...new Set(SWEEP.cells.map(cell => optionOf(cell, option)))];
const mean = values => values.length ? values.reduce((a, b) => a + b, 0) / values.length : null;

/* One figure of some lanes: their mean, or the most frequent verdict. */
function figureOf(lanes, value) {
  if (value === "verdict") {
    const words = lanes.map(i => DATA.lanes[i].verdict ?? DATA.lanes[i].status);
    const most = [...new Set(words)].sort().reduce((a, b) => words.filter(w => w === b).length > words.filter(w => w === a).length ? b : a);
    const count = words.filter(word => word === most).length;
    return {sort: most, text: count === words.length ? most : `${count}/${words.length} ${most}`};
  }
  const known = lanes.map(i => DATA.lanes[i][value]).filter(x => x != null);
  if (!known.length) return {sort: null, text: DATA.lanes[lanes[0]].status === "done" ? "–" : DATA.lanes[lanes[0]].status};
  const middle = mean(known), sd = known.length > 1
    ? Math.sqrt(known.reduce((sum, x) => sum + (x - middle) ** 2, 0) / (known.length - 1)) : null;
  const text = value === "score" ? middle.toFixed(4) : (middle >= 0 ? "+" : "") + middle.toFixed(3);
  return {sort: middle, text, spread: sd === null ? "" : `±${sd.toFixed(value === "score" ? 4 : 3)}`};
}

const channels = colour => [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));

/* The colour, as red, green and blue, at a place from 0 to 1 on some stops. */
function between(stops, place) {
  const at = Math.min(Math.max(place, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2);
  const [from, to] = [stops[i], stops[i + 1]].map(channels);
  return from.map((c, k) => c + (to[k] - c) * (at - i));
}

function colours(figures) {
  const known = figures.map(figure => figure.sort).filter(x => typeof x === "number");
  const lo = Math.min(...known), hi = Math.max(...known), most = Math.max(Math.abs(lo), Math.abs(hi)) || 1;
  return figure => {
    if (sweepState.value === "verdict") return channels(DATA.verdicts[figure.sort]?.colour ?? "#8a8a8a");
    if (figure.sort === null) return null;
    if (sweepState.value === "slope") return between(SWEEP.colours.slope, (figure.sort / most + 1) / 2);
    return between(SWEEP.colours.score, hi > lo ? (figure.sort - lo) / (hi - lo) : 1);
  };
}

/* Black or white, whichever is read better on a colour. */
function inkOn(colour) {
  const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

function showGrid() {
  const {rows, columns, value, fixed} = sweepState;
  const cells = SWEEP.cells.filter(cell => Object.entries(fixed).every(([option, word]) => !word || optionOf(cell, option) === word));
  const heads = columns ? valuesOf(columns) : [""], labels = rows ? valuesOf(rows) : [""];
  const members = (label, head) => cells.filter(cell =>
    (!rows || optionOf(cell, rows) === label) && (!columns || optionOf(cell, columns) === head));
  const table = labels.map(label => heads.map(head => members(label, head)));
  const figures = table.map(line => line.map(some => some.length ? figureOf(some.flatMap(cell => cell.lanes), value) : null));
  const colour = colours(figures.flat().filter(Boolean));
  const grid = byId("grid");
  const top = element("tr");
  top.append(element("th", rows ? short(rows) + (columns ? " \\ " + short(columns) : "") : "", {scope: "col"}),
             ...heads.map(head => element("th", head || (value === "score" ? SWEEP.score : value), {scope: "col"})));
  grid.tHead.replaceChildren(top);
  grid.tBodies[0].replaceChildren(...labels.map((label, r) => {
    const line = element("tr");
    line.append(element("th", label || "all", {scope: "row"}), ...heads.map((head, c) => {
      const some = table[r][c], figure = figures[r][c], box = element("td");
      if (!figure) box.append(element("span", "–", {class: "none"}));
      else {
        const link = element("a", undefined, {href: `#cell-${some[0].cell}`, "data-cell": some[0].cell});
        const background = colour(figure);
        if (background) link.style.cssText = `--cell: rgb(${background.map(Math.round)}); --on: ${inkOn(background)}`;
        link.append(value === "verdict" ? `${DATA.verdicts[figure.sort]?.letter ?? "–"} ${figure.text}` : figure.text);
        if (figure.spread) link.append(element("small", ` ${figure.spread}`));
        link.title = some.length > 1 ? `mean of ${some.length} cells; leads to ${some[0].label}` : some[0].label;
        box.append(link);
      }
      return box;
    }));
    return line;
  }));
  markCell();
}

function markCell() {
  for (const link of document.querySelectorAll("#grid a"))
    link.toggleAttribute("aria-current", Number(link.dataset.cell) === state.cell);
}

/* What else the page says of the cell that is chosen. */
function showCell() {
  const {lanes, shown} = DATA.cells[state.cell];
  byId("lane").replaceChildren(
    ...(shown.length > 1 ? [element("option", `median and range of ${shown.length} seeds`, {value: "all"})] : []),
    ...lanes.map(i => element("option", `seed ${DATA.lanes[i].seed}`, {value: i})));
  byId("cell").value = state.cell;
  const alone = state.lanes.length < shown.length;
  byId("curves-title").textContent = (!alone && SWEEP.cells[state.cell].label) || DATA.lanes[state.lanes[0]].label;
  markCell();
}

/* The gradient of every lane, at the first or at the last step. */
function curveRows(last) {
  return SWEEP.cells.slice(0, SWEEP.shown).flatMap(cell => cell.lanes.flatMap(i => {
    const lane = DATA.lanes[i];
    if (lane.axis === null) return [];
    const axis = DATA.axes[lane.axis];
    let s = 0;
    if (last) for (s = axis.first.length - 1; s > 0 && at(i, "delta_log10", 0, s, 0) === null;) s--;
    return axis.lowest.map((low, g) => ({
      label: cell.label, seed: lane.seed, verdict: lane.verdict ?? lane.status,
      layer: (low + axis.highest[g]) / 2, value: drawn(at(i, "delta_log10", 0, s, g)),
    }));
  }));
}

async function showMultiples() {
  if (!SPECS.multiples) return;
  const room = byId("chart-multiples").clientWidth, columns = Math.max(1, Math.min(6, Math.floor(room / 190)));
  const width = Math.floor((room - 8) / columns) - 62;
  const spec = structuredClone(SPECS.multiples);
  spec.columns = columns;
  spec.spec.width = width;
  spec.facet.sort = SWEEP.cells.map(cell => cell.label);
  spec.facet.header.labelLimit = width + 40;
  await embed("multiples", withData(spec, "curves", curveRows(byId("multiples-step").value === "last")));
}

async function showRanking() {
  if (!SPECS.ranking) return;
  const spec = structuredClone(SPECS.ranking);
  for (const layer of spec.layer) layer.encoding.y.axis.labelLimit = Math.min(320, byId("chart-ranking").clientWidth * 0.42);
  await embed("ranking", withData(spec, "ranking", SWEEP.ranking));
}

async function startSweep() {
  const {options} = SWEEP;
  [sweepState.rows, sweepState.columns] = [options[0] ?? null, options[1] ?? null];
  for (const name of ["rows", "columns", "value"])
    choose("grid-" + name, value => {
      const other = {rows: "columns", columns: "rows"}[name];
      if (other && value && sweepState[other] === value) {
        sweepState[other] = sweepState[name];
        byId("grid-" + other).value = sweepState[other] ?? "";
      }
      sweepState[name] = value || null;
      showFixed();
      showGrid();
    });
  choose("cell", value => location.hash = `cell-${value}`);
  choose("multiples-step", showMultiples);
  document.addEventListener("click", event => {
    if (!event.target.closest?.("#grid a")) return;
    byId("curves-title").scrollIntoView();
    byId("curves-title").focus({preventScroll: true});
  });
  showFixed();
  showGrid();
  for (const id of ["predicted", "measured"])
    if (SPECS[id]) await embed(id, withData(SPECS[id], "summaries", SWEEP.cells));
  await showRanking();
  await showMultiples();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) showRanking().then(showMultiples);
    width = innerWidth;
  });
}

/* A menu for each option that is on neither axis of the grid. */
function showFixed() {
  const free = SWEEP.options.filter(option => option !== sweepState.rows && option !== sweepState.columns);
  sweepState.fixed = Object.fromEntries(free.map(option => [option, sweepState.fixed[option] ?? ""]));
  byId("grid-fixed").replaceChildren(...free.map(option => {
    const label = element("label", short(option) + " "), select = element("select", undefined, {autocomplete: "off"});
    select.append(element("option", "all, averaged", {value: ""}),
                  ...valuesOf(option).map(word => element("option", word, {value: word})));
    select.value = sweepState.fixed[option];
    select.addEventListener("change", () => {
      sweepState.fixed[option] = select.value;
      showGrid();
    });
    label.append(select);
    return label;
  }));
}
