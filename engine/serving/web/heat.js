// The photo with what the model looked at: lit where it looked, dimmed where it did not.

const DIM = 0.5; // opacity of the shade over what was not looked at
const GLOW = 0.36; // opacity of the glow over what was looked at most

export class HeatMap {
  /** `onPlace` is called with a region's number when it is pointed at, and null afterwards. */
  constructor({ frame, image, canvas, cell }, onPlace) {
    Object.assign(this, { frame, image, canvas, cell, onPlace });
    this.rows = this.columns = 0;
    this.place = null;
    frame.addEventListener("pointermove", (event) => this.point(event));
    frame.addEventListener("pointerdown", (event) => this.point(event));
    frame.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.choose(null);
    });
    frame.addEventListener("keydown", (event) => this.step(event));
    frame.addEventListener("blur", () => this.choose(null));
  }

  /** Show a photo that the model has not looked at yet. */
  show(address) {
    this.rows = this.columns = 0;
    this.clear();
    this.choose(null);
    this.image.src = address;
    this.image.style.transform = "";
    this.image.style.objectFit = "cover";
  }

  /** Cut the photo to what the model saw of it, and lay the model's grid over it. */
  explain({ rows, columns, seen, photo }, showable) {
    this.rows = rows;
    this.columns = columns;
    this.canvas.width = columns;
    this.canvas.height = rows;
    if (!showable) {
      this.image.src = photo; // a format that this browser cannot show
      return;
    }
    this.image.style.objectFit = seen.shape === "square" ? "cover" : "fill";
    this.image.style.transform = `scale(${1 / seen.share})`;
  }

  /** Light the regions by their shades, 0 to 1; all 0 lights none. */
  light(shades) {
    if (!this.rows || !shades.some((shade) => shade > 0)) return this.clear();
    const context = this.canvas.getContext("2d");
    const pixels = context.createImageData(this.columns, this.rows);
    shades.forEach((shade, i) => {
      // Between two colours with their own opacities: a warm glow, and a dark shade.
      const glow = GLOW * shade, dim = DIM * (1 - shade), alpha = glow + dim;
      const mix = (warm, dark) => (warm * glow + dark * dim) / alpha;
      pixels.data.set([mix(255, 18), mix(176, 12), mix(60, 24), 255 * alpha], 4 * i);
    });
    context.putImageData(pixels, 0, 0);
    this.canvas.classList.add("on");
  }

  clear() {
    this.canvas.classList.remove("on");
  }

  point(event) {
    if (!this.rows) return;
    const box = this.frame.getBoundingClientRect();
    const at = (offset, size, count) =>
      Math.min(count - 1, Math.max(0, Math.floor((offset / size) * count)));
    const row = at(event.clientY - box.top, box.height, this.rows);
    this.choose(row * this.columns + at(event.clientX - box.left, box.width, this.columns));
  }

  step(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Escape") return this.choose(null);
    if (!this.rows || !moves[event.key]) return;
    event.preventDefault();
    const middle = Math.floor(this.rows / 2) * this.columns + Math.floor(this.columns / 2);
    const place = this.place ?? middle;
    const [down, right] = moves[event.key];
    const row = Math.min(this.rows - 1, Math.max(0, Math.floor(place / this.columns) + down));
    const column = Math.min(this.columns - 1, Math.max(0, (place % this.columns) + right));
    this.choose(row * this.columns + column);
  }

  choose(place) {
    if (place === this.place) return;
    this.place = place;
    this.cell.hidden = place === null;
    if (place !== null) {
      const percent = (number) => `${100 * number}%`;
      this.cell.style.top = percent(Math.floor(place / this.columns) / this.rows);
      this.cell.style.left = percent((place % this.columns) / this.columns);
      this.cell.style.width = percent(1 / this.columns);
      this.cell.style.height = percent(1 / this.rows);
    }
    this.onPlace(place);
  }
}
