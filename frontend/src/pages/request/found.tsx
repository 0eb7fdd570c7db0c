import { useMemo } from "react";

import { Button } from "../../parts/button";
import type { SegmentationResult } from "../../content/document";
import { plain } from "../../content/plain";
import { outlineOf } from "../../content/rle";
import { useLanguage, useWords } from "../../words";
import { percent } from "../../words/format";
import { coloursOf } from "./palette";
import type { Shape } from "./viewer";

/** What was found, ready to be drawn; `hidden` holds the places of what is not to be. */
export function useShapes(result: SegmentationResult | null, hidden: ReadonlySet<number>): Shape[] | null {
  const drawn = useMemo(() => {
    if (result === null) return null;
    const colours = coloursOf(result);
    return result.segments.map(({ runs, label, bbox: [x, y] }, place) => ({
      outline: outlineOf(runs, result.height),
      colour: colours[place] ?? "",
      label: plain(label),
      x,
      y,
    }));
  }, [result]);
  return useMemo(() => drawn?.map((shape, place) => ({ ...shape, shown: !hidden.has(place) })) ?? null, [drawn, hidden]);
}

/** The things in the picture as a list: each can be hidden, and pointing at one shows it in the picture. */
export function Found({
  result,
  shapes,
  active,
  onActive,
  onHidden,
}: {
  result: SegmentationResult;
  shapes: readonly Shape[];
  active: number | null;
  onActive: (place: number | null) => void;
  onHidden: (hidden: ReadonlySet<number>) => void;
}) {
  const words = useWords().request;
  const { language } = useLanguage();
  if (shapes.length === 0) return <p>{words.nothing}</p>;
  const hidden = new Set(shapes.flatMap(({ shown }, place) => (shown ? [] : [place])));
  const toggle = (place: number) => {
    const next = new Set(hidden);
    if (!next.delete(place)) next.add(place);
    onHidden(next);
  };
  return (
    <div className="stack request-found">
      <div className="row request-found-head">
        <h2>{result.semantic ? words.legend : words.found}</h2>
        <div className="row">
          <Button small kind="plain" disabled={hidden.size === 0} onClick={() => onHidden(new Set())}>
            {words.showAll}
          </Button>
          <Button
            small
            kind="plain"
            disabled={hidden.size === shapes.length}
            onClick={() => onHidden(new Set(shapes.keys()))}
          >
            {words.hideAll}
          </Button>
        </div>
      </div>
      <ul className="request-things">
        {result.segments.map(({ score, area }, place) => {
          const shape = shapes[place];
          return (
            <li
              key={place}
              className={place === active ? "request-thing request-thing-active" : "request-thing"}
              onPointerEnter={() => onActive(place)}
              onPointerLeave={() => onActive(null)}
            >
              <label>
                <input
                  type="checkbox"
                  checked={shape?.shown ?? false}
                  onChange={() => toggle(place)}
                  // A click focuses, too, and then the pointer already says which.
                  onFocus={(event) => event.target.matches(":focus-visible") && onActive(place)}
                  onBlur={() => onActive(null)}
                />
                <Swatch colour={shape?.colour ?? ""} />
                <span className="request-thing-name">{shape?.label}</span>
                <span className="soft small">
                  {result.semantic
                    ? words.ofPicture(percent(area / (result.width * result.height), language))
                    : words.pixels(area.toLocaleString(language))}
                </span>
                {!result.semantic && <span className="request-thing-score">{percent(score, language)}</span>}
              </label>
            </li>
          );
        })}
      </ul>
      {result.found > result.segments.length && (
        <p className="soft small">{words.listed(result.segments.length, result.found)}</p>
      )}
    </div>
  );
}

function Swatch({ colour }: { colour: string }) {
  return (
    <svg className="request-swatch" width="16" height="16" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <rect x="1" y="1" width="14" height="14" rx="3" fill={colour} fillOpacity="0.35" stroke={colour} strokeWidth="2" />
    </svg>
  );
}
