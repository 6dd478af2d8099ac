/* How likely each other action of a noisy policy is beside its favorite. See docs/toys.py */
"use strict";
(() => {
  const begin = JSON.parse(document.getElementById("data-noise").textContent);
  const box = document.getElementById("toy-noise");
  const SVG = "http://www.w3.org/2000/svg";
  const ratio = (eps, n) => (eps / n) / (1 - eps + eps / n);
  const needed = (tau, n) => tau * n / (1 + tau * (n - 1));      // the ε at which the ratio is τ

  function make(name, attributes, ...inside) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  }
  function draw(name, attributes, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  }
  const slider = (id, text, min, max, step, value) => {
    const input = make("input", { type: "range", id, min, max, step, value });
    const output = make("output", { for: id });
    input.addEventListener("input", show);
    return { input, output, row: make("div", { class: "row" }, make("label", { for: id }, text), input, output) };
  };
  const eps = slider("eps", "noise ε", 0, 1, 0.01, begin.eps);
  const n = slider("n", "actions n", 2, 18, 1, begin.n);
  const tau = slider("tau-noise", "threshold τ", 0, 1, 0.01, begin.tau);
  const picture = draw("svg", { viewBox: "0 0 400 230", role: "img" });
  const verdict = make("p", { class: "verdict", "aria-live": "polite" });
  box.replaceChildren(eps.row, n.row, tau.row, picture, verdict);
  const X = (e) => 50 + 330 * e, Y = (r) => 190 - 170 * r;

  function show() {
    const e = Number(eps.input.value), actions = Number(n.input.value), t = Number(tau.input.value);
    const r = ratio(e, actions), least = needed(t, actions), free = r > t;
    eps.output.textContent = e.toFixed(2);
    n.output.textContent = actions;
    tau.output.textContent = t.toFixed(2);
    const points = Array.from({ length: 101 }, (_, i) => `${X(i / 100)},${Y(ratio(i / 100, actions))}`).join(" ");
    const parts = [draw("rect", { x: X(0), y: Y(1), width: X(1) - X(0), height: Y(t) - Y(1), class: "above" }),
      draw("line", { x1: X(0), x2: X(1), y1: Y(0), y2: Y(0), class: "axis" }),
      draw("line", { x1: X(0), x2: X(0), y1: Y(0), y2: Y(1), class: "axis" }),
      draw("polyline", { points, class: "curve" }),
      draw("line", { x1: X(0), x2: X(1), y1: Y(t), y2: Y(t), class: "tau" }),
      draw("circle", { cx: X(e), cy: Y(r), r: 6, class: free ? "point free" : "point" })];
    for (const tick of [0, 0.5, 1]) {
      parts.push(draw("text", { x: X(tick), y: 208, "text-anchor": "middle" }, String(tick)));
      parts.push(draw("text", { x: 42, y: Y(tick) + 4, "text-anchor": "end" }, String(tick)));
    }
    parts.push(draw("text", { x: X(0.5), y: 226, "text-anchor": "middle" }, "noise ε"));
    parts.push(draw("text", { x: X(0.02), y: Y(t) - 5 < 14 ? Y(t) + 15 : Y(t) - 5 }, `τ = ${t.toFixed(2)}`));
    picture.replaceChildren(...parts);
    picture.setAttribute("aria-label", `The ratio grows with the noise from 0 to 1; at ${e.toFixed(2)} it is ${r.toFixed(2)}`);
    box.dataset.ratio = r.toFixed(4);
    box.dataset.needed = least.toFixed(4);
    box.dataset.free = free;
    verdict.replaceChildren(`Each other action is ${r.toFixed(2)} times as likely as the favorite: `,
      make("b", {}, free ? "BCQ may choose" : "BCQ imitates"), `. It may choose where ε is above ${least.toFixed(2)}.`);
  }
  show();
})();
