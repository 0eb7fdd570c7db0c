/** Colours of instances: the tokens of styles/tokens.css (a test holds them to it), then ones as far from them as can be. */
import type { SegmentationResult } from "../../content/document";

/**
 * Okabe and Ito's palette first; the second half was chosen one after the other, each as far as possible in OKLab from
 * those before it, as people with protanopia, deuteranopia and neither see them.
 */
export const COLOURS = [
  ...["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#8b5cf6"],
  ...["#7f5a3c", "#9be564", "#ff8fa3", "#4d6b57", "#87f0ff", "#3c0fd2", "#870078", "#c31e96"],
  ...["#7887e1", "#4bffc3", "#00d2d2", "#872d00", "#691ea5", "#78b478", "#6900ff", "#3c5ad2"],
] as const;

export function colourOf(place: number): string {
  return COLOURS[place % COLOURS.length] ?? COLOURS[0];
}

/** A colour for each segment: of a class where two pictures should agree on it, else by its place in the list. */
export function coloursOf(result: SegmentationResult): string[] {
  const byClass = result.segments.map(({ index }) => colourOf(index));
  const apart = new Set(byClass).size === byClass.length;
  return result.semantic && apart ? byClass : result.segments.map((_, place) => colourOf(place));
}
