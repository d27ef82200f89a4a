// The wall: a section for every class with a button for every cloud, which the canvas draws the clouds behind.

/** Build the sections; `opened(cloud)` is called when a button is pressed. Returns buttons and sections. */
export function build(parent, clouds, opened) {
  const buttons = new Array(clouds.count);
  const sections = clouds.rows.map((members, label) => {
    const section = document.createElement("section");
    section.dataset.label = label;
    const title = document.createElement("h2");
    title.id = `class-${label}`;
    title.textContent = clouds.classes[label];
    const count = document.createElement("span");
    count.className = "count";
    count.textContent = members.length === 1 ? "1 cloud" : `${members.length} clouds`;
    title.append(" ", count);
    section.setAttribute("aria-labelledby", title.id);
    const cells = document.createElement("div");
    cells.className = "cells";
    for (const cloud of members) {
      const button = document.createElement("button");
      button.className = "cell";
      button.type = "button";
      button.dataset.cloud = cloud;
      button.tabIndex = -1; // one of all is reached by Tab, the others by arrows
      button.setAttribute("aria-label", clouds.nameOf(cloud));
      buttons[cloud] = button;
      cells.append(button);
    }
    section.append(title, cells);
    section.hidden = members.length === 0;
    return section;
  });
  parent.replaceChildren(...sections);
  parent.onclick = (event) => {
    const cell = event.target.closest(".cell");
    if (cell) opened(Number(cell.dataset.cloud));
  };
  return { buttons, sections };
}

/** Where cells are, in the pixels of the scrolled content: read once, and again when the layout changes. */
export function measure(wall, { buttons, sections }, clouds) {
  const box = wall.getBoundingClientRect();
  const places = [];
  for (const section of sections) {
    if (section.hidden) continue;
    for (const cloud of clouds.rows[Number(section.dataset.label)]) {
      const { left, top, width } = buttons[cloud].getBoundingClientRect();
      places.push([cloud, left - box.left + width / 2, top - box.top + wall.scrollTop + width / 2, width / 2]);
    }
  }
  return places;
}

/** The cell that an arrow key leads to from `cloud`. */
export function neighbour(places, cloud, key) {
  const at = places.findIndex((place) => place[0] === cloud);
  if (at < 0) return places[0]?.[0];
  if (key === "ArrowRight") return places[Math.min(at + 1, places.length - 1)][0];
  if (key === "ArrowLeft") return places[Math.max(at - 1, 0)][0];
  if (key === "Home") return places[0][0];
  if (key === "End") return places[places.length - 1][0];
  const [, x, y, half] = places[at];
  const down = key === "ArrowDown" ? 1 : -1;
  let best = cloud;
  let least = Infinity;
  for (const [other, ox, oy] of places) {
    const rows = (oy - y) * down;
    if (rows < half) continue; // the same line or behind
    const cost = rows * 4 + Math.abs(ox - x);
    if (cost < least) [best, least] = [other, cost];
  }
  return best;
}
