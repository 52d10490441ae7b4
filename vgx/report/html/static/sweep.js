"use strict";
/* A sweep's grid, and what leads from a cell to its curves. */

const SWEEP = read("sweep");
const sweepState = {rows: null, columns: null, value: "score", fixed: {}};
const wordsOf = option => SWEEP.options[option]?.words ?? [""];
const has = (cell, option, word) => !option || !word || cell.words[option] === word;

/* What stands in each square is written by Python, by the numbers of the cells that are in it. */
function showGrid() {
  const {rows, columns, value, fixed} = sweepState;
  const cells = SWEEP.cells.filter(cell => Object.entries(fixed).every(([option, word]) => has(cell, option, word)));
  const square = (label, head) => {
    const some = cells.filter(cell => has(cell, rows, label) && has(cell, columns, head)), box = element("td");
    if (!some.length) {
      box.append(element("span", "–", {class: "none"}));
      return box;
    }
    const said = SWEEP.squares[some.map(({cell}) => cell).join()], [text, spread, colour, ink] = said[value];
    const link = element("a", text, {href: `#cell-${some[0].cell}`, "data-cell": some[0].cell, title: said.title});
    if (colour) link.style.cssText = `--cell: ${colour}; --on: ${ink}`;
    if (spread) link.append(element("small", ` ${spread}`));
    box.append(link);
    return box;
  };
  const line = cells => {
    const made = element("tr");
    made.append(...cells);
    return made;
  };
  const corner = [rows, columns].filter(Boolean).map(option => SWEEP.options[option].name).join(" \\ ");
  byId("grid-legend").textContent = SWEEP.legends[value];
  const heads = wordsOf(columns), shown = byId("grid-value").selectedOptions[0].textContent;
  byId("grid").tHead.replaceChildren(line([rows ? corner : "", ...heads.map(head => head || shown)]
    .map(text => element("th", text, {scope: "col"}))));
  byId("grid").tBodies[0].replaceChildren(...wordsOf(rows).map(label =>
    line([element("th", label || "all", {scope: "row"}), ...heads.map(head => square(label, head))])));
  markCell();
}

function markCell() {
  for (const link of document.querySelectorAll("#grid a"))
    link.toggleAttribute("aria-current", Number(link.dataset.cell) === state.cell);
}

/* What else the page says of the cell that is chosen. */
function showCell() {
  byId("cell").value = state.cell;
  const alone = state.lanes.length < DATA.cells[state.cell].shown.length;
  byId("curves-title").textContent = (!alone && SWEEP.cells[state.cell].label) || DATA.lanes[state.lanes[0]].label;
  markCell();
  for (const id of ["map", "ranking", "predicted", "measured", "multiples"])
    if (views[id]) inTurn(() => set(views[id].view, {chosen: state.cell}, {}));
}

/* A cell is chosen by clicking on its mark. */
function chooseCell(view) {
  view.addEventListener("click", (_, item) => {
    const cell = item?.datum?.cell ?? item?.items?.[0]?.datum?.cell;
    if (cell !== undefined) location.hash = `cell-${cell}`;
  });
}

const embedCells = async (id, spec) => chooseCell(await embed(id, withParams(spec, {chosen: state.cell})));

/* The gradient of every lane, at the first or at the last step. */
function curveRows(last) {
  return SWEEP.cells.slice(0, SWEEP.shown).flatMap(cell => cell.lanes.flatMap(i => {
    const lane = DATA.lanes[i];
    if (lane.axis === null) return [];
    const {steps, layers} = DATA.axes[lane.axis];
    let s = 0;
    if (last) for (s = steps.length - 1; s > 0 && at(i, "delta_log10", 0, s, 0) === null;) s--;
    return layers.map(({layer}, g) => ({
      cell: cell.cell, label: cell.label, seed: lane.seed, verdict: lane.verdict, layer, value: drawn(at(i, "delta_log10", 0, s, g)),
    }));
  }));
}

async function showMultiples() {
  if (!SPECS.multiples) return;
  const room = byId("chart-multiples").clientWidth, columns = Math.max(1, Math.min(6, Math.floor(room / 190)));
  const width = Math.floor((room - 70) / columns) - 22;  // the axis stands once, at the left
  const spec = structuredClone(SPECS.multiples);
  spec.columns = columns;
  spec.spec.width = width;
  spec.facet.sort = SWEEP.cells.map(cell => cell.label);
  spec.facet.header.labelLimit = width + 40;
  await embedCells("multiples", withData(spec, "curves", curveRows(byId("multiples-step").value === "last")));
}

async function showRanking() {
  if (!SPECS.ranking) return;
  const spec = structuredClone(SPECS.ranking);
  for (const layer of spec.layer) layer.encoding.y.axis.labelLimit = Math.min(320, byId("chart-ranking").clientWidth * 0.42);
  await embedCells("ranking", withData(spec, "ranking", SWEEP.ranking));
}

async function startSweep() {
  [sweepState.rows = null, sweepState.columns = null] = Object.keys(SWEEP.options);
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
    const {top} = byId("chart-gradient")?.getBoundingClientRect() ?? {top: 0};
    if (top > innerHeight - 200) byId("curves-title").scrollIntoView();
    byId("curves-title").focus({preventScroll: true});
  });
  showFixed();
  showGrid();
  if (SPECS.map) await embedCells("map", {...SPECS.map, datasets: SWEEP.map});
  for (const id of ["predicted", "measured"])
    if (SPECS[id]) await embedCells(id, withData(SPECS[id], "summaries", SWEEP.cells));
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
  const free = Object.keys(SWEEP.options).filter(option => option !== sweepState.rows && option !== sweepState.columns);
  sweepState.fixed = Object.fromEntries(free.map(option => [option, sweepState.fixed[option] ?? ""]));
  byId("grid-fixed").replaceChildren(...free.map(option => {
    const label = element("label", SWEEP.options[option].name + " "), select = element("select", undefined, {autocomplete: "off"});
    select.append(element("option", "all, averaged", {value: ""}),
                  ...wordsOf(option).map(word => element("option", word, {value: word})));
    select.value = sweepState.fixed[option];
    select.addEventListener("change", () => {
      sweepState.fixed[option] = select.value;
      showGrid();
    });
    label.append(select);
    return label;
  }));
}
