import { useEffect, useState } from "react";
import { type Connector, useConnect, useConnection, useConnectors } from "wagmi";

import { Dialog } from "../parts/dialog";
import { ErrorNote } from "../parts/error-note";
import { Icon } from "../parts/icon";
import { LiveRegion } from "../parts/live-region";
import { useWords, type Words } from "../words";
import { walletCode, walletText } from "./codes";

import "./connect-dialog.css";

/** Wallets of this browser that announced themselves, each by its name and icon; or how to get one. */
export function ConnectDialog({ onClose }: { onClose: () => void }) {
  const words = useWords();
  const connectors = useConnectors();
  const { mutateAsync } = useConnect();
  const { isConnected } = useConnection();
  const [asked, setAsked] = useState<Connector | null>(null);
  const [problem, setProblem] = useState<{ text: string; quiet: boolean } | null>(null);

  useEffect(() => {
    if (isConnected) onClose();
  }, [isConnected, onClose]);

  function choose(connector: Connector) {
    setAsked(connector);
    setProblem(null);
    mutateAsync({ connector })
      .then(({ accounts }) => {
        if (accounts.length === 0) setProblem({ text: words.wallet.locked, quiet: true });
      })
      .catch((error: unknown) => setProblem(problemOf(error, words)))
      .finally(() => setAsked(null));
  }

  if (connectors.length === 0) {
    return (
      <Dialog title={words.wallet.noneTitle} onClose={onClose}>
        <div className="stack">
          <p>{words.wallet.noneText}</p>
          <p>{words.wallet.noneHow}</p>
          <p>
            <a href="https://ethereum.org/wallets/find-wallet/" target="_blank" rel="noreferrer noopener">
              {words.wallet.noneLinks}
            </a>
          </p>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={words.wallet.choose} onClose={onClose}>
      <div className="stack">
        <p className="soft">{words.wallet.chooseText}</p>
        <ul className="wallets">
          {connectors.map((connector) => (
            <li key={connector.uid}>
              <button
                type="button"
                className="wallet-choice"
                aria-busy={asked === connector || undefined}
                onClick={() => choose(connector)}
              >
                {connector.icon ? <img src={connector.icon} alt="" width={32} height={32} /> : <Icon name="wallet" size={32} />}
                <span>{connector.name}</span>
              </button>
            </li>
          ))}
        </ul>
        {asked && <p className="soft">{words.wallet.connecting} …</p>}
        {problem && <ErrorNote quiet={problem.quiet} text={problem.text} />}
        <LiveRegion>{asked ? words.wallet.connecting : undefined}</LiveRegion>
      </div>
    </Dialog>
  );
}

function problemOf(error: unknown, words: Words): { text: string; quiet: boolean } {
  const code = walletCode(error);
  const text = walletText(error);
  if (code === 4001) return { text: words.wallet.rejected, quiet: true };
  if (/\b(un)?lock/i.test(text)) return { text: words.wallet.locked, quiet: true };
  if (code === -32002) return { text: words.wallet.pendingElsewhere, quiet: true };
  return { text: words.wallet.failed, quiet: false };
}
