import { useCallback, useEffect, useState } from "react";

import { Button, Dialog, ErrorNote } from "../../parts";
import { useWords } from "../../words";

/** Whether this browser lets the page ask for a camera; it does over https and on this very machine. */
export function hasCamera(): boolean {
  return "mediaDevices" in navigator && typeof navigator.mediaDevices.getUserMedia === "function";
}

type Fault = "refused" | "none" | "taken";

/** Why there is no picture from the camera, by the name of the browser's error. */
function faultOf(error: unknown): Fault {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") return "refused";
  return name === "NotFoundError" || name === "OverconstrainedError" ? "none" : "taken";
}

/** A photo by the camera of this machine, which is let go of as soon as the dialog closes. */
export function CameraDialog({ onPhoto, onClose }: { onPhoto: (photo: File) => void; onClose: () => void }) {
  const words = useWords().ask.picture;
  const [stream, setStream] = useState<MediaStream | null>(null);
  const [fault, setFault] = useState<Fault | null>(null);
  const [video, setVideo] = useState<HTMLVideoElement | null>(null);

  useEffect(() => {
    let left = false;
    let got: MediaStream | null = null;
    const stop = () => got?.getTracks().forEach((track) => track.stop());
    navigator.mediaDevices
      .getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } }, audio: false })
      .then((given) => {
        got = given;
        if (left) stop();
        else setStream(given);
      })
      .catch((error: unknown) => {
        if (!left) setFault(faultOf(error));
      });
    return () => {
      left = true;
      stop();
    };
  }, []);

  const attach = useCallback(
    (element: HTMLVideoElement) => {
      element.srcObject = stream;
      return () => {
        element.srcObject = null;
      };
    },
    [stream],
  );

  function shoot() {
    if (!video) return;
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    canvas.toBlob(
      (blob) => {
        if (!blob) return;
        onPhoto(new File([blob], "photo.jpg", { type: blob.type }));
        onClose();
      },
      "image/jpeg",
      0.92,
    );
  }

  return (
    <Dialog title={words.webcam} onClose={onClose}>
      <div className="stack">
        {fault ? (
          <ErrorNote {...words.cameraFaults[fault]} />
        ) : (
          <>
            {stream ? (
              <video
                ref={attach}
                className="ask-video"
                aria-label={words.webcamAlt}
                autoPlay
                muted
                playsInline
                onLoadedData={({ currentTarget }) => setVideo(currentTarget)}
              />
            ) : (
              <p className="soft" role="status">
                {words.webcamWaiting}
              </p>
            )}
            <Button kind="primary" icon="camera" disabled={!video} onClick={shoot}>
              {words.camera}
            </Button>
          </>
        )}
      </div>
    </Dialog>
  );
}
