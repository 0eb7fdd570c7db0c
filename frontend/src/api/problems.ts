import type { Words } from "../words";
import type { ApiProblem } from "./client";

/** A problem of the API in the page's language; in the API's own words where the page has none. */
export function sayProblem(problem: ApiProblem, words: Words): { title: string; text: string; remedy: string } {
  const said = words.problems[problem.slug];
  return {
    title: said?.title ?? problem.title,
    text: said ? (said.text ?? problem.detail) : problem.detail,
    remedy: said?.remedy ?? problem.remedy,
  };
}
