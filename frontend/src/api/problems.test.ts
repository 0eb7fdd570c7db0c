import { readdirSync, readFileSync } from "node:fs";

import { describe, expect, test } from "vitest";

import { explain } from "../chain/errors";
import { tell } from "../parts";
import { catalogue } from "../words";
import { ApiProblem } from "./client";
import { sayProblem } from "./problems";

const problem = (slug: string) => new ApiProblem(422, "A title", "its detail", "Do that.", slug);

describe("a problem of the API", () => {
  test("given German, when the page has words for it, then those are said wherever it is told", () => {
    const said = catalogue.de.problems["wish-taken"];
    for (const told of [tell(problem("wish-taken"), catalogue.de), explain(problem("wish-taken"), catalogue.de, "Hier")]) {
      expect(told).toMatchObject({ title: said?.title, text: said?.text, remedy: said?.remedy });
    }
  });

  test("given one whose detail alone says which field it is, when said, then the detail stays", () => {
    expect(sayProblem(problem("manifest-invalid"), catalogue.de)).toMatchObject({ text: "its detail" });
    expect(sayProblem(problem("manifest-invalid"), catalogue.de).title).toContain("Manifest");
  });

  test.each([
    ["English", "wish-taken", catalogue.en],
    ["an unknown slug", "brand-new", catalogue.de],
  ])("given %s, when said, then in the API's own words", (_, slug, words) => {
    expect(sayProblem(problem(slug), words)).toEqual({ title: "A title", text: "its detail", remedy: "Do that." });
  });

  test("given the API's source, when the slugs of the page are looked for, then each is one of its own", () => {
    const folder = "../oracle/api";
    const source = readdirSync(folder).filter((name) => name.endsWith(".py")).map((name) => readFileSync(`${folder}/${name}`, "utf8")).join("");
    for (const slug of Object.keys(catalogue.de.problems)) expect(source, slug).toContain(`"${slug}"`);
  });
});
