/* Twelve squares: walks go into a log, Q-learning learns from it, with the constraint or without. See docs/toys.py */
"use strict";
(() => {
  const world = JSON.parse(document.getElementById("data-squares").textContent);
  const box = document.getElementById("toy-squares");
  const nStates = world.next.length, nActions = 4;
  const NAMES = ["up", "right", "down", "left"], ARROWS = ["↑", "→", "↓", "←"];
  let walks = world.walks.map((walk) => [...walk]);
  let current = [];          // the walk that is under way
  let constrained = false;

  /* what was seen: (state, action) pairs */
  function seenPairs() {
    const seen = Array.from({ length: nStates }, () => Array(nActions).fill(false));
    for (const walk of [...walks, current]) {
      let s = world.start;
      for (const a of walk) { seen[s][a] = true; s = world.next[s][a]; }
    }
    return seen;
  }

  /* the actions that a maximum may pick; where none is allowed, all are */
  function allowed(seen, s) {
    const all = [0, 1, 2, 3], some = all.filter((a) => seen[s][a]);
    return constrained && some.length ? some : all;
  }

  /* Q-learning until nothing changes: pairs that are not in the log keep the 0 they began with */
  function learn(seen) {
    const q = Array.from({ length: nStates }, () => Array(nActions).fill(0));
    for (let sweep = 0; sweep < 500; sweep++) {
      for (let s = 0; s < nStates; s++) for (let a = 0; a < nActions; a++) {
        if (!seen[s][a]) continue;
        const s2 = world.next[s][a];
        const after = world.terminal[s2] ? 0 : Math.max(...allowed(seen, s2).map((b) => q[s2][b]));
        q[s][a] = world.reward[s][a] + world.discount * after;
      }
    }
    return q;
  }

  /* the best actions of a state, equal shares where several are equally good */
  function best(q, seen, s) {
    const options = allowed(seen, s), top = Math.max(...options.map((a) => q[s][a]));
    return options.filter((a) => q[s][a] > top - 1e-9);
  }

  /* what a policy is truly worth */
  function truth(choices) {
    let v = Array(nStates).fill(0);
    for (let sweep = 0; sweep < 500; sweep++) {
      v = v.map((_, s) => {
        if (world.terminal[s]) return 0;
        const worth = choices[s].map((a) => world.reward[s][a] + world.discount * v[world.next[s][a]]);
        return worth.reduce((sum, x) => sum + x, 0) / worth.length;
      });
    }
    return v;
  }

  function make(name, attributes, ...inside) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...inside);
    return made;
  }

  const here = () => current.reduce((s, a) => world.next[s][a], world.start);

  function move(a) {
    current.push(a);
    if (world.terminal[here()]) { walks.push(current); current = []; }
    show();
  }

  /* what stands once, and is written anew after each move */
  const grid = make("div", { class: "grid", role: "group", "aria-label": "The map" });
  const squares = [];
  for (let s = 0; s < nStates; s++) {
    const square = make("button", { type: "button", "data-letter": world.letters[s] });
    square.addEventListener("click", () => {
      const a = [0, 1, 2, 3].find((b) => world.next[here()][b] === s && s !== here());
      if (a !== undefined) move(a);
    });
    squares.push(square);
    grid.append(square);
  }
  grid.addEventListener("keydown", (event) => {
    const a = ["ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft"].indexOf(event.key);
    if (a < 0) return;
    event.preventDefault();
    move(a);
  });
  const arrows = make("div", { class: "arrows", role: "group", "aria-label": "Next step of the walk" });
  NAMES.forEach((name, a) => {
    const button = make("button", { type: "button", "aria-label": name }, ARROWS[a]);
    button.addEventListener("click", () => move(a));
    arrows.append(button);
  });
  const toggle = make("input", { type: "checkbox" });
  toggle.addEventListener("change", () => { constrained = toggle.checked; show(); });
  const command = (text, action) => {
    const button = make("button", { type: "button" }, text);
    button.addEventListener("click", () => { action(); current = []; show(); });
    return button;
  };
  const commands = make("div", { class: "row" },
    command("the three hikers", () => { walks = world.walks.map((walk) => [...walk]); }),
    command("take the last walk out", () => { if (!current.length) walks.pop(); }),
    command("empty the log", () => { walks = []; }));
  const verdict = make("p", { class: "verdict", "aria-live": "polite" });
  const log = make("ol", { class: "walks", "aria-label": "The log" });
  const choice = make("label", {}, toggle, " choose only what is in the log (the constraint)");
  box.replaceChildren(grid, arrows, make("p", {}, choice), verdict, commands, log);

  function show() {
    const seen = seenPairs(), q = learn(seen);
    const choices = squares.map((_, s) => best(q, seen, s));
    const believes = Math.max(...choices[world.start].map((a) => q[world.start][a]));
    const gets = truth(choices)[world.start];
    squares.forEach((square, s) => {
      const letter = world.letters[s] === "." ? "" : world.letters[s];
      const tried = seen[s].some(Boolean);
      const chosen = world.terminal[s] ? "" : choices[s].map((a) => ARROWS[a]).join("");
      square.className = [world.letters[s] === "C" ? "cliff" : "", s === here() ? "here" : "", tried ? "tried" : ""].join(" ");
      square.replaceChildren(make("span", { class: "letter" }, letter), make("span", { class: "chosen" }, tried ? chosen : ""));
      const says = choices[s].map((a) => NAMES[a]).join(" or ");
      square.setAttribute("aria-label", `Square ${s}${letter ? " " + letter : ""}${tried && chosen ? ": goes " + says : ""}`);
    });
    box.dataset.believes = believes.toFixed(4);
    box.dataset.gets = gets.toFixed(4);
    verdict.replaceChildren("The learner believes ", make("b", {}, believes.toFixed(1)), " and gets ",
      make("b", {}, gets.toFixed(1)), Math.abs(believes - gets) < 0.05 ? ": what it believes is true." : ".");
    const words = (walk) => walk.map((a) => ARROWS[a]).join(" ");
    log.replaceChildren(...walks.map((walk) => make("li", {}, words(walk))));
    if (current.length) log.append(make("li", { class: "under-way" }, words(current), " … (under way)"));
  }
  show();
})();
