/* What the pages do beyond being read. Without it everything can still be read, and films have the browser's controls. */
"use strict";

function element(name, attributes, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

/* A link to a name that is folded away opens what hides it */
function openWhatIsHidden() {
  const id = decodeURIComponent(location.hash.slice(1));
  const target = id && document.getElementById(id);
  if (!target) return;
  let folded = target.closest("details:not([open])");
  if (!folded) return;
  for (; folded; folded = folded.parentElement.closest("details:not([open])")) folded.open = true;
  target.scrollIntoView();
}

/* Names for buttons that have none, and a place in the order of tabs for what can be scrolled */
function nameButtons() {
  for (const button of document.querySelectorAll("button.copybtn")) {
    button.setAttribute("aria-label", "Copy this code");
  }
  for (const caption of document.querySelectorAll(".sidebar-tree .caption[role=heading]")) {
    caption.setAttribute("aria-level", "2");
  }
}

function markScrollers() {
  for (const box of document.querySelectorAll(".math-wrapper, .output, .table-wrapper, .highlight pre")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("scrolls", scrolls);
    if (scrolls) box.setAttribute("tabindex", "0");
    else box.removeAttribute("tabindex");
  }
}

/* A wide formula becomes smaller, down to three quarters; below that it can be scrolled */
function fitFormulas() {
  for (const wrapper of document.querySelectorAll(".math-wrapper")) {
    wrapper.style.fontSize = "";
    const excess = wrapper.scrollWidth / wrapper.clientWidth;
    if (excess > 1.01) wrapper.style.fontSize = `${Math.max(0.72, 0.98 / excess)}em`;
  }
  for (const formula of document.querySelectorAll("span.math mjx-container")) {
    formula.style.fontSize = "";
    const room = formula.closest("p, li, td, dd, blockquote, figcaption");
    const excess = room && room.clientWidth ? formula.getBoundingClientRect().width / room.clientWidth : 0;
    if (excess > 1) formula.style.fontSize = `${98 / excess}%`;
  }
}

/* A player below its films, so that nothing covers them: play, one step back and forth, speed */
const SPEEDS = { "half speed": 0.5, "as recorded": 1, "double speed": 2 };
const READABLE = 15;   // steps a second

function addPlayer(box) {
  const films = box.matches("video") ? [box] : [...box.querySelectorAll("video")];
  const fps = Number(films[0].dataset.fps);
  const normal = Math.min(1, READABLE / fps);
  const bar = element("div", { class: "player", role: "group", "aria-label": "Film" });
  const play = element("button", { type: "button" }, "Play");
  const back = element("button", { type: "button", "aria-label": "One step back" }, "‹");
  const forth = element("button", { type: "button", "aria-label": "One step forth" }, "›");
  const seek = element("input", { type: "range", min: "0", max: "1000", value: "0", "aria-label": "Place in the film" });
  const speed = element("select", { "aria-label": "Speed" });
  for (const [name, rate] of Object.entries(SPEEDS)) speed.append(new Option(name, rate, rate === 1, rate === 1));
  bar.append(play, back, forth, seek, speed);
  const longest = () => films.reduce((a, b) => (b.duration > a.duration ? b : a));
  const setRate = () => films.forEach((film) => { film.playbackRate = normal * Number(speed.value); });
  const place = (time) => films.forEach((film) => {
    film.currentTime = Math.min(Math.max(time, 0), Math.max(0, film.duration - 0.5 / fps));
  });
  const step = (by) => {
    films.forEach((film) => film.pause());
    const now = Math.round(longest().currentTime * fps);
    place((now + by + 0.01) / fps);
  };
  for (const film of films) {
    film.removeAttribute("controls");
    for (const name of ["onplay", "onpause", "onseeking", "onended"]) film.removeAttribute(name);
    film.loop = false;
    film.addEventListener("loadedmetadata", setRate);
  }
  play.addEventListener("click", () => {
    if (films.some((film) => !film.paused && !film.ended)) return films.forEach((film) => film.pause());
    if (longest().ended) place(0);
    setRate();
    films.forEach((film) => { if (!film.ended) film.play(); });
  });
  back.addEventListener("click", () => step(-1));
  forth.addEventListener("click", () => step(1));
  speed.addEventListener("change", setRate);
  seek.addEventListener("input", () => {
    films.forEach((film) => film.pause());
    place(longest().duration * seek.value / 1000);
  });
  const show = () => {
    play.textContent = films.some((film) => !film.paused && !film.ended) ? "Pause" : "Play";
    if (longest().duration) seek.value = 1000 * longest().currentTime / longest().duration;
  };
  for (const film of films) for (const event of ["play", "pause", "ended", "timeupdate"]) film.addEventListener(event, show);
  box.after(bar);
}

function addPlayers() {
  const together = [...document.querySelectorAll(".films")];
  together.filter((box) => box.querySelector("video[data-fps]")).forEach(addPlayer);
  for (const film of document.querySelectorAll("video[data-fps]")) {
    if (!film.closest(".films")) addPlayer(film);
  }
}

/* The film of the home page can be stopped, and does not begin where motion is not wanted */
function addPause() {
  const film = document.querySelector("video.narrow");
  if (!film) return;
  const button = element("button", { type: "button", class: "pause" });
  const show = () => { button.textContent = film.paused ? "Play" : "Pause"; };
  button.addEventListener("click", () => (film.paused ? film.play() : film.pause()));
  film.addEventListener("play", show);
  film.addEventListener("pause", show);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    film.removeAttribute("autoplay");
    film.pause();
  }
  film.after(button);
  show();
}

/* Excerpts of the search are prose: without code, formulas and outputs */
function searchProse() {
  if (typeof Search === "undefined" || !Search.htmlToText) return;
  const original = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const parsed = new DOMParser().parseFromString(html, "text/html");
    const hidden = anchor ? "" : ", details.fold";
    parsed.querySelectorAll(`pre, .math, .output, table, figure${hidden}`).forEach((part) => part.remove());
    return original(parsed.documentElement.outerHTML, anchor);
  };
}

addEventListener("hashchange", openWhatIsHidden);
addEventListener("resize", () => { fitFormulas(); markScrollers(); });
function begin() {
  nameButtons();
  addPlayers();
  addPause();
  searchProse();
  openWhatIsHidden();
  markScrollers();
}
if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
else begin();
addEventListener("load", () => {
  nameButtons();
  const math = window.MathJax && MathJax.startup && MathJax.startup.promise;
  Promise.resolve(math).then(() => { fitFormulas(); markScrollers(); openWhatIsHidden(); });
});
