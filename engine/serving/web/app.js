// The page: a photo finds its recipe, or ingredients find their photo.

import { ApiError, call } from "./api.js";
import { addLooks, cardOf, make, markSeen } from "./cards.js";
import { Chips } from "./chips.js";
import { HeatMap } from "./heat.js";
import { queryOf } from "./recipe_text.js";

const LARGE = 1_500_000; // bytes of a photo that is scaled down before it is sent
const SCALED = 1024; // pixels of its longer side then: the model sees a few hundred
const AT_ONCE = 10; // answers

const $ = (id) => document.getElementById(id);
const page = $("page");

let info = { indexes: [] };
let mode = "photo";
let photo = null; // what is asked about, as a Blob; kept to ask again with other filters
let showable = true; // whether the browser can show it
let running = null; // AbortController of the request that runs
let explained = new Map(); // by card

const heat = new HeatMap(
  { frame: $("frame"), image: $("photo"), canvas: $("heat"), cell: $("cell") }, showPlace);
const having = new Chips($("with"), "Ingredient that the dish must have", askAgain);
const without = new Chips($("without"), "Ingredient that the dish must not have", askAgain);

start();

async function start() {
  for (const kind of ["photo", "text"]) {
    $(`mode-${kind}`).addEventListener("click", () => setMode(kind));
  }
  for (const id of ["file", "camera"]) {
    $(id).addEventListener("change", (event) => {
      if (event.target.files.length) takePhoto(event.target.files[0]);
      event.target.value = ""; // so that the same photo may be chosen again
    });
  }
  $("ask-text").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  $("photo").addEventListener("error", () => (showable = false));
  acceptDrops();
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file && mode === "photo") takePhoto(file);
  });
  try {
    info = await (await call("/info")).json();
  } catch (error) {
    return showProblem(error);
  }
  const kinds = { photo: indexOf("recipes"), text: indexOf("images") };
  for (const [kind, index] of Object.entries(kinds)) {
    $(`mode-${kind}`).disabled = !index;
    if (!index) {
      const needs = kind === "photo" ? "recipes" : "photos";
      $(`mode-${kind}`).title = `This service has no index of ${needs}.`;
    }
  }
  $("served").textContent = info.indexes
    .map(({ of, items }) => `${items.toLocaleString("en")} ${of === "images" ? "photos" : of}`)
    .join(" and ") + " can be found here.";
  setMode(kinds.photo ? "photo" : "text");
}

function indexOf(of) {
  return info.indexes.find((index) => index.of === of);
}

function setMode(next) {
  mode = next;
  for (const kind of ["photo", "text"]) {
    $(`mode-${kind}`).setAttribute("aria-pressed", String(kind === next));
    $(`ask-${kind}`).hidden = kind !== next;
  }
  clearAnswers();
  if (next === "photo" && photo) ask();
}

function acceptDrops() {
  // A photo that misses the field must not replace the page.
  for (const kind of ["dragover", "drop"]) {
    window.addEventListener(kind, (event) => event.preventDefault());
  }
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    $("drop").classList.toggle("over", depth > 0);
  };
  window.addEventListener("dragenter", () => over(1));
  window.addEventListener("dragleave", () => over(-1));
  window.addEventListener("drop", (event) => {
    over(-depth);
    const file = event.dataTransfer?.files[0];
    if (file && indexOf("recipes")) {
      if (mode !== "photo") setMode("photo");
      takePhoto(file);
    }
  });
}

async function takePhoto(file) {
  showable = true;
  photo = await scaled(file);
  if ($("photo").src.startsWith("blob:")) URL.revokeObjectURL($("photo").src);
  heat.show(URL.createObjectURL(photo));
  $("drop").hidden = true;
  $("view").hidden = false;
  await ask();
}

/** A large photo made smaller, if the browser can read it; others as they are. */
async function scaled(file) {
  if (file.size < LARGE) return file;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SCALED / Math.max(bitmap.width, bitmap.height));
    const canvas = new OffscreenCanvas(
      Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  } catch {
    return file;
  }
}

function askAgain() {
  if (page.classList.contains("answered") || !$("problem").hidden) ask();
}

async function ask({ exact = false } = {}) {
  const gallery = mode === "text";
  const index = indexOf(gallery ? "images" : "recipes");
  const query = gallery ? queryOf($("text").value) : null;
  if (gallery ? !query : !photo) return;
  running?.abort();
  const { signal } = (running = new AbortController());
  setStatus(exact ? "Comparing everything…" : "Looking…", true);
  $("problem").hidden = true;
  try {
    const answer = await search(index, query, exact, signal);
    showAnswer(answer, index, gallery);
    if (!gallery && answer.hits.length) await explain(index, answer, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    clearAnswers();
    showProblem(error);
  }
}

async function search(index, query, exact, signal) {
  const options = {
    k: AT_ONCE, index: index.name, exact, with: having.names, without: without.names,
  };
  let request;
  if (query) {
    const body = JSON.stringify({ ...options, ...query });
    request = { body, headers: { "content-type": "application/json" } };
  } else {
    const body = new FormData();
    body.append("photo", photo, "photo");
    for (const [name, value] of Object.entries(options)) {
      for (const one of [value].flat()) body.append(name, String(one));
    }
    request = { body };
  }
  return (await call("/search", { method: "POST", signal, ...request })).json();
}

async function explain(index, answer, signal) {
  if (!index.has_local) {
    return caption("This model compares whole dishes, so there are no places to point at.");
  }
  const body = new FormData();
  body.append("photo", photo, "photo");
  body.append("index", index.name);
  for (const hit of answer.hits) body.append("ids", hit.id);
  let explanation;
  try {
    explanation = await (await call("/explain", { method: "POST", body, signal })).json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return caption(`Where the model looked cannot be shown: ${error.message}`);
  }
  heat.explain(explanation, showable);
  const cards = [...$("cards").children];
  explanation.items.forEach((item, i) => {
    explained.set(cards[i], item);
    addLooks(cards[i], item);
  });
  caption(explanation.items.every((item) => item.flat)
    ? "This model looks at the whole photo alike: no ingredient has a place of its own."
    : "Point at an ingredient to see where the model looked for it, or at a place in the photo.");
}

function showAnswer(answer, index, gallery) {
  explained = new Map();
  heat.clear();
  caption("");
  page.classList.add("answered");
  const cards = answer.hits.map((hit) => cardOf(hit, { index, gallery, onIngredient }));
  $("cards").replaceChildren(...cards);
  $("cards").classList.toggle("gallery", gallery);
  $("about").hidden = !cards.length;
  showSummary(answer, gallery);
  const what = gallery ? ["photo", "photos"] : ["recipe", "recipes"];
  setStatus(cards.length ? `${cards.length} ${what[cards.length === 1 ? 0 : 1]}` : "Nothing found");
}

function showSummary(answer, gallery) {
  const what = gallery ? "photos" : "recipes";
  const all = `${answer.searched.toLocaleString("en")} ${what}`;
  const parts = [];
  if (!answer.hits.length) {
    const filtered = having.names.length || without.names.length;
    parts.push(make("p", "", filtered
      ? `None of the ${what} here fits what you ask for. Take an ingredient away.`
      : `There are no ${what} here yet.`));
  } else {
    if (answer.sureness) parts.push(...surenessWords(answer.sureness, gallery, all));
    parts.push(certificate(answer, all));
  }
  parts.push(...answer.notes.map((line) => make("p", "hint", line)));
  $("summary").replaceChildren(...parts);
  $("summary").hidden = false;
}

/** How sure the answer is, as the model's calibration says it: two lines for a cook. */
function surenessWords({ first, first_ten: ten, absent, word }, gallery, all) {
  const one = gallery ? "photo" : "recipe";
  const headings = {
    sure: `This should be the ${one}.`,
    perhaps: `Perhaps it is one of these.`,
    "a guess": `This is no more than a guess.`,
  };
  const lost = absent > 0.5 ? ` But it may well not be among the ${all} here.` : "";
  const chances = `If its ${one} is here, it comes first in ${outOfTen(first)} cases, and is `
    + `among these ten in ${outOfTen(ten)}.`;
  return [make("p", "lead", (headings[word] ?? "") + lost), make("p", "hint", chances)];
}

function outOfTen(chance) {
  if (chance < 0.05) return "fewer than 1 of 20";
  return chance > 0.95 ? "more than 19 of 20" : `about ${Math.max(1, Math.round(10 * chance))} of 10`;
}

/** What is proved of the list, in words that do not sound as if the dish itself were proved. */
function certificate(answer, all) {
  const line = make("p", "hint");
  if (answer.certified >= answer.hits.length) {
    line.append(`Checked against all ${all}: no other fits better than these.`);
    return line;
  }
  line.append(answer.certified
    ? `Picked from ${all}. The first ${answer.certified === 1 ? "one is" : `${answer.certified} are`
    } checked against all of them. `
    : `Picked from the likeliest ${answer.scored.toLocaleString("en")} of ${all}. `);
  const button = make("button", "link", "Check the whole list");
  button.type = "button";
  button.addEventListener("click", () => ask({ exact: true }));
  line.append(button);
  return line;
}

function onIngredient(button, ingredient) {
  document.querySelectorAll(".ingredients .on").forEach((other) => other.classList.remove("on"));
  button.classList.add("on");
  heat.light(ingredient.shades);
  caption(ingredient.shades.some((shade) => shade > 0)
    ? `Lit: where the model looked for “${ingredient.text}”.`
    : `For “${ingredient.text}” the model looked everywhere alike.`);
}

function showPlace(region) {
  if (region !== null) {
    heat.clear();
    document.querySelectorAll(".ingredients .on").forEach((other) => other.classList.remove("on"));
  }
  let best = null;
  for (const [card, item] of explained) {
    const names = markSeen(card, item, region);
    best ??= names;
  }
  if (region === null || best === null) return;
  caption(best.length
    ? `Here the model thinks of: ${best.slice(0, 3).join("; ")}. In green below: for every recipe.`
    : "At this place the model thinks of no ingredient of the first recipe in particular.");
}

function clearAnswers() {
  page.classList.remove("answered");
  $("cards").replaceChildren();
  $("summary").hidden = $("about").hidden = true;
  $("problem").hidden = true;
  explained = new Map();
  setStatus("");
  caption("");
}

function showProblem(error) {
  const known = error instanceof ApiError;
  $("problem").replaceChildren(
    make("h2", "", known ? error.heading : "Something went wrong"),
    make("p", "", error.message),
  );
  $("problem").hidden = false;
  setStatus("");
}

function caption(text) {
  $("caption").textContent = text;
}

function setStatus(text, busy = false) {
  $("status").textContent = text;
  $("status").classList.toggle("busy", busy);
}
