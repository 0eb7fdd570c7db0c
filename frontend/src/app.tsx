import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { lazy, type MouseEvent, Suspense, useCallback, useEffect, useRef, useState } from "react";
import { WagmiProvider } from "wagmi";

import { ApiProblem } from "./api/client";
import { ConfigProvider, foreignApi, foreignRpc, useConfig, useLoadConfig } from "./api/config";
import type { Config } from "./api/types";
import { identity, wagmiConfig } from "./chain/wagmi";
import { Button } from "./parts/button";
import { ErrorNote } from "./parts/error-note";
import { LiveRegion } from "./parts/live-region";
import { Skeleton } from "./parts/skeleton";
import { href, type Route, useRoute } from "./router";
import { WalletProvider } from "./wallet/use-wallet";
import { useWords, WordsProvider } from "./words";
import { shorten } from "./words/format";
import { Boundary } from "./frame/boundary";
import { Footer } from "./frame/footer";
import { Header } from "./frame/header";

import "./app.css";

const AskPage = lazy(() => import("./pages/ask"));
const RequestPage = lazy(() => import("./pages/request"));
const HistoryPage = lazy(() => import("./pages/history"));
const ProvidersPage = lazy(() => import("./pages/providers"));
const StatisticsPage = lazy(() => import("./pages/statistics"));
const PublishPage = lazy(() => import("./pages/publish"));

export function App() {
  const [queries] = useState(
    () =>
      new QueryClient({
        defaultOptions: {
          queries: {
            staleTime: 5_000,
            retry: (count, error) => count < 1 && !(error instanceof ApiProblem),
            networkMode: "always",
          },
          mutations: { networkMode: "always" },
        },
      }),
  );
  return (
    <WordsProvider>
      <QueryClientProvider client={queries}>
        <Boundary>
          <Configured />
        </Boundary>
      </QueryClientProvider>
    </WordsProvider>
  );
}

function Configured() {
  const words = useWords().common;
  const { configured, loading, error, retry } = useLoadConfig();
  // The same chain must keep the same wallet connection, whatever else the API says anew.
  const [shown, setShown] = useState<Config | null>(null);
  const config = configured?.config ?? null;
  if (config && (!shown || identity(config) !== identity(shown))) setShown(config);
  if (!configured || !shown) {
    return (
      <main className="app-main" id="content">
        <h1>{words.name}</h1>
        {loading ? (
          <Skeleton lines={4} />
        ) : (
          <ErrorNote
            title={words.configFailed.title}
            text={words.configFailed.text}
            remedy={words.configFailed.remedy}
            details={error instanceof Error ? error.message : undefined}
            action={<Button onClick={retry}>{words.tryAgain}</Button>}
          />
        )}
      </main>
    );
  }
  return (
    <ConfigProvider value={configured}>
      <WagmiProvider config={wagmiConfig(shown)} key={identity(shown)}>
        <WalletProvider>
          <Shell />
        </WalletProvider>
      </WagmiProvider>
    </ConfigProvider>
  );
}

function Shell() {
  const route = useRoute();
  const words = useWords().common;
  const { config } = useConfig();
  const foreign = foreignApi();
  const endpoint = foreignRpc(config);
  const title = route.page === "request" ? `${words.pages.request} ${shorten(route.id)}` : words.pages[route.page];
  useEffect(() => {
    document.title = `${title} · ${words.name}`;
  }, [title, words.name]);
  const place = href(route);
  useEffect(() => {
    scrollTo(0, 0);
  }, [place]);
  useEffect(() => {
    addEventListener("dragover", holdOff);
    addEventListener("drop", holdOff);
    return () => {
      removeEventListener("dragover", holdOff);
      removeEventListener("drop", holdOff);
    };
  }, []);
  const last = useRef<string | null>(null);
  const [announced, setAnnounced] = useState<string>();
  const arrived = useCallback(() => {
    if (last.current !== null && last.current !== place) {
      setAnnounced(title);
      toHeading();
    }
    last.current = place;
  }, [place, title]);
  return (
    <>
      <a className="app-skip" href="#content" onClick={skip}>
        {words.skip}
      </a>
      <Header route={route} />
      <main className="app-main" id="content" tabIndex={-1}>
        {foreign && (
          <p className="note note-warning app-foreign" role="note">
            {words.foreignApi(foreign, config.coordinator)}
          </p>
        )}
        {endpoint && (
          <p className="note note-warning app-foreign" role="note">
            {words.foreignRpc(endpoint)}
          </p>
        )}
        <Boundary key={place}>
          <Suspense fallback={<Skeleton lines={6} />}>
            <Page route={route} />
            <Arrival arrived={arrived} />
          </Suspense>
        </Boundary>
      </main>
      <Footer />
      <LiveRegion>{announced}</LiveRegion>
    </>
  );
}

/** Says when the page beside it is there. */
function Arrival({ arrived }: { arrived: () => void }) {
  useEffect(arrived, [arrived]);
  return null;
}

/** The keyboard goes on from where the page begins. */
function toHeading() {
  const heading = document.querySelector<HTMLElement>("#content h1") ?? document.getElementById("content");
  if (!heading) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

/** A file that misses its place would be opened instead of the page. */
function holdOff(event: DragEvent) {
  if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "none";
}

/** The hash is the route, so the link moves the focus itself. */
function skip(event: MouseEvent) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function Page({ route }: { route: Route }) {
  switch (route.page) {
    case "ask":
      return <AskPage />;
    case "request":
      return <RequestPage id={route.id} />;
    case "history":
      return <HistoryPage />;
    case "providers":
      return <ProvidersPage />;
    case "statistics":
      return <StatisticsPage />;
    case "publish":
      return <PublishPage />;
    case "unknown":
      return <NotFound />;
  }
}

function NotFound() {
  const words = useWords().common;
  return (
    <div className="stack">
      <h1>{words.pages.unknown}</h1>
      <p>{words.notFound.text}</p>
      <p>
        <a className="button button-primary" href="#/">
          {words.notFound.action}
        </a>
      </p>
    </div>
  );
}
