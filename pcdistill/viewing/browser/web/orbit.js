// The camera that all clouds share: turned by dragging, by touch and by keys.

const LOWEST = -Math.PI / 2;
const HIGHEST = Math.PI / 2;

export class Orbit {
  constructor(azimuth, elevation) {
    this.home = [azimuth, elevation];
    this.reset();
  }

  reset() {
    [this.azimuth, this.elevation] = this.home;
    this.zoom = 1;
  }

  by(azimuth, elevation) {
    this.azimuth += azimuth;
    this.elevation = Math.min(HIGHEST, Math.max(LOWEST, this.elevation + elevation));
  }

  closer(factor) {
    this.zoom = Math.min(8, Math.max(0.5, this.zoom * factor));
  }

  /** Row by row, the matrix that takes world vectors (z up) to the view's: x right, y up, z to the eye. */
  get matrix() {
    const [c, s] = [Math.cos(this.azimuth), Math.sin(this.azimuth)];
    const [ce, se] = [Math.cos(this.elevation), Math.sin(this.elevation)];
    return [-s, c, 0, -se * c, -se * s, ce, ce * c, ce * s, se];
  }
}

/**
 * Let a pointer on `element` turn the camera, and two fingers or the wheel (where `zooms()`) come closer.
 * A drag is no click: the click that ends one is held back.
 */
export function dragging(element, orbit, zooms, changed) {
  const held = new Map();
  let moved = 0;
  let apart = 0;
  const distance = () => {
    const [a, b] = [...held.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = 0;
    if (held.size === 2) apart = distance();
  });
  window.addEventListener("pointermove", (event) => {
    const last = held.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved += Math.abs(dx) + Math.abs(dy);
    if (held.size === 2 && zooms()) {
      const now = distance();
      orbit.closer(now / Math.max(apart, 1));
      apart = now;
    } else if (moved > 4) {
      // A finger that moves up and down scrolls the wall.
      orbit.by(-dx * 0.01, event.pointerType === "touch" && !zooms() ? 0 : dy * 0.01);
    }
    changed();
  });
  const released = (event) => held.delete(event.pointerId);
  window.addEventListener("pointerup", released);
  window.addEventListener("pointercancel", released);
  element.addEventListener(
    "click",
    (event) => {
      if (moved > 4) {
        event.preventDefault();
        event.stopPropagation();
      }
      moved = 0;
    },
    true,
  );
  element.addEventListener(
    "wheel",
    (event) => {
      if (!zooms() && !event.ctrlKey) return;
      event.preventDefault();
      orbit.closer(Math.exp(-event.deltaY * 0.0015));
      changed();
    },
    { passive: false },
  );
}
