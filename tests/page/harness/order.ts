import { BaseSequencer } from "vitest/node";
import type { TestSpecification } from "vitest/node";

/** By name; what turns the chain's clock forward comes last, for it stays turned. */
export class Order extends BaseSequencer {
  override sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const late = (file: TestSpecification): boolean => file.moduleId.includes("refund");
    const key = (file: TestSpecification): string => `${late(file) ? 1 : 0} ${file.moduleId}`;
    return Promise.resolve([...files].sort((a, b) => (key(a) < key(b) ? -1 : 1)));
  }
}
