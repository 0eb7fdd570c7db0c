import { useWords } from "../../words";

export default function PublishPage() {
  return <h1>{useWords().common.pages.publish}</h1>;
}
