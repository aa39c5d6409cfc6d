// What the scripts here have in common with the test that runs them.
import { createInterface } from 'node:readline';
import { once } from 'node:events';

// readConfig reads the JSON line that the test sends.
export const readConfig = async () => {
  const [line] = await once(createInterface({ input: process.stdin }), 'line');
  return JSON.parse(line);
};

// check runs one check, and tells the test how it went.
export const check = async (name, run) => {
  try {
    await run();
    console.log(JSON.stringify({ name }));
  } catch (e) {
    console.log(JSON.stringify({ name, error: `${e.stack} ${JSON.stringify(e.cause ?? '')}` }));
  }
};

export const expect = (what, got, want) => {
  if (got !== want) throw new Error(`${what}: ${got}, want ${want}`);
};
