// Draws the OpenAPI document: addresses, what they take, examples to paste into a terminal.

import { call } from "./api.js";
import { make } from "./cards.js";

const place = document.getElementById("docs");
const description = await (await call("/openapi.json")).json();
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    place.append(drawn(path, method, operation));
  }
}

function drawn(path, method, operation) {
  const section = make("section", "operation",
    make("h2", "", make("span", "method", method.toUpperCase()), path),
    make("p", "", operation.description ?? operation.summary ?? ""));
  const rows = (operation.parameters ?? []).map((parameter) =>
    make("tr", "", make("td", "", parameter.name),
      make("td", "", parameter.description || parameter.schema?.type || "")));
  if (rows.length) {
    section.append(make("details", "", make("summary", "", "Options"),
      make("table", "", make("tbody", "", ...rows))));
  }
  section.append(...examplesOf(path, method, operation));
  const answers = Object.entries(operation.responses).map(([status, response]) =>
    make("tr", "", make("td", "", status), make("td", "", response.description)));
  section.append(make("details", "", make("summary", "", "Answers"),
    make("table", "", make("tbody", "", ...answers))));
  return section;
}

function examplesOf(path, method, operation) {
  const content = operation.requestBody?.content ?? {};
  const address = `${location.origin}${path}`;
  const lines = [];
  if (content["multipart/form-data"]) {
    const needed = content["multipart/form-data"].schema.required ?? [];
    const more = needed.filter((name) => name !== "photo").map((name) => ` -F ${name}=...`);
    lines.push(`curl -F photo=@photo.jpg${more.join("")} ${address}`);
  }
  for (const { value } of Object.values(content["application/json"]?.examples ?? {})) {
    const body = JSON.stringify(value).replaceAll("'", "’");
    lines.push(`curl --json '${body}' ${address}`);
  }
  if (!lines.length) lines.push(`curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} ${address}`);
  return lines.map((line) => make("pre", "", line));
}
