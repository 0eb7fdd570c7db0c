import { type ImgHTMLAttributes, useCallback } from "react";

/** A picture from memory. Its address lives as long as it is shown. */
export function BlobImage({ blob, alt, ...rest }: { blob: Blob; alt: string } & ImgHTMLAttributes<HTMLImageElement>) {
  const attach = useCallback(
    (image: HTMLImageElement) => {
      const url = URL.createObjectURL(blob);
      image.src = url;
      return () => URL.revokeObjectURL(url);
    },
    [blob],
  );
  return <img {...rest} ref={attach} alt={alt} />;
}
