import { useConfig } from "../api/config";
import { Hash } from "../parts/hash";
import { useWords } from "../words";

export function Footer() {
  const { config } = useConfig();
  const words = useWords().common;
  return (
    <footer className="footer">
      <span>
        {words.contract} <Hash value={config.coordinator} what={words.contract} />
      </span>
      <span>
        {words.version} {config.version}
      </span>
    </footer>
  );
}
