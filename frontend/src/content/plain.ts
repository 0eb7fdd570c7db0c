/** Text of unknown origin, made fit to be read: nothing that is invisible, turns the line around or breaks it. */

// Controls, formats (bidirectional marks, joiners, tags), half surrogates, private use, line and paragraph separators.
const UNSHOWN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
// A letter has few marks over it; a tower of them would cover the lines above.
const TOWER = /(\p{M}{3})\p{M}+/gu;

/** The text in one visible line of at most `longest` characters. */
export function plain(text: string, longest = 200): string {
  const line = Array.from(text.replace(/\s+/gu, " ").replace(UNSHOWN, "").replace(TOWER, "$1").trim());
  return line.length <= longest ? line.join("") : `${line.slice(0, longest - 1).join("").trimEnd()}…`;
}
