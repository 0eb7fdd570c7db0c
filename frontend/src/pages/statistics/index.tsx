import { useWords } from "../../words";

export default function StatisticsPage() {
  return <h1>{useWords().common.pages.statistics}</h1>;
}
