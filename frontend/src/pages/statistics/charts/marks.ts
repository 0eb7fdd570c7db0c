/** Shape and colour by which models are told apart: the shape alone is enough. */
export interface Mark {
  /** Path around the origin. */
  path: string;
  /** Number of the class that colours it. */
  colour: number;
}

const R = 4.5;
const SHAPES = [
  `M${-R} 0a${R} ${R} 0 1 0 ${2 * R} 0a${R} ${R} 0 1 0 ${-2 * R} 0z`,
  `M${-4} -4h8v8h-8z`,
  `M0 -5.5L5.2 4h-10.4z`,
  `M0 -5.8L5.8 0L0 5.8L-5.8 0z`,
  `M0 5.5L5.2 -4h-10.4z`,
  `M-1.6 -5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z`,
] as const;
const COLOURS = 8;

/** Marks for these models, the same for the same set. */
export function marksOf(models: readonly number[]): Map<number, Mark> {
  const order = [...new Set(models)].sort((a, b) => a - b);
  return new Map(
    order.map((model, i) => [model, { path: SHAPES[i % SHAPES.length] ?? SHAPES[0], colour: i % COLOURS }]),
  );
}
