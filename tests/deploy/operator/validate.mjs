// Reads a JSON array of the Prometheus Operator's objects on standard input; prints a line for each that its resource
// definition refuses, and exits 1 then.
import { readFileSync } from "node:fs";
import * as models from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

let refused = 0;
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    new models[object.kind](object).validate();
  } catch (error) {
    refused += 1;
    console.log(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
process.exit(refused ? 1 : 0);
