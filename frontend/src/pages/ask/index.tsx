import { useWords } from "../../words";

export default function AskPage() {
  return <h1>{useWords().common.pages.ask}</h1>;
}
