// The page: gives the worker photos and settings, and shows what comes back.

const PICTURES = { photo: "Photo", bicubic: "Bicubic", learned: "Learned", reconstructed: "Reconstructed" };
const SHOWN = 3; // classes of a verdict

const at = (id) => document.getElementById(id);
const settings = at("settings");
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
let job = 0;
let began = 0;
let opened = false; // whether the worker has a photo
let opening = false; // then settings wait for it
let failed = ""; // why the worker does not work

function make(tag, content = [], attributes = {}) {
  const element = document.createElement(tag);
  element.append(...[content].flat());
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const panes = Object.fromEntries(
  Object.entries(PICTURES).map(([name, title]) => {
    const pane = {
      canvas: make("canvas", [], { role: "img", class: name === "photo" ? "" : "squares" }),
      size: make("p", [], { class: "soft" }),
      verdict: make("p", [], { class: "verdict" }),
      ranking: make("ol"),
    };
    const { canvas, size, verdict, ranking } = pane;
    const parts = [make("h3", title), canvas, size, verdict, ranking];
    at("panes").append(make("figure", parts, { "data-name": name }));
    for (const id of ["left", "right"]) at(id).append(make("option", title, { value: name }));
    return [name, pane];
  }),
);
at("left").value = "bicubic";
at("right").value = "reconstructed";

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").className = isError ? "error" : "";
}

function open(file) {
  if (failed) {
    say(failed, true);
    return;
  }
  opening = true;
  say("Reading the photo …");
  worker.postMessage({ job: ++job, kind: "open", file });
}

function compute() {
  const factor = Number(settings.elements.factor.value);
  const { size } = settings.elements;
  size.options[size.options.length - 1].textContent = `photo ÷ ${factor}`;
  if (!opened || opening) return;
  began = performance.now();
  say("Making the thumbnails … (the first time, some 24 MB of networks are fetched)");
  for (const [name, { verdict, ranking }] of Object.entries(panes)) {
    verdict.textContent = "";
    ranking.replaceChildren();
    if (name !== "photo") clear(name);
  }
  const asked = size.value === "factor" ? "factor" : Number(size.value);
  worker.postMessage({ job: ++job, kind: "make", factor, size: asked });
}

function clear(name) {
  const { canvas, size } = panes[name];
  canvas.width = panes.photo.canvas.width;
  canvas.height = panes.photo.canvas.height;
  size.textContent = "";
  compare(name);
}

function show(name, { pixels, width, height }, words) {
  const { canvas, size } = panes[name];
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  canvas.setAttribute("aria-label", `${PICTURES[name]}: ${words}`);
  size.textContent = words;
  compare(name);
}

/** Draw the comparison again, where a picture of this name is in it. */
function compare(name) {
  for (const [side, id] of [["left", "over"], ["right", "under"]]) {
    const chosen = at(side).value;
    if (name !== undefined && name !== chosen) continue;
    const { canvas } = panes[chosen];
    const copy = at(id);
    copy.width = canvas.width;
    copy.height = canvas.height;
    copy.className = canvas.className;
    if (canvas.width && canvas.height) copy.getContext("2d").drawImage(canvas, 0, 0);
    copy.setAttribute("aria-label", `${side}: ${PICTURES[chosen]}`);
  }
}

function judge(name, { verdict, refused }) {
  const pane = panes[name];
  if (refused) {
    pane.verdict.textContent = refused;
    return;
  }
  const percent = (share) => (share < 0.005 ? "< 1" : Math.round(100 * share)) + "\u00a0%";
  pane.verdict.textContent = verdict.label ?? "none of its classes";
  pane.ranking.replaceChildren(
    ...verdict.probabilities.slice(0, SHOWN).map(([label, share]) => {
      const row = make("li", [make("span", label), make("span", percent(share))]);
      row.style.setProperty("--share", `${Math.round(100 * share)}%`);
      return row;
    }),
  );
}

const ANSWERS = {
  photo({ width, height, preview }) {
    opened = true;
    opening = false;
    at("results").hidden = false;
    at("stage").style.aspectRatio = `${width} / ${height}`;
    at("compare").style.maxWidth = `max(15rem, 75vh * ${width / height})`;
    show("photo", preview, `${width} × ${height} px`);
    compute();
  },
  picture(message) {
    const { name, width, height, note } = message;
    show(name, message, `${width} × ${height} px, ${note}`);
  },
  "left out": ({ name, note }) => (panes[name].size.textContent = note),
  reading: () => say("The classifier reads them …"),
  verdict: (message) => judge(message.name, message),
  done: () => say(`Done in ${((performance.now() - began) / 1000).toFixed(1)} s, on this device.`),
  error({ message }) {
    opening = false; // what was there before stays
    say(message, true);
  },
};

worker.onmessage = ({ data }) => {
  if (data.job === job) ANSWERS[data.kind](data);
};
worker.onerror = (event) => {
  event.preventDefault();
  failed =
    "The part of this page that computes failed: a file of it is missing, the browser is older than " +
    "2023, or its memory is full. Build and serve the demo as its README.md says, use a newer " +
    "browser, or load the page again with a smaller photo.";
  say(failed, true);
};

at("file").addEventListener("change", ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = ""; // so that the same photo can be chosen again
});
at("drawn").addEventListener("click", () => open(null));
settings.addEventListener("change", compute);
settings.addEventListener("submit", (event) => event.preventDefault());
for (const id of ["left", "right"]) at(id).addEventListener("change", () => compare());

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) open(file);
  else say("What was dropped is no file: drop a photo from a folder.", true);
});

function divide(percent) {
  at("slider").value = percent;
  at("stage").style.setProperty("--at", `${at("slider").value}%`);
}
at("slider").addEventListener("input", ({ target }) => divide(target.value));
for (const type of ["pointerdown", "pointermove"]) {
  at("stage").addEventListener(type, (event) => {
    if (event.buttons !== 1) return;
    const { left, width } = at("stage").getBoundingClientRect();
    divide((100 * (event.clientX - left)) / width);
  });
}
say("");
compute();
