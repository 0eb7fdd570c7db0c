import { createContext, createElement, type ReactNode, use, useCallback, useMemo, useState } from "react";

import { storage } from "../storage";
import * as ask from "./ask";
import * as common from "./common";
import * as history from "./history";
import * as problems from "./problems";
import * as providers from "./providers";
import * as publish from "./publish";
import * as request from "./request";
import * as statistics from "./statistics";
import * as wallet from "./wallet";

/** The one catalogue. A section is a file with `en` and `de`, whose keys the type holds equal. */
export const catalogue = {
  en: {
    common: common.en,
    wallet: wallet.en,
    ask: ask.en,
    request: request.en,
    history: history.en,
    problems: problems.en,
    providers: providers.en,
    statistics: statistics.en,
    publish: publish.en,
  },
  de: {
    common: common.de,
    wallet: wallet.de,
    ask: ask.de,
    request: request.de,
    history: history.de,
    problems: problems.de,
    providers: providers.de,
    statistics: statistics.de,
    publish: publish.de,
  },
};

export type Language = keyof typeof catalogue;
export type Words = (typeof catalogue)["en"];

interface Spoken {
  language: Language;
  words: Words;
  speak: (language: Language) => void;
}

const LanguageContext = createContext<Spoken>({ language: "en", words: catalogue.en, speak: () => undefined });

function firstLanguage(): Language {
  const kept = storage.get("language");
  if (kept === "en" || kept === "de") return kept;
  return navigator.language.toLowerCase().startsWith("de") ? "de" : "en";
}

export function WordsProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState(() => {
    const first = firstLanguage();
    document.documentElement.lang = first;
    return first;
  });
  const speak = useCallback((next: Language) => {
    storage.set("language", next);
    document.documentElement.lang = next;
    setLanguage(next);
  }, []);
  const value = useMemo(() => ({ language, words: catalogue[language], speak }), [language, speak]);
  return createElement(LanguageContext, { value }, children);
}

export function useWords(): Words {
  return use(LanguageContext).words;
}

export function useLanguage(): { language: Language; speak: (language: Language) => void } {
  return use(LanguageContext);
}
