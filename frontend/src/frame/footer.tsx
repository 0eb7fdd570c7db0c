import { useQuery } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";

import { useConfig } from "../api/config";
import { Button } from "../parts/button";
import { Hash } from "../parts/hash";
import { Dot } from "../parts/status";
import { useLanguage, useWords } from "../words";
import { chooseTheme, isDark, subscribeTheme } from "./theme";

import "./footer.css";

export function Footer() {
  const { config, api } = useConfig();
  const words = useWords().common;
  const { language, speak } = useLanguage();
  const dark = useSyncExternalStore(subscribeTheme, isDark);
  const other = new URL(api.base).host;
  return (
    <footer className="footer">
      <div className="footer-inside">
        <ul className="footer-facts">
          <li>
            {words.contract} <Hash value={config.coordinator} what={words.contract} />
          </li>
          <li>
            <ApiHealth />
          </li>
          {other !== location.host && (
            <li>
              {words.api.at} {other}
            </li>
          )}
          <li>
            {words.version} {config.version}
          </li>
          <li>
            <a href={`${api.base}/docs`}>{words.docs}</a>
          </li>
        </ul>
        <div className="row">
          <Button
            kind="plain"
            small
            lang={language === "en" ? "de" : "en"}
            onClick={() => speak(language === "en" ? "de" : "en")}
          >
            {words.language.other}
          </Button>
          <Button kind="plain" small icon={dark ? "sun" : "moon"} onClick={() => chooseTheme(dark ? "light" : "dark")}>
            {dark ? words.theme.light : words.theme.dark}
          </Button>
        </div>
      </div>
    </footer>
  );
}

function ApiHealth() {
  const { api, down } = useConfig();
  const words = useWords().common.api;
  const health = useQuery({
    queryKey: ["health", api.base],
    queryFn: ({ signal }) => api.health(signal),
    refetchInterval: 30_000,
    retry: 0,
  });
  if (down || health.isError) return <Dot tone="bad">{words.down}</Dot>;
  if (!health.data) return <Dot tone="quiet">{words.checking}</Dot>;
  return health.data.ok ? <Dot tone="good">{words.up}</Dot> : <Dot tone="warning">{words.ill}</Dot>;
}
