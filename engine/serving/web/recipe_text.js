// What was typed or pasted, as a query: ingredients alone, or a recipe with its steps.

const INGREDIENTS = /^(ingredients|you need|you will need)\b[\s:.]*$/i;
const STEPS = /^(instructions|method|directions|steps|preparation)\b[\s:.]*$/i;
const BULLET = /^\s*(?:[-*•–]|\d+[.)])\s+/;
const LONG = 90; // characters of a line that is a step rather than an ingredient

/** Return {ingredients} or {recipe} of a text; null of an empty one. */
export function queryOf(text) {
  const pasted = text.trim();
  if (!pasted) return null;
  if (pasted.startsWith("{")) {
    try {
      return { recipe: JSON.parse(pasted) };
    } catch {
      // Not JSON after all.
    }
  }
  const lines = pasted.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);
  if (lines.length === 1) return { ingredients: split(lines[0]) };
  const headings = lines.findIndex((line) => INGREDIENTS.test(line) || STEPS.test(line));
  const recipe = { title: "", ingredients: [], instructions: [] };
  let part = "ingredients";
  lines.forEach((line, i) => {
    if (INGREDIENTS.test(line)) part = "ingredients";
    else if (STEPS.test(line)) part = "instructions";
    // With headings, what stands above the first is the title; else long lines are steps.
    else if (i < headings) recipe.title ||= line;
    else if (part === "instructions" || line.length > LONG) {
      recipe.instructions.push(line.replace(BULLET, ""));
    } else recipe.ingredients.push(line.replace(BULLET, ""));
  });
  if (!recipe.title && !recipe.instructions.length) {
    return { ingredients: lines.map((line) => line.replace(BULLET, "").replaceAll(/[,;]/g, " ")) };
  }
  return { recipe };
}

function split(line) {
  return line.split(/[,;]/).map((name) => name.trim()).filter(Boolean);
}
