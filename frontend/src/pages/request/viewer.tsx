import { type PointerEvent, type ReactNode, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";

import { Button } from "../../parts/button";
import { Icon } from "../../parts/icon";
import { useLanguage, useWords } from "../../words";
import { percent } from "../../words/format";

import "./viewer.css";

/** One thing in the picture, ready to be drawn. */
export interface Shape {
  /** Data of an SVG path in the picture's pixels. */
  outline: string;
  colour: string;
  label: string;
  /** Corner of its box, in pixels, where its name is written. */
  x: number;
  y: number;
  shown: boolean;
}

export type View = "overlay" | "beside" | "original";

const STEP = 1.5;
const LARGEST = 32;

interface Size {
  width: number;
  height: number;
}

/** The picture with what was found in it: zoomed and moved by mouse, fingers and keys, both halves together. */
export function Viewer({
  picture,
  size,
  shapes,
  active,
  onActive,
  missing,
}: {
  picture: Blob | null;
  /** Pixels of the upright picture, where the result or the API says them. */
  size: Size | null;
  shapes: readonly Shape[] | null;
  active: number | null;
  onActive: (place: number | null) => void;
  /** Shown in the picture's place. */
  missing: ReactNode;
}) {
  const words = useWords().request;
  const { language } = useLanguage();
  const [view, setView] = useState<View>("overlay");
  const [natural, setNatural] = useState<Size | null>(null);
  const [undrawable, setUndrawable] = useState(false);
  // Null: as large as fits.
  const [scale, setScale] = useState<number | null>(null);
  const [room, setRoom] = useState<Size | null>(null);
  const panes = useRef<(HTMLDivElement | null)[]>([]);
  const pixels = size ?? natural;
  const fitting = room && pixels ? Math.min(room.width / pixels.width, room.height / pixels.height) : null;
  const now = scale ?? fitting ?? 1;
  const whole = scale === null || (fitting !== null && scale <= fitting);

  const anchor = useRef<{ x: number; y: number; left: number; top: number } | null>(null);
  const zoom = useCallback(
    (next: number | null, at?: { clientX: number; clientY: number }) => {
      const pane = panes.current.find((one) => one !== null);
      if (next === null || !pane || fitting === null) {
        setScale(null);
        return;
      }
      const bounded = Math.min(Math.max(next, Math.min(fitting, 1)), Math.max(LARGEST, fitting * 4));
      const box = pane.getBoundingClientRect();
      const left = at ? at.clientX - box.left : box.width / 2;
      const top = at ? at.clientY - box.top : box.height / 2;
      anchor.current = { x: (pane.scrollLeft + left) / now, y: (pane.scrollTop + top) / now, left, top };
      setScale(Math.abs(bounded - fitting) < fitting / 50 ? null : bounded);
    },
    [fitting, now],
  );

  // The point under the pointer stays where it is.
  useLayoutEffect(() => {
    const held = anchor.current;
    anchor.current = null;
    if (held === null) return;
    for (const pane of panes.current) pane?.scrollTo(held.x * now - held.left, held.y * now - held.top);
  }, [now]);

  const along = useCallback((moved: HTMLDivElement) => {
    for (const pane of panes.current) {
      if (pane && pane !== moved) pane.scrollTo(moved.scrollLeft, moved.scrollTop);
    }
  }, []);

  const beside = shapes !== null && view === "beside";
  const kinds: ("overlay" | "original" | "mask")[] = beside
    ? ["original", "mask"]
    : [shapes === null || view === "original" ? "original" : "overlay"];
  const drawn = shapes?.filter((shape) => shape.shown) ?? [];
  const named = active === null ? undefined : shapes?.[active];
  const ready = picture !== null && !undrawable;

  return (
    <figure className="viewer">
      {ready ? (
        <div className={beside ? "viewer-panes viewer-beside" : "viewer-panes"}>
          {kinds.map((kind, i) => (
            <Pane
              key={beside ? kind : "single"}
              ref={(pane) => {
                panes.current[i] = pane;
                return () => {
                  panes.current[i] = null;
                };
              }}
              label={kind === "mask" ? words.mask : kind === "original" ? words.original : words.views.overlay}
              captioned={beside}
              pixels={pixels}
              scale={now}
              whole={whole}
              onRoom={setRoom}
              onZoom={(factor, at) => zoom(now * factor, at)}
              onScrolled={along}
            >
              {kind !== "mask" && (
                <PictureBytes
                  blob={picture}
                  sharp={now >= 3}
                  alt={words.pictureAlt}
                  onSize={setNatural}
                  onFailed={() => setUndrawable(true)}
                />
              )}
              {kind !== "original" && pixels && shapes && (
                <Overlay
                  size={pixels}
                  shapes={shapes}
                  active={active}
                  onActive={onActive}
                  solid={kind === "mask"}
                  label={`${words.maskAlt}: ${drawn.map(({ label }) => label).join(", ")}`}
                />
              )}
              {kind !== "original" && named?.shown && pixels && (
                <span
                  className="viewer-name"
                  style={{ left: `${(100 * named.x) / pixels.width}%`, top: `${(100 * named.y) / pixels.height}%` }}
                >
                  {named.label}
                </span>
              )}
            </Pane>
          ))}
        </div>
      ) : (
        <div className="viewer-missing">
          {undrawable ? (
            <p className="row">
              <Icon name="picture" /> {words.pictureUndrawable}
            </p>
          ) : (
            missing
          )}
        </div>
      )}
      {ready && (
        <figcaption className="viewer-tools">
          {shapes !== null && shapes.length > 0 && (
            <fieldset className="viewer-views">
              <legend className="visually-hidden">{words.view}</legend>
              {(["overlay", "beside", "original"] as const).map((one) => (
                <label key={one}>
                  <input type="radio" name="view" checked={view === one} onChange={() => setView(one)} />
                  <span>{words.views[one]}</span>
                </label>
              ))}
            </fieldset>
          )}
          <div className="row viewer-zoom" title={words.zoomHint}>
            <Button small aria-label={words.zoomOut} onClick={() => zoom(now / STEP)}>
              −
            </Button>
            <span className="small viewer-scale">{percent(now, language, 0)}</span>
            <Button small aria-label={words.zoomIn} onClick={() => zoom(now * STEP)}>
              +
            </Button>
            <Button small aria-pressed={scale === null} onClick={() => zoom(null)}>
              {words.fit}
            </Button>
            <Button small aria-pressed={scale === 1} onClick={() => zoom(1)}>
              {words.actual}
            </Button>
          </div>
        </figcaption>
      )}
    </figure>
  );
}

/** A window onto the picture that scrolls by itself: keys and fingers move it without our doing. */
function Pane({
  ref,
  label,
  captioned,
  pixels,
  scale,
  whole,
  onRoom,
  onZoom,
  onScrolled,
  children,
}: {
  ref: (pane: HTMLDivElement | null) => () => void;
  label: string;
  captioned: boolean;
  pixels: Size | null;
  scale: number;
  whole: boolean;
  onRoom: (room: Size) => void;
  onZoom: (factor: number, at: { clientX: number; clientY: number }) => void;
  onScrolled: (pane: HTMLDivElement) => void;
  children: ReactNode;
}) {
  const element = useRef<HTMLDivElement | null>(null);
  const zoom = useRef(onZoom);
  useEffect(() => {
    zoom.current = onZoom;
  });

  useEffect(() => {
    const pane = element.current;
    if (!pane || typeof ResizeObserver === "undefined") return;
    const observer = new ResizeObserver(() => onRoom({ width: pane.offsetWidth, height: pane.offsetHeight }));
    observer.observe(pane);
    return () => observer.disconnect();
  }, [onRoom]);

  useEffect(() => {
    const pane = element.current;
    if (!pane) return;
    // React's own wheel listener is passive and could not keep the page still.
    const turn = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey && !pane.contains(document.activeElement)) return;
      event.preventDefault();
      zoom.current(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event);
    };
    pane.addEventListener("wheel", turn, { passive: false });
    return () => pane.removeEventListener("wheel", turn);
  }, []);

  const fingers = useRef(new Map<number, { clientX: number; clientY: number }>());
  const down = ({ pointerId, clientX, clientY }: PointerEvent) => {
    fingers.current.set(pointerId, { clientX, clientY });
  };
  const up = ({ pointerId }: PointerEvent) => {
    fingers.current.delete(pointerId);
  };
  const move = (event: PointerEvent<HTMLDivElement>) => {
    const before = fingers.current.get(event.pointerId);
    if (!before) return;
    const { clientX, clientY } = event;
    const other = [...fingers.current].find(([id]) => id !== event.pointerId)?.[1];
    fingers.current.set(event.pointerId, { clientX, clientY });
    if (other) {
      const apart = (one: { clientX: number; clientY: number }) =>
        Math.max(1, Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY));
      onZoom(apart({ clientX, clientY }) / apart(before), {
        clientX: (clientX + other.clientX) / 2,
        clientY: (clientY + other.clientY) / 2,
      });
    } else if (event.pointerType === "mouse") {
      event.currentTarget.scrollBy(before.clientX - clientX, before.clientY - clientY);
    }
  };

  return (
    <div className="viewer-half">
      <div
        ref={(pane) => {
          element.current = pane;
          return ref(pane);
        }}
        className={whole ? "viewer-pane" : "viewer-pane viewer-larger"}
        role="region"
        aria-label={label}
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- what scrolls must be within reach of the keys
        tabIndex={0}
        style={pixels ? { aspectRatio: `${pixels.width} / ${pixels.height}` } : undefined}
        onScroll={(event) => onScrolled(event.currentTarget)}
        onPointerDown={down}
        onPointerMove={move}
        onPointerUp={up}
        onPointerCancel={up}
        onPointerLeave={up}
      >
        <div
          className="viewer-stage"
          style={pixels ? { width: pixels.width * scale, height: pixels.height * scale } : undefined}
        >
          {children}
        </div>
      </div>
      {captioned && <p className="small soft viewer-caption">{label}</p>}
    </div>
  );
}

function PictureBytes({
  blob,
  sharp,
  alt,
  onSize,
  onFailed,
}: {
  blob: Blob;
  sharp: boolean;
  alt: string;
  onSize: (size: Size) => void;
  onFailed: () => void;
}) {
  const image = useRef<HTMLImageElement>(null);
  useEffect(() => {
    const url = URL.createObjectURL(blob);
    if (image.current) image.current.src = url;
    return () => URL.revokeObjectURL(url);
  }, [blob]);
  return (
    <img
      ref={image}
      alt={alt}
      className={sharp ? "viewer-sharp" : undefined}
      draggable={false}
      onLoad={({ currentTarget: { naturalWidth: width, naturalHeight: height } }) => onSize({ width, height })}
      onError={onFailed}
    />
  );
}

function Overlay({
  size,
  shapes,
  active,
  onActive,
  solid,
  label,
}: {
  size: Size;
  shapes: readonly Shape[];
  active: number | null;
  onActive: (place: number | null) => void;
  solid: boolean;
  label: string;
}) {
  const names = ["viewer-overlay", solid && "viewer-solid", active !== null && "viewer-some"].filter(Boolean).join(" ");
  return (
    <svg className={names} viewBox={`0 0 ${size.width} ${size.height}`} role="img" aria-label={label}>
      {/* The best comes last and lies uppermost. */}
      {shapes
        .map((shape, place) => ({ shape, place }))
        .filter(({ shape }) => shape.shown)
        .reverse()
        .map(({ shape, place }) => (
          <g
            key={place}
            className={place === active ? "viewer-shape viewer-active" : "viewer-shape"}
            onPointerEnter={() => onActive(place)}
            onPointerLeave={() => onActive(null)}
          >
            <path className="viewer-halo" d={shape.outline} />
            <path d={shape.outline} fill={shape.colour} stroke={shape.colour} />
          </g>
        ))}
    </svg>
  );
}
