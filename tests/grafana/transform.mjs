// Reads {transformations, frames} from standard input, where a frame is {refId, columns: {name: values}}; applies Grafana's
// own transformations and prints the rows: under their titles, and under the names that data links use. The argument is the
// folder with node_modules.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(`${process.argv[2]}/`);
const { lastValueFrom } = require('rxjs');
const data = require('@grafana/data');
globalThis.window = {}; // where a transformation looks whether it runs in a dashboard; loading would take it for a browser

const known = new Map(Object.values(data.standardTransformers).map((each) => [each.id, each]));
data.standardTransformersRegistry.setInit(() =>
  [...known.values()].map((each) => ({ id: each.id, name: each.name, transformation: async () => each })),
);
const { transformations, frames } = JSON.parse(readFileSync(0, 'utf8'));
const kind = (name, values) => (name === 'Time' ? 'time' : typeof values[0] === 'string' ? 'string' : 'number');
const read = frames.map(({ refId, columns }) =>
  data.toDataFrame({ refId, fields: Object.entries(columns).map(([name, values]) => ({ name, type: kind(name, values), values })) }),
);
const made = await lastValueFrom(data.transformDataFrame(transformations, read));
const tables = made.map((frame) => ({
  titles: frame.fields.map((field) => data.getFieldDisplayName(field, frame, made)),
  rows: Array.from({ length: frame.length }, (_, row) => frame.fields.map((field) => field.values[row] ?? null)),
  linked: Array.from({ length: frame.length }, (_, rowIndex) => {
    const fields = data.getFieldDisplayValuesProxy({ frame, rowIndex });
    return Object.fromEntries(frame.fields.map((field) => [field.name, fields[field.name] ? String(fields[field.name]) : null]));
  }),
}));
process.stdout.write(JSON.stringify(tables));
