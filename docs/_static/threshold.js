/* The threshold under recorded states of CartPole. See docs/toys.py */
"use strict";
(() => {
  const states = JSON.parse(document.getElementById("data-threshold").textContent);
  const box = document.getElementById("toy-threshold");
  const ACTIONS = ["left", "right"], SVG = "http://www.w3.org/2000/svg";

  function make(name, attributes, ...inside) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  }
  function draw(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }
  const slider = (id, text, max, step, value) => {
    const input = make("input", { type: "range", id, min: 0, max, step, value });
    const output = make("output", { for: id });
    input.addEventListener("input", show);
    return { input, output, row: make("div", { class: "row" }, make("label", { for: id }, text), input, output) };
  };
  const tau = slider("tau", "threshold τ", 1, 0.01, 0.3);
  const step = slider("step", "step", states.length - 1, 1, 0);
  const picture = draw("svg", { viewBox: "-2.4 -1.4 4.8 1.9", role: "img" });
  const table = make("table", {});
  const verdict = make("p", { class: "verdict", "aria-live": "polite" });
  box.replaceChildren(step.row, tau.row, picture, table, verdict);

  /* CartPole as Gymnasium draws it: the pole is one unit long, leaning to the right where its angle is positive */
  function drawCart([x, , angle]) {
    const tip = [x + Math.sin(angle), -Math.cos(angle)];
    picture.replaceChildren(
      draw("line", { x1: -2.4, x2: 2.4, y1: 0.15, y2: 0.15, class: "track" }),
      draw("rect", { x: x - 0.25, y: 0, width: 0.5, height: 0.3, class: "cart" }),
      draw("line", { x1: x, y1: 0, x2: tip[0], y2: tip[1], class: "pole" }));
    picture.setAttribute("aria-label", `A pole that leans by ${(angle * 180 / Math.PI).toFixed(1)} degrees to the right`);
  }

  function show() {
    const { obs, q, p } = states[Number(step.input.value)];
    const threshold = Number(tau.input.value), most = Math.max(...p), mark = threshold * most;
    const isAllowed = p.map((likely) => likely > mark);
    const none = !isAllowed.some(Boolean);       // at τ = 1 nothing is above the mark: the likeliest stays
    if (none) isAllowed[p.indexOf(most)] = true;
    const chosen = q.reduce((best, value, a) => (isAllowed[a] && (best < 0 || value > q[best]) ? a : best), -1);
    const free = q.indexOf(Math.max(...q));
    drawCart(obs);
    tau.output.textContent = threshold.toFixed(2);
    step.output.textContent = step.input.value;
    const head = make("thead", {}, make("tr", {}, ...["push", "value Q", "in the log G", ""].map((text) => make("th", { scope: "col" }, text))));
    const rows = ACTIONS.map((name, a) => {
      const bar = make("span", { class: "bar" }, make("span", { class: "fill", style: `width:${100 * p[a]}%` }),
        make("span", { class: "mark", style: `left:${100 * mark}%` }));
      const label = make(isAllowed[a] ? "span" : "s", {}, name);
      return make("tr", { class: a === chosen ? "chosen" : isAllowed[a] ? "" : "forbidden" }, make("th", { scope: "row" }, label),
        make("td", {}, q[a].toFixed(2)), make("td", {}, p[a].toFixed(2)), make("td", { class: "bars" }, bar));
    });
    table.replaceChildren(head, make("tbody", {}, ...rows));
    box.dataset.allowed = ACTIONS.filter((_, a) => isAllowed[a]).join(" ");
    box.dataset.chosen = ACTIONS[chosen];
    const because = chosen !== free ? `, though ${ACTIONS[free]} has the larger value` : "";
    verdict.replaceChildren(`Allowed above ${mark.toFixed(2)}: ${ACTIONS.filter((_, a) => isAllowed[a]).join(" and ")}. Done: `,
      make("b", {}, ACTIONS[chosen]), `${because}.`);
  }
  show();
})();
