import { join } from "node:path";

import { python } from "./stack.js";

/** Digits from our own pen, a scene, and a picture of a phone's size, drawn into the folder. */
export async function drawPictures(folder: string): Promise<void> {
  await python(["-c", DRAW, folder]);
}

export const picture = (folder: string, name: "digit-7" | "digit-3" | "scene" | "large" | "broken"): string =>
  join(folder, name === "large" || name === "broken" ? `${name}.jpg` : `${name}.png`);

const DRAW = `
import sys
from pathlib import Path
from provider_images.mnist.draw import draw_digit
from oracle.devnet.pictures import DEMO_SEED, scene
folder = Path(sys.argv[1])
for value in (3, 7):
    digit = draw_digit(value, DEMO_SEED + 500 + value, style="mnist")
    digit.save(folder / f"digit-{value}.png")
(folder / "scene.png").write_bytes(scene().png)
large = draw_digit(7, DEMO_SEED + 507, style="mnist").convert("RGB").resize((7000, 7000))
large.save(folder / "large.jpg", quality=95)
(folder / "broken.jpg").write_bytes(b"\\xff\\xd8\\xff\\xe0 this is no picture")
`;
