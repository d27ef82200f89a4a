// Draws many small clouds with three.js in one call: every cloud has a cell of the canvas, all share one camera.

import {
  BufferAttribute,
  BufferGeometry,
  Camera,
  Color,
  ColorManagement,
  DataTexture,
  DynamicDrawUsage,
  FloatType,
  GLSL3,
  Matrix3,
  NearestFilter,
  Points,
  RawShaderMaterial,
  RGBAFormat,
  Scene,
  UnsignedByteType,
  Vector2,
  Vector3,
  WebGLRenderer,
} from "three";

ColorManagement.enabled = false; // colours are sRGB from end to end, as in the pictures

const WIDE = 512; // texels in a row of the cells' texture
const OVER = 1.15; // how far a cloud may reach, in cells

const VERTEX = `
precision highp float;
precision highp int;
uniform mat3 turn;
uniform float span, distance, focal, radius, time;
uniform vec2 canvas;
uniform sampler2D cells, colours;
in vec4 here, there; // coordinates, and place in the palette
in uint cloud;
out vec3 colour;
flat out vec3 middle;
flat out vec4 cell;
flat out float reach;
void main() {
  cell = texelFetch(cells, ivec2(int(cloud) % ${WIDE}, int(cloud) / ${WIDE}), 0);
  vec3 seen = turn * ((mix(here.xyz, there.xyz, time) - 0.5) * span);
  middle = seen;
  float size = focal * cell.z / (distance - seen.z);
  vec2 at = cell.xy + vec2(seen.x, -seen.y) * size;
  vec2 place = vec2(at.x / canvas.x * 2.0 - 1.0, 1.0 - at.y / canvas.y * 2.0);
  reach = radius;
  float share = mix(here.w, there.w, time);
  colour = texelFetch(colours, ivec2(int(share * 255.0 + 0.5), 0), 0).rgb;
  gl_Position = vec4(place, -seen.z / 8.0, 1.0);
  gl_PointSize = max(2.0 * radius * size, 1.5);
}`;

const FRAGMENT = `
precision highp float;
uniform vec3 paper, light, halfway;
uniform vec2 canvas;
uniform float haze, stretch;
in vec3 colour;
flat in vec3 middle;
flat in vec4 cell;
flat in float reach;
out vec4 drawn;
void main() {
  vec2 off = gl_PointCoord * 2.0 - 1.0;
  float inside = 1.0 - dot(off, off);
  if (inside <= 0.0) discard;
  vec2 pixel = vec2(gl_FragCoord.x, canvas.y - gl_FragCoord.y) - cell.xy;
  if (max(abs(pixel.x), abs(pixel.y) / stretch) > cell.w) discard;
  vec3 normal = vec3(off.x, -off.y, sqrt(inside));
  float behind = clamp((0.6 - middle.z) / 1.2, 0.0, 1.0);
  vec3 own = colour + haze * behind * (paper - colour);
  float diffuse = 0.5 + 0.5 * dot(normal, light);
  float rim = 0.70 + 0.30 * normal.z;
  float gloss = 0.22 * pow(max(dot(normal, halfway), 0.0), 24.0);
  float cover = clamp(inside / max(fwidth(inside), 1e-4), 0.0, 1.0);
  drawn = vec4(clamp(own * (0.42 + 0.72 * diffuse) * rim + gloss, 0.0, 1.0), cover);
  gl_FragDepth = 0.5 - (middle.z + reach * normal.z) / 16.0;
}`;

/** A canvas that batches of clouds are drawn on. */
export class Stage {
  constructor(canvas) {
    this.renderer = new WebGLRenderer({ canvas, antialias: true, alpha: false, preserveDrawingBuffer: true });
    this.renderer.autoClear = false;
    this.renderer.sortObjects = false;
    this.camera = new Camera(); // places are computed by the shader
    this.drawn = 0;
  }

  /** Set the size in CSS pixels. */
  resize(width, height) {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.renderer.setPixelRatio(this.ratio);
    this.renderer.setSize(width, height, false);
    this.size = new Vector2(width, height).multiplyScalar(this.ratio);
  }

  draw(batch, view) {
    const { uniforms } = batch.points.material;
    uniforms.canvas.value.copy(this.size);
    uniforms.turn.value.set(...view.turn);
    uniforms.focal.value = view.focal;
    uniforms.radius.value = batch.radius * view.size;
    uniforms.time.value = view.time;
    uniforms.stretch.value = view.stretch ?? 1;
    uniforms.paper.value.set(...view.paper);
    this.renderer.render(batch.scene, this.camera);
    this.drawn++;
  }

  clear(paper) {
    this.renderer.setClearColor(new Color(...paper), 1);
    this.renderer.clear();
  }
}

/** Room for `count` clouds, each in a cell of its own. */
export class Batch {
  constructor(count, points, look) {
    this.count = count;
    this.size = points;
    this.radius = look.radius;
    this.rows = Math.ceil(count / WIDE);
    this.cells = new DataTexture(new Float32Array(WIDE * this.rows * 4), WIDE, this.rows, RGBAFormat, FloatType);
    this.cells.magFilter = this.cells.minFilter = NearestFilter;
    const palette = new Uint8Array(256 * 4).fill(255);
    for (let i = 0; i < 256; i++) palette.set(look.map.slice(3 * i, 3 * i + 3), 4 * i);
    this.colours = new DataTexture(palette, 256, 1, RGBAFormat, UnsignedByteType);
    this.colours.magFilter = this.colours.minFilter = NearestFilter;
    this.colours.needsUpdate = true;

    const geometry = new BufferGeometry();
    const owner = new Uint32Array(count * points); // 32 bits: an integer in the shader
    for (let i = 0; i < owner.length; i++) owner[i] = Math.floor(i / points);
    geometry.setAttribute("cloud", new BufferAttribute(owner, 1));
    const index = new BufferAttribute(new Uint32Array(count * points), 1);
    index.setUsage(DynamicDrawUsage);
    geometry.setIndex(index);
    const material = new RawShaderMaterial({
      glslVersion: GLSL3,
      alphaToCoverage: true, // smooth rims
      vertexShader: VERTEX,
      fragmentShader: FRAGMENT,
      uniforms: {
        turn: { value: new Matrix3() },
        span: { value: look.span },
        distance: { value: look.distance },
        focal: { value: 1 },
        radius: { value: 1 },
        time: { value: 0 },
        haze: { value: look.haze },
        stretch: { value: 1 },
        canvas: { value: new Vector2() },
        paper: { value: new Vector3() },
        light: { value: new Vector3(...look.light) },
        halfway: { value: new Vector3(...look.halfway) },
        cells: { value: this.cells },
        colours: { value: this.colours },
      },
    });
    this.points = new Points(geometry, material);
    this.points.frustumCulled = false;
    this.scene = new Scene();
    this.scene.add(this.points);
  }

  /** Points to go from and to (`Clouds.points4`); arrays that are there already are not sent again. */
  set(here, there) {
    this.#attribute("here", here);
    this.#attribute("there", there);
  }

  #attribute(name, values) {
    const { geometry } = this.points;
    const old = geometry.getAttribute(name);
    if (!old) {
      geometry.setAttribute(name, new BufferAttribute(values, 4, true).setUsage(DynamicDrawUsage));
    } else if (old.array !== values) {
      old.array = values;
      old.needsUpdate = true;
    }
  }

  /**
   * Which clouds are drawn, and where: [cloud, x and y of the middle, half the side] in device pixels, from the
   * canvas's upper left corner; and how far to the side they may reach, which is a little more than that by itself.
   */
  place(cells) {
    const { geometry } = this.points;
    const index = geometry.getIndex();
    let at = 0;
    for (const [cloud, x, y, half, room = half * OVER] of cells) {
      this.cells.image.data.set([x, y, half, room], 4 * cloud);
      for (let i = cloud * this.size; i < (cloud + 1) * this.size; i++) index.array[at++] = i;
    }
    this.cells.needsUpdate = true;
    index.clearUpdateRanges();
    index.addUpdateRange(0, at);
    index.needsUpdate = true;
    geometry.setDrawRange(0, at);
  }

  dispose() {
    this.points.geometry.dispose();
    this.points.material.dispose();
    this.cells.dispose();
    this.colours.dispose();
  }
}
