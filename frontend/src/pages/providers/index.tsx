import { useWords } from "../../words";

export default function ProvidersPage() {
  return <h1>{useWords().common.pages.providers}</h1>;
}
