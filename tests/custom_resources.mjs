// Checks custom resources of the Prometheus Operator with the validators that @kubernetes-models publishes:
//
//   node custom_resources.mjs FOLDER-OF-THE-PACKAGE <manifests.json
//
// prints what is wrong, a line each. The validators let unknown fields pass, so each object is handed to them
// in a wrapper that notes what they look at: a field that none of them looks at is a field that none of them knows.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const watched = (value, path, unseen) => {
  if (value === null || typeof value !== "object") return value;
  const members = Object.fromEntries(
    Object.keys(value).map((key) => [key, watched(value[key], `${path}/${key}`, unseen)]),
  );
  for (const key of Object.keys(members)) unseen.add(`${path}/${key}`);
  return new Proxy(Array.isArray(value) ? Object.values(members) : members, {
    get: (target, key) => {
      unseen.delete(`${path}/${String(key)}`);
      return target[key];
    },
  });
};

for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  const version = manifest.apiVersion.split("/")[1].replace("v", "V");
  const schema = `ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoring${version}${manifest.kind}.js`;
  const { validate } = await import(pathToFileURL(`${process.argv[2]}/_schemas/${schema}`));
  const unseen = new Set();
  if (!validate(watched(manifest, "", unseen))) {
    for (const error of validate.errors) console.log(`${error.instancePath}: ${error.message ?? JSON.stringify(error.params)}`);
  }
  for (const path of unseen) console.log(`${path}: unknown field`);
}
