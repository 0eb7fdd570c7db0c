import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useBalance, useConfig as useWagmi, useDisconnect } from "wagmi";
import { getBlockNumber } from "wagmi/actions";

import { useConfig } from "../api/config";
import { Button } from "../parts/button";
import { Dialog } from "../parts/dialog";
import { Hash } from "../parts/hash";
import { Icon } from "../parts/icon";
import { Money } from "../parts/money";
import { Dot } from "../parts/status";
import { href, type Route } from "../router";
import { useWallet } from "../wallet/use-wallet";
import { useWords } from "../words";
import { shorten } from "../words/format";

import "./header.css";

const PAGES = ["ask", "history", "providers", "statistics", "publish"] as const;

export function Header({ route }: { route: Route }) {
  const words = useWords().common;
  return (
    <header className="header">
      <div className="header-inside">
        <a className="header-name" href="#/">
          <img src="./icon.svg" alt="" width={24} height={24} />
          {words.name}
        </a>
        <nav className="header-nav" aria-label={words.navigation}>
          <ul className="header-pages">
            {PAGES.map((page) => (
              <li key={page}>
                <a href={href({ page })} aria-current={route.page === page ? "page" : undefined}>
                  {words.pages[page]}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div className="header-wallet">
          <Network />
          <Account />
        </div>
      </div>
    </header>
  );
}

function Network() {
  const { config } = useConfig();
  const words = useWords().wallet;
  const wallet = useWallet();
  const wagmi = useWagmi();
  const chain = useQuery({
    queryKey: ["alive", config.chain_id, config.rpc_url],
    queryFn: () => getBlockNumber(wagmi, { cacheTime: 0 }),
    refetchInterval: 15_000,
    retry: 0,
    structuralSharing: false,
  });
  if (wallet.wrong) {
    return (
      <div className="header-wrong">
        <Button
          small
          className="header-mend"
          busy={wallet.mending}
          title={words.switchTo(config.chain_name)}
          onClick={wallet.mend}
        >
          <Dot tone="warning">{wallet.mending ? words.switching : words.wrong}</Dot>
        </Button>
        {wallet.mendProblem && (
          <p className="header-problem" role="status">
            {wallet.mendProblem}
          </p>
        )}
      </div>
    );
  }
  const silent = chain.isError && (config.rpc_url !== null || wallet.address !== null);
  const said = silent
    ? words.offline(config.chain_name)
    : wallet.right
      ? words.right(config.chain_name)
      : words.watching(config.chain_name);
  return (
    <span className="header-network" title={said}>
      <Dot tone={silent ? "bad" : wallet.right ? "good" : "quiet"}>
        <span className="visually-hidden">{said}</span>
        <span aria-hidden="true" className="header-chain">
          {config.chain_name}
        </span>
      </Dot>
    </span>
  );
}

function Account() {
  const words = useWords().wallet;
  const wallet = useWallet();
  const [open, setOpen] = useState(false);
  // The dialog goes with the account; it does not come back with another.
  if (open && !wallet.address) setOpen(false);
  if (!wallet.address) {
    return (
      <Button kind="primary" small busy={wallet.returning} onClick={wallet.connect}>
        {words.connect}
      </Button>
    );
  }
  return (
    <>
      <Button small className="header-account" title={wallet.address} onClick={() => setOpen(true)}>
        <Icon name="wallet" size={16} />
        <span className="visually-hidden">{words.account} </span>
        <span className="mono">{shorten(wallet.address)}</span>
      </Button>
      {open && <AccountDialog onClose={() => setOpen(false)} />}
    </>
  );
}

function AccountDialog({ onClose }: { onClose: () => void }) {
  const words = useWords().wallet;
  const { config } = useConfig();
  const wallet = useWallet();
  const { mutate: disconnect } = useDisconnect();
  const balance = useBalance({ address: wallet.address ?? undefined, chainId: config.chain_id });
  return (
    <Dialog title={words.account} onClose={onClose}>
      <div className="stack">
        <p>
          {wallet.name && <span className="soft">{wallet.name}: </span>}
          {wallet.address && <Hash value={wallet.address} what={words.account} />}
        </p>
        {balance.data && (
          <p>
            {words.balance}: <Money value={balance.data.value} {...config.currency} held />
          </p>
        )}
        <p>
          <Button
            onClick={() => {
              disconnect();
              onClose();
            }}
          >
            {words.disconnect}
          </Button>
        </p>
      </div>
    </Dialog>
  );
}
