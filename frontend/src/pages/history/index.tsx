import { useWords } from "../../words";

export default function HistoryPage() {
  return <h1>{useWords().common.pages.history}</h1>;
}
