import { useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, use, useCallback, useEffect, useMemo, useState } from "react";
import type { Address } from "viem";
import { useConnection, useSwitchChain } from "wagmi";

import { useConfig } from "../api/config";
import { isNoRpc } from "../chain/wagmi";
import { useWords } from "../words";
import { ConnectDialog } from "./connect-dialog";
import { walletCode } from "./codes";

export interface Wallet {
  address: Address | null;
  /** Name of the connected wallet. */
  name: string | null;
  /** Connected, and on the chain of this page. */
  right: boolean;
  /** Connected, but on another chain. */
  wrong: boolean;
  /** Taking up the connection of the last visit. */
  returning: boolean;
  /** Opens the choice of wallets. */
  connect: () => void;
  /** Asks the wallet to switch to this page's chain, and to add it where the wallet does not know it. */
  mend: () => void;
  mending: boolean;
  /** Why the last `mend` did not work, as a sentence. */
  mendProblem: string | null;
}

const WalletContext = createContext<Wallet | null>(null);

export function useWallet(): Wallet {
  const wallet = use(WalletContext);
  if (!wallet) throw new Error("useWallet is used outside of WalletProvider");
  return wallet;
}

export function WalletProvider({ children }: { children: ReactNode }) {
  const { config } = useConfig();
  const words = useWords().wallet;
  const connection = useConnection();
  const switching = useSwitchChain();
  const [choosing, setChoosing] = useState(false);
  const [mendProblem, setMendProblem] = useState<string | null>(null);

  const address = connection.address ?? null;
  const right = connection.isConnected && connection.chainId === config.chain_id;
  const wrong = connection.isConnected && !right;

  // What could not be read for want of a way to the chain can be now.
  const queries = useQueryClient();
  useEffect(() => {
    if (right) void queries.invalidateQueries({ predicate: ({ state }) => isNoRpc(state.error) });
  }, [right, queries]);

  const { mutateAsync } = switching;
  const mend = useCallback(() => {
    setMendProblem(null);
    const url = config.rpc_url;
    mutateAsync({
      chainId: config.chain_id,
      addEthereumChainParameter: {
        chainName: config.chain_name,
        nativeCurrency: { name: config.currency.symbol, ...config.currency },
        ...(url ? { rpcUrls: [url] } : {}),
        ...(config.explorer_url ? { blockExplorerUrls: [config.explorer_url] } : {}),
      },
    }).catch((error: unknown) => {
      const code = walletCode(error);
      if (code === 4902 && !url) setMendProblem(words.cannotAdd(config.chain_name));
      else if (code === 4001) setMendProblem(words.rejected);
      else if (code === -32002) setMendProblem(words.pendingElsewhere);
      else setMendProblem(words.switchFailed(config.chain_name));
    });
  }, [config, mutateAsync, words]);

  const wallet = useMemo<Wallet>(
    () => ({
      address,
      name: connection.connector?.name ?? null,
      right,
      wrong,
      returning: connection.isReconnecting && !address,
      connect: () => setChoosing(true),
      mend,
      mending: switching.isPending,
      mendProblem: wrong ? mendProblem : null,
    }),
    [address, connection.connector, connection.isReconnecting, mend, mendProblem, right, switching.isPending, wrong],
  );

  return (
    <WalletContext value={wallet}>
      {children}
      {choosing && <ConnectDialog onClose={() => setChoosing(false)} />}
    </WalletContext>
  );
}
