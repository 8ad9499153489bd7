// What of the published schemas does not hold of a value. The schemas allow no other properties and
// 2026.9.6 itself sends some, so those are looked at only where it is asked for.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(`${process.env.CLIENTS_DIR}/sdk/package.json`);
const entry = require.resolve("@openclaw/gateway-protocol");
const { definitions } = JSON.parse(readFileSync(join(dirname(entry), "../protocol.schema.json"), "utf8"));

const kinds = {
  null: (value) => value === null,
  array: Array.isArray,
  object: (value) => value !== null && typeof value === "object" && !Array.isArray(value),
  integer: Number.isInteger,
  number: (value) => typeof value === "number",
  string: (value) => typeof value === "string",
  boolean: (value) => typeof value === "boolean",
};

// What of a schema does not hold.
function wrongs(schema, value, isClosed, path = "$") {
  if (schema.$ref) return wrongs(definitions[schema.$ref.split("/").at(-1)], value, isClosed, path);
  const wrong = [];
  const say = (what) => wrong.push(`${path}: ${what}, got ${JSON.stringify(value)?.slice(0, 80)}`);
  for (const one of schema.allOf ?? []) wrong.push(...wrongs(one, value, isClosed, path));
  const branches = schema.anyOf ?? schema.oneOf;
  if (branches) {
    const found = branches.map((branch) => wrongs(branch, value, isClosed, path));
    if (!found.some((one) => one.length === 0))
      wrong.push(...found.reduce((least, one) => (one.length < least.length ? one : least)));
  }
  if ("const" in schema && value !== schema.const) say(`not ${JSON.stringify(schema.const)}`);
  if (schema.enum && !schema.enum.includes(value)) say(`not one of ${schema.enum}`);
  const types = [schema.type ?? []].flat();
  if (types.length > 0 && !types.some((type) => kinds[type](value))) {
    say(`no ${types.join("|")}`);
    return wrong;
  }
  if (value < schema.minimum) say(`below ${schema.minimum}`);
  if (value > schema.maximum) say(`above ${schema.maximum}`);
  if (typeof value === "string") {
    if (value.length < schema.minLength) say("too short");
    if (value.length > schema.maxLength) say("too long");
    if (schema.pattern && !new RegExp(schema.pattern, "u").test(value)) say(`no match of ${schema.pattern}`);
  }
  if (kinds.array(value) && schema.items && !Array.isArray(schema.items))
    value.forEach((item, at) => wrong.push(...wrongs(schema.items, item, isClosed, `${path}/${at}`)));
  if (kinds.object(value)) {
    for (const name of schema.required ?? []) if (!(name in value)) wrong.push(`${path}/${name}: it is missing`);
    for (const [name, one] of Object.entries(schema.properties ?? {}))
      if (name in value) wrong.push(...wrongs(one, value[name], isClosed, `${path}/${name}`));
    for (const [pattern, one] of Object.entries(schema.patternProperties ?? {}))
      for (const name of Object.keys(value))
        if (new RegExp(pattern, "u").test(name)) wrong.push(...wrongs(one, value[name], isClosed, `${path}/${name}`));
    if (isClosed && schema.additionalProperties === false)
      for (const name of Object.keys(value))
        if (!(name in (schema.properties ?? {}))) wrong.push(`${path}/${name}: nobody expects it`);
  }
  return wrong;
}

/** Fails unless the value fits; `closed` looks at properties that nobody expects too, but for those `beyond`. */
export const fits = (name, value, { closed = false, beyond = [] } = {}) => {
  assert.ok(definitions[name], `there is no schema ${name}`);
  const looked = Object.fromEntries(Object.entries(value).filter(([member]) => !beyond.includes(member)));
  const wrong = wrongs(definitions[name], closed ? looked : value, closed);
  assert.equal(wrong.length, 0, `${name}: ${wrong.slice(0, 6).join("; ")}`);
};
