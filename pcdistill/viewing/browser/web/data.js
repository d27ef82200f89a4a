// The clouds of a page: a description in JSON and one gzipped block of bytes.

const TYPES = { u1: Uint8Array, u2: Uint16Array };

/** Bytes of base64 text, unpacked. */
export async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/**
 * A set to be shown.
 *
 * `way` and `real` are normalised integers: a coordinate is (value / full - 0.5) * span, in the frame of its cloud,
 * whose middle is the origin; z is up.
 */
export class Clouds {
  constructor(meta, buffer) {
    Object.assign(this, meta);
    this.arrays = {};
    for (const [name, { type, offset, length }] of Object.entries(meta.arrays)) {
      this.arrays[name] = new TYPES[type](buffer, offset, length);
    }
    this.count = meta.labels.length;
    this.frames = meta.steps.length;
    this.size = this.count * this.points; // of a frame
    this.full = this.arrays.way instanceof Uint8Array ? 255 : 65535;
    this.packed = new Map();
  }

  get hasReal() {
    return "real" in this.arrays;
  }

  /** Integer coordinates of frame `frame`, or of the nearest real clouds. */
  coordinates(frame) {
    if (frame === "real") return this.arrays.real;
    return this.arrays.way.subarray(frame * this.size * 3, (frame + 1) * this.size * 3);
  }

  /** Coordinates and place in the palette of every point of a frame: four integers each, as the shader takes them. */
  points4(colouring, frame) {
    const key = `${colouring} ${frame}`;
    let found = this.packed.get(key);
    if (!found) {
      // Few are kept: one frame of a large set is more than a megabyte.
      if (this.packed.size > 30) this.packed.clear();
      const places = this.coordinates(frame);
      const shades = this.#shades(colouring, frame);
      found = new places.constructor(4 * this.size);
      for (let i = 0; i < this.size; i++) {
        found[4 * i] = places[3 * i];
        found[4 * i + 1] = places[3 * i + 1];
        found[4 * i + 2] = places[3 * i + 2];
        found[4 * i + 3] = (shades[i] * this.full) / 255;
      }
      this.packed.set(key, found);
    }
    return found;
  }

  #shades(colouring, frame) {
    if (colouring === "height") return this.#height(this.coordinates(frame));
    if (frame === "real") return this.arrays[`real:${colouring}`] ?? new Uint8Array(this.size).fill(this.grey);
    if (colouring === "moved") return this.#moved(this.coordinates(frame));
    return this.arrays[`shade:${colouring}`].subarray(frame * this.size, (frame + 1) * this.size);
  }

  #height(places) {
    const found = new Uint8Array(this.size);
    for (let cloud = 0; cloud < this.count; cloud++) {
      const first = cloud * this.points;
      let low = Infinity;
      let high = -Infinity;
      for (let i = first; i < first + this.points; i++) {
        const z = places[3 * i + 2];
        if (z < low) low = z;
        if (z > high) high = z;
      }
      const scale = (this.grey - 1) / Math.max(high - low, 1);
      for (let i = first; i < first + this.points; i++) found[i] = (places[3 * i + 2] - low) * scale;
    }
    return found;
  }

  #moved(places) {
    const start = this.coordinates(0);
    const found = new Uint8Array(this.size);
    const scale = ((this.grey - 1) * this.span) / this.full / this.moved;
    for (let i = 0; i < this.size; i++) {
      const x = places[3 * i] - start[3 * i];
      const y = places[3 * i + 1] - start[3 * i + 1];
      const z = places[3 * i + 2] - start[3 * i + 2];
      found[i] = Math.min(this.grey - 1, scale * Math.sqrt(x * x + y * y + z * z));
    }
    return found;
  }

  /** "chair, cloud 3 of 64". */
  nameOf(cloud) {
    const label = this.labels[cloud];
    return `${this.classes[label]}, cloud ${this.places[cloud] + 1} of ${this.rows[label].length}`;
  }
}
