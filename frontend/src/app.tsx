import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { lazy, type MouseEvent, Suspense, useEffect, useState } from "react";
import { WagmiProvider } from "wagmi";

import { ApiProblem } from "./api/client";
import { ConfigProvider, foreignApi, useConfig, useLoadConfig } from "./api/config";
import type { Config } from "./api/types";
import { identity, wagmiConfig } from "./chain/wagmi";
import { Button } from "./parts/button";
import { ErrorNote } from "./parts/error-note";
import { Skeleton } from "./parts/skeleton";
import { href, type Route, useRoute } from "./router";
import { WalletProvider } from "./wallet/use-wallet";
import { useWords, WordsProvider } from "./words";
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
        <Configured />
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
  const title = words.pages[route.page];
  useEffect(() => {
    document.title = `${title} · ${words.name}`;
  }, [title, words.name]);
  const place = href(route);
  useEffect(() => {
    scrollTo(0, 0);
  }, [place]);
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
        <Boundary key={place}>
          <Suspense fallback={<Skeleton lines={6} />}>
            <Page route={route} />
          </Suspense>
        </Boundary>
      </main>
      <Footer />
    </>
  );
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
