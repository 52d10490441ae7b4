"use strict";
/* Curves over layers as plain SVG: a redraw sets a few attributes, whatever the depth. */

const MARGIN = {left: 46, right: 14, top: 12, bottom: 44};

/* Layers to name on an axis that runs from the readout, `depth` + 1, down to 1. */
function layerTicks(depth, width) {
  const inner = ticks(0, depth, Math.max(2, Math.min(10, Math.floor(width / 70))));
  return [...new Set([1, ...inner.filter(l => Number.isInteger(l) && l > depth * 0.06 && l < depth * 0.94), depth])];
}

/* A chart in an element: `draw` shows {values, low, high, ...}, value i standing at layer i + 1; it returns nothing. */
function layerChart(id, {label, form, said, bounds}) {
  const place = byId("chart-" + id), reading = byId("reading-" + id);
  let shown = null, scales = null;

  function draw(next) {
    shown = next;
    const {values, low, high, middle} = next, width = place.clientWidth, height = place.clientHeight;
    if (width <= MARGIN.left + MARGIN.right) return;  // a page that is closing, or not laid out yet, has no room
    const right = width - MARGIN.right, bottom = height - MARGIN.bottom, n = values.length;
    const x = layer => n > 1 ? MARGIN.left + (right - MARGIN.left) * (n - layer) / (n - 1) : (MARGIN.left + right) / 2;
    const y = value => bottom - (bottom - MARGIN.top) * (value - low) / (high - low);
    scales = {x, y, right, bottom, n};
    const root = svg("svg", {viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true"});
    if (bounds) {
      const [from, to] = [Math.min(high, middle + bounds), Math.max(low, middle - bounds)];
      root.append(svg("rect", {class: "healthy", x: MARGIN.left, width: right - MARGIN.left, y: y(from), height: Math.max(y(to) - y(from), 0)}));
      for (const at of [middle - bounds, middle + bounds]) {
        if (low <= at && at <= high) root.append(svg("line", {class: "bound", x1: MARGIN.left, x2: right, y1: y(at), y2: y(at)}));
      }
    }
    for (const at of ticks(low, high, Math.max(3, Math.floor(height / 60)))) {
      root.append(svg("line", {class: "grid-line", x1: MARGIN.left, x2: right, y1: y(at), y2: y(at)}));
      root.append(svg("text", {x: MARGIN.left - 8, y: y(at) + 4, "text-anchor": "end"}, form(at)));
    }
    for (const layer of layerTicks(next.depth, width)) {
      root.append(svg("text", {x: x(layer), y: bottom + 18, "text-anchor": "middle"}, layer.toLocaleString("en")));
    }
    root.append(svg("text", {x: (MARGIN.left + right) / 2, y: bottom + 36, "text-anchor": "middle"}, label));
    root.append(svg("path", {class: "curve", d: pathThrough(Array.from(values, (value, i) => [x(i + 1), y(value)]))}));
    if (next.depth <= 50) {
      values.forEach((value, i) => { if (Number.isFinite(value)) root.append(svg("circle", {class: "dot", cx: x(i + 1), cy: y(value), r: 3.5})); });
    }
    place.replaceChildren(root);
    place.setAttribute("aria-label", next.spoken);
    reading.textContent = "";
  }

  function point(event) {
    if (!shown) return;
    const {x, right, n} = scales, at = event.clientX - place.getBoundingClientRect().left;
    const layer = Math.min(Math.max(Math.round(n - (n - 1) * (at - MARGIN.left) / (right - MARGIN.left)), 1), n);
    place.querySelector(".cursor")?.remove();
    place.firstChild.append(svg("line", {class: "cursor", x1: x(layer), x2: x(layer), y1: MARGIN.top, y2: scales.bottom}));
    reading.textContent = said(layer, shown);
  }

  function leave() {
    place.querySelector(".cursor")?.remove();
    reading.textContent = "";
  }

  place.addEventListener("pointermove", point);
  place.addEventListener("pointerdown", point);
  place.addEventListener("pointerleave", leave);
  new ResizeObserver(() => shown && draw(shown)).observe(place);
  return draw;
}
