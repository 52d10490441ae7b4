"use strict";
/* The page: settings, which the address keeps; what is drawn and said of them; the config to take away. */

const SIGNS = read("signs");
const START = {activation: "relu", initializer: "glorot_normal", gain: 1, bias: 0, normalization: "no norm", depth: 50, width: 128, batch: 128, residual: "none", scale: 1};
const PARTS = ["activation", "initializer", "normalization", "batch", "residual"];
const digits = x => Number(x.toPrecision(4));
/* The numbers that a slider goes through, each once. */
const numbersOf = (count, at) => [...new Set(Array.from({length: count}, (_, i) => digits(at(i))))];
const SLIDERS = {
  gain: numbersOf(257, i => 2 ** (i / 32 - 4)),
  bias: numbersOf(201, i => i / 100),
  depth: numbersOf(301, i => Math.round(10 ** (i / 100))),
  width: numbersOf(257, i => Math.round(2 ** (4 + i / 32))),
  scale: numbersOf(257, i => 2 ** (i / 32 - 7)),
};
/* Scales that are no numbers, and what a config calls them. */
const SCALES = {depth: "depth", learned: "{learned: 0.0}"};
/* Of the initializers whose one number is no gain. */
const DEVIATIONS = numbersOf(257, i => 10 ** (i / 64 - 3));

let settings = {...START}, cureTimer = 0;

const initializerOf = s => byName(CHOICES.initializers, s.initializer);
const normalizationOf = s => CHOICES.normalizations.find(one => one.title === s.normalization);
const sliderOf = (name, s = settings) => name === "gain" && (initializerOf(s).option ?? "gain") !== "gain" ? DEVIATIONS : SLIDERS[name];

/* The place of the slider's number that is nearest to a value. */
const placeOf = (numbers, value) => numbers.reduce((best, x, i) => Math.abs(x - value) < Math.abs(numbers[best] - value) ? i : best, 0);

/* Settings as a net of theory. */
function netOf(s) {
  const {depth, width, batch, gain, bias, scale} = s, residual = byName(CHOICES.residuals, depth > 1 ? s.residual : "none");
  const parts = {activation: ACTIVATIONS[s.activation], initializer: initializerOf(s), normalization: normalizationOf(s), residual};
  const net = {...parts, depth, width, batch, gain, bias, scale};
  return hasTables(net) ? net : {...net, bias: 0};
}

/* Settings with what is no choice, or out of range, left out or moved to the next end. */
function valid(some) {
  const found = {...START};
  if (Object.hasOwn(ACTIVATIONS, some.activation)) found.activation = some.activation;
  if (byName(CHOICES.initializers, some.initializer)) found.initializer = some.initializer;
  if (normalizationOf(some)) found.normalization = some.normalization;
  if (byName(CHOICES.residuals, some.residual)) found.residual = some.residual;
  if (Object.hasOwn(SCALES, some.scale)) found.scale = some.scale;
  if (CHOICES.batches.includes(Number(some.batch))) found.batch = Number(some.batch);
  found.gain = initializerOf(found).default;
  for (const name of Object.keys(SLIDERS)) {
    const value = some[name] === "" || some[name] === undefined ? NaN : Number(some[name]), numbers = sliderOf(name, found);
    if (Number.isFinite(value)) found[name] = Math.min(Math.max(["depth", "width"].includes(name) ? Math.round(value) : value, numbers[0]), numbers.at(-1));
  }
  return found;
}

function fromAddress() {
  settings = valid(Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
  show();
}

function change(some) {
  const other = some.initializer && some.initializer !== settings.initializer && !("gain" in some);
  settings = valid({...settings, ...some, ...(other ? {gain: undefined} : {})});
  history.replaceState(null, "", "#" + new URLSearchParams(settings));
  show();
}

function show() {
  const net = netOf(settings), curves = propagate(net), verdict = judge(curves);
  showControls(net);
  showVerdict(verdict);
  showCharts(curves, verdict);
  byId("config").textContent = configOf(settings, net);
  byId("download").href = "data:text/yaml;charset=utf-8," + encodeURIComponent(byId("config").textContent);
  if (byId("numbers").open) showNumbers(net, curves);
  clearTimeout(cureTimer);
  byId("cures").dataset.of = "";
  cureTimer = setTimeout(() => showCures(net), 120);
  return curves;
}

function showControls(net) {
  for (const name of PARTS) byId(name).value = settings[name];
  const {skips} = net.residual, worded = Object.hasOwn(SCALES, settings.scale);
  byId("scales").value = worded ? settings.scale : "number";
  byId("scales").parentElement.hidden = !skips;
  byId("scale-slider").hidden = !skips || worded;
  const {option, fits} = net.initializer, unbiased = !hasTables({...net, bias: 1});
  byId("gain-label").textContent = option === "gain" ? "gain of the initializer" : option === "std" ? "std of the weights" : option === "bound" ? "bound of the weights" : "gain (none)";
  for (const name of Object.keys(SLIDERS)) {
    const range = byId(name), number = byId(name + "-number"), numbers = sliderOf(name);
    const value = name === "bias" ? net.bias : name === "scale" && worded ? START.scale : settings[name];
    range.max = numbers.length - 1;
    range.value = placeOf(numbers, value);
    range.setAttribute("aria-valuetext", value);
    if (number !== document.activeElement) number.value = value;
    [number.min, number.max] = [numbers[0], numbers.at(-1)];
    range.disabled = number.disabled = (name === "gain" && !option) || (name === "bias" && unbiased);
  }
  byId("of").textContent = gradientOf(net);
  const limits = unbiased ? ["With batch norm after the activation the tables are of biases 0."] : [];
  if (settings.residual !== net.residual.name) limits.push("A skip connection needs two hidden layers.");
  byId("limits").hidden = !limits.length;
  byId("limits").textContent = limits.join(" ");
}

function showVerdict({word, evidence}) {
  const sign = SIGNS[word], badge = element("span", undefined, {class: "badge", style: `--verdict: ${sign.colour}`});
  badge.append(element("span", sign.letter, {class: "letter", "aria-hidden": "true"}), word);
  byId("verdict").replaceChildren(badge, ` (predicted): ${evidence}.`);
  byId("main").style.setProperty("--verdict", sign.colour);
}

const drawGradient = layerChart("gradient", {
  label: "layer, from the output to the input", form: at => at.toLocaleString("en"), bounds: SPAN,
  said: (layer, {values, depth}) => layer > depth ? "Readout: 1." : Number.isFinite(values[layer - 1])
    ? `Layer ${layer}: ${power(values[layer - 1])} of the readout's.` : `Layer ${layer}: no gradient.`,
});
const drawCorrelation = layerChart("correlation", {
  label: "layer, from the output to the input", form: String,
  said: (layer, {values}) => `Layer ${layer}: ${Number.isFinite(values[layer - 1]) ? values[layer - 1].toFixed(4) : "none"}.`,
});

function showCharts({delta, cosine}, {evidence, word}) {
  const values = [...delta, 0], finite = values.filter(Number.isFinite), {depth} = settings, middle = delta[depth - 1];
  const around = Number.isFinite(middle) ? middle : 0;
  const low = Math.min(...finite, around - SPAN - 0.5), high = Math.max(...finite, around + SPAN + 0.5), room = (high - low) * 0.03;
  const spoken = `Gradient by layer, predicted. ${word}: ${evidence}.`;
  drawGradient({values, low: low - room, high: high + room, middle: around, depth, spoken});
  const seen = [...cosine].filter(Number.isFinite);
  drawCorrelation({
    values: [...cosine], low: Math.min(0, ...seen), high: 1, depth,
    spoken: seen.length ? `Correlation of two inputs by layer: ${seen[0].toFixed(3)} in layer 1, ${seen.at(-1).toFixed(3)} in layer ${depth}.` : "No signal.",
  });
}

/* What the chart is of. */
const gradientOf = ({residual}) => residual.streams_preactivations ? "|dloss/dr| of the stream r" : residual.skips ? "|dloss/dx| of the stream x" : "|dloss/dh|";

function showNumbers(net, {delta, cosine}) {
  const every = Math.max(1, Math.ceil(delta.length / 100)), rows = [];
  for (let l = delta.length; l >= 1; l--) if (l % every === 0 || l === 1 || l === delta.length) rows.push(l);
  const figure = (x, n) => Number.isFinite(x) ? x.toFixed(n) : x === -Infinity ? "-∞" : "-";
  fillTable(byId("numbers").querySelector("table"), ["layer", `log10 ${gradientOf(net)}, relative`, "correlation"],
    rows.map(l => [String(l), figure(delta[l - 1], 4), figure(cosine[l - 1], 4)]));
}

function showCures(net) {
  const {fault, cures, rejected} = diagnose(net), list = byId("cures");
  byId("cure-says").textContent = !fault ? "Nothing to cure." : cures.length ? "What helps, and the slope then, in decades per layer:"
    : "Nothing helps that may be touched here.";
  list.replaceChildren(...cures.slice(0, 8).map(cure => {
    const item = element("li"), button = element("button", "Try it", {type: "button", "aria-label": `Try ${cure.words}`});
    button.addEventListener("click", () => change(settingsOf(cure.net)));
    item.append(element("code", cure.words), element("small", signed(cure.effect.verdict.slope, 4)), button);
    return item;
  }));
  byId("rejected").hidden = !rejected.length;
  byId("rejected").querySelector("ul").replaceChildren(...rejected.map(cure => {
    const item = element("li");
    item.append(element("code", cure.words), element("small", cure.fault));
    return item;
  }));
  list.dataset.of = JSON.stringify(settings);
}

const settingsOf = net => ({
  ...settings, initializer: net.initializer.name, gain: net.gain, bias: net.bias, normalization: net.normalization.title, residual: net.residual.name, scale: net.scale,
});

/* The net as YAML: what is as by default is left out of a part. */
function configOf(s, net) {
  const {name, option, default: usual} = net.initializer, {name: norm, placement} = net.normalization, {name: kind, skips} = net.residual;
  return [
    "name: playground", "data: digits", "model:", `  depth: ${s.depth}`, `  width: ${s.width}`, `  activation: ${s.activation}`,
    `  initializer: ${option && s.gain !== usual ? `{name: ${name}, ${option}: ${s.gain}}` : name}`,
    `  bias: ${net.bias ? `{name: normal, std: ${net.bias}}` : "zeros"}`,
    `  normalization: ${placement ? `{name: ${norm}, placement: ${placement}}` : norm}`,
    ...(skips ? [`  residual: ${s.scale === 1 ? kind : `{name: ${kind}, scale: ${SCALES[s.scale] ?? s.scale}}`}`] : []),
    "train:", `  batch_size: ${s.batch}`, "",
  ].join("\n");
}

async function copy(id, what) {
  const text = byId(id).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  byId("copied").textContent = `${what} copied.`;
}

for (const name of PARTS) choose(name, value => change({[name]: value}));
choose("scales", value => change({scale: value === "number" ? START.scale : value}));
for (const name of Object.keys(SLIDERS)) {
  byId(name).addEventListener("input", event => change({[name]: sliderOf(name)[event.target.value]}));
  byId(name + "-number").addEventListener("input", event => event.target.value !== "" && change({[name]: event.target.value}));
  byId(name + "-number").addEventListener("change", () => show());
}
byId("controls").addEventListener("submit", event => event.preventDefault());
byId("numbers").addEventListener("toggle", () => showNumbers(netOf(settings), propagate(netOf(settings))));
byId("copy-config").addEventListener("click", () => copy("config", "Config"));
byId("copy-command").addEventListener("click", () => copy("command", "Command"));
addEventListener("hashchange", fromAddress);
listenToTheme();
fromAddress();
document.documentElement.dataset.ready = "";
