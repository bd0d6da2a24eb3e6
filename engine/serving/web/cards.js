// Answers as cards. Whatever recipes hold is set as text, never as markup.

import { photoAddress } from "./api.js";

/** Make an element: its class, its text or children. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** A card of one hit; `onIngredient(button, number)` is called when an ingredient is looked at. */
export function cardOf(hit, { index, gallery, onIngredient }) {
  const card = make("li", hit.rank === 1 && !gallery ? "card first" : "card");
  card.dataset.id = hit.id;
  const title = make("h2", "", make("span", "rank", `${hit.rank}.`), ` ${hit.title || hit.id}`);
  const body = make("div", "body", title, ...sourceOf(hit), fitOf(hit));
  card.append(body);
  if (index.photos) addPhoto(card, hit, index);
  const lines = make("ul", "ingredients");
  hit.ingredients.forEach((line) => lines.append(make("li", "", make("span", "", line))));
  card.append(lines);
  if (hit.instructions.length) {
    const steps = make("ol");
    steps.append(...hit.instructions.map((step) => make("li", "", step)));
    card.append(make("details", "", make("summary", "", "How it is made"), steps));
  }
  card.onIngredient = onIngredient;
  return card;
}

/** Make a card's ingredients buttons that show where the model looked. */
export function addLooks(card, item) {
  // The model reads some of the lines, in their order; "(end)" is its own mark.
  let place = 0;
  card.looks = [];
  for (const entry of card.querySelectorAll(".ingredients li")) {
    const text = entry.textContent;
    const number = item.ingredients.findIndex((one, i) => i >= place && one.text === text);
    if (number < 0) continue;
    place = number + 1;
    const button = make("button", "", text);
    button.type = "button";
    const show = () => card.onIngredient(button, item.ingredients[number]);
    for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, show);
    entry.replaceChildren(button);
    card.looks.push({ button, number });
  }
  if (item.flat) {
    const text = "For this recipe the model looks at the whole photo alike: nothing stands out.";
    card.querySelector(".ingredients").after(make("p", "remark", text));
  }
}

/** Mark the ingredients that a region of the photo looks at; null marks none. */
export function markSeen(card, item, region) {
  const names = [];
  for (const { button, number } of card.looks ?? []) {
    const weights = region === null ? null : item.region_weights[region];
    // 1 is an even share: what gets a fifth more stands out, twice as much a lot.
    const share = weights ? weights[number] * weights.length : 0;
    button.classList.toggle("seen", share > 1.2);
    button.classList.toggle("much", share > 2);
    if (share > 1.2) names.push([share, button.textContent]);
  }
  return names.sort((a, b) => b[0] - a[0]).map(([, name]) => name);
}

function sourceOf(hit) {
  let address;
  try {
    address = new URL(hit.url);
  } catch {
    return [];
  }
  if (!["http:", "https:"].includes(address.protocol)) return [];
  const link = make("a", "", `Recipe at ${address.hostname.replace(/^www\./, "")}`);
  link.href = address.href;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
  return [make("p", "source", link)];
}

function fitOf(hit) {
  const row = make("p", "fit",
    make("span", "", meter(hit.score), "fit ", make("b", "", number(hit.score))));
  if (hit.local_score !== null) {
    row.append(make("span", "",
      `whole dish ${number(hit.global_score)} · parts ${number(hit.local_score)}`));
  }
  return row;
}

function meter(value) {
  const bar = make("meter");
  bar.min = 0;
  bar.max = 1;
  bar.value = Math.max(0, value);
  bar.setAttribute("aria-hidden", "true");
  return bar;
}

const number = (value) => value.toFixed(2);

async function addPhoto(card, hit, index) {
  const image = make("img", "thumb");
  image.alt = "";
  image.loading = "lazy";
  card.classList.add("pictured");
  card.prepend(image);
  const remove = () => {
    image.remove();
    card.classList.remove("pictured");
  };
  image.addEventListener("error", remove);
  try {
    image.src = await photoAddress(hit.id, index.name);
  } catch {
    remove();
  }
}
