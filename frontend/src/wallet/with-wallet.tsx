import type { ReactNode } from "react";

import { useConfig } from "../api/config";
import { Button } from "../parts/button";
import { useWords } from "../words";
import { useWallet } from "./use-wallet";

/** What takes a wallet on this page's chain; without one, the button that brings it here. */
export function WithWallet({ children }: { children: ReactNode }) {
  const words = useWords().wallet;
  const { config } = useConfig();
  const wallet = useWallet();
  if (wallet.right) return children;
  return (
    <div className="row">
      {wallet.address === null ? (
        <Button icon="wallet" onClick={wallet.connect}>
          {words.connect}
        </Button>
      ) : (
        <Button busy={wallet.mending} onClick={wallet.mend}>
          {words.switchTo(config.chain_name)}
        </Button>
      )}
      {wallet.mendProblem !== null && <span role="alert">{wallet.mendProblem}</span>}
    </div>
  );
}
