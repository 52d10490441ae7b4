"use strict";
/* Layers that are chosen, step by step: of the statistic of the map. */

const tracked = {layers: []};  // by the numbers of their groups

/* The lowest, the middle and the highest hidden layer. */
function firstTracks(axis) {
  const top = axis.layers.length - (DATA.named ? 1 : 2);
  return [...new Set([0, top >> 1, Math.max(top, 0)])];
}

/* A row for each chosen layer and step; what has no place on the axis is marked where it begins. */
function trackRows(lanes, name) {
  const {steps, layers} = axisOf(lanes);
  return tracked.layers.flatMap((g, slot) => {
    let before = "";
    return steps.flatMap((when, s) => {
      const [value, low, high] = [0, 1, 2].map(kind =>
        scaled(name, together(lanes.map(lane => at(lane, name, kind, s, g)), kind)));
      if (value === null) return [];
      const odd = flag(value), mark = odd === before ? "" : odd;
      before = odd;
      return [{slot: `chosen ${slot}`, step: when.x, steps: when.steps, layers: layers[g].layers, value: drawn(value),
               low: drawn(low), high: drawn(high), mark, few: steps.length <= 40, said: said(name, drawn(value), odd, 5)}];
    });
  });
}

async function showTracks() {
  if (!byId("chart-tracks")) return;
  const axis = axisOf(state.lanes), {scale, label} = DATA.statistics[state.statistic], log10 = logarithmic(state.statistic);
  tracked.layers = tracked.layers.filter(g => g < axis.layers.length);
  if (!tracked.layers.length) tracked.layers = firstTracks(axis);
  showChips(axis);
  const rows = trackRows(state.lanes, state.statistic);
  const [lo, hi] = endsOf(rows, ["low", "high"], log10 ? 2 : scale === "share" ? 0.1 : 0);
  const spec = withParams(withData(SPECS[log10 ? "tracks_log10" : "tracks"], "tracks", rows), {lo, hi});
  await embed("tracks", {...spec, title: label});
  const ends = tracked.layers.map((g, slot) => {
    const mine = rows.filter(row => row.slot === `chosen ${slot}`);
    return mine.length ? `${placeOf(axis, g)} ${brief(mine[0])} to ${brief(mine[mine.length - 1])}` : "";
  });
  const text = `${label}: ${ends.filter(Boolean).join("; ")}.`;
  byId("figure-tracks").querySelector("figcaption").textContent = text;
  describe("tracks", `Layers over the steps. ${text}`);
  document.querySelectorAll("details[open] table[data-of=tracks]").forEach(fill);
}

const brief = row => row.value === null ? row.said
  : logarithmic(state.statistic) ? power(row.value) : String(Number(row.value.toPrecision(2)));
const placeOf = (axis, g) => axis.layers[g].place;

/* The chosen layers, each to be taken out, and a menu of the others. */
function showChips(axis) {
  byId("chips").replaceChildren(...tracked.layers.map((g, slot) => {
    const chip = element("button", placeOf(axis, g), {type: "button", class: "chip", "data-slot": slot,
                                                      "aria-label": `Take out ${placeOf(axis, g)}`});
    chip.style.cssText = `--chip: ${DATA.categories[slot]}`;
    chip.addEventListener("click", () => toggleTrack(g));
    return chip;
  }));
  const free = axis.layers.map((_, g) => g).filter(g => !tracked.layers.includes(g));
  byId("add-layer").replaceChildren(element("option", "choose", {value: ""}),
    ...free.map(g => element("option", placeOf(axis, g), {value: g})));
  byId("add-layer").disabled = tracked.layers.length >= DATA.tracks;
}

/* Puts a layer among those that are drawn, or takes it out; the last one stays. */
function toggleTrack(g) {
  if (!tracked.layers.includes(g)) tracked.layers = [...tracked.layers, g].slice(-DATA.tracks);
  else if (tracked.layers.length > 1) tracked.layers = tracked.layers.filter(other => other !== g);
  return inTurn(showTracks);
}

function trackTable() {
  const rows = trackRows(state.lanes, state.statistic), axis = axisOf(state.lanes);
  const steps = [...new Set(rows.map(row => row.steps))];
  const of = (steps, slot) => rows.find(row => row.steps === steps && row.slot === `chosen ${slot}`)?.said ?? "";
  return [["step", ...tracked.layers.map(g => placeOf(axis, g))],
          steps.map(steps => [steps, ...tracked.layers.map((_, slot) => of(steps, slot))])];
}
