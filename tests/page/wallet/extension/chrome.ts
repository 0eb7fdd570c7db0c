/** The few parts of the extension API that the test wallet uses. */

interface Sender {
  readonly tab?: { readonly id?: number };
}

interface Chrome {
  readonly runtime: {
    sendMessage(message: unknown): Promise<unknown>;
    readonly onMessage: {
      addListener(
        heard: (message: unknown, sender: Sender, respond: (reply: unknown) => void) => boolean | undefined,
      ): void;
    };
  };
  readonly storage: { readonly local: { get(keys: readonly string[]): Promise<Record<string, unknown>> } };
  readonly tabs: { sendMessage(tab: number, message: unknown): Promise<unknown> };
}

declare global {
  const chrome: Chrome;
}

export const TO_WALLET = "sibyl-test-wallet:call";
export const TO_PAGE = "sibyl-test-wallet:reply";
export const EVENT = "sibyl-test-wallet:event";
