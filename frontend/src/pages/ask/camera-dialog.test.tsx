import { cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, describe, expect, test, vi } from "vitest";

import { CameraDialog, hasCamera } from "./camera-dialog";

/** A camera that gives this, or throws it; how often it was let go of. */
function camera(give: () => Promise<MediaStream>) {
  Object.defineProperty(navigator, "mediaDevices", { configurable: true, value: { getUserMedia: give } });
}
const stop = vi.fn();
const stream = { getTracks: () => [{ stop }] } as unknown as MediaStream;
const open = () => {
  const [photo, close] = [vi.fn<(file: File) => void>(), vi.fn()];
  const { unmount } = render(<CameraDialog onPhoto={photo} onClose={close} />);
  return { photo, close, unmount };
};

afterEach(() => {
  cleanup();
  stop.mockClear();
  Reflect.deleteProperty(navigator, "mediaDevices");
});

describe("the camera of this machine", () => {
  test("given a browser without, when looked at, then there is none to offer", () => {
    expect(hasCamera()).toBe(false);
    camera(() => Promise.resolve(stream));
    expect(hasCamera()).toBe(true);
  });

  test("given a camera, when a photo is taken, then it is what was seen, and the camera is let go of", async () => {
    camera(() => Promise.resolve(stream));
    const drawImage = vi.fn();
    vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue({ drawImage } as never);
    vi.spyOn(HTMLCanvasElement.prototype, "toBlob").mockImplementation((done, type) => done(new Blob(["x"], { type: type ?? "" })));
    const { photo, close, unmount } = open();
    const video = await screen.findByLabelText("What the camera sees");
    const take = screen.getByRole("button", { name: "Take a photo" });
    expect(take).toHaveProperty("disabled", true);
    fireEvent.loadedData(video);
    await userEvent.click(take);
    expect(drawImage).toHaveBeenCalledWith(video, 0, 0);
    expect(photo.mock.calls[0]?.[0]).toMatchObject({ name: "photo.jpg", type: "image/jpeg" });
    expect(close).toHaveBeenCalledTimes(1);
    expect(stop).not.toHaveBeenCalled();
    unmount();
    expect(stop).toHaveBeenCalledTimes(1);
  });

  test("given a dialog that closes before the camera is there, when it comes, then it is let go of at once", async () => {
    let give: (given: MediaStream) => void = () => undefined;
    camera(() => new Promise((resolve) => (give = resolve)));
    const { unmount } = open();
    unmount();
    give(stream);
    await waitFor(() => expect(stop).toHaveBeenCalledTimes(1));
  });

  test.each([
    ["NotAllowedError", "The camera may not be used here"],
    ["NotFoundError", "No camera was found"],
    ["NotReadableError", "The camera gives no picture"],
  ])("given %s, when asked for, then it says why and what to do", async (name, said) => {
    camera(() => Promise.reject(new DOMException("no", name)));
    open();
    expect(await screen.findByText(said)).toBeTruthy();
    expect(screen.getByRole("alert").textContent).toMatch(/choose a file/i);
    expect(screen.queryByRole("button", { name: "Take a photo" })).toBeNull();
  });
});
