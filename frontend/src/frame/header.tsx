import { href, type Route } from "../router";
import { useWords } from "../words";

const PAGES = ["ask", "history", "providers", "statistics", "publish"] as const;

export function Header({ route }: { route: Route }) {
  const words = useWords().common;
  return (
    <header className="header">
      <a className="header-name" href="#/">
        {words.name}
      </a>
      <nav aria-label={words.navigation}>
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
    </header>
  );
}
