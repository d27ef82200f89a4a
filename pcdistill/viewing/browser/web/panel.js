// The numbers beside the clouds.

const SVG = "http://www.w3.org/2000/svg";

function element(name, text, parent, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

/** A list of facts: [name, text]. */
export function facts(list, entries) {
  list.replaceChildren();
  for (const [name, text] of entries) {
    const pair = element("div", undefined, list);
    element("dt", name, pair);
    element("dd", text, pair);
  }
}

/** Parts, each behind its colour: [name, place in the palette]. */
export function parts(list, entries, palette) {
  list.replaceChildren();
  for (const [name, place] of entries) {
    const item = element("li", name, list);
    item.style.setProperty("--part", `rgb(${palette.slice(3 * place, 3 * place + 3)})`);
  }
}

/** The table of accuracies. */
export function scores(table, { head, rows, caption }) {
  table.replaceChildren();
  element("caption", caption, table);
  const line = element("tr", undefined, element("thead", undefined, table));
  for (const text of head) element("th", text, line, { scope: "col" });
  const body = element("tbody", undefined, table);
  for (const row of rows) {
    const tr = element("tr", undefined, body);
    row.forEach((text, i) => (i ? element("td", text, tr) : element("th", text, tr, { scope: "row" })));
  }
}

/** The loss over the steps as a curve. Returns its caption, and what moves its mark to a step. */
export function loss(svg, losses, [first, last]) {
  const [width, height, left, bottom] = [320, 130, 44, 20];
  const positive = losses.every((value) => value > 0);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const log = positive && high / low > 10;
  const scale = log ? Math.log : (value) => value;
  const [a, b] = [scale(low), scale(high)];
  const x = (at) => left + ((width - left - 8) * (at - first)) / Math.max(last - first, 1);
  const y = (value) => 8 + ((height - bottom - 8) * (b - scale(value))) / (b - a || 1);
  const put = (name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    svg.append(made);
    return made;
  };
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const number = (value) => value.toPrecision(3).replace(/\.?0+$/, "").replace(/\.?0+e/, "e");
  put("title", {}, `Loss from ${number(losses[0])} to ${number(losses.at(-1))} in steps ${first + 1} to ${last}`);
  const every = (last - first - 1) / Math.max(losses.length - 1, 1); // losses may be some of many
  put("line", { x1: left, x2: width - 8, y1: height - bottom, y2: height - bottom, class: "axis" });
  for (const value of [high, low]) put("text", { x: left - 6, y: y(value) + 4, class: "end" }, number(value));
  put("text", { x: left, y: height - 5 }, String(first));
  put("text", { x: width - 8, y: height - 5, class: "end" }, `step ${last}`);
  put("polyline", { points: losses.map((value, i) => `${x(first + 1 + i * every).toFixed(1)},${y(value).toFixed(1)}`).join(" ") });
  const line = put("line", { y1: 4, y2: height - bottom, class: "mark" });
  const mark = (step) => {
    line.setAttribute("visibility", step < first ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) line.setAttribute(end, x(step));
  };
  return { caption: log ? "loss (log scale)" : "loss", mark };
}
