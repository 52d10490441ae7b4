"use strict";
/* What steers a page: the step, played or chosen, and the zoom of a figure. */

const PACE = 120;  // milliseconds between steps, at the least: a figure that is slow to draw sets its own pace

/* The slider and what moves it; `go` shows a step by its number and returns a promise, `at` says which one is shown. */
function player({count, at, go, name, diverged = () => null}) {
  const slider = byId("step"), play = byId("play");
  let playing = false;
  const stop = () => {
    playing = false;
    play.setAttribute("aria-pressed", "false");
    play.setAttribute("aria-label", "Play");
  };
  const jump = step => {
    stop();
    inTurn(() => go(step));
  };
  const run = async () => {
    while (playing && at() < count() - 1) {
      const pause = new Promise(done => setTimeout(done, PACE));
      await inTurn(() => go(at() + 1));
      await pause;
    }
    stop();
  };
  slider.addEventListener("input", () => jump(Number(slider.value)));
  byId("to-first").addEventListener("click", () => jump(0));
  byId("to-last").addEventListener("click", () => jump(count() - 1));
  byId("to-diverged").addEventListener("click", () => jump(diverged()));
  play.addEventListener("click", () => {
    if (playing) return stop();
    playing = true;
    play.setAttribute("aria-pressed", "true");
    play.setAttribute("aria-label", "Pause");
    if (at() === count() - 1) inTurn(() => go(0)).then(run);
    else run();
  });
  return {
    jump,
    /* Shows where the slider stands, and marks the first step, the last, and where the numbers ended. */
    show() {
      const broken = diverged(), marks = [...new Set([0, count() - 1, ...broken === null ? [] : [broken]])];
      slider.max = count() - 1;
      slider.value = at();
      slider.setAttribute("aria-valuetext", name(at()));
      byId("step-name").textContent = name(at());
      byId("marks").replaceChildren(...marks.map(value => element("option", undefined, {value})));
      byId("to-diverged").hidden = broken === null;
      byId("to-diverged").textContent = broken === null ? "" : `diverged: ${name(broken)}`;
    },
  };
}

/* Zooms both axes of a figure around their middle by a factor, or shows all of it by 0. */
function zoom(id, factor) {
  const {view} = views[id];
  for (const {field, channel} of view.signal("zoom_tuple_fields")) {
    const scale = view.scale(channel), [low, high] = scale.domain(), log = scale.type === "log";
    const [a, b] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
    const ends = [-1, 1].map(side => (a + b) / 2 + side * (b - a) / 2 * factor);
    view.signal(`zoom_${field}`, factor ? ends.map(x => log ? 10 ** x : x) : null);
  }
  return view.runAsync();
}

function listenToZoom() {
  document.addEventListener("click", event => {
    const button = event.target.closest?.("button[data-zoom]");
    if (button && views[button.dataset.of]) inTurn(() => zoom(button.dataset.of, Number(button.dataset.zoom)));
  });
}
