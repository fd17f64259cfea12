// Where nodes stand in the picture of the overlay: on a circle, by their place on the ring of ids, 0 at the top, clockwise.

export interface Point {
  x: number;
  y: number;
}

export function onRing(position: number, radius: number): Point {
  const angle = 2 * Math.PI * (position - Math.floor(position));
  return { x: radius * Math.sin(angle), y: -radius * Math.cos(angle) };
}

/** A line between two places that bends towards the middle the more the farther apart they are, so that neighbours' lines stay apart. */
export function chord(from: number, to: number, radius: number): string {
  const a = onRing(from, radius);
  const b = onRing(to, radius);
  const apart = Math.abs(from - to);
  const pull = 0.75 * (1 - 2 * Math.min(apart, 1 - apart)) ** 1.5;
  const middle = { x: ((a.x + b.x) / 2) * pull, y: ((a.y + b.y) / 2) * pull };
  const say = ({ x, y }: Point) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  return `M${say(a)}Q${say(middle)} ${say(b)}`;
}

/** Which side of a point its label stands at, so that it leaves the circle. */
export function labelAt(position: number, radius: number): Point & { anchor: 'start' | 'middle' | 'end' } {
  const point = onRing(position, radius);
  const side = point.x / radius;
  return { ...point, anchor: side > 0.35 ? 'start' : side < -0.35 ? 'end' : 'middle' };
}

/**
 * Of labels that would lie on each other, the first is shown and the others are not. `height` and `width` are those of a label, as shares
 * of the radius: beside the ring labels stand below each other, at its top and bottom next to each other.
 */
export function labelled(positions: readonly number[], height: number, width: number): boolean[] {
  const shown: Point[] = [];
  return positions.map(position => {
    const point = onRing(position, 1);
    const free = shown.every(other => Math.abs(other.y - point.y) >= height || Math.abs(other.x - point.x) >= width);
    if (free) shown.push(point);
    return free;
  });
}
