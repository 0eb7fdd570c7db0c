/** The picture with what is shown in it, as on the page, for those who want it as a file. */
import type { SegmentationResult } from "../../content/document";
import type { Shape } from "./viewer";

const LONGEST = 4096;
const SMALL = 640;
const FILL = 0.35;

/** A PNG; small pictures are enlarged, so that outlines do not cover what they outline. Throws where it cannot be drawn. */
export async function overlayPng(picture: Blob, { width, height }: SegmentationResult, shapes: readonly Shape[]): Promise<Blob> {
  const image = await createImageBitmap(picture);
  try {
    const longer = Math.max(width, height);
    const scale = longer > LONGEST ? LONGEST / longer : Math.max(1, Math.floor(SMALL / longer));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    if (pen === null) throw new Error("this browser gives no canvas");
    pen.imageSmoothingEnabled = scale < 3;
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    pen.lineJoin = "round";
    pen.scale(scale, scale);
    for (const { outline, colour } of shapes.filter(({ shown }) => shown).reverse()) {
      const path = new Path2D(outline);
      pen.strokeStyle = "rgb(0 0 0 / 55%)";
      pen.lineWidth = 4 / scale;
      pen.stroke(path);
      pen.globalAlpha = FILL;
      pen.fillStyle = colour;
      pen.fill(path);
      pen.globalAlpha = 1;
      pen.strokeStyle = colour;
      pen.lineWidth = 2 / scale;
      pen.stroke(path);
    }
    return await new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("nothing was drawn"))), "image/png");
    });
  } finally {
    image.close();
  }
}
